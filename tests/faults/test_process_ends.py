"""However a process begins and ends: what had returned is stored, and the end is not held up."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from filelock import FileLock

from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import run

SETUP: Final = """
import asyncio, atexit, contextlib, multiprocessing, os, signal, sys, threading
import autotrace
from autotrace import task, tool
from tests.faults.agents import configure

store = sys.argv[1]

@tool
def work(number):
    return number

def record(name):
    with task(name) as t:
        work(1)
        work(2)
    os.write(1, f"{t.trace_id}\\n".encode())
"""


def check(store: Path, told: str, *, at_least: int) -> int:
    """Every trace that was told of is in the store, whole; return how many it were."""
    open_store(store)
    traces = stored_traces()
    ids = told.split()
    assert len(ids) == len(set(ids)) >= at_least
    for trace_id in ids:
        assert traces[trace_id].status == "completed"
        assert [call.result for call in traces[trace_id].tool_calls] == [1, 2]
    return len(ids)


# --- children


@pytest.mark.parametrize(
    ("method", "storing"),
    [
        ("fork", "thread"),
        ("fork", "process"),
        ("spawn", "process"),
        ("forkserver", "thread"),
        pytest.param("spawn", "thread", marks=pytest.mark.full_size),
        pytest.param("forkserver", "process", marks=pytest.mark.full_size),
    ],
    indirect=["storing"],
)
def test_children_of_multiprocessing_record_beside_their_parent(
    store: Path, storing: str, method: str
) -> None:
    program = (
        SETUP
        + """
