"""The command line as a process among others: exit codes, pipes, signals, other people's spools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

import autotrace
from autotrace.cli.commands import app

from .conftest import EMBEDDER, REPOSITORY, Command, Recorded, environment, process

HEAVY = (
    *("chromadb", "cryptography", "onnxruntime", "numpy", "psutil", "tokenizers", "rich.traceback"),
    *("autotrace.store", "autotrace.worker", "autotrace.doctor", "autotrace.decisions"),
)
READS = [["traces"], ["show", "trace-1"], ["recall", "x"], ["tools"], ["rebuild"]]

DYING_AGENT = """
import os, sys, autotrace
from autotrace import task, step
from tests.embedders import HashEmbedder

autotrace.configure(sys.argv[1], embedder=HashEmbedder(), flush_interval_ms=3_600_000)
with task("the task that ended"):
    pass
with task("the task that was cut off"), step("half a thought"):
    os._exit(9)
"""


def test_help_loads_nothing_heavy_and_records_nothing(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from autotrace.cli.commands import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "LOADED"
    assert "traces" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_the_package_s() -> None:
    result = process("--version")

    assert (result.returncode, result.stdout) == (0, f"autotrace {autotrace.__version__}\n")


@pytest.mark.parametrize("reading", READS, ids=lambda reading: reading[0])
@pytest.mark.parametrize("place", ["missing", "empty", "file"])
def test_a_path_that_is_no_store_is_said_and_left_alone(
    tmp_path: Path, command: Command, reading: list[str], place: str
) -> None:
    store = tmp_path / "store"
    if place == "empty":
        store.mkdir()
    if place == "file":
        store.write_text("not a store")

    result = command(*reading, store=store)

    if place == "file":
        assert result.stderr.startswith(f"error: store={str(store)!r} is not allowed: ")
        assert result.stderr.count("\n") == 1
    else:
        hint = "(record something first, or name one with --store)"
        assert result.stderr == f"error: no store at {store} {hint}\n"
    assert (result.exit_code, result.stdout) == (1, "")
    assert [p.name for p in tmp_path.rglob("*")] == ([] if place == "missing" else ["store"])


def test_the_store_is_the_setting_s_unless_an_option_says_otherwise(
    tmp_path: Path, recorded: Recorded, command: Command
) -> None:
    settings = {"AUTOTRACE_STORE": str(recorded.store)}

    named = CliRunner().invoke(app, ["traces", "--json", *EMBEDDER], env=settings)
    other = command("traces", "--json", store=tmp_path / "other", **settings)
    default = process("traces", cwd=tmp_path)

    assert json.loads(named.stdout)["count"] == 4
    assert other.stderr.startswith(f"error: no store at {tmp_path / 'other'} ")
    assert default.stderr.startswith(f"error: no store at {tmp_path / '.autotrace'} ")


@pytest.mark.parametrize(
    "usage",
    [
        ["traces", "--limit", "0"],
        ["traces", "--limit", "1001"],
        ["traces", "--status", "done"],
        ["recall", "x", "--limit", "51"],
        ["recall"],
        ["show"],
        ["frobnicate"],
        ["tools", "--frobnicate"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(usage: list[str]) -> None:
    result = CliRunner().invoke(app, usage)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_wrong_usage_of_the_program_is_exit_code_2() -> None:
    result = process("traces", "--limit", "0")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: autotrace traces")
    assert not set(result.stderr) & set("\x1b│─")


def test_an_unknown_trace_is_one_line_and_exit_code_1(command: Command, recorded: Recorded) -> None:
    unknown = "trace-" + "0" * 32 + "-" + "0" * 16

    result = command("show", unknown)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: no trace '{unknown}' in {recorded.store}")
    assert result.stderr.count("\n") == 1


def test_a_setting_that_is_not_allowed_is_one_line(recorded: Recorded) -> None:
    result = process(
        *("traces", "--store", str(recorded.store)), env=environment(AUTOTRACE_MAX_VALUE_BYTES="x")
    )

    assert result.returncode == 1
    assert result.stderr.startswith("error: AUTOTRACE_MAX_VALUE_BYTES='x' is not allowed")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:x", "ModuleNotFoundError"),
        ("tests.embedders:Nothing", "AttributeError"),
        ("tests.embedders", "colon"),
    ],
)
def test_an_embedder_that_cannot_be_imported_is_one_line(
    command: Command, name: str, reason: str
) -> None:
    result = command("traces", "--embedder", name, embedder=())

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: --embedder='{name}' is not allowed")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_store_that_is_damaged_is_one_line_and_debug_says_where(
    tmp_path: Path, command: Command
) -> None:
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").write_text("this is no database, but a letter")

    result = command("traces", store=tmp_path, embedder=())
    debug = process("--debug", "traces", "--store", str(tmp_path))

    assert result.exit_code == debug.returncode == 1
    assert result.stderr.startswith(f"error: the Chroma database of {tmp_path} cannot be opened")
    assert result.stderr.count("\n") == 1
    assert "Traceback" in debug.stderr


def test_a_server_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["traces", "--store", "http://127.0.0.1:9"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: the Chroma server http://127.0.0.1:9 cannot be reached")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["traces"], ["tools", "--json"]])
def test_a_reader_that_leaves_is_no_error(recorded: Recorded, arguments: list[str]) -> None:
    store = ["--store", str(recorded.store), *EMBEDDER]
    with subprocess.Popen(
        [sys.executable, "-m", "autotrace.cli", *arguments, *store],
        cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        complaint = running.stderr.read()

    assert complaint == b""
    assert running.returncode == 1


def test_a_rebuild_that_is_interrupted_says_to_run_it_again(
    command: Command, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autotrace.worker.rebuild_and_retry.rebuild", interrupt)

    result = command("rebuild")

    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "note: not finished: run it again\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals, and other signals")
def test_control_c_ends_a_command_that_waits_without_a_traceback(recorded: Recorded) -> None:
    import pty

    ours, its = pty.openpty()
    # With the lock held it waits to open the store, and says on the terminal that it does.
    with FileLock(recorded.store / "store.lock"), subprocess.Popen(
        [sys.executable, "-m", "autotrace.cli", "traces", "--store", str(recorded.store)],
        cwd=REPOSITORY, env=environment(COLUMNS="200"), stdout=subprocess.PIPE, stderr=its,
        # A job in the background of a shell inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:  # fmt: skip
        os.close(its)
        said = b""
        while b"opening" not in said:
            said += os.read(ours, 65536)
        running.send_signal(signal.SIGINT)
        assert running.stdout is not None
        printed = running.stdout.read()
        running.wait()
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)

    assert running.returncode == 130
    assert printed == b""
    assert b"Traceback" not in said
    assert b"error" not in said


def test_reading_takes_in_what_dead_processes_left(tmp_path: Path) -> None:
    store = tmp_path / "store"
    died = subprocess.run(
        [sys.executable, "-c", DYING_AGENT, str(store)],
        cwd=REPOSITORY, env=environment(), timeout=500,
    )  # fmt: skip
    assert died.returncode == 9
    assert not (store / "chroma").exists()

    result = process("traces", "--json", "--store", str(store), *EMBEDDER)

    assert result.stderr == ""
    assert {t["task"]: t["status"] for t in json.loads(result.stdout)["traces"]} == {
        "the task that ended": "completed",
        "the task that was cut off": "interrupted",
    }


def test_a_store_of_another_embedder_is_read_but_not_recalled_from(
    recorded: Recorded, command: Command
) -> None:
    listed = command("traces", "--json", embedder=())
    recalled = command("recall", "x", "--json", embedder=())

    assert (listed.exit_code, listed.stderr) == (0, "")
    assert json.loads(listed.stdout)["count"] == 4
    assert (recalled.exit_code, recalled.stdout) == (1, "")
    assert recalled.stderr.count("\n") == 1
    assert all(
        said in recalled.stderr
        for said in (
            "'test-hash'",
            "'all-MiniLM-L6-v2'",
            f"autotrace rebuild --store {recorded.store}",
        )
    )


def test_what_cannot_be_taken_in_is_said_and_the_rest_is_answered(
    tmp_path: Path, command: Command
) -> None:
    store = tmp_path / "store"
    agent = [sys.executable, "-c", DYING_AGENT, str(store)]
    subprocess.run(agent, cwd=REPOSITORY, env=environment(), timeout=500)
    taken = command("traces", "--json", store=store)
    subprocess.run(agent, cwd=REPOSITORY, env=environment(), timeout=500)

    result = command("traces", "--json", store=store, embedder=())

    assert json.loads(taken.stdout)["count"] == json.loads(result.stdout)["count"] == 2
    assert result.stderr.startswith("warning: ")
    assert "'test-hash'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_reading_leaves_no_spool_of_its_own(recorded: Recorded) -> None:
    before = {p.name for p in (recorded.store / "spool").iterdir()}

    assert process("traces", "--store", str(recorded.store), *EMBEDDER).returncode == 0

    # That of the recording process may be gone by then: reading takes in what is left.
    assert {p.name for p in (recorded.store / "spool").iterdir()} <= before


def test_doctor_is_exit_code_1_when_something_is_wrong(
    tmp_path: Path, recorded: Recorded, command: Command
) -> None:
    well = process("doctor", "--store", str(recorded.store), *EMBEDDER)
    wrong = command("doctor", store=tmp_path / "none")

    assert (well.returncode, well.stderr) == (0, "")
    assert wrong.exit_code == 1
    assert f"error    store: no store at {tmp_path / 'none'}\n         to fix it: " in wrong.stdout
    assert list(tmp_path.iterdir()) == []


def test_rebuild_says_what_it_rebuilt(tmp_path: Path, command: Command) -> None:
    store = tmp_path / "store"
    autotrace.configure(store, embedder=lambda texts: [[1.0, 0.5]] * len(texts))
    with autotrace.task("embedded by another"), autotrace.tool_call("hammer", {}):
        pass
    assert autotrace.flush()
    autotrace.shutdown()

    result = process("rebuild", "--json", "--store", str(store), *EMBEDDER)

    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "store": str(store), "traces": 1, "tool_calls": 1, "space": "test-hash",
        "refused_texts": 0, "decisions": 0, "retried": 0, "set_aside": 0,
    }  # fmt: skip
    found = command("recall", "embedded", "--json", store=store)
    assert json.loads(found.stdout)["count"] == 1


_INTERRUPTED_IMPORT = """
import signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["autotrace", "--version"]
from _autotrace_console import main
main()
"""


@pytest.mark.parametrize(
    "module",
    [
        "autotrace",
        "opentelemetry",
        "autotrace.cli",
        "autotrace.cli.streams",
        "typer",
        "autotrace.cli.commands",
        "pydantic",
    ],
)
def test_ctrl_c_while_modules_are_imported_ends_a_command_in_order(module: str) -> None:
    script = _INTERRUPTED_IMPORT.format(module=module)

    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
