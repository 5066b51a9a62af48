"""SIGKILL at random moments: what had returned is stored at the next start, once."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

import autotrace
from tests.faults import agents
from tests.faults.agents import COROUTINES, THREADS, said_in
from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import LINUX, holder_of, kill_storekeepers, start

BUSY_BYTES = 2_000
"""An agent whose report is so long has recorded some calls."""


def size_bytes(report: Path) -> int:
    return report.stat().st_size if report.exists() else 0


def check_against(reports: list[Path]) -> tuple[int, int]:
    """Compare what is stored with what agents said; return how many calls and traces it was."""
    said = said_in(*reports)
    traces = stored_traces()
    assert {trace.status for trace in traces.values()} <= {"completed", "interrupted"}
    assert said.started <= traces.keys()
    assert said.ended <= {t for t, trace in traces.items() if trace.status == "completed"}
    returned = stored = 0
    for trace_id, trace in traces.items():
        kept = {call.result for call in trace.tool_calls}
        assert said.calls[trace_id] <= kept
        assert said.steps[trace_id] <= {s.step_id for s in trace.steps}
        returned += len(said.calls[trace_id])
        stored += len(kept)
    # A kill may fall between a call's return and its line in the report, once in each worker.
    assert stored <= returned + len(reports) * (THREADS + COROUTINES)
    succeeded = {r.trace_id for r in autotrace.recall("task 0", limit=50)}
    assert all(traces[trace_id].status == "completed" for trace_id in succeeded)
    return returned, len(traces)


@pytest.mark.parametrize(
    ("storing", "rounds"),
    [
        ("thread", 14),
        ("process", 6),
        pytest.param("thread", 50, marks=pytest.mark.full_size),
        pytest.param("process", 16, marks=pytest.mark.full_size),
    ],
    indirect=["storing"],
)
def test_kills_at_random_moments_lose_and_double_nothing(
    store: Path, tmp_path: Path, storing: str, rounds: int, figure: Figure
) -> None:
    """Each round also takes over, and is killed while it stores, what the rounds before left.

    Where a process of its own stores, it is killed as well in half the rounds: in the others those
    of several rounds meet.
    """
    chance = random.Random(os.environ.get("FAULTS_SEED", "autotrace"))
    reports: list[Path] = []
    keepers = 0
    for number in range(rounds):
        pause_s = chance.choice([0, 0.002])
        moment_s = chance.uniform(0, 0.12 if pause_s == 0 else 0.5)
        stores_apart = LINUX and storing == "process" and number % 2 == 1
        if stores_apart:
            pause_s = 0.02
        reports.append(tmp_path / f"report-{number}")
        agent = start(
            agents.record_until_killed, str(store), f"r{number}", str(reports[-1]), pause_s
        )
        # In each third round the kill may come before anything is recorded.
        while number % 3 and size_bytes(reports[-1]) < BUSY_BYTES:
            agent.join(0.001)
            assert agent.is_alive()
        while stores_apart and holder_of(store / "spool" / "drain.lock") is None:
            agent.join(0.001)
            assert agent.is_alive()
        agent.join(moment_s)
        assert agent.is_alive()
        agent.kill()
        agent.join()
        assert agent.exitcode == -signal.SIGKILL
        if stores_apart and number % 4 == 1:
            keepers += kill_storekeepers(str(tmp_path))

    open_store(store)

    calls, traces = check_against(reports)
    assert calls > 4 * rounds
    assert (keepers > 0) == (LINUX and storing == "process")
    figure(
        f"{rounds} kills and {keepers} of storekeepers, {calls:,} calls in {traces:,} traces: "
        "0 lost, 0 twice"
    )
    assert autotrace.list_traces(status="interrupted")
    assert autotrace.list_traces(status="active") == []


def is_pending(store: Path) -> bool:
    """Tell whether a batch has been begun and not finished."""
    cursor = store / "spool" / "cursor.json"
    return cursor.exists() and json.loads(cursor.read_bytes())["pending"] is not None


@pytest.mark.skipif(not LINUX, reason="who holds a lock is read from /proc/locks")
def test_a_program_that_stores_may_be_killed_while_it_writes_to_chroma(
    store: Path, tmp_path: Path, figure: Figure
) -> None:
    chance = random.Random(os.environ.get("FAULTS_SEED", "autotrace"))
    reports: list[Path] = []
    cut_short = 0
    for number in range(10):
        reports.append(tmp_path / f"report-{number}")
        agent = start(agents.record_until_killed, str(store), f"r{number}", str(reports[-1]), 0.002)
        agent.join(chance.uniform(0.05, 0.3))
        while (writer := holder_of(store / "store.lock")) is None:
            agent.join(0.0005)
            assert agent.is_alive()
        os.kill(writer, signal.SIGKILL)
        agent.kill()
        agent.join()
        cut_short += is_pending(store)

    assert cut_short >= 5  # the kills did fall in the middle of a batch
    open_store(store)

    calls, traces = check_against(reports)
    figure(
        f"{len(reports)} kills of the process that held the store's lock, {cut_short} with a batch "
        f"under way; {calls:,} calls in {traces:,} traces: 0 lost, 0 twice"
    )


@pytest.mark.skipif(not LINUX, reason="who holds a lock is read from /proc/locks")
@pytest.mark.parametrize("storing", ["process"], indirect=True)
def test_a_storekeeper_may_be_killed_while_it_writes_to_chroma(
    store: Path, tmp_path: Path, storing: str, figure: Figure
) -> None:
    """One program records on; each time another storekeeper goes on where the last was killed."""
    chance = random.Random(os.environ.get("FAULTS_SEED", "autotrace"))
    report = tmp_path / "report"
    agent = start(agents.record_until_killed, str(store), "agent", str(report), 0.02)
    # After a third one that had not stored a thing, the program would store by itself.
    kills, cut_short = 2, 0
    for _ in range(kills):
        while (writer := holder_of(store / "store.lock")) is None:
            agent.join(0.0005)
            assert agent.is_alive()
        agent.join(chance.uniform(0, 0.02))
        assert writer != agent.pid
        os.kill(writer, signal.SIGKILL)
        while holder_of(store / "spool" / "drain.lock") == writer:
            agent.join(0.0005)
        cut_short += is_pending(store)
    assert agent.is_alive()
    agent.kill()
    agent.join()

    assert cut_short >= kills / 2  # the kills did fall in the middle of a batch
    open_store(store)

    calls, traces = check_against([report])
    figure(
        f"{kills} kills of the storekeeper of a program that goes on, {cut_short} with a batch "
        f"under way; {calls:,} calls in {traces:,} traces: 0 lost, 0 twice"
    )
