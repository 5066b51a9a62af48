"""A store whose files are damaged: it is said clearly, found by the doctor, and rebuilt."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import autotrace
from autotrace import Trace, task, tool_call
from tests.faults import agents
from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import ROOT, start

pytestmark = pytest.mark.xdist_group("store_damage")
"""Of one worker, which makes what they share once."""

TRACES: Final = 1200
"""So many that Chroma has written its index to files; it does so from 1,000 records on."""


def cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autotrace.cli", *arguments],
        **{"capture_output": True, "text": True, "cwd": ROOT} | options,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
        timeout=500,
        check=False,
    )


def over(store: Path) -> tuple[str, ...]:
    return ("--store", str(store), "--embedder", "tests.embedders:SmallEmbedder")


def doctor_finds(store: Path) -> dict[str, str]:
    """Return what the doctor finds wrong: the name of each check, and what helps."""
    done = cli("doctor", *over(store), "--json")
    wrong = {
        check["name"]: check["fix"]
        for check in json.loads(done.stdout)["checks"]
        if check["status"] == "error"
    }
    assert done.returncode == bool(wrong), done.stderr
    return wrong


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Trace]]:
    """A store that is whole, closed, and what is in it."""
    store = tmp_path_factory.mktemp("whole") / "store"
    agents.configure(str(store))
    for number in range(TRACES):
        with task(f"carry parcel {number} to door {number % 7}"):
            if number % 10 == 0:
                with tool_call("lift", {"n": number}):
                    pass
    assert autotrace.flush(timeout=500)
    traces = stored_traces()
    autotrace.shutdown()
    shutil.rmtree(store / "spool")
    return store, traces


@pytest.fixture
def damaged(
    template: tuple[Path, dict[str, Trace]], store: Path
) -> Callable[[Callable[[list[Path]], None]], Path]:
    """Make a copy of the store, its index files damaged by a function."""

    def make(damage: Callable[[list[Path]], None]) -> Path:
        shutil.copytree(template[0], store)
        segments = [path for path in (store / "chroma").iterdir() if path.is_dir()]
        assert len(segments) >= 2
        damage(segments)
        return store

    return make


def delete_folders(segments: list[Path]) -> None:
    for path in segments:
        shutil.rmtree(path)


def delete_files(segments: list[Path]) -> None:
    for path in segments:
        (path / "data_level0.bin").unlink()


def fill_with_noise(segments: list[Path]) -> None:
    for path in segments:
        for file in path.glob("*.bin"):
            file.write_bytes(os.urandom(file.stat().st_size))


@pytest.mark.parametrize(
    "damage",
    [
        delete_folders,
        delete_files,
        fill_with_noise,
    ],
)
def test_index_files_that_are_gone_or_damaged_are_found_and_rebuilt(
    damaged: Callable[..., Path],
    template: tuple[Path, dict[str, Trace]],
    damage: Callable[[list[Path]], None],
    figure: Figure,
) -> None:
    store = damaged(damage)

    wrong = doctor_finds(store)
    rebuilt = cli("rebuild", *over(store), "--json")

    assert wrong
    assert any("rebuild" in fix for fix in wrong.values()), wrong
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert json.loads(rebuilt.stdout)["traces"] == TRACES
    assert doctor_finds(store) == {}
    open_store(store)
    traces = stored_traces()
    assert traces == template[1]
    for trace in traces.values():
        assert autotrace.recall(trace.task, limit=1)[0].trace_id == trace.trace_id
    with task("go on") as t, tool_call("lift", {}):
        pass
    assert autotrace.flush(timeout=500)
    assert len(autotrace.get_trace(t.trace_id).tool_calls) == 1
    assert len(stored_traces()) == TRACES + 1
    figure(f"{damage.__name__.replace('_', ' ')}: found by {', '.join(wrong)}; rebuilt {TRACES:,}")


def test_a_rebuild_shows_how_far_it_is(
    template: tuple[Path, dict[str, Trace]], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(template[0], store)
    ours, theirs = pty.openpty()
    # A wide terminal: a long path and the bar do not fit into 80 columns.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")  # dumb terminals, and NO_COLOR, get lines of text alone
    monkeypatch.delenv("NO_COLOR", raising=False)
    done = cli("rebuild", *over(store), stdout=subprocess.PIPE, stderr=theirs, capture_output=False)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)

    assert done.returncode == 0
    assert b"rebuilding" in shown
    assert "\u2501".encode() in shown  # of the bar
    assert re.search(rb"1200/1200", shown)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""  # the other end is closed


def test_a_database_that_is_gone_is_found_by_the_doctor(
    template: tuple[Path, dict[str, Trace]], store: Path
) -> None:
    shutil.copytree(template[0], store)
    os.truncate(store / "chroma" / "chroma.sqlite3", 0)

    assert doctor_finds(store)


@pytest.mark.parametrize("kept", [0.01, 0.7])
def test_a_database_that_was_cut_is_an_error_of_one_line(
    template: tuple[Path, dict[str, Trace]], store: Path, kept: float
) -> None:
    shutil.copytree(template[0], store)
    database = store / "chroma" / "chroma.sqlite3"
    os.truncate(database, int(database.stat().st_size * kept))

    wrong = doctor_finds(store)

    assert wrong
    asked = cli("traces", *over(store))
    assert asked.returncode == 1
    assert asked.stderr.startswith("error: ")
    assert len(asked.stderr.splitlines()) <= 2
    agents.configure(str(store))  # a program that records goes on all the same
    with task("recorded all the same"):
        pass
    assert autotrace.flush(timeout=1) is False
    assert autotrace.health().backlog_bytes > 0
    autotrace.shutdown(timeout=1)


def die_at(calls: int, store: str) -> None:
    """Record, and die at the n-th call that makes something in a new store."""
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

    left = calls

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return real(*args, **kwargs)

        return call

    for owner, names in (
        (Client, ("create_collection", "get_or_create_collection")),
        (Collection, ("add", "upsert")),
    ):
        for name in names:
            setattr(owner, name, dying(getattr(owner, name)))
    agents.configure(store)
    agents.work_through("made", calls, 3, agents.Report(os.devnull))
    autotrace.flush(timeout=500)
    os._exit(0)


def test_a_store_that_was_half_made_when_its_maker_died_is_completed(
    tmp_path: Path, figure: Figure
) -> None:
    codes: list[int | None] = []
    for calls in range(30):
        store = tmp_path / f"store-{calls}"
        maker = start(die_at, calls, str(store))
        maker.join()
        codes.append(maker.exitcode)
        open_store(store)
        (trace,) = stored_traces().values()
        assert (trace.status, len(trace.tool_calls)) == ("completed", 3)
        assert autotrace.recall(trace.task)[0].trace_id == trace.trace_id
        autotrace.shutdown()
        if codes[-1] == 0:
            break

    assert set(codes[:-1]) == {9}
    assert codes[-1] == 0
    figure(f"a new store, its maker killed at each of {len(codes) - 1} calls to Chroma: completed")
