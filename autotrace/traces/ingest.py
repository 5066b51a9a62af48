"""Store batches of span records: the log first, then its projections, in Chroma.

The order of the writes makes a batch safe to store again after a crash at any point. Records that
the log lacks are appended, in parts that name the writer and the batch; then the timeline,
summaries, index and statistics follow, each the same when written twice; then decisions are
indexed. If a batch is stored again, records in parts of its own name count as new for the
projections; a record in any other part is a repeat. Over a Chroma server, where other writers are
not excluded, a writer whose part was not the first reads the log again and appends the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from autotrace.embedding.embedder import Embedder
from autotrace.errors import StoreError, StoreUnavailableError
from autotrace.spool.record_fields import conformed
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import SpanRecord, is_lone_root, record_key
from autotrace.spool.span_roles import decision_id_of, role_of, trace_id_of
from autotrace.store import schema, timeline, tool_stats, trace_summaries
from autotrace.store import task_index as texts
from autotrace.store.call_counts import WriterCounters
from autotrace.store.connection import Connection
from autotrace.store.numbered_records import lost_ids, record_id
from autotrace.store.paged_lists import Appender
from autotrace.store.persist_interval import Tuner
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKey
from autotrace.store.tool_stats import ToolCallStat
from autotrace.store.trace_log import read_parts
from autotrace.traces.batch_groups import RefusalCollector
from autotrace.traces.decision_index import DecisionIndex
from autotrace.traces.deletion import apply_pending_deletions, finish_deletion, remove_from_indexes
from autotrace.traces.embed_batch import TextVectors, texts_of_ended_tasks
from autotrace.traces.log_state import StateCache, TraceState, new_parts, without_superseded
from autotrace.traces.projection_changes import Changes, project
from autotrace.traces.trace_ids import claim

_MAX_APPEND_ATTEMPTS: Final = 20
_CHECK_ID: Final = "check"
"""Record id of the test write of `Ingestor.check`."""


@dataclass
class _Batch:
    """A batch that is being stored."""

    collections: Collections
    writer: str
    number: int
    attempts: Sequence[int]
    partitions: Mapping[str, list[SpanRecord]]
    keys: Mapping[str, set[str]]
    """Keys of all records, superseded ones too, by partition."""
    vectors: TextVectors
    refusals: RefusalCollector
    states: dict[str, TraceState] = field(default_factory=dict[str, TraceState])
    projected: dict[str, Changes] = field(default_factory=dict[str, Changes])
    """Changes that are computed before anything is written, by partition."""
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    """Number of records without room, by partition."""


class Ingestor:
    """Stores batches of span records. For one thread at a time.

    Args:
        connection: The store.
        embedder: Makes the vectors of task texts.
        count: Called with a counter's name when something is left out.
        decisions: Indexes the decisions of which a batch holds events.
    """

    def __init__(
        self,
        connection: Connection,
        embedder: Embedder,
        count: Callable[[str], None],
        decisions: DecisionIndex | None = None,
    ) -> None:
        self._connection = connection
        self._embedder = embedder
        self._count = count
        self._decisions = decisions
        self._cache = StateCache()
        self._generation = ""
        self._counters: WriterCounters | None = None
        self._tuner = Tuner()
        self.wrote = False
        """Whether the log may hold a record of the last batch."""

    def check(self) -> None:
        """Raise StoreUnavailableError unless the store takes a write.

        Raises:
            StoreError: The store does not take it.
        """
        try:
            with self._connection.writing() as collections:
                schema.upsert(collections.state, {_CHECK_ID: {"checked_ns": time.time_ns()}})
        except StoreError:
            raise
        except Exception as error:
            msg = f"the store {self._connection.name} cannot be written: {error!r}"
            raise StoreUnavailableError(msg) from error

    def forget(self) -> None:
        """Drop all cached state, as another process may write from now on."""
        self._cache.clear()
        self._counters = None

    def ingest(
        self,
        records: Sequence[SpanRecord],
        *,
        writer: str,
        batch: int,
        attempts: Sequence[int] = (),
    ) -> None:
        """Store a batch; storing it again under the same name changes nothing.

        Args:
            records: Span records in any order.
            writer: The writer's name; only one process at a time may use it.
            batch: The batch's number, larger than all before of this writer.
            attempts: Numbers of failed attempts at larger batches with these records, which may
                have stored some of them.

        Raises:
            StoreError: The batch may be stored in part; store it again.
            RefusedError: Some records cannot be stored because of their content.
        """
        refusals = RefusalCollector()
        every = _partitions(records)
        partitions = {partition: without_superseded(of) for partition, of in every.items()}
        keys = {partition: set(map(record_key, of)) for partition, of in every.items()}
        vectors = TextVectors(self._embedder, lambda: self._count("unembedded_tasks"))
        # Before the lock is taken, since embedding takes longer than the write.
        vectors.add(_texts_in(partitions, refusals))
        try:
            with self._connection.writing() as collections:
                if not self._is_sole_writer():
                    self.forget()
                stored = _Batch(
                    collections, writer, batch, attempts, partitions, keys, vectors, refusals
                )
                self._store(stored)
                # The collections of a server are open in other processes, too.
                must_reopen = self._connection.exclusive and self._tuner.stored(
                    collections, len(records)
                )
            self._generation = self._connection.generation()
            if must_reopen:
                self._connection.invalidate()
            self._index_decisions(partitions.values())
        except BaseException:
            self.forget()
            raise
        for _ in range(sum(stored.left_out.values())):
            self._count("dropped_trace_full")
        self._cache.finish(stored.states)

    def _is_sole_writer(self) -> bool:
        """Return whether no other process has written since the last batch.

        `writing` advances the generation by one. Without a lock the answer may be wrong: appending
        to a log that has grown fails.
        """
        if not self._connection.exclusive:
            return True
        before, _, owner = self._generation.partition(" ")
        now, _, now_owner = self._connection.generation().partition(" ")
        return owner == now_owner and before.isdigit() and int(before) + 1 == int(now)

    def _store(self, batch: _Batch) -> None:
        self._append(batch)
        self._apply_pending_deletions(batch)
        changed = batch.states
        written: dict[str, trace_summaries.Summary] = {}
        while changed:
            changes = Changes()
            for trace, state in changed.items():
                if state.fresh:
                    changes.add(batch.projected.pop(trace, None) or project(state))
            self._write(batch, changes)
            written |= changes.summaries
            changed = self._overtaken(batch)
            self._remove_deleted(batch, changed.values(), written)

    def _append(self, batch: _Batch) -> None:
        """Append to the log the records that it lacks, once all their changes are computed."""
        log = batch.collections.log
        pending = list(batch.partitions)
        for _ in range(_MAX_APPEND_ATTEMPTS):
            self._load(batch, pending)
            states = {trace: batch.states[trace] for trace in pending}
            self.wrote = self.wrote or any(state.fresh for state in states.values())
            written: dict[str, Any] = {}
            appended: dict[str, str] = {}
            for trace, state in states.items():
                records = batch.partitions[trace]
                if state.is_empty() and all(map(is_lone_root, records)):
                    continue  # no span of an agent, so far
                with batch.refusals.reading(trace):
                    for part in new_parts(state, records, batch.writer, batch.number):
                        part_id = record_id(trace, state.parts)
                        state.parts += 1
                        written[part_id], appended[part_id] = part, trace
                    batch.left_out[trace] = state.left_out
                    if state.fresh:
                        batch.projected[trace] = project(state)
            batch.refusals.check()
            for state in states.values():
                if state.lost_content:  # of a deleted trace: it is still in the spool
                    state.lost_content = False
                    self._connection.purge_later()
            self.wrote = self.wrote or bool(written)
            schema.add(log, written, batch.collections.max_batch)
            if self._connection.exclusive or not written:
                return
            lost = lost_ids(log, list(written), batch.writer, batch.number)
            pending = list({appended[part_id] for part_id in lost})
            if not pending:
                return
            self._cache.drop(pending)
        msg = f"{len(pending)} traces of {self._connection.name} are contended; trying later"
        raise StoreUnavailableError(msg)

    def _apply_pending_deletions(self, batch: _Batch) -> None:
        """Delete records that, as the batch shows, belong to a deleted trace."""
        for trace, state in list(batch.states.items()):
            if state.holds_erased():
                self._connection.purge_later()
                exclusive = self._connection.exclusive
                apply_pending_deletions(batch.collections, trace, exclusive=exclusive)
                self._cache.drop([trace])
                self._load(batch, [trace])
                batch.projected.pop(trace, None)

    def _load(self, batch: _Batch, wanted: Sequence[str]) -> dict[str, TraceState]:
        """Take the states of traces from the cache, or read them; return them."""
        log = batch.collections.log
        for trace, parts in read_parts(log, self._cache.missing(wanted)).items():
            found = parts
            if any("undo" in part for part in parts):  # a deletion was cut short
                self._connection.purge_later()
                finish_deletion(batch.collections, trace, exclusive=self._connection.exclusive)
                found = read_parts(log, [trace])[trace]
            state = TraceState()
            numbers = {batch.number, *batch.attempts}
            state.extend(found, batch.writer, numbers, batch.keys[trace])
            self._cache.put(trace, state)
        loaded = self._cache.get(wanted)
        batch.states |= loaded
        return loaded

    def _overtaken(self, batch: _Batch) -> dict[str, TraceState]:
        """Return the states of traces whose log grew while their summaries were written.

        Our summary, which is older, may have replaced the other writer's.
        """
        if self._connection.exclusive:
            return {}
        next_parts = {record_id(t, state.parts): t for t, state in batch.states.items()}
        grown = [next_parts[i] for i in schema.documents(batch.collections.log, next_parts)]
        self._cache.drop(grown)
        return self._load(batch, grown)

    def _remove_deleted(
        self,
        batch: _Batch,
        changed: Iterable[TraceState],
        written: Mapping[str, trace_summaries.Summary],
    ) -> None:
        """Remove the projections, just written, of traces that were deleted meanwhile."""
        erased = {trace_id_of(r) for state in changed for r in state.records if "erased" in r}
        gone = {trace_id: written[trace_id]["task"] for trace_id in erased & written.keys()}
        if gone:
            keys = batch.vectors.keys(batch.collections)
            remove_from_indexes(
                batch.collections,
                {trace_id: keys.of(task).key for trace_id, task in gone.items()},
                exclusive=self._connection.exclusive,
            )

    def _write(self, batch: _Batch, changes: Changes) -> None:
        """Write the projections."""
        collections = batch.collections
        appender = Appender(
            batch.writer, batch.number, self._connection.exclusive, collections.max_batch
        )
        timeline.add_timeline_entry(collections.lists, changes.started, appender)
        new = {entry.trace_id for entry in changes.started}
        claim(collections, {i: s for i, s in changes.summaries.items() if i in new})
        completed = {i: changes.summaries[i] for i in changes.completed}
        keys = batch.vectors.keys_of(collections, completed)
        for key in keys.values():
            if not key.is_known:
                self._count("unread_tasks")
        trace_summaries.put_summary(collections, changes.summaries, keys)
        enter_completed(collections, completed, keys, batch.vectors, appender)
        if changes.gone:
            trace_summaries.remove(collections, changes.gone)
        if changes.calls or changes.taken_back:
            self._count_calls(batch, changes.calls, changes.taken_back)

    def _count_calls(
        self, batch: _Batch, calls: Sequence[ToolCallStat], taken_back: Sequence[ToolCallStat]
    ) -> None:
        for call in calls:
            if call.is_cut:
                self._count("truncated")
        state = batch.collections.state
        if self._counters is None:
            self._counters = WriterCounters(tool_stats.read_totals(state), batch.writer)
        changed = self._counters.count(calls, batch.number, batch.attempts)
        tool_stats.write_counters(state, batch.writer, changed)
        taken = self._counters.taken(taken_back)
        part, *others = (f"{batch.writer}.{n}" for n in (batch.number, *batch.attempts))
        tool_stats.take_back(state, part, taken, others)

    def _index_decisions(self, partitions: Iterable[Iterable[SpanRecord]]) -> None:
        if self._decisions is None:
            return
        records = (record for of in partitions for record in of)
        ids = dict.fromkeys(decision_id_of(r) for r in records if role_of(r) == "decision")
        try:
            self._decisions.update(list(ids))
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - the spans are stored; `rebuild` indexes decisions again
            self._count("unindexed_decisions")


def enter_completed(
    collections: Collections,
    summaries: Mapping[str, trace_summaries.Summary],
    text_keys: Mapping[str, TextKey],
    vectors: TextVectors,
    appender: Appender,
) -> None:
    """Index completed traces by meaning, but those whose text the embedder refuses.

    Raises:
        StoreUnavailableError: The embedder does not answer, or other writers came first at each
            attempt.
    """
    vectors.add(summary["task"] for summary in summaries.values())
    senders = {t: by for t, s in summaries.items() if (by := s["recorded_by"]) is not None}
    for success in (True, False):
        keys: dict[timeline.TimelineEntry, str] = {}
        by_key: dict[str, Any] = {}
        for trace_id, summary in summaries.items():
            vector = vectors.of(summary["task"])
            if bool(summary["success"]) is success and vector is not None:
                key = text_keys[trace_id].key
                keys[timeline.TimelineEntry(summary["created_ns"], trace_id)] = key
                by_key[key] = vector
        index = texts.of_tasks(collections, success=success)
        texts.add_task(index, keys, by_key, appender=appender, senders=senders)


def _partitions(records: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    by_partition: dict[str, list[SpanRecord]] = {}
    for record in map(conformed, records):
        by_partition.setdefault(partition_of(record), []).append(record)
    return by_partition


def _texts_in(partitions: Mapping[str, list[SpanRecord]], refusals: RefusalCollector) -> list[str]:
    found: list[str] = []
    for partition, records in partitions.items():
        with refusals.reading(partition):
            found += texts_of_ended_tasks(records)
    refusals.check()
    return found
