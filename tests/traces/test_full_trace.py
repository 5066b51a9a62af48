"""A trace has a bound: what goes beyond costs nobody anything, and what makes it a trace stays."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autotrace
from autotrace import semconv, task, tool_call
from autotrace.errors import TraceNotFoundError
from autotrace.models import Trace
from autotrace.settings import load_settings
from autotrace.spool.span_records import SpanRecord, record_key
from autotrace.spool.span_roles import role_of
from autotrace.store.connection import Connection
from autotrace.store.schema import Collections
from autotrace.store.trace_log import LogPart, read_records
from autotrace.store.trace_log import read_parts as log_parts
from autotrace.traces import ingest, log_state
from autotrace.traces.deletion import erase_trace
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.traces.tool_calls import call_of
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import open_connection
from tests.embedders import HashEmbedder
from tests.recount import recount
from tests.store.memory import MemoryConnection, Stopped
from tests.traces.strategies import OTEL_TRACE, span_trees, step_record, task_record, tool_record

EMBEDDER = HashEmbedder()
BOUND = 20
TASK_ID = f"trace-{OTEL_TRACE}-{1:016x}"


class Store:
    """A store, into which records go batch by batch."""

    def __init__(self, connection: Connection[Collections] | None = None) -> None:
        self.connection = connection or MemoryConnection(exclusive=True)
        self.counted: Counter[str] = Counter()
        self.reader = Reader(self.connection, EMBEDDER)
        self._batch = 0
        self.restart()

    def restart(self) -> None:
        self.ingestor = Ingestor(
            self.connection, EMBEDDER, lambda name: self.counted.update([name])
        )

    def put(self, *records: SpanRecord) -> None:
        self._batch += 1
        self.put_again(*records)

    def put_again(self, *records: SpanRecord) -> None:
        self.ingestor.ingest(records, writer="w", batch=self._batch)

    @property
    def dropped(self) -> int:
        return self.counted["dropped_trace_full"]

    def records(self, share: str = OTEL_TRACE) -> list[SpanRecord]:
        return self.connection.read(lambda collections: read_records(collections.log, share))

    def calls(self) -> Counter[str]:
        return Counter({tool.tool_name: tool.call_count for tool in self.reader.tool_stats()})

    def everything(self) -> tuple[list[SpanRecord], dict[str, Trace], list[Any]]:
        listed = [summary.trace_id for summary in self.reader.list_traces(limit=1000)]
        traces = {trace_id: self.reader.get_trace(trace_id) for trace_id in listed}
        return self.records(), traces, self.reader.tool_stats()


@pytest.fixture(autouse=True)
def _bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_state, "MAX_RECORDS", BOUND)


def calls(number: int, first: int = 100, parent: int | None = 1) -> list[SpanRecord]:
    return [tool_record(span, parent, 2, 3) for span in range(first, first + number)]


def of_agent(record: SpanRecord, sender: str, owner: str) -> SpanRecord:
    return {**record, "sender": {"key": sender, "agent": sender}, "owner": owner}


def chat(span: int, parent: int | None, operation: str = "chat") -> SpanRecord:
    """Return a span of another instrumentation."""
    attributes = {
        semconv.GEN_AI_OPERATION_NAME: operation,
        semconv.GEN_AI_AGENT_NAME: "clerk",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"pay it"}]}]',
    }
    return {**tool_record(span, parent, 1, 9), "attributes": attributes, "scope": "other"}


def test_a_trace_takes_as_many_records_as_its_bound_says_and_the_others_are_counted() -> None:
    store = Store()
    other = {**task_record(1, None, 1, 9), "trace": "cd" * 16}

    store.put(task_record(1, None, 1, None), *calls(50), other)  # type: ignore[arg-type] - of the same fields
    store.put(*calls(10, first=200))
    store.put(*calls(50))  # as delivered again

    assert len(store.records()) == BOUND
    assert store.dropped == 31 + 10 + 31
    assert store.calls() == {"web_search": BOUND - 1}
    assert len(store.reader.get_trace(TASK_ID).tool_calls) == BOUND - 1
    assert len(store.reader.list_traces()) == 2


def test_what_is_open_in_a_full_trace_still_ends() -> None:
    store = Store()
    store.put(task_record(1, None, 1, None), step_record(2, 1, 1, None), *calls(50, parent=2))
    store.put(step_record(3, 1, 4, None), tool_record(4, 3, 5, 6))  # no room for either

    store.put(step_record(3, 1, 4, 7), step_record(2, 1, 1, 4))
    store.put(task_record(1, None, 1, 9, **{semconv.OUTCOME: "paid", semconv.SUCCESS: True}))

    trace = store.reader.get_trace(TASK_ID)
    assert (trace.status, trace.success, trace.outcome) == ("completed", True, "paid")
    assert [len(step.tool_calls) for step in trace.steps] == [BOUND - 2]


def test_an_interrupted_task_of_a_full_trace_is_interrupted() -> None:
    store = Store()
    store.put(task_record(1, None, 1, None), *calls(50))
    ended = {"trace": OTEL_TRACE, "id": f"{1:016x}", "start_ns": 9, "end_ns": 9}

    store.put({**ended, "interrupted": True})  # type: ignore[typeddict-item] - of the fields of one

    assert store.reader.get_trace(TASK_ID).status == "interrupted"


@pytest.mark.parametrize("above", [None, 1])
def test_a_full_trace_takes_the_agent_that_ends_after_all_it_did(above: int | None) -> None:
    store = Store()
    store.put(*[chat(span, 2) for span in range(100, 150)])
    assert len(store.records()) == BOUND

    store.put(chat(2, above, "invoke_agent"))
    if above is not None:
        store.put({**chat(1, None), "skeleton": True, "attributes": {}})

    assert [trace.task for trace in store.reader.list_traces()] == ["pay it"]
    assert [trace.status for trace in store.reader.list_traces()] == ["completed"]


def _remote(span: int) -> SpanRecord:
    return {**tool_record(span, 1, 2, 3), "remote": True}


FLOODS: Final[dict[str, Callable[[int], SpanRecord]]] = {
    "tasks": lambda span: task_record(span, 1, 2, 3),
    "roots": lambda span: tool_record(span, None, 2, 3),
    "roots of other processes": _remote,
    "each above the one before": lambda span: tool_record(span, span + 1, 2, 3),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_what_a_full_trace_still_takes_is_bounded_too(
    flood: Callable[[int], SpanRecord],
) -> None:
    store = Store()
    store.put(task_record(1, None, 1, None))
    for span in range(100, 200):
        store.put(flood(span))

    store.put(task_record(1, None, 1, 9))

    assert len(store.records()) == BOUND * 1.1 + 1
    assert store.dropped == 101 - BOUND * 1.1
    assert store.reader.get_trace(TASK_ID).status == "completed"


def test_guests_fill_half_of_a_share_at_most_and_never_what_is_kept_for_its_owner() -> None:
    store = Store()
    guests = [of_agent(record, "bob", "ann") for record in calls(50)]
    heads = [of_agent(task_record(span, 1, 2, 3), "bob", "ann") for span in range(200, 250)]
    store.put(*guests[:25])
    store.put(*guests[25:], *heads)

    store.put(*[of_agent(record, "ann", "ann") for record in calls(8)])
    store.put(*heads)
    store.put(*[of_agent(record, "ann", "ann") for record in calls(8, first=108)])
    store.put(*heads, of_agent(task_record(1, None, 1, 9), "ann", "ann"))

    (own,) = [each for each in store.reader.list_traces() if each.recorded_by == "ann"]
    assert (own.status, own.tool_call_count) == ("completed", BOUND)
    assert store.calls() == {"web_search": BOUND}


def test_a_few_huge_spans_fill_a_trace_as_many_small_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_state, "MAX_BYTES", 100_000)
    store = Store()
    huge = [tool_record(span, 1, 2, 3, x="x" * 30_000) for span in range(100, 110)]
    for record in huge:
        store.put(record)
        store.restart()

    store.put(task_record(1, None, 1, 9))

    assert len(store.records()) == 4
    assert store.dropped == 7
    assert store.reader.get_trace(TASK_ID).status == "completed"


@st.composite
def batches(draw: st.DrawFn) -> list[list[SpanRecord]]:
    """Return the records of one tree, in any order, in one to three batches."""
    records = draw(st.permutations(draw(span_trees())))
    first, second = sorted(draw(st.tuples(*[st.integers(0, len(records))] * 2)))
    return [records[:first], records[first:second], records[second:]]


@given(batches(), st.integers(0, 12), st.integers(1, 40), st.booleans())
@settings(max_examples=80)
def test_a_batch_that_is_stored_again_changes_nothing_at_the_bound(
    sent: list[list[SpanRecord]], bound: int, stop_after: int, exclusive: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_state, "MAX_RECORDS", bound)
        straight, stopped = (Store(MemoryConnection(exclusive=exclusive)) for _ in range(2))
        for records in sent:
            straight.put(*records)
            assert isinstance(stopped.connection, MemoryConnection)
            stopped.connection.stop_after = stop_after
            try:
                stopped.put(*records)
            except Stopped:
                stopped.connection.stop_after = -1
                stopped.restart()
                stopped.put_again(*records)
            stopped.connection.stop_after = -1
            assert stopped.everything() == straight.everything()
            stopped.put_again(*records)
            assert stopped.everything() == straight.everything()
    stored = {record_key(record): record for record in straight.records()}
    assert straight.reader.tool_stats() == recount(
        call_of(record) for record in stored.values() if role_of(record) == "tool"
    )


def test_a_full_trace_is_rebuilt_and_deleted_as_any_other(tmp_path: Path) -> None:
    config = load_settings(store=str(tmp_path / "store"))
    store = Store(open_connection(config, EMBEDDER.space))
    call = tool_record(50, None, 2, 3, "outside")
    store.put(task_record(1, None, 1, None), call, *calls(50))
    store.put(task_record(1, None, 1, 9), *calls(50))
    before = store.everything()
    store.connection.close()

    rebuilt = rebuild(open_connection(config, None), EMBEDDER, config.spool_path)

    assert (rebuilt.traces, rebuilt.tool_calls) == (1, BOUND - 1)
    assert store.everything() == before
    assert [found.trace_id for found in store.reader.recall("task 1")] == [TASK_ID]

    erase_trace(store.connection, EMBEDDER, TASK_ID)
    store.put(task_record(1, None, 1, 9), *calls(100))
    with pytest.raises(TraceNotFoundError):
        store.reader.get_trace(TASK_ID)
    assert store.calls() == {"outside": 1}
    assert [r for r in store.records() if r.get("attributes")] == [call]
    store.connection.close()


def _steps(work: Callable[[], None]) -> int:
    """Return how many calls of functions some work takes."""
    number = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    gc.disable()  # callbacks of a collection would count, too
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return number


@pytest.mark.parametrize("remembered", [True, False])
def test_a_trickle_into_a_full_trace_costs_the_same_for_every_span(remembered: bool) -> None:
    store = Store()
    store.put(task_record(1, None, 1, None))
    costs: list[int] = []
    spans: Sequence[SpanRecord] = calls(200)
    for record in spans:
        if not remembered:
            store.ingestor.forget()
        costs.append(_steps(lambda record=record: store.put(record)))

    at_bound, beyond = max(islice(costs, BOUND)), costs[BOUND + 10 :]
    assert max(beyond) < at_bound
    assert max(beyond) < 1.1 * min(beyond)


def test_a_trickle_into_a_full_trace_that_has_ended_reads_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    store.put(task_record(1, None, 1, 9), *calls(50))
    read: list[str] = []

    def read_parts(log: Any, traces: Sequence[str]) -> dict[str, list[LogPart]]:
        read.extend(traces)
        return log_parts(log, traces)

    monkeypatch.setattr(ingest, "read_parts", read_parts)
    for record in calls(50, first=200):
        store.put(record)

    assert read == []
    store.put(task_record(1, None, 1, 9))  # nothing is left out
    store.put(*calls(1))
    assert read == [OTEL_TRACE]


def test_a_program_is_told_by_its_health_that_its_trace_is_full(
    counted: Callable[[], Counter[str]],
) -> None:
    with task("pay it") as t:
        for number in range(BOUND * 2):
            with tool_call("look", {"n": number}):
                pass
        t.complete("paid")
    assert autotrace.flush()

    trace = autotrace.get_trace(t.trace_id)
    assert (trace.status, trace.outcome) == ("completed", "paid")
    kept = len(trace.tool_calls)
    assert kept in (BOUND - 1, BOUND)  # one less if the task was stored before it ended
    assert counted()["dropped_trace_full"] == 2 * BOUND - kept
    assert [tool.call_count for tool in autotrace.tool_stats()] == [kept]
