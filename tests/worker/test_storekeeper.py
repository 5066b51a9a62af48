"""The process that stores for others: who it serves, when it ends, and what survives its death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

import autotrace
from autotrace import task, tool
from autotrace.worker.process import STATUS_FILE, read_status
from tests.embedders import HashEmbedder
from tests.servers import free_port

EMBEDDER = "tests.embedders:HashEmbedder"
REPOSITORY = Path(__file__).parents[2]


@tool
def work(number: int) -> int:
    return number + 1


def record(text: str) -> str:
    with task(text) as run:
        work(1)
    return run.trace_id


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store"
    autotrace.shutdown()


def configure(store: Path | str, **options: Any) -> None:
    autotrace.configure(store, **{"embedder": EMBEDDER, "flush_interval_ms": 0} | options)


def keeper(store: Path) -> psutil.Process:
    return psutil.Process(read_status(store / "spool").pid)


def script(source: str, *arguments: object, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a program that records by itself."""
    head = f"""
        import sys, os
        sys.path.insert(0, {str(REPOSITORY)!r})
        import autotrace
        from autotrace import task, tool_call
        autotrace.configure(sys.argv[1], embedder={EMBEDDER!r}, flush_interval_ms=0)
    """
    return subprocess.Popen(
        [sys.executable, *options, "-c", textwrap.dedent(head) + textwrap.dedent(source)]
        + [str(argument) for argument in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(program: Sequence[str], store: Path) -> str:
    """Run a program to its end and return what it printed."""
    return subprocess.run(
        [sys.executable, *program, str(store)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
        check=True,
    ).stdout


def test_the_program_that_records_never_loads_chroma_nor_gets_a_child(store: Path) -> None:
    with script(
        """
        with task("recorded here"):
            pass
        print(autotrace.flush(500), "chromadb" in sys.modules, flush=True)
        try:
            print(os.waitpid(-1, os.WNOHANG), flush=True)
        except ChildProcessError:
            print("no child", flush=True)
        """,
        store,
    ) as program:
        output, _ = program.communicate(timeout=500)

    assert output.splitlines() == ["True False", "no child"]


def test_after_a_shutdown_no_process_is_left(store: Path) -> None:
    configure(store)
    record("stored by another process")
    assert autotrace.flush(500)
    process = keeper(store)

    assert autotrace.shutdown(500)

    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_what_it_stored_is_read_here(store: Path) -> None:
    configure(store)
    ids = {record(f"task number {n}") for n in range(20)}

    assert autotrace.flush(500)

    assert {summary.trace_id for summary in autotrace.list_traces()} == ids
    assert autotrace.recall("task number 7", limit=1)[0].task == "task number 7"
    assert [(s.tool_name, s.call_count) for s in autotrace.tool_stats()] == [("work", 20)]


def test_one_serves_all_processes_of_a_store(store: Path) -> None:
    source = """
        with task(sys.argv[2]):
            pass
        print(autotrace.flush(500), flush=True)
        sys.stdin.readline()
    """
    programs = [script(source, store, f"program {n}") for n in range(3)]
    assert [program.stdout and program.stdout.readline() for program in programs] == ["True\n"] * 3
    pids = {
        process.pid
        for process in psutil.process_iter()
        if any(f.path == str(store / "spool" / "drain.lock") for f in open_files(process))
    }
    for program in programs:
        program.communicate("\n", timeout=500)

    assert len(pids) == 1
    configure(store, embedder=HashEmbedder())
    assert {s.task for s in autotrace.list_traces()} == {f"program {n}" for n in range(3)}


def open_files(process: psutil.Process) -> list[Any]:
    try:
        return process.open_files()
    except psutil.Error:
        return []


def test_when_it_is_killed_another_one_goes_on(store: Path) -> None:
    configure(store)
    first = [record(f"before {n}") for n in range(5)]
    assert autotrace.flush(500)
    os.kill(read_status(store / "spool").pid, signal.SIGKILL)

    second = [record(f"after {n}") for n in range(5)]
    assert autotrace.flush(500)

    assert {s.trace_id for s in autotrace.list_traces()} == {*first, *second}
    assert autotrace.tool_stats()[0].call_count == 10


def test_a_killed_program_is_stored_without_another_start(store: Path) -> None:
    with script(
        """
        with task("first"):
            pass
        autotrace.flush(500)
        with task("under way"):
            with tool_call("hammer", {}):
                pass
            print(autotrace.health().store, flush=True)
            sys.stdin.readline()
        """,
        store,
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        process = keeper(store)
        program.kill()
    process.wait(500)

    assert not any(p.is_dir() for p in (store / "spool").iterdir())
    configure(store, embedder=HashEmbedder())
    statuses = {s.task: s.status for s in autotrace.list_traces()}
    assert statuses == {"first": "completed", "under way": "interrupted"}


def test_a_program_that_ends_at_once_is_stored_without_another_start(store: Path) -> None:
    with script(
        """
        from pathlib import Path
        with task("the only one"):
            pass
        while not Path(sys.argv[1], "spool", "storekeeper.json").exists():
            pass  # it has begun to start, and has not stored anything yet
        """,
        store,
    ) as program:
        program.wait(500)
    keeper(store).wait(500)

    assert not any(p.is_dir() for p in (store / "spool").iterdir())
    configure(store, embedder=HashEmbedder())
    assert [s.task for s in autotrace.list_traces()] == ["the only one"]


def test_a_forked_child_has_its_records_stored_too(store: Path) -> None:
    with script(
        """
        with task("of the parent"):
            pass
        assert autotrace.flush(500)
        child = os.fork()
        with task("of the child" if child == 0 else "of the parent again"):
            pass
        assert autotrace.flush(500)
        if child == 0:
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
        """,
        store,
    ) as program:
        output, _ = program.communicate(timeout=500)

    assert output == "0\n"
    configure(store, embedder=HashEmbedder())
    tasks = {s.task for s in autotrace.list_traces()}
    assert tasks == {"of the parent", "of the child", "of the parent again"}


def test_what_fails_there_is_counted_and_said_here(tmp_path: Path) -> None:
    before = autotrace.health().counters.get("export_failures", 0)
    spool = tmp_path / "spool"
    configure(f"http://127.0.0.1:{free_port()}", spool=str(spool))
    record("nobody takes it")

    while "cannot be reached" not in str(autotrace.health().last_error):
        assert not autotrace.flush(1)

    health = autotrace.health()
    autotrace.shutdown(1)
    assert health.counters["export_failures"] > before
    assert (spool / STATUS_FILE).is_file()


def test_an_embedder_that_only_this_program_can_make_stores_in_this_process(store: Path) -> None:
    configure(store, embedder=HashEmbedder())
    record("by a thread")

    assert autotrace.flush(500)

    assert not (store / "spool" / STATUS_FILE).exists()


def test_where_no_process_can_be_started_this_one_stores(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(store / "no such python"))
    configure(store)
    trace_id = record("by a thread after all")

    assert autotrace.flush(500)

    assert autotrace.get_trace(trace_id).task == "by a thread after all"
    assert "no process can store" in str(autotrace.health().last_error)


def test_an_order_it_cannot_follow_is_told_and_this_process_stores(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotrace.worker import wiring

    made: Callable[..., Any] = wiring.WorkerProcess

    def misled(spool: Path, order: dict[str, Any], counters: Any) -> Any:
        return made(spool, order | {"embedder": "no.such:embedder"}, counters)

    monkeypatch.setattr(wiring, "WorkerProcess", misled)
    configure(store)
    record("by a thread after all")

    assert autotrace.flush(500)

    assert "no.such:embedder" in str(autotrace.health().last_error)


def test_an_older_store_is_refused_at_once(store: Path) -> None:
    from autotrace.store import schema

    configure(store)
    record("one")
    assert autotrace.flush(500)
    autotrace.shutdown()
    from autotrace.settings import load_settings
    from autotrace.worker.wiring import open_connection

    connection = open_connection(load_settings(store=str(store)), None)
    with connection.writing() as collections:
        old = {"schema_version": 1, "space": "test-hash"}
        schema.upsert(collections.state, {schema.STORE_RECORD_ID: old})
    connection.close()

    configure(store)
    record("two")

    assert autotrace.flush(600) is False
    assert "autotrace rebuild" in str(autotrace.health().last_error)


def test_a_store_that_is_deleted_is_not_made_again_by_it(tmp_path: Path) -> None:
    import shutil

    store = tmp_path / "store"
    configure(store)
    record("soon gone")
    assert autotrace.flush(500)
    process = keeper(store)

    shutil.rmtree(store)
    process.wait(500)

    assert not store.exists()
    autotrace.shutdown(0)


def test_threads_that_start_it_at_once_start_one(store: Path) -> None:
    configure(store)
    barrier = threading.Barrier(4)

    def run(number: int) -> None:
        barrier.wait()
        record(f"thread {number}")
        autotrace.flush(500)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(autotrace.list_traces()) == 4
    assert json.loads((store / "spool" / STATUS_FILE).read_bytes())["counters"] == {}


AT_EXIT = """
import atexit, sys, autotrace
from autotrace import task
# Functions called at exit run in reverse: this one after autotrace's.
atexit.register(lambda: print(autotrace.health().backlog_bytes, flush=True))
autotrace.configure(sys.argv[1], embedder="tests.embedders:HashEmbedder")
with task("first"):
    pass
assert autotrace.flush(500)
for n in range(50):
    with task(f"task {n}"):
        pass
"""


def test_at_the_end_of_a_program_whose_storekeeper_is_at_work_nothing_waits(store: Path) -> None:
    assert run(["-c", AT_EXIT], store) == "0\n"


def test_it_ends_though_the_store_is_down_when_its_program_is_gone(tmp_path: Path) -> None:
    with script(
        """
        autotrace.configure(
            sys.argv[2],
            embedder="tests.embedders:HashEmbedder",
            flush_interval_ms=0,
            spool=sys.argv[3],
        )
        with task("kept"):
            pass
        while not autotrace.flush(0.1) and "export_failures" not in autotrace.health().counters:
            pass
        print("tried", flush=True)
        sys.stdin.readline()
        """,
        tmp_path / "unused",
        f"http://127.0.0.1:{free_port()}",
        tmp_path / "spool",
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "tried\n"
        process = psutil.Process(read_status(tmp_path / "spool").pid)
        program.kill()

    process.wait(500)
    assert [p for p in (tmp_path / "spool").iterdir() if p.is_dir()]


HANGS_ONCE = """
import ctypes, sys
from pathlib import Path
from autotrace.worker import main as storekeeper_main
from tests.embedders import HashEmbedder

storekeeper_main._HUNG_AFTER_S = 1

class Hangs(HashEmbedder):
    def embed(self, texts):
        once = Path(__file__).with_name("hung")
        if not once.exists():
            once.touch()
            ctypes.PyDLL(None).pause()  # and keeps the interpreter lock, as Chroma does
        return super().embed(texts)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such process")
def test_one_that_hangs_with_the_interpreter_is_ended_and_another_goes_on(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hangs_once.py").write_text(HANGS_ONCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    configure(store, embedder="hangs_once:Hangs")
    record("stored at the second attempt")

    assert autotrace.flush(500)

    assert (tmp_path / "hung").exists()
    assert [s.task for s in autotrace.list_traces()] == ["stored at the second attempt"]


def test_files_that_a_program_opens_under_the_numbers_of_closed_pipes_are_its_own(
    store: Path, tmp_path: Path
) -> None:
    with script(
        """
        import stat
        def pipes():
            found = set()
            for number in range(3, 100):
                try:
                    if stat.S_ISFIFO(os.fstat(number).st_mode):
                        found.add(number)
                except OSError:
                    pass
            return found
        before = pipes()
        with task("before"):
            pass
        assert autotrace.flush(500)
        ours = pipes() - before
        assert len(ours) == 2
        for number in ours:
            os.dup2(os.open(sys.argv[2], os.O_RDWR | os.O_CREAT), number)
        with task("after"):
            pass
        print(autotrace.flush(500), autotrace.health().counters, flush=True)
        autotrace.shutdown()
        for number in ours:
            os.write(number, b"mine")
        """,
        store,
        tmp_path / "file of the program",
    ) as program:
        output, _ = program.communicate(timeout=500)

    assert (program.returncode, output) == (0, "True {}\n")
    assert (tmp_path / "file of the program").read_bytes() == b"mine"


def test_a_program_that_becomes_a_daemon_has_its_records_stored(
    store: Path, tmp_path: Path
) -> None:
    with script(
        """
        with task("before"):
            pass
        assert autotrace.flush(500)
        told = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(told, 100)
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.closerange(0, 100)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        os.chdir("/")
        os.umask(0)
        os.environ.clear()
        with task("of the daemon"):
            pass
        os.write(100, str(autotrace.flush(500)).encode())
        os.close(100)
        os._exit(0)
        """,
        store,
        tmp_path / "told",
    ) as program:
        program.wait(500)
    while not (tmp_path / "told").read_bytes():
        time.sleep(0.01)

    assert (tmp_path / "told").read_text() == "True"
    modes = {p.name: p.stat().st_mode & 0o077 for p in (store / "spool").iterdir() if p.is_dir()}
    assert set(modes.values()) <= {0}
    configure(store, embedder=HashEmbedder())
    assert {s.task for s in autotrace.list_traces()} == {"before", "of the daemon"}


@pytest.mark.parametrize("options", [["-I"], ["-W", "error"]], ids=" ".join)
def test_a_program_is_served_with_whatever_options_it_was_started(
    store: Path, options: list[str]
) -> None:
    with script(
        """
        with task("recorded"):
            pass
        print(autotrace.flush(500), autotrace.health().last_error, "chromadb" in sys.modules)
        """,
        store,
        options=options,
    ) as program:
        output, _ = program.communicate(timeout=500)

    assert output == "True None False\n"


def test_a_program_in_a_zip_is_served_with_the_embedder_that_is_in_it(
    store: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("packed.py", "from tests.embedders import HashEmbedder as Embedder\n")
        archive.writestr(
            "__main__.py",
            "import sys, autotrace\n"
            "autotrace.configure(sys.argv[1], embedder='packed:Embedder', flush_interval_ms=0)\n"
            "with autotrace.task('packed'): pass\n"
            "print(autotrace.flush(500), autotrace.health().last_error, end='')\n",
        )
    assert run([str(tmp_path / "program.zip")], store) == "True None"


@pytest.mark.parametrize(
    "obstacle",
    [
        "sys.addaudithook(lambda event, _: 1 / 0 if event == 'subprocess.Popen' else None)",
        "sys.executable = '/bin/false'",
        "os.mkdir(sys.argv[1] + '-here'); os.chdir(sys.argv[1] + '-here'); "
        "os.rmdir(sys.argv[1] + '-here'); sys.path.insert(0, '')",
    ],
    ids=["no processes allowed", "what runs the program is not Python", "its folder is gone"],
)
def test_where_it_cannot_be_started_the_program_stores_and_says_so(
    store: Path, obstacle: str
) -> None:
    with script(
        obstacle
        + """
with task("by a thread after all"):
    pass
print(autotrace.flush(500), autotrace.health().last_error, flush=True)
""",
        store,
    ) as program:
        output, _ = program.communicate(timeout=500)

    assert output.startswith("True no process can store, so this one does: ")


def test_one_that_fails_by_itself_says_so_and_the_program_stores(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks.py").write_text(
        "from autotrace.worker import main as storekeeper_main\n"
        "from tests.embedders import HashEmbedder as Breaks\n"
        "storekeeper_main._acquire = lambda drainer: 1 / 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    configure(store, embedder="breaks:Breaks")
    record("by a thread after all")

    assert autotrace.flush(500)

    assert "ZeroDivisionError" in str(autotrace.health().last_error)


LOUD = """
import autotrace
from tests.embedders import HashEmbedder

# As the module of a program does:
autotrace.configure("STORE", embedder="tests.embedders:HashEmbedder")


class Loud(HashEmbedder):
    def embed(self, texts):
        print("failed " * 20_000, flush=True)
        return super().embed(texts)


with autotrace.task("recorded by the import"):
    pass
"""


def test_an_embedder_may_print_and_its_module_configure(store: Path, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD.replace("STORE", str(store)))
    with script(
        """
        sys.path.insert(0, sys.argv[2])
        autotrace.configure(sys.argv[1], embedder="loud:Loud", flush_interval_ms=0)
        for number in range(3):
            with task(f"task {number}"):
                pass
            print(autotrace.flush(500), file=sys.stderr)
        print(autotrace.health().counters, file=sys.stderr)
        """,
        store,
        tmp_path,
    ) as program:
        program.communicate(timeout=500)

    configure(store, embedder=HashEmbedder())
    tasks = sorted(s.task for s in autotrace.list_traces())
    assert tasks == ["recorded by the import", "task 0", "task 1", "task 2"]


def test_a_store_deleted_under_a_running_program_is_said_and_made_again(store: Path) -> None:
    import shutil

    configure(store)
    record("before")
    assert autotrace.flush(500)
    shutil.rmtree(store)
    before = autotrace.health().counters.get("deleted_spools", 0)

    record("into nothing")
    assert autotrace.flush(500) is False
    again = record("into a new one")
    assert autotrace.flush(500)

    assert autotrace.health().counters["deleted_spools"] == before + 1
    # What is recorded just when the deletion is noticed may be in the new one already.
    tasks = [s.task for s in autotrace.list_traces() if s.task != "into nothing"]
    assert tasks == ["into a new one"]
    assert autotrace.get_trace(again).status == "completed"


def test_it_gives_way_to_a_rebuild(store: Path) -> None:
    from autotrace.settings import load_settings
    from autotrace.worker.rebuild import rebuild
    from autotrace.worker.wiring import open_connection

    configure(store)
    record("stored before")
    assert autotrace.flush(500)
    settings = load_settings(store=str(store))

    done = rebuild(open_connection(settings, None), HashEmbedder(), settings.spool_path)

    assert done.traces == 1
    record("stored after")
    assert autotrace.flush(500)
    assert len(autotrace.list_traces()) == 2


@pytest.mark.parametrize("status", ['{"notes": []}', "[]", "{", '{"id": 1, "counters": 7}'])
def test_a_damaged_status_is_none(store: Path, status: str) -> None:
    (store / "spool").mkdir(parents=True)
    (store / "spool" / STATUS_FILE).write_text(status)

    configure(store)
    record("anyway")

    assert autotrace.flush(500)


def test_what_another_one_was_refused_does_not_concern_this_program(store: Path) -> None:
    (store / "spool").mkdir(parents=True)
    left = {"id": "gone", "pid": 1, "counters": {}, "notes": {}, "refused": True}
    (store / "spool" / STATUS_FILE).write_text(json.dumps(left))

    configure(store)
    record("with the right embedder now")

    assert autotrace.flush(500)
