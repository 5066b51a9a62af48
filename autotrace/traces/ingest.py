"""Storing: from a batch of span records to the log and its projections in Chroma.

The order of the writes is what makes a batch safe to store again after a crash at any point:

1. The records not yet in the log are appended to it, in parts that name the writer and the batch.
2. The projections follow: timeline, summaries, statistics. Each is the same when written twice;
   statistics are totals that name the last batch counted.
3. Decisions of which the batch holds an event are embedded as they stand (decision_index.py).

When a batch is stored again, its records are found in the log in parts that bear its own name, and
count as new for step 2. A record found in any other part is a repeat, and changes nothing.

Records that cannot be read are refused before anything of their batch is written (batch_groups.py).

Of what belongs to a trace that was deleted, the log takes skeletons (deletion.py). What would make
a trace larger than it may be is left out (log_state.py).

Where other writers are not kept out (a Chroma server), the log settles who comes first: parts are
appended by compare-and-append, and a writer that has lost reads the log again and appends what is
still missing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from autotrace.store.paged_lists import Appender
from autotrace.store.persist_interval import Tuner
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKey
from autotrace.store.tool_stats import ToolCallStat
from autotrace.store.trace_log import lost_ids, part_id, read_parts
from autotrace.traces.batch_groups import RefusalCollector
from autotrace.traces.decision_index import DecisionIndex
from autotrace.traces.deletion import apply_pending_deletions, finish_deletion, remove_from_indexes
from autotrace.traces.embed_batch import TextVectors, texts_of_ended_tasks
from autotrace.traces.log_state import (
    MAX_BYTES,
    MAX_RECORDS,
    TraceState,
    new_parts,
    without_superseded,
)
from autotrace.traces.projection_changes import Changes, project
from autotrace.traces.trace_ids import claim

MAX_CACHED_RECORDS: Final = 2 * MAX_RECORDS
"""How many span records of traces under way are kept in memory, to spare reading them back: those
of a trace that is full, and as many of others."""
MAX_CACHED_BYTES: Final = 2 * MAX_BYTES
"""How many bytes of JSON they have."""
_MAX_APPEND_ATTEMPTS: Final = 20
_CHECK_ID: Final = "check"
"""Of the record by which it is seen whether the store takes a write."""


class Ingestor:
    """Stores batches of span records. For one thread at a time.

    Args:
        connection: The store.
        embedder: Makes the vectors of task texts.
        count: Called with a counter's name when something is left out.
        decisions: Makes the decisions of which a batch holds events found by meaning.
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
        self._states: OrderedDict[str, TraceState] = OrderedDict()
        self._generation = ""
        self._counters: WriterCounters | None = None
        self._tuner = Tuner()
        self._attempts: Sequence[int] = ()
        self._keys: Mapping[str, set[str]] = {}
        """Names of the records that are being stored, by partition."""
        self._left_out: dict[str, int] = {}
        """How many records of the batch there is no room for, by partition."""
        self.wrote = False
        """Whether the log may hold anything of the last batch."""

    def check(self) -> None:
        """Raise StoreUnavailableError unless the store takes a write.

        Raises:
            StoreError: It does not.
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
        """Drop what is remembered of the store: another process may be writing from now on."""
        self._states.clear()
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
            writer: Who stores; only one process at a time may use a name.
            batch: The batch's number, larger than all before of this writer.
            attempts: Numbers of failed attempts at more records than these, which may have
                stored some of them.

        Raises:
            StoreError: Nothing or a part is stored; store the batch again.
            RefusedError: Records cannot be stored for what they hold.
        """
        self._attempts = attempts
        self._left_out = {}
        sieve = RefusalCollector()
        every = _partitions(records)
        self._keys = {partition: set(map(record_key, of)) for partition, of in every.items()}
        by_partition = {partition: without_superseded(of) for partition, of in every.items()}
        vectors = TextVectors(self._embedder, lambda: self._count("unembedded_tasks"))
        # Before the lock is taken: it takes longer than the write.
        vectors.add(_texts_in(by_partition, sieve))
        try:
            with self._connection.writing() as collections:
                if not self._follows(self._connection.generation()):
                    self.forget()
                states, projected = self._append(collections, by_partition, sieve, writer, batch)
                for trace in self._apply_pending_deletions(collections, states, writer, batch):
                    projected.pop(trace, None)
                changed = states
                written: dict[str, trace_summaries.Summary] = {}
                while changed:
                    projections = Changes()
                    for trace, state in changed.items():
                        if state.fresh:
                            projections.add(projected.pop(trace, None) or project(state))
                    self._write(collections, projections, vectors, writer, batch)
                    written |= projections.summaries
                    changed = self._overtaken(collections, states, writer, batch)
                    self._unlist(collections, changed, written, vectors)
                # A server has its collections open for others, too.
                must_reopen = self._connection.exclusive and self._tuner.stored(
                    collections, len(records)
                )
            self._generation = self._connection.generation()
            if must_reopen:
                self._connection.invalidate()
            self._index_decisions(record for of in by_partition.values() for record in of)
        except BaseException:
            self.forget()
            raise
        for _ in range(sum(self._left_out.values())):
            self._count("dropped_trace_full")
        for trace, state in states.items():
            state.fresh = []
            if state.is_complete() and not state.left_out:  # to what is full, more is being sent
                self._states.pop(trace, None)
        self._trim()

    def _index_decisions(self, records: Iterable[SpanRecord]) -> None:
        if self._decisions is None:
            return
        decision_ids = _decisions_in(records)
        try:
            self._decisions.update(decision_ids)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - the spans are stored; `rebuild` indexes decisions again
            self._count("unindexed_decisions")

    def _follows(self, generation: str) -> bool:
        """Return whether nobody has written since our last batch; `writing` itself advances once.

        Without exclusion this need not hold: to append to a log that has grown fails.
        """
        if not self._connection.exclusive:
            return True
        before, _, owner = self._generation.partition(" ")
        now, _, now_owner = generation.partition(" ")
        return owner == now_owner and before.isdigit() and int(before) + 1 == int(now)

    def _append(
        self,
        collections: Collections,
        by_partition: Mapping[str, list[SpanRecord]],
        sieve: RefusalCollector,
        writer: str,
        batch: int,
    ) -> tuple[dict[str, TraceState], dict[str, Changes]]:
        """Append to the log what it does not have, once it is known what to make of it."""
        states: dict[str, TraceState] = {}
        projected: dict[str, Changes] = {}
        pending = list(by_partition)
        for _ in range(_MAX_APPEND_ATTEMPTS):
            states |= self._load(collections, pending, writer, batch)
            self.wrote = self.wrote or any(states[trace].fresh for trace in pending)
            written: dict[str, Any] = {}
            appended: dict[str, str] = {}
            for trace in pending:
                if states[trace].is_empty() and all(map(is_lone_root, by_partition[trace])):
                    continue  # a trace without agents, as far as anybody knows
                with sieve.reading(trace):
                    for part in new_parts(states[trace], by_partition[trace], writer, batch):
                        record_id = part_id(trace, states[trace].parts)
                        states[trace].parts += 1
                        written[record_id] = part
                        appended[record_id] = trace
                    self._left_out[trace] = states[trace].left_out
                    if states[trace].fresh:
                        projected[trace] = project(states[trace])
            sieve.check()
            self._note_lost_content(states[trace] for trace in pending)
            self.wrote = self.wrote or bool(written)
            schema.add(collections.log, written, collections.max_batch)
            if self._connection.exclusive or not written:
                break
            lost = lost_ids(collections.log, list(written), writer, batch)
            pending = list({appended[record_id] for record_id in lost})
            if not pending:
                break
            for trace in pending:
                self._states.pop(trace, None)
        else:
            msg = f"{len(pending)} traces of {self._connection.name} are contended; trying later"
            raise StoreUnavailableError(msg)
        return states, projected

    def _note_lost_content(self, states: Iterable[TraceState]) -> None:
        """Have content of deleted traces purged that is not stored: it is still in the spool."""
        for state in states:
            if state.lost_content:
                state.lost_content = False
                self._connection.purge_later()

    def _apply_pending_deletions(
        self,
        collections: Collections,
        states: dict[str, TraceState],
        writer: str,
        batch: int,
    ) -> list[str]:
        """Delete what the batch shows to have been part of a deleted trace all along.

        Returns:
            The traces of which anything was deleted.
        """
        settled: list[str] = []
        for trace, state in list(states.items()):
            if state.holds_erased():
                self._connection.purge_later()
                apply_pending_deletions(collections, trace, exclusive=self._connection.exclusive)
                self._states.pop(trace)
                states |= self._load(collections, [trace], writer, batch)
                settled.append(trace)
        return settled

    def _unlist(
        self,
        collections: Collections,
        changed: Mapping[str, TraceState],
        written: Mapping[str, trace_summaries.Summary],
        vectors: TextVectors,
    ) -> None:
        """Take back what was just written of traces that were deleted meanwhile."""
        erased = {
            trace_id_of(record)
            for state in changed.values()
            for record in state.records
            if "erased" in record
        }
        gone = {trace_id: written[trace_id]["task"] for trace_id in erased & written.keys()}
        if gone:
            of_store = vectors.keys(collections)
            keys = {trace_id: of_store.of(task).key for trace_id, task in gone.items()}
            remove_from_indexes(collections, keys, exclusive=self._connection.exclusive)

    def _overtaken(
        self,
        collections: Collections,
        states: dict[str, TraceState],
        writer: str,
        batch: int,
    ) -> dict[str, TraceState]:
        """Return the states of traces whose log grew while their summaries were written.

        The other writer's summary may have been replaced by ours, which is older.
        """
        if self._connection.exclusive:
            return {}
        next_parts = {part_id(trace, state.parts): trace for trace, state in states.items()}
        grown = [next_parts[i] for i in schema.documents(collections.log, list(next_parts))]
        for trace in grown:
            self._states.pop(trace, None)
        changed = self._load(collections, grown, writer, batch)
        states |= changed
        return changed

    def _load(
        self, collections: Collections, wanted: Sequence[str], writer: str, batch: int
    ) -> dict[str, TraceState]:
        unknown = [trace for trace in wanted if trace not in self._states]
        found = read_parts(collections.log, unknown)
        for trace, parts in found.items():
            if any("undo" in part for part in parts):  # a deletion was cut short
                self._connection.purge_later()
                finish_deletion(collections, trace, exclusive=self._connection.exclusive)
                found[trace] = read_parts(collections.log, [trace])[trace]
            state = TraceState()
            state.extend(found[trace], writer, {batch, *self._attempts}, self._keys[trace])
            self._states[trace] = state
        for trace in wanted:
            self._states.move_to_end(trace)
        return {trace: self._states[trace] for trace in wanted}

    def _write(
        self,
        collections: Collections,
        projections: Changes,
        vectors: TextVectors,
        writer: str,
        batch: int,
    ) -> None:
        exclusive = self._connection.exclusive
        appender = Appender(writer, batch, exclusive, collections.max_batch)
        timeline.add_timeline_entry(collections.lists, projections.started, appender)
        new = {entry.trace_id for entry in projections.started}
        claim(collections, {i: s for i, s in projections.summaries.items() if i in new})
        completed = {i: projections.summaries[i] for i in projections.completed}
        keys = vectors.keys_of(collections, completed)
        for key in keys.values():
            if not key.is_known:
                self._count("unread_tasks")
        trace_summaries.put_summary(collections, projections.summaries, keys)
        enter_completed(collections, completed, keys, vectors, appender)
        if projections.gone:
            trace_summaries.remove(collections, projections.gone)
        self._count_calls(collections, projections.calls, writer, batch)
        if projections.taken_back:
            taken = self._writer_counters(collections, writer).taken(projections.taken_back)
            names = [f"{writer}.{number}" for number in (batch, *self._attempts)]
            tool_stats.take_back_once(collections.state, names, taken)

    def _count_calls(
        self, collections: Collections, calls: Sequence[ToolCallStat], writer: str, batch: int
    ) -> None:
        if not calls:
            return
        for call in calls:
            if call.is_cut:
                self._count("truncated")
        changed = self._writer_counters(collections, writer).count(calls, batch, self._attempts)
        tool_stats.write_counters(collections.state, writer, changed)

    def _writer_counters(self, collections: Collections, writer: str) -> WriterCounters:
        if self._counters is None:
            self._counters = WriterCounters(tool_stats.read_totals(collections.state), writer)
        return self._counters

    def _trim(self) -> None:
        records = sum(state.extent.records for state in self._states.values())
        size_bytes = sum(state.extent.size_bytes for state in self._states.values())
        while records > MAX_CACHED_RECORDS or size_bytes > MAX_CACHED_BYTES:
            _, state = self._states.popitem(last=False)
            records -= state.extent.records
            size_bytes -= state.extent.size_bytes


def enter_completed(
    collections: Collections,
    summaries: Mapping[str, trace_summaries.Summary],
    text_keys: Mapping[str, TextKey],
    vectors: TextVectors,
    appender: Appender,
) -> None:
    """Have completed traces found by meaning; one whose text the embedder refuses is listed only.

    Raises:
        StoreUnavailableError: The embedder does not answer, or other writers always came first.
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


def _decisions_in(records: Iterable[SpanRecord]) -> list[str]:
    """Return the ids of the decisions of which anything has happened."""
    return list({decision_id_of(r): None for r in records if role_of(r) == "decision"})


def _partitions(records: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    by_partition: dict[str, list[SpanRecord]] = {}
    for record in map(conformed, records):
        by_partition.setdefault(partition_of(record), []).append(record)
    return by_partition


def _texts_in(by_partition: Mapping[str, list[SpanRecord]], sieve: RefusalCollector) -> list[str]:
    texts: list[str] = []
    for partition, records in by_partition.items():
        with sieve.reading(partition):
            texts += texts_of_ended_tasks(records)
    sieve.check()
    return texts