def child(number):
    configure(store)
    record(f"child {number}")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    configure(store)
    record("parent")
    assert autotrace.flush(timeout=500)  # Chroma is open and its threads are at work
    processes = [context.Process(target=child, args=(n,)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    record("parent again")
"""
    )
    script = store.with_name("program.py")
    script.write_text(program)
    # By its path, since children that are not forked import it.
    done = run(
        "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
        script,
        store,
        method,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert check(store, done.stdout, at_least=5) == 5


def test_a_pool_of_forked_workers_that_is_terminated_loses_nothing(
    store: Path, storing: str
) -> None:
    done = run(
        SETUP
        + """
configure(store)
def handle(n):
    record(f"request {n}")
with multiprocessing.get_context("fork").Pool(3) as pool:
    pool.map(handle, range(30), chunksize=1)
# left: the pool has killed its workers
""",
        store,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert check(store, done.stdout, at_least=30) == 30


def test_workers_forked_before_they_serve_are_killed_and_replaced(
    store: Path, storing: str
) -> None:
    """A server that configures once and forks its workers, one of which is killed meanwhile."""
    done = run(
        SETUP
        + """
configure(store)
record("while loading")
assert autotrace.flush(timeout=500)

def worker(wake):
    while os.read(wake, 1):
        record(f"request to {os.getpid()}")
        os.write(served[1], b".")

served = os.pipe()
wake = os.pipe()

def fork():
    pid = os.fork()
    if pid == 0:
        os.close(wake[1])
        worker(wake[0])
        os._exit(0)
    return pid

workers = [fork() for _ in range(4)]
for n in range(40):
    os.write(wake[1], b"x")
    os.read(served[0], 1)
    if n == 20:
        os.kill(workers[0], signal.SIGKILL)
        os.waitpid(workers[0], 0)
        workers[0] = fork()
for pid in workers:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
record("at the end")
""",
        store,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert check(store, done.stdout, at_least=42) == 42


# --- ends

ENDINGS: Final = {
    "end of the program": ("pass", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(3)", 3),
    "an exception": ("1 / 0", 1),
    "an exception in a task": ("with task('x'): 1 / 0", 1),
    "an exception at exit": ("atexit.register(lambda: 1 / 0)", 0),
    "an exit inside asyncio": ("async def main(): sys.exit(3)\nasyncio.run(main())", 3),
    "abort": ("signal.signal(signal.SIGABRT, signal.SIG_DFL); os.abort()", -6),
}  # fmt: skip


OF_EACH_KIND: Final = {"end of the program", "an exception in a task", "os._exit", "abort"}
"""Some run functions at exit, and some do not; the others run them as well."""


def endings() -> Iterator[Any]:
    """Yield the ending, whether something was stored before, and who stores."""
    for ending, warm, storing in product(ENDINGS, (False, True), ("thread", "process")):
        is_usual = ending in OF_EACH_KIND or (storing == "thread" and not warm)
        name = f"{ending}, {'amid storing' if warm else 'nothing stored yet'}, {storing}"
        marks = () if is_usual else pytest.mark.full_size
        yield pytest.param(ending, warm, storing, id=name, marks=marks)


@pytest.mark.parametrize(("ending", "warm", "storing"), [*endings()], indirect=["storing"])
def test_what_is_pending_at_the_end_is_stored_and_the_end_is_the_programs_own(
    store: Path, ending: str, warm: bool, storing: str
) -> None:
    statement, code = ENDINGS[ending]
    before = "record('first'); assert autotrace.flush(timeout=500)\n" if warm else ""
    done = run(
        SETUP
        + "configure(store, flush_interval_ms=int(sys.argv[2]))\n"
        + before
        + "for n in range(20): record(f'pending {n}')\n"
        + statement,
        store,
        0 if warm else 600_000,
    )

    assert done.returncode == code
    assert done.stderr.count("Traceback") == ("exception" in ending)
    assert "autotrace" not in done.stderr.replace("tests.faults", "")
    check(store, done.stdout, at_least=20)


def test_functions_called_at_exit_record_whatever_their_order(store: Path, storing: str) -> None:
    done = run(
        SETUP
        + """
atexit.register(record, "registered before")
configure(store)
atexit.register(record, "registered after")
record("main")
""",
        store,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert check(store, done.stdout, at_least=3) == 3


def test_threads_that_go_on_to_the_last_moment_lose_nothing(store: Path, storing: str) -> None:
    """Daemon threads work until the interpreter freezes them; others are waited for."""
    done = run(
        SETUP
        + """
begun, pace = threading.Semaphore(0), threading.Event()

@atexit.register  # before ours, so that it runs after ours: until the threads have gone on
def wait():
    for _ in range(30):
        begun.acquire()

configure(store)

def forever():
    for n in range(10**9):
        record(f"daemon {n}")
        begun.release()
        pace.wait(0.005)  # else a slow end has tens of thousands of traces to store

def on_for_a_while():
    threading.main_thread().join()
    for n in range(50):
        record(f"after the main thread {n}")

threading.Thread(target=on_for_a_while).start()
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
for _ in range(10):
    begun.acquire()
""",
        store,
    )

    assert done.returncode == 0, done.stderr
    check(store, done.stdout, at_least=60)


@contextlib.contextmanager
def locked(store: Path) -> Iterator[str]:
    """Somebody holds the lock of the store all the time."""
    store.mkdir()
    with FileLock(store / "store.lock"):
        yield str(store)


@contextlib.contextmanager
def hanging(store: Path) -> Iterator[str]:
    """The store is a server that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("store_of", [locked, hanging])
def test_the_end_waits_no_longer_than_it_was_told_to(
    store: Path, storing: str, tmp_path: Path, store_of: object, figure: Figure
) -> None:
    assert callable(store_of)
    program = (
        SETUP
        + """
import time
configure(store, spool=sys.argv[2], exit_timeout_ms=500, chroma_timeout_ms=600_000)
record("x")
assert autotrace.flush(timeout=1) is False
print(time.time())
"""
    )
    with store_of(store) as name:
        done = run(program, name, tmp_path / "spool")
        took_s = time.time() - float(done.stdout.split()[-1])

    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert took_s < 50  # a lock is waited for up to 60 s, an answer 600 s
    assert [p for p in (tmp_path / "spool").iterdir() if p.is_dir()]  # it waits there
    figure(
        f"exit_timeout_ms=500, store {store_of.__name__}: the process ended {took_s:.2f} s later"
    )


# --- notebooks


def test_cells_that_configure_and_define_again_lose_nothing(store: Path) -> None:
    done = run(
        SETUP
        + """
cells = [
    "configure(store)",
    "@tool\\ndef look(n): return n",
    "record('first')\\nwith task('look'): look(1)",
    "configure(store)\\nrecord('the same again')",
    "configure(store, flush_interval_ms=100)\\nrecord('another setting')",
    "@tool\\ndef look(n): return n + 1",
    "with task('redefined') as t: assert look(1) == 2",
    "with task('interrupted cell'): raise KeyboardInterrupt",
    "import importlib; importlib.reload(sys.modules['tests.faults.agents'])",
    "autotrace.shutdown()\\nconfigure(store)\\nrecord('after a shutdown')",
    "held = task('over a configure').__enter__()\\nconfigure(store, flush_interval_ms=0)",
    "record('inside')",
    "assert autotrace.flush(timeout=500)",
]
space = globals()
for cell in cells * 2:
    try:
        exec(compile(cell, "<cell>", "exec"), space)
    except KeyboardInterrupt:
        pass
# The task that was held open over a configure says so: its end, in the second round, came late.
dropped = {name for name in autotrace.health().counters if name.startswith("dropped")}
assert dropped <= {"dropped_after_shutdown"}, autotrace.health()
""",
        store,
    )

    assert done.returncode == 0, done.stderr
    check(store, done.stdout, at_least=10)
