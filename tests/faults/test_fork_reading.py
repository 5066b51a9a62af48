"""Processes forked from one that has Chroma open read and store as any other, and never hang.

Chroma's library hangs in them, with Python's interpreter lock held: so what ends a child that does
is the kernel's alarm, and its parent sees by which signal it ended.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.faults.checks import open_store, stored_traces
from tests.faults.processes import LINUX, MARK, run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SETUP: Final = """
import multiprocessing, os, signal, sys, threading
import autotrace
from autotrace import task, tool
from tests.faults.agents import configure
from tests.faults.processes import MARK, marked

store = sys.argv[1]
DEADLINE_S = 200

@tool
def work(number):
    return number

def record(name):
    with task(name) as t:
        work(1)
    return t.trace_id

def ask(name, trace_id):
    "Ask everything that can be asked."
    assert autotrace.recall(name, limit=1)[0].trace_id == trace_id
    assert autotrace.get_trace(trace_id).task == name
    assert trace_id in {trace.trace_id for trace in autotrace.list_traces(limit=1000)}
    assert autotrace.tool_stats()[0].tool_name == "work"

def forked(child, *arguments):
    pid = os.fork()
    if pid == 0:
        signal.alarm(DEADLINE_S)
        try:
            child(*arguments)
            assert autotrace.health().last_error is None, autotrace.health()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def other_process():
    "Return the id of the process that has Chroma open for this one."
    (pid,) = [pid for pid in marked(os.environ[MARK])
              if b"-I" in open(f"/proc/{pid}/cmdline", "rb").read().split(bytes(1))]
    return pid

def ended(*pids):
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * len(pids), codes  # -14: the alarm ended it

configure(store)
first = record("water the garden")
assert autotrace.flush(timeout=500)
"""

READ: Final = "ask('water the garden', first)\n"


@pytest.fixture(autouse=True)
def _marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))


def succeeded(done: subprocess.CompletedProcess[str]) -> bool:
    assert (done.returncode, done.stderr) == (0, "")
    return True


def test_children_of_a_process_that_has_recalled_recall_list_read_and_store(
    store: Path, storing: str
) -> None:
    done = run(
        SETUP
        + READ
        + """
def child(number):
    ask("water the garden", first)
    mine = record(f"mow lawn {number}")
    assert autotrace.flush(timeout=500)
    ask(f"mow lawn {number}", mine)

pids = [forked(child, n) for n in range(3)]
ask("water the garden", first)
again = record("trim the hedge")
ended(*pids)
assert autotrace.flush(timeout=500)
ask("trim the hedge", again)
assert len(autotrace.list_traces()) == 5
assert len(autotrace.recall("mow lawn", limit=50)) == 5
""",
        store,
    )

    assert succeeded(done)
    open_store(store)
    assert len(stored_traces()) == 5


def test_a_child_reads_after_its_parent_had_only_stored_or_had_closed_what_it_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTRACE_STORING", "thread")
    done = run(
        SETUP
        + """
ended(forked(ask, "water the garden", first))
ask("water the garden", first)
autotrace.shutdown()

def child():
    configure(store)
    ask("water the garden", first)

ended(forked(child))
""",
        store,
    )

    assert succeeded(done)


def test_a_grandchild_reads_while_its_parents_go_on(store: Path) -> None:
    done = run(
        SETUP
        + READ
        + """
def child():
    ask("water the garden", first)
    grandchild = forked(ask, "water the garden", first)
    ask("water the garden", first)
    ended(grandchild)
    mine = record("mow the lawn")
    assert autotrace.flush(timeout=500)
    ask("mow the lawn", mine)

ended(forked(child))
ask("water the garden", first)
""",
        store,
    )

    assert succeeded(done)


def test_workers_of_a_forked_pool_read_and_threads_of_theirs_at_once(store: Path) -> None:
    done = run(
        SETUP
        + READ
        + """
def begin():
    signal.alarm(DEADLINE_S)

def handle(number):
    failed = []
    def one():
        try:
            ask("water the garden", first)
        except BaseException as error:
            failed.append(repr(error))
    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed

with multiprocessing.get_context("fork").Pool(2, begin) as pool:
    assert pool.map_async(handle, range(8), chunksize=1).get(DEADLINE_S) == [[]] * 8
""",
        store,
    )

    assert succeeded(done)


def test_a_child_reads_though_the_program_itself_has_chroma_open_and_not_autotrace(
    store: Path, tmp_path: Path
) -> None:
    done = run(
        SETUP
        + """
