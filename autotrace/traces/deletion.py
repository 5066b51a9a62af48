"""Deleting a trace: what was recorded in it goes out of the log and of everything made from it.

In the log its records become skeletons: they keep their places in the tree, so that traces above
and below it stay whole, and their ids, so that a spool or an OTLP batch that is delivered again is
still known. An erasure says of its task that the trace is deleted: whatever is recorded under it
later is stored as skeletons, too (see ingest.py). Its decisions are not part of it.

The order of the writes is what makes a deletion safe to do again after it was cut short anywhere:

1. A part with the erasure is appended to the log, as any part is: of several that delete at once
   one wins, and a writer that was about to append sees it. From here on the trace is not read. The
   part also says what is left to do: what the statistics have counted, and the key of its text.
2. The statistics take that back, in a record named after the part.
3. The records in the log are replaced by skeletons.
4. Its summary goes, then its place among those that share its text; the vector, if none is left.
5. The part says no more that anything is left to do.

Where other writers are not kept out, of two that delete the last uses of a tool at the same moment
neither sees the other, and `last_used_at` may be that of a call that is gone, until the next one.

Whoever writes to the trace's log, or rebuilds the store, finishes what was cut short. The timeline
keeps that there was a trace, and when it started; it is not listed, as it has no summary.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from autotrace.embedding.embedder import Embedder
from autotrace.errors import StoreUnavailableError, TraceNotFoundError
from autotrace.spool.shares import Share, share_in, trace_id_in
from autotrace.spool.span_records import SpanRecord, holds_content, record_key, skeleton_of
from autotrace.spool.span_roles import role_of, task_of
from autotrace.store import schema, task_index, tool_stats, trace_summaries
from autotrace.store.connection import Connection
from autotrace.store.reset import logged_traces
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKeys
from autotrace.store.tool_names import OTHER_TOOLS
from autotrace.store.tool_stats import TakenBack, ToolCounters, Totals
from autotrace.store.trace_log import (
    LogPart,
    Undo,
    lost_ids,
    part_id,
    read_parts,
    read_records,
    replace_parts,
)
from autotrace.traces.tool_calls import call_of
from autotrace.traces.trace_ids import Located, keep_name, locate
from autotrace.traces.tree import Tree, calls_in

_MAX_ATTEMPTS: Final = 20
_COUNTING_TIMEOUT_S: Final = 5.0
"""How long a writer on another machine has to count what it has just appended; it takes a write."""
_POLL_S: Final = 0.05
_TRACES_AT_ONCE: Final = 64


def erase_trace(
    connection: Connection, embedder: Embedder, trace_id: str, place: Located | None = None
) -> None:
    """Delete a trace. What is recorded and not stored yet should be stored before.

    Cut short at any point, it is done again by calling it again.

    Args:
        connection: The store.
        embedder: That of the store: tells by which key a text is found.
        trace_id: The trace.
        place: Where its task lies; None: where `locate` finds it.

    Raises:
        TraceNotFoundError: There is none with this id.
        StoreError: The store cannot be written; try again.
    """
    if place is None:
        place = connection.read(lambda collections: locate(collections, trace_id))
    if place is None:
        raise TraceNotFoundError(trace_id, connection.name)
    erasure = _Erasure(connection.name, connection.exclusive, place.share, place.span, trace_id)
    # Here, since to look for the last call that is left may mean to read the whole log.
    connection.read(lambda collections: erasure.prepare(collections, embedder))
    with connection.writing() as collections:
        connection.purge_later()
        erasure.begin(collections, embedder)
        keep_name(collections, place)
        finish_deletion(collections, place.share.key, exclusive=connection.exclusive)


def apply_pending_deletions(collections: Collections, trace: str, *, exclusive: bool) -> None:
    """Delete what turns out to be part of a deleted trace, and was stored as part of another.

    Args:
        collections: The open store.
        trace: The share of an OpenTelemetry trace, by its name in the log.
        exclusive: Whether every other writer is kept out.
    """
    parts = read_parts(collections.log, [trace])[trace]
    tree = Tree(_records(parts))
    spans = {
        span
        for record in _records(parts)
        if holds_content(record) and (span := tree.erased_task_of(record)) is not None
    }
    share = share_in(_records(parts), trace)
    for span in spans:
        _Erasure("", exclusive, share, span, share.trace_id(span)).restart(collections)
    finish_deletion(collections, trace, exclusive=exclusive)


def finish_deletion(collections: Collections, trace: str, *, exclusive: bool) -> None:
    """Do what is left to do of deletions in one OpenTelemetry trace, if anything is."""
    parts = read_parts(collections.log, [trace])[trace]
    begun = {number: part["undo"] for number, part in enumerate(parts) if "undo" in part}
    for number, undo in begun.items():
        tool_stats.take_back(collections.state, part_id(trace, number), undo["tools"])
    for _ in range(_MAX_ATTEMPTS):
        changed = redacted_parts(parts)
        if not changed:
            break
        replace_parts(collections.log, trace, changed)
        # Somebody who deletes another trace of the same log may have put content back.
        parts = read_parts(collections.log, [trace])[trace]
    else:
        msg = f"the log of the OpenTelemetry trace {trace} is contended; try again"
        raise StoreUnavailableError(msg)
    for number, undo in begun.items():
        remove_from_indexes(
            collections, {trace_id_in(trace, undo["span"]): undo["key"]}, exclusive=exclusive
        )
        replace_parts(collections.log, trace, {number: without_undo(parts[number])})
        if exclusive:
            tool_stats.merge_statistics(collections.state, part_id(trace, number))


def is_erased(collections: Collections, trace_id: str) -> bool:
    """Return whether there was a trace with this id that is deleted."""
    place = locate(collections, trace_id)
    if place is None:
        return False
    return place.span in Tree(read_records(collections.log, place.share.key)).erased


def remove_from_indexes(
    collections: Collections, keys: Mapping[str, str | None], *, exclusive: bool
) -> None:
    """Have traces neither listed nor recalled.

    Args:
        collections: The open store.
        keys: Of each trace the key of its task's text; None if it is not found by it.
        exclusive: Whether every other writer is kept out.
    """
    trace_summaries.remove(collections, list(keys))
    for trace_id, key in keys.items():
        if key is not None:
            for success in (True, False):
                index = task_index.of_tasks(collections, success=success)
                task_index.remove(index, key, trace_id, exclusive=exclusive)


def redacted_parts(parts: Sequence[LogPart]) -> dict[int, LogPart]:
    """Return those parts of a log, by number, that hold content of deleted traces, without it."""
    tree = Tree(_records(parts))
    if not tree.erased:
        return {}
    changed: dict[int, LogPart] = {}
    for number, part in enumerate(parts):
        records = [without_erased(record, tree) for record in part["records"]]
        if records != part["records"]:
            changed[number] = {**part, "records": records}
    return changed


def without_erased(record: SpanRecord, tree: Tree) -> SpanRecord:
    """Return a record as it may be stored: whole, or a skeleton of what is deleted."""
    return record if tree.erased_task_of(record) is None else skeleton_of(record)


def without_undo(part: LogPart) -> LogPart:
    """Return a part that says of no deletion that it is under way."""
    return {"writer": part["writer"], "batch": part["batch"], "records": part["records"]}


def _records(parts: Iterable[LogPart]) -> list[SpanRecord]:
    return [record for part in parts for record in part["records"]]


class _LastCall(NamedTuple):
    """The last call of a tool."""

    ended_ns: int
    trace: str
    span: str

    def is_in(self, collections: Collections) -> bool:
        """Return whether the call is still there."""
        records = read_records(collections.log, self.trace)
        return not self.trace or any(r["id"] == self.span and role_of(r) == "tool" for r in records)


_NONE: Final = _LastCall(0, "", "")
"""There is none."""


@dataclass
class _Erasure:
    """The deletion of one trace."""

    store: str
    exclusive: bool
    share: Share
    span: str
    trace_id: str
    """As it was asked for."""

    def __post_init__(self) -> None:
        self._last: dict[str, _LastCall] = {}
        """Of tools, the last call that is not deleted."""

    @property
    def _key(self) -> str:
        return self.share.key

    def _mark(self) -> SpanRecord:
        mark = SpanRecord(trace=self.share.trace, id=self.span, start_ns=0, erased=True)
        if self.share.owner is not None:
            mark["owner"] = self.share.owner
        return mark

    def prepare(self, collections: Collections, embedder: Embedder) -> None:
        """Find out what takes long, without keeping anybody waiting.

        Raises:
            TraceNotFoundError: There is no such trace.
        """
        parts = read_parts(collections.log, [self._key])[self._key]
        if self._is_under_way(parts):
            return
        key = self._text_key(parts, TextKeys(embedder, collections.by_tokens))
        self._undo(collections, parts, key)

    def begin(self, collections: Collections, embedder: Embedder) -> None:
        """Say in the log that the trace is deleted, unless that is under way.

        Raises:
            TraceNotFoundError: There is no such trace.
            StoreUnavailableError: Other writers always came first.
        """
        keys = TextKeys(embedder, collections.by_tokens)
        self._append(collections, lambda parts: self._text_key(parts, keys))

    def restart(self, collections: Collections) -> None:
        """Say that there is more of a deleted trace to delete.

        Raises:
            StoreUnavailableError: Other writers always came first.
        """
        self._append(collections, lambda _: None)

    def _append(
        self, collections: Collections, key_of: Callable[[Sequence[LogPart]], str | None]
    ) -> None:
        writer = secrets.token_hex(8)
        for _ in range(_MAX_ATTEMPTS):
            parts = self._counted_parts(collections)
            if self._is_under_way(parts):
                return
            part: LogPart = {
                "writer": writer,
                "batch": 0,
                "records": [self._mark()],
                "undo": self._undo(collections, parts, key_of(parts)),
            }
            record_id = part_id(self._key, len(parts))
            schema.add(collections.log, {record_id: part})
            if self.exclusive or not lost_ids(collections.log, [record_id], writer, 0):
                return
        msg = f"{self.trace_id} of {self.store} is contended; try again"
        raise StoreUnavailableError(msg)

    def _is_under_way(self, parts: Sequence[LogPart]) -> bool:
        return any("undo" in part and part["undo"]["span"] == self.span for part in parts)

    def _text_key(self, parts: Sequence[LogPart], keys: TextKeys) -> str | None:
        """Return the key of the task's text.

        Raises:
            TraceNotFoundError: There is no such trace.
        """
        tree = Tree(_records(parts))
        if tree.roles.get(self.span) != "task":
            raise TraceNotFoundError(self.trace_id, self.store)
        record = tree.spans[self.span]
        return keys.of(task_of(record)).key if "end_ns" in record else None

    def _counted_parts(self, collections: Collections) -> list[LogPart]:
        """Read the log, once the writers of its parts have counted the calls in them."""
        deadline_s = time.monotonic() + _COUNTING_TIMEOUT_S
        while True:
            parts = read_parts(collections.log, [self._key])[self._key]
            if self.exclusive or time.monotonic() > deadline_s:
                return parts
            totals = tool_stats.read_totals(collections.state)
            if all(_place_of(part, record, totals) for part, record in self._calls(parts)):
                return parts
            time.sleep(_POLL_S)

    def _calls(self, parts: Sequence[LogPart]) -> list[tuple[LogPart, SpanRecord]]:
        """Return the tool calls of the trace, each with the first part that holds it."""
        records = _records(parts)
        tree = Tree(records)
        if tree.is_translated:
            return self._translated_calls(parts, tree)
        tree = Tree([*records, self._mark()])
        calls: dict[str, tuple[LogPart, SpanRecord]] = {}
        for part in parts:
            for record in part["records"]:
                if role_of(record) == "tool" and tree.erased_task_of(record) == self.span:
                    calls.setdefault(record_key(record), (part, record))
        return list(calls.values())

    def _translated_calls(
        self, parts: Sequence[LogPart], tree: Tree
    ) -> list[tuple[LogPart, SpanRecord]]:
        """Return the tool calls of the trace as they stand: spans of others may say less."""
        holding = {r["id"]: part for part in reversed(parts) for r in part["records"]}
        return [
            (holding.get(record["id"], parts[-1]), record)
            for record in tree.members.get(self.span, ())
            if tree.roles[record["id"]] == "tool"
        ]

    def _undo(self, collections: Collections, parts: Sequence[LogPart], key: str | None) -> Undo:
        totals = tool_stats.read_totals(collections.state)
        taken: dict[str, TakenBack] = {}
        for part, record in self._calls(parts):
            # What is not counted yet is a skeleton when its writer comes back to it.
            if place := _place_of(part, record, totals):
                of_tool = taken.setdefault(place, TakenBack(ToolCounters(place)))
                of_tool.counters.count(call_of(record))
        counted = totals.by_tool()
        for tool, of_tool in taken.items():
            if tool == OTHER_TOOLS:
                continue  # of many tools, the last call is not looked for
            if of_tool.counters.last_ns >= counted[tool].last_ns:
                of_tool.up_to_ns = max(
                    counters.last_ns for (_, t), counters in totals.writers.items() if t == tool
                )
        wanted = {tool for tool, of_tool in taken.items() if of_tool.up_to_ns}
        # Somebody else may have deleted what was found a moment ago.
        known = {t for t in wanted & self._last.keys() if self._last[t].is_in(collections)}
        if known < wanted:
            self._last |= self._look_for_last(collections, wanted - known)
        for tool in wanted:
            taken[tool].last_ns = self._last[tool].ended_ns
        return {"span": self.span, "key": key, "tools": tool_stats.documents_of(taken)}

    def _look_for_last(
        self, collections: Collections, tools: Iterable[str]
    ) -> dict[str, _LastCall]:
        """Return the last call of each tool, leaving out those of this trace."""
        last = dict.fromkeys(tools, _NONE)
        logged = logged_traces(collections.log)
        for start in range(0, len(logged), _TRACES_AT_ONCE):
            group = logged[start : start + _TRACES_AT_ONCE]
            for trace, parts in read_parts(collections.log, group).items():
                deleted: set[str] = set()
                if trace == self._key:
                    deleted = {record["id"] for _, record in self._calls(parts)}
                for record in calls_in(_records(parts)):
                    if record["id"] not in deleted:
                        call = call_of(record)
                        if call.ended_ns > last.get(call.tool_name, _NONE).ended_ns:
                            last[call.tool_name] = _LastCall(call.ended_ns, trace, record["id"])
        return last


def _place_of(part: LogPart, record: SpanRecord, totals: Totals) -> str | None:
    """Return the name under which the writer of a part has counted a call in it, if it has."""
    return totals.place_of(part["writer"], part["batch"], call_of(record))
