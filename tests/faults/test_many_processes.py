"""Ten processes in one embedded store at once: everything is there, and found."""

from __future__ import annotations

from pathlib import Path

import pytest

import autotrace
from tests.faults import agents
from tests.faults.agents import said_in
from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import start

RECORDERS = 8


@pytest.mark.parametrize(
    ("storing", "traces_each"),
    [
        ("thread", 40),
        ("process", 40),
        pytest.param("thread", 100, marks=pytest.mark.full_size),
        pytest.param("process", 500, marks=pytest.mark.full_size),
    ],
    indirect=["storing"],
)
def test_eight_recorders_and_two_readers_share_a_store(
    store: Path, tmp_path: Path, figure: Figure, storing: str, traces_each: int
) -> None:
    told = tmp_path / "told"
    reports = [tmp_path / f"report-{number}" for number in range(RECORDERS + 2)]

    recorders = [
        start(agents.record_traces, str(store), f"agent{n}", str(reports[n]), traces_each)
        for n in range(RECORDERS)
    ]
    readers = [
        start(agents.read_until_told, str(store), f"reader{n}", str(reports[n]), str(told))
        for n in range(RECORDERS, RECORDERS + 2)
    ]
    for process in recorders:
        process.join(500)
    told.touch()
    for process in readers:
        process.join(500)

    assert [process.exitcode for process in recorders + readers] == [0] * (RECORDERS + 2)
    said = said_in(*reports)
    others = {tuple(words) for words in said.other if words[0] != "read"}
    assert others == {("flushed", "True"), ("counted", "{}", "None")}
    open_store(store)
    traces = stored_traces()
    assert len(traces) == RECORDERS * traces_each
    assert said.started == said.ended == traces.keys()
    for trace_id, trace in traces.items():
        assert trace.status == "completed"
        assert {call.result for call in trace.tool_calls} == said.calls[trace_id]
        assert autotrace.recall(trace.task, limit=1)[0].trace_id == trace_id
    rounds = sum(int(words[1]) for words in said.other if words[0] == "read")
    assert rounds > 2
    figure(
        f"stored by a {storing}: {RECORDERS} recorders of {traces_each} traces, "
        f"2 readers of {rounds} rounds meanwhile: "
        f"{len(traces):,} traces whole, each found by its own text, no error"
    )