import chromadb
own = chromadb.PersistentClient(sys.argv[2]).create_collection("own", embedding_function=None)
own.add(["a"], embeddings=[[1.0, 2.0]])
ended(forked(ask, "water the garden", first))
""",
        store,
        tmp_path / "own",
        env={"AUTOTRACE_STORING": "process", "ANONYMIZED_TELEMETRY": "False"},
    )

    assert succeeded(done)


def test_what_fails_in_the_other_process_fails_as_it_would_here(store: Path) -> None:
    done = run(
        SETUP
        + READ
        + """
from chromadb.errors import ChromaError
from autotrace.store.connection import connect
from autotrace.store.chroma_errors import is_content_error, is_failure_of_chroma

def child():
    connection = connect(store, space="test-small")
    try:
        with connection.reading() as collections:
            collections.log.query(query_embeddings=[[1.0] * 7], n_results=1)
    except ChromaError as error:
        assert is_content_error(error) and not is_failure_of_chroma(error), error
    else:
        raise AssertionError("no error")
    try:
        with connection.reading() as collections:
            os.kill(other_process(), signal.SIGKILL)
            collections.log.count()
    except ChromaError as error:
        assert is_failure_of_chroma(error), error
    else:
        raise AssertionError("no error")
    ask("water the garden", first)

ended(forked(child))
""",
        store,
    )

    assert succeeded(done)


def test_where_no_process_can_be_started_the_error_says_what_to_do(store: Path) -> None:
    done = run(
        SETUP
        + READ
        + """
def child():
    sys.executable = "/nonexistent/python"
    try:
        autotrace.recall("water the garden")
    except autotrace.StoreUnavailableError as error:
        os.write(1, str(error).encode())
    else:
        raise AssertionError("no error")

ended(forked(child))
ask("water the garden", first)
""",
        store,
    )

    assert succeeded(done)
    for words in ("forked", "spawn", "forkserver", "Chroma server"):
        assert words in done.stdout


linux_alone = pytest.mark.skipif(not LINUX, reason="processes are found in /proc")


@linux_alone
def test_the_other_process_ends_with_the_one_it_was_started_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTRACE_STORING", "thread")
    done = run(
        SETUP
        + READ
        + """
import select

reading, told = os.pipe()
waiting, wake = os.pipe()

def live_on():
    os.close(wake)
    os.read(waiting, 1)  # until nobody has the other end

def child():
    ask("water the garden", first)
    os.write(told, str(other_process()).encode())
    forked(live_on)  # has inherited all that is open
    os.kill(os.getpid(), signal.SIGKILL)

pid = forked(child)
os.close(told)
other = os.pidfd_open(int(os.read(reading, 20)))  # nobody's child: its end can be seen this way
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
assert select.select([other], [], [], DEADLINE_S)[0]
os.close(wake)
ask("water the garden", first)
""",
        store,
    )

    assert succeeded(done)


@linux_alone
def test_a_write_under_way_keeps_others_out_though_the_one_that_asked_for_it_is_dead(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTRACE_STORING", "thread")
    done = run(
        SETUP
        + READ
        + """
from filelock import FileLock, Timeout
from autotrace.store.connection import connect

def child(told):
    connection = connect(store, space="test-small")
    with connection.writing():
        other = other_process()
        os.kill(other, signal.SIGSTOP)
        record = {"embeddings": [[0.0, 0.0]], "metadatas": [{"json": "{}"}]}
        # Sent, and no answer waited for: the next that happens is the end.
        connection._client._pipe.send(("add", "autotrace-log", (["late/0"],), record))
        os.write(told, str(other).encode())
        os.kill(os.getpid(), signal.SIGKILL)

autotrace.shutdown()
reading, told = os.pipe()
os.waitpid(forked(child, told), 0)
os.close(told)
other = int(os.read(reading, 20))
try:
    FileLock(f"{store}/store.lock").acquire(timeout=0)
except Timeout:
    pass
else:
    raise AssertionError("the lock is free")
os.kill(other, signal.SIGCONT)
FileLock(f"{store}/store.lock").acquire(timeout=500).lock.release()
with connect(store, space="test-small").reading() as collections:
    assert collections.log.get(["late/0"])["ids"] == ["late/0"]
""",
        store,
    )

    assert succeeded(done)
