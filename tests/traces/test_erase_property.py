"""Whatever was recorded, in any order, and wherever it is stopped: what is deleted is gone, and
nothing else is."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotrace.errors import TraceNotFoundError
from autotrace.models import Trace
from autotrace.spool.shares import Share
from autotrace.spool.span_records import SpanRecord, holds_content, record_key
from autotrace.spool.span_roles import role_of, trace_id_of
from autotrace.store.text_keys import key_of
from autotrace.store.trace_log import read_records
from autotrace.traces import deletion
from autotrace.traces.assembly import assemble
from autotrace.traces.deletion import erase_trace
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.traces.tool_calls import call_of
from autotrace.traces.tree import Tree
from tests.recount import recount
from tests.store.memory import MemoryConnection, Stopped
from tests.traces.strategies import (
    OTEL_TRACE,
    skeleton_of,
    span_trees,
    step_record,
    task_record,
    tool_record,
)


class Blind:
    """Finds all texts the same: what is nearest is not asked here."""

    space = "test-blind"
    dimensions = 2

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0, 0.0]] * len(texts)


EMBEDDER = Blind()


class Store:
    """A store, what writes to it, and what it is asked."""

    def __init__(self, *, exclusive: bool) -> None:
        self.connection = MemoryConnection(exclusive=exclusive)
        self.reader = Reader(self.connection, EMBEDDER)
        self.batch = 0
        self._ingestor = Ingestor(self.connection, EMBEDDER, lambda _: None)

    def ingest(self, records: list[SpanRecord], batch: int) -> None:
        try:
            self._ingestor.ingest(records, writer="w", batch=batch)
        except Stopped:
            self._ingestor = Ingestor(self.connection, EMBEDDER, lambda _: None)
            raise

    def record(self, records: list[SpanRecord], stop_after: int = -1) -> None:
        self.batch += 1
        try:
            self.connection.stop_after = stop_after
            self.ingest(records, self.batch)
        except Stopped:
            self.ingest(records, self.batch)
        finally:
            self.connection.stop_after = -1

    def delete(self, trace_id: str, stop_after: int = -1) -> None:
        try:
            self.connection.stop_after = stop_after
            erase_trace(self.connection, EMBEDDER, trace_id)
        except Stopped:
            self.connection.stop_after = -1
            try:
                erase_trace(self.connection, EMBEDDER, trace_id)
            except TraceNotFoundError:
                pass  # all was done but to tidy up
        finally:
            self.connection.stop_after = -1

    def traces(self) -> dict[str, Trace]:
        listed = [summary.trace_id for summary in self.reader.list_traces(limit=1000)]
        return {trace_id: self.reader.get_trace(trace_id) for trace_id in listed}

    def records(self) -> list[SpanRecord]:
        return read_records(self.connection.collections.log, OTEL_TRACE)

    def recounted(self) -> list[Any]:
        calls = {record_key(r): r for r in self.records() if role_of(r) == "tool"}
        return recount(map(call_of, calls.values()))

    def check_deleted(self, trace_id: str) -> None:
        with pytest.raises(TraceNotFoundError):
            self.reader.get_trace(trace_id)
        tree = Tree(self.records())
        assert not [r for r in self.records() if holds_content(r) and tree.erased_task_of(r)]
        completed = [trace for trace in self.traces().values() if trace.status == "completed"]
        collections = self.connection.collections
        for success, collection in ((True, collections.succeeded), (False, collections.failed)):
            texts = {trace.task for trace in completed if trace.success is success}
            assert set(collection.get()["ids"]) == {key_of(text) for text in texts}


def whole(traces: Any) -> dict[str, Trace]:
    return {trace.trace_id: trace for trace in traces}


def split(records: list[SpanRecord], places: list[int]) -> list[list[SpanRecord]]:
    cuts = sorted({min(place, len(records)) for place in places})
    edges = [0, *cuts, len(records)]
    return [records[a:b] for a, b in itertools.pairwise(edges) if b > a]


places = st.lists(st.integers(0, 20), max_size=3)


@settings(max_examples=30)
@given(
    records=span_trees().flatmap(st.permutations),
    cuts=places,
    exclusive=st.booleans(),
    stop_after=st.integers(-1, 40),
    data=st.data(),
)
def test_a_store_without_a_trace_is_as_if_it_had_never_been_recorded(
    records: list[SpanRecord],
    cuts: list[int],
    exclusive: bool,
    stop_after: int,
    data: st.DataObject,
) -> None:
    store = Store(exclusive=exclusive)
    for batch in split(records, cuts):
        store.record(batch)
    expected = whole(assemble(records))
    if not expected:
        return
    deleted = data.draw(st.lists(st.sampled_from(sorted(expected)), min_size=1, unique=True))

    for trace_id in deleted:
        store.delete(trace_id, stop_after)

    for trace_id in deleted:
        del expected[trace_id]
    for again in range(2):
        assert store.traces() == expected
        assert store.reader.tool_stats() == store.recounted()
        for trace_id in deleted:
            store.check_deleted(trace_id)
        if not again:
            for batch in split(records, cuts):  # whatever was delivered is delivered once more
                store.record(batch)


@settings(max_examples=30)
@given(
    records=span_trees().flatmap(st.permutations),
    before=st.integers(1, 20),
    cuts=places,
    exclusive=st.booleans(),
    stops=st.tuples(st.integers(-1, 40), st.integers(-1, 30)),
    data=st.data(),
)
def test_what_is_recorded_after_a_deletion_brings_nothing_back(
    records: list[SpanRecord],
    before: int,
    cuts: list[int],
    exclusive: bool,
    stops: tuple[int, int],
    data: st.DataObject,
) -> None:
    store = Store(exclusive=exclusive)
    store.record(records[:before], stops[1])
    known = [trace_id_of(task) for task in Tree(records[:before]).tasks]
    if not known:
        return
    trace_id = data.draw(st.sampled_from(known))

    store.delete(trace_id, stops[0])
    for batch in split(records[before:], cuts):
        store.record(batch, stops[1])

    assert set(store.traces()) == {trace_id_of(t) for t in Tree(records).tasks} - {trace_id}
    store.check_deleted(trace_id)
    # A call that ended before the last one left, and is stored after the deletion, shows in all
    # but the time of the last.
    ignoring = {"last_used_at"}
    assert [s.model_dump(exclude=ignoring) for s in store.reader.tool_stats()] == [
        s.model_dump(exclude=ignoring) for s in store.recounted()
    ]


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_turns_out_to_belong_to_a_deleted_trace_is_deleted_from_where_it_was(
    exclusive: bool,
) -> None:
    """A call whose parent is not known yet is taken for part of the task that was running."""
    store = Store(exclusive=exclusive)
    outer, inner = task_record(1, None, 0, None), task_record(2, 1, 5, None)
    between = skeleton_of(tool_record(3, 1, 1, 9))
    store.record([outer, inner, tool_record(4, 3, 6, 7)])
    store.record([tool_record(5, 2, 6, 8)])
    assert len(store.reader.get_trace(trace_id_of(inner)).tool_calls) == 2
    store.delete(trace_id_of(outer))

    store.record([between])

    assert len(store.reader.get_trace(trace_id_of(inner)).tool_calls) == 1
    store.check_deleted(trace_id_of(outer))
    assert store.reader.tool_stats() == store.recounted()


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_call_of_another_instrumentation_is_taken_back_from_where_it_was(
    exclusive: bool,
) -> None:
    store = Store(exclusive=exclusive)
    outer, inner = task_record(1, None, 0, None), task_record(2, 1, 5, None)
    between = skeleton_of(tool_record(3, 1, 1, 9))
    store.record([outer, inner, {**tool_record(4, 3, 6, 7), "scope": "another"}])
    store.record([tool_record(5, 2, 6, 8)])
    assert len(store.reader.get_trace(trace_id_of(inner)).tool_calls) == 2
    store.delete(trace_id_of(outer))

    store.record([between])

    assert len(store.reader.get_trace(trace_id_of(inner)).tool_calls) == 1
    assert store.reader.tool_stats() == store.recounted()


def test_a_call_of_a_guest_is_taken_back_when_its_host_is_deleted() -> None:
    store = Store(exclusive=True)
    host: Any = task_record(1, None, 0, None) | {"owner": "ann"}
    guest: Any = tool_record(2, 1, 1, 2) | {"owner": "ann"}
    key = {"key": "1", "agent": "bob"}
    store.record([host, guest | {"sender": key}])
    step: Any = step_record(3, 1, 3, 4) | {"owner": "ann"}
    store.record([step])
    assert len(store.reader.tool_stats()) == 1

    store.delete(Share(OTEL_TRACE, "ann").trace_id(host["id"]))

    assert store.reader.tool_stats() == []


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_was_not_counted_yet_is_not_taken_back(
    exclusive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stored it has died with the calls in the log, and is followed by one who goes on."""
    monkeypatch.setattr(deletion, "_COUNTING_TIMEOUT_S", 0.1)
    records = [
        *(task_record(1, None, 0, 9), tool_record(2, 1, 1, 2), tool_record(3, 1, 3, 4)),
        *(task_record(4, None, 0, 9), tool_record(5, 4, 1, 2)),
    ]
    cut_short = 0
    for stop_after in range(1, 40):
        store = Store(exclusive=exclusive)
        store.connection.stop_after = stop_after
        with contextlib.suppress(Stopped):
            store.ingest(records, batch=1)
            break
        store.connection.stop_after = -1
        cut_short += 1
        with contextlib.suppress(TraceNotFoundError):
            erase_trace(store.connection, EMBEDDER, trace_id_of(records[0]))
            store.ingest(records, batch=1)
            store.check_deleted(trace_id_of(records[0]))

            assert set(store.traces()) == {trace_id_of(records[3])}
            assert store.reader.tool_stats() == store.recounted()
    assert cut_short > 8
