"""Ten processes in one embedded store at once: everything is there, and found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import autotrace
from tests.faults import agents
from tests.faults.agents import Said, said_in
from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import start

RECORDERS = 8
TRACES_EACH = 500


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    """The store, open, after eight recorders and two readers were at work in it at once."""
    folder = tmp_path_factory.mktemp("crowd")
    store, told = folder / "store", folder / "told"
    reports = [folder / f"report-{number}" for number in range(RECORDERS + 2)]
    recorders = [
        start(agents.record_traces, str(store), f"agent{n}", str(reports[n]), TRACES_EACH)
        for n in range(RECORDERS)
    ]
    readers = [
        start(agents.read_until_told, str(store), f"reader{n}", str(reports[n]), str(told))
        for n in range(RECORDERS, RECORDERS + 2)
    ]
    for process in recorders:
        process.join(110)
    told.touch()
    for process in readers:
        process.join(60)
    assert [process.exitcode for process in recorders + readers] == [0] * (RECORDERS + 2)
    open_store(store)
    yield said_in(*reports)
    autotrace.shutdown()


def test_eight_recorders_and_two_readers_share_a_store(crowded: Said, figure: Figure) -> None:
    told = [words for words in crowded.other if words[0] != "read"]
    assert [words for words in told if words[0] == "flushed"] == [["flushed", "True"]] * RECORDERS
    assert {tuple(words) for words in told if words[0] == "counted"} == {("counted", "{}", "None")}

    traces = stored_traces()

    assert len(traces) == RECORDERS * TRACES_EACH
    assert crowded.started == crowded.ended == traces.keys()
    for trace_id, trace in traces.items():
        assert trace.status == "completed"
        assert {call.result for call in trace.tool_calls} == crowded.calls[trace_id]
    rounds = sum(int(words[1]) for words in crowded.other if words[0] == "read")
    assert rounds > 10
    figure(
        f"{RECORDERS} recorders of {TRACES_EACH} traces, 2 readers of {rounds} rounds meanwhile: "
        f"{len(traces):,} traces whole, no error"
    )


@pytest.mark.xfail(
    strict=True,
    reason="Chroma's index leaves some vectors unreachable (6 of 4,000 such texts in one process, "
    "without any fault): recall must look up the exact text beside the index",
)
def test_every_trace_is_found_by_its_own_text(crowded: Said, figure: Figure) -> None:
    traces = {trace_id: autotrace.get_trace(trace_id) for trace_id in crowded.ended}
    found = sum(
        autotrace.recall(trace.task, limit=1)[0].trace_id == trace_id
        for trace_id, trace in traces.items()
    )
    figure(f"{found:,} of {len(traces):,} traces found by their own text")
    assert found == len(traces)
