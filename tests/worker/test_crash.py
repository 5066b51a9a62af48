"""Processes killed by force, several at once, batches stored twice: nothing lost or doubled."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import autotrace
from autotrace import task, tool
from autotrace.spool.files import owner_is_alive
from autotrace.store.tool_stats import ToolCallStat
from tests.embedders import HashEmbedder
from tests.recount import recount

ROOT = Path(__file__).parents[2]
AGENT = Path(__file__).with_name("agent_process.py")


def start_agent(
    store: Path, name: str, *, tasks: int, flush_every: int = 0
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(AGENT), str(store), name, str(tasks), str(flush_every)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def said(process: subprocess.Popen[str], *, kill_after_lines: int | None = None) -> list[list[str]]:
    """Read what an agent says to its end, and kill it after so many lines."""
    assert process.stdout is not None
    lines: list[list[str]] = []
    for line in process.stdout:
        if line.endswith("\n"):
            lines.append(line.split())
        if len(lines) == kill_after_lines:
            process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return lines


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def opened(store: Path) -> Iterator[None]:
    yield
    autotrace.shutdown()


def open_store(store: Path) -> None:
    autotrace.configure(str(store), embedder=HashEmbedder(), flush_interval_ms=0)
    assert autotrace.flush(timeout=500) is True


def check_statistics_and_calls(lines: list[list[str]]) -> dict[str, autotrace.Trace]:
    """Compare what agents said with what is stored; return the traces by id."""
    summaries = autotrace.list_traces(limit=1000)
    traces = {s.trace_id: autotrace.get_trace(s.trace_id) for s in summaries}
    called = Counter(line[1] for line in lines if line[0] == "called")
    for trace_id in {line[1] for line in lines if line[0] == "started"}:
        stored = len(traces[trace_id].tool_calls)
        # The kill may fall between a call's return and its line.
        assert called[trace_id] <= stored <= called[trace_id] + 1
    for trace_id in {line[1] for line in lines if line[0] == "ended"}:
        assert traces[trace_id].status == "completed"
    calls = [
        ToolCallStat(
            c.tool_name, c.status, c.duration_ms, round(c.ended_at.timestamp() * 1e9), c.error_type
        )
        for trace in traces.values()
        for c in trace.tool_calls
    ]
    ignoring = {"last_used_at"}
    assert [s.model_dump(exclude=ignoring) for s in autotrace.tool_stats()] == [
        s.model_dump(exclude=ignoring) for s in recount(calls)
    ]
    return traces


@pytest.mark.parametrize("kill_after", [1, 2, 7, 8, 50])
def test_what_had_returned_before_a_kill_is_stored_at_the_next_start(
    store: Path, opened: None, kill_after: int
) -> None:
    lines = said(start_agent(store, "victim", tasks=1000), kill_after_lines=kill_after)

    open_store(store)

    traces = check_statistics_and_calls(lines)
    started = {line[1] for line in lines if line[0] == "started"}
    ended = {line[1] for line in lines if line[0] == "ended"}
    for trace_id in started - ended:
        assert traces[trace_id].status in ("interrupted", "completed")
    assert [t for t in traces.values() if t.status == "active"] == []
    assert [r.trace_id for r in autotrace.recall("victim task 0", limit=50)] == [
        r.trace_id for r in autotrace.recall("victim task 0", limit=50) if r.success
    ]


def test_an_interrupted_task_shows_what_it_was_at(store: Path, opened: None) -> None:
    lines = said(start_agent(store, "hanging", tasks=10), kill_after_lines=4)

    open_store(store)

    (summary,) = autotrace.list_traces(status="interrupted")
    assert summary.trace_id == lines[0][1]
    trace = autotrace.get_trace(summary.trace_id)
    assert (trace.task, trace.steps[0].thought) == ("hanging task 0", "thought 0")
    assert (trace.success, len(trace.tool_calls)) == (None, 3)
    assert autotrace.recall("hanging task 0") == []
    (own,) = (store / "spool").glob("*/")  # what the victim left is gone
    assert owner_is_alive(own) is True


def test_a_process_killed_while_it_stores_is_carried_on_by_the_next(
    store: Path, opened: None
) -> None:
    generator = random.Random(5)
    lines: list[list[str]] = []
    for round_number in range(6):
        agent = start_agent(store, f"agent{round_number}", tasks=1000, flush_every=1)
        lines += said(agent, kill_after_lines=generator.randrange(5, 60))

    open_store(store)

    check_statistics_and_calls(lines)


def test_processes_that_record_at_once_share_one_store(store: Path, opened: None) -> None:
    agents = [start_agent(store, f"agent{n}", tasks=40, flush_every=7) for n in range(4)]
    lines = [line for agent in agents for line in said(agent)]

    assert [agent.returncode for agent in agents] == [0] * 4
    open_store(store)

    traces = check_statistics_and_calls(lines)
    assert Counter(t.agent for t in traces.values()) == {f"agent{n}": 40 for n in range(4)}
    for trace in traces.values():
        assert autotrace.recall(trace.task, limit=1)[0].task == trace.task


def test_a_spool_stored_twice_changes_nothing(store: Path, tmp_path: Path, opened: None) -> None:
    lines = said(start_agent(store, "victim", tasks=1000), kill_after_lines=60)
    shutil.copytree(store / "spool", tmp_path / "copy")
    open_store(store)
    before = check_statistics_and_calls(lines)
    statistics = autotrace.tool_stats()
    autotrace.shutdown()

    for process in (tmp_path / "copy").iterdir():
        if process.is_dir():
            shutil.copytree(process, store / "spool" / f"again-{process.name}")
    (store / "spool" / "cursor.json").unlink(missing_ok=True)
    open_store(store)

    assert check_statistics_and_calls(lines) == before
    assert autotrace.tool_stats() == statistics
    assert len(autotrace.recall("victim task", limit=50)) == len(
        {r.trace_id for r in autotrace.recall("victim task", limit=50)}
    )


@tool
def work(number: int) -> int:
    return number + 1


@pytest.mark.parametrize("point", range(18))
def test_a_crash_at_any_write_to_the_store_is_repaired_by_the_next_attempt(
    store: Path, opened: None, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop after the n-th write of a batch, as a kill would, then let the batch be tried again."""
    from chromadb.api.models.Collection import Collection

    writes = 0

    def failing(real):  # type: ignore[no-untyped-def] - wraps functions of any signature
        def write(*args, **kwargs):  # type: ignore[no-untyped-def] - see above
            nonlocal writes
            writes += 1
            if writes == point:
                raise ConnectionError("killed here, before")
            real(*args, **kwargs)
            if writes == point + 1:
                writes += 100
                raise ConnectionError("killed here, after")

        return write

    open_store(store)
    with task("first"):
        work(1)
    autotrace.shutdown()
    # Only the flush begins a batch, so that everything below is one.
    autotrace.configure(str(store), embedder=HashEmbedder(), flush_interval_ms=600_000)
    for name in ("add", "upsert", "update"):
        monkeypatch.setattr(Collection, name, failing(getattr(Collection, name)))
    with task("second") as second:
        work(1)
        work(2)
    with task("first") as again:
        pass
    with task("third", session_id="x") as third:
        work(3)
        third.complete("no", success=False)

    assert autotrace.flush(timeout=500)

    listed = autotrace.list_traces()
    assert [(s.trace_id, s.status) for s in listed][:3] == [
        (third.trace_id, "completed"),
        (again.trace_id, "completed"),
        (second.trace_id, "completed"),
    ]
    assert len(listed) == 4
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 4
    recalled = [r.trace_id for r in autotrace.recall("first", success_only=False, limit=50)]
    assert recalled[0] == again.trace_id
    assert sorted(recalled) == sorted(s.trace_id for s in listed)
