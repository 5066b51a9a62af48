"""Delete a trace: its records from the log, and all that was made from them.

Its records become skeletons, which keep their ids and places in the tree: traces above and below
stay whole, and a spool or OTLP batch that is delivered again is still known. An erasure record
marks the task; later records below it are stored as skeletons, too (ingest.py). Decisions stay.

A deletion is safe to repeat after a crash at any point: docs/explanation/storage.md has its steps.
The next process that writes to the trace's log, or rebuilds the store, finishes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from autotrace.embedding.embedder import Embedder
from autotrace.errors import StoreUnavailableError, TraceNotFoundError
from autotrace.spool.shares import Share, share_in, trace_id_in
from autotrace.spool.span_records import SpanRecord, holds_content, skeleton_of
from autotrace.spool.span_roles import task_of
from autotrace.store import schema, task_index, tool_stats, trace_summaries
from autotrace.store.connection import Connection
from autotrace.store.numbered_records import lost_ids, record_id
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKeys
from autotrace.store.trace_log import (
    LogPart,
    Undo,
    read_parts,
    read_records,
    records_in,
    replace_parts,
)
from autotrace.traces.deleted_calls import DeletedCalls
from autotrace.traces.trace_ids import Located, keep_name, locate
from autotrace.traces.tree import Tree

_MAX_ATTEMPTS: Final = 20
_COUNTING_TIMEOUT_S: Final = 5.0
"""Time for a writer on another machine to count the calls that it has just appended."""
_POLL_S: Final = 0.05


def erase_trace(
    connection: Connection, embedder: Embedder, trace_id: str, place: Located | None = None
) -> None:
    """Delete a trace. Store records that wait in the spool before.

    Args:
        connection: The store.
        embedder: The embedder of the store, on which the keys of texts depend.
        trace_id: The trace.
        place: Where its task lies; None: where `locate` finds it.

    Raises:
        TraceNotFoundError: The store has no trace with this id.
        StoreError: The store cannot be written; try again.
    """
    if place is None:
        place = connection.read(lambda collections: locate(collections, trace_id))
    if place is None:
        raise TraceNotFoundError(trace_id, connection.name)
    deletion = _Deletion(connection.name, connection.exclusive, place.share, place.span, trace_id)
    # Before the lock is taken, since the search for last calls may read the whole log.
    connection.read(lambda collections: deletion.prepare(collections, embedder))
    with connection.writing() as collections:
        connection.purge_later()
        deletion.begin(collections, embedder)
        keep_name(collections, place)
        finish_deletion(collections, place.share.key, exclusive=connection.exclusive)


def apply_pending_deletions(collections: Collections, trace: str, *, exclusive: bool) -> None:
    """Delete records that turn out to belong to a deleted trace, stored as part of another."""
    records = read_records(collections.log, trace)
    tree = Tree(records)
    spans = {tree.erased_task_of(record) for record in records if holds_content(record)}
    share = share_in(records, trace)
    for span in spans - {None}:
        deletion = _Deletion("", exclusive, share, str(span), share.trace_id(str(span)))
        deletion.restart(collections)
    finish_deletion(collections, trace, exclusive=exclusive)


def finish_deletion(collections: Collections, trace: str, *, exclusive: bool) -> None:
    """Do the remaining steps of deletions in one share of an OpenTelemetry trace."""
    parts = read_parts(collections.log, [trace])[trace]
    begun = {number: part["undo"] for number, part in enumerate(parts) if "undo" in part}
    for number, undo in begun.items():
        tool_stats.take_back(collections.state, record_id(trace, number), undo["tools"])
    for _ in range(_MAX_ATTEMPTS):
        changed = redacted_parts(parts)
        if not changed:
            break
        replace_parts(collections.log, trace, changed)
        # A process that deletes another trace of the same log may have restored content.
        parts = read_parts(collections.log, [trace])[trace]
    else:
        msg = f"the log of the OpenTelemetry trace {trace} is contended; try again"
        raise StoreUnavailableError(msg)
    for number, undo in begun.items():
        keys = {trace_id_in(trace, undo["span"]): undo["key"]}
        remove_from_indexes(collections, keys, exclusive=exclusive)
        replace_parts(collections.log, trace, {number: without_undo(parts[number])})
        if exclusive:
            tool_stats.merge_statistics(collections.state, record_id(trace, number))


def is_erased(collections: Collections, trace_id: str) -> bool:
    """Return whether a trace with this id was deleted."""
    place = locate(collections, trace_id)
    if place is None:
        return False
    return place.span in Tree(read_records(collections.log, place.share.key)).erased


def remove_from_indexes(
    collections: Collections, keys: Mapping[str, str | None], *, exclusive: bool
) -> None:
    """Remove traces, given with the keys of their texts (if any), from listings and recall."""
    trace_summaries.remove(collections, list(keys))
    for trace_id, key in keys.items():
        if key is not None:
            for success in (True, False):
                index = task_index.of_tasks(collections, success=success)
                task_index.remove(index, key, trace_id, exclusive=exclusive)


def redacted_parts(parts: Sequence[LogPart]) -> dict[int, LogPart]:
    """Return, by number, the parts with content of deleted traces, without that content."""
    tree = Tree(records_in(parts))
    if not tree.erased:
        return {}
    changed: dict[int, LogPart] = {}
    for number, part in enumerate(parts):
        records = [without_erased(record, tree) for record in part["records"]]
        if records != part["records"]:
            changed[number] = {**part, "records": records}
    return changed


def without_erased(record: SpanRecord, tree: Tree) -> SpanRecord:
    """Return a record as it may be stored: a skeleton if it belongs to a deleted trace."""
    return record if tree.erased_task_of(record) is None else skeleton_of(record)


def without_undo(part: LogPart) -> LogPart:
    """Return the part of a deletion that is finished."""
    return {"writer": part["writer"], "batch": part["batch"], "records": part["records"]}


class _Deletion:
    """The deletion of one trace; `trace_id` is the id that the caller gave."""

    def __init__(self, store: str, exclusive: bool, share: Share, span: str, trace_id: str) -> None:
        self._store = store
        self._exclusive = exclusive
        self._share = share
        self._span = span
        self._trace_id = trace_id
        self._calls = DeletedCalls(share.key, span)

    def prepare(self, collections: Collections, embedder: Embedder) -> None:
        """Search for last calls, as the lock must not be held so long.

        Raises:
            TraceNotFoundError: The share has no such task.
        """
        parts = self._parts(collections)
        if not self._is_under_way(parts):
            self._text_key(parts, TextKeys(embedder, collections.by_tokens))
            self._calls.to_take_back(collections, parts)

    def begin(self, collections: Collections, embedder: Embedder) -> None:
        """Append the erasure to the log, unless a deletion is under way.

        Raises:
            TraceNotFoundError: The share has no such task.
            StoreUnavailableError: Other writers came first at each attempt.
        """
        keys = TextKeys(embedder, collections.by_tokens)
        self._append(collections, lambda parts: self._text_key(parts, keys))

    def restart(self, collections: Collections) -> None:
        """Append the erasure again, as more records belong to the deleted trace.

        Raises:
            StoreUnavailableError: Other writers came first at each attempt.
        """
        self._append(collections, lambda _: None)

    def _append(
        self, collections: Collections, key_of: Callable[[Sequence[LogPart]], str | None]
    ) -> None:
        writer = secrets.token_hex(8)
        mark = SpanRecord(trace=self._share.trace, id=self._span, start_ns=0, erased=True)
        if self._share.owner is not None:
            mark["owner"] = self._share.owner
        for _ in range(_MAX_ATTEMPTS):
            parts = self._counted_parts(collections)
            if self._is_under_way(parts):
                return
            key, taken = key_of(parts), self._calls.to_take_back(collections, parts)
            undo: Undo = {"span": self._span, "key": key, "tools": tool_stats.documents_of(taken)}
            part: LogPart = {"writer": writer, "batch": 0, "records": [mark], "undo": undo}
            part_id = record_id(self._share.key, len(parts))
            schema.add(collections.log, {part_id: part})
            if self._exclusive or not lost_ids(collections.log, [part_id], writer, 0):
                return
        msg = f"{self._trace_id} of {self._store} is contended; try again"
        raise StoreUnavailableError(msg)

    def _parts(self, collections: Collections) -> list[LogPart]:
        return read_parts(collections.log, [self._share.key])[self._share.key]

    def _counted_parts(self, collections: Collections) -> list[LogPart]:
        """Read the log once the writers of its parts have counted their calls."""
        deadline_s = time.monotonic() + _COUNTING_TIMEOUT_S
        while True:
            parts = self._parts(collections)
            if (
                self._exclusive
                or self._calls.are_counted(collections, parts)
                or time.monotonic() > deadline_s
            ):
                return parts
            time.sleep(_POLL_S)

    def _is_under_way(self, parts: Sequence[LogPart]) -> bool:
        return any("undo" in part and part["undo"]["span"] == self._span for part in parts)

    def _text_key(self, parts: Sequence[LogPart], keys: TextKeys) -> str | None:
        """Return the key of the task's text; None if the task has not ended.

        Raises:
            TraceNotFoundError: The share has no such task.
        """
        tree = Tree(records_in(parts))
        if tree.roles.get(self._span) != "task":
            raise TraceNotFoundError(self._trace_id, self._store)
        record = tree.spans[self._span]
        return keys.of(task_of(record)).key if "end_ns" in record else None
