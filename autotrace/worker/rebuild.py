"""Rebuild every projection of a store from its log.

The rebuild holds `drain.lock` and the lock of an embedded store; on a Chroma server, a concurrent
writer fails and keeps its records in its spool. The store is marked and does not open until the
last write, so an interrupted rebuild starts again from the log, in which it changes only unfinished
deletions. Decisions come last. Statistics are recounted per writer without the records of a pending
batch that are not counted yet: the next drainer stores and counts them (batch_selection.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotrace.embedding.embedder import Embedder
from autotrace.errors import AutotraceError, StoreError
from autotrace.spool.drain_lock import DRAIN_LOCK_TIMEOUT_S, exclusive_drain_lock
from autotrace.spool.span_records import record_key
from autotrace.spool.span_roles import trace_id_of
from autotrace.store import reset as repair
from autotrace.store import timeline
from autotrace.store import trace_summaries as traces
from autotrace.store.call_counts import Recount
from autotrace.store.connection import Connection
from autotrace.store.paged_lists import Appender
from autotrace.store.schema import Collections
from autotrace.store.timeline import TimelineEntry
from autotrace.store.trace_log import LogPart, read_parts, replace_parts
from autotrace.traces.assembly import summarize
from autotrace.traces.decision_index import DecisionIndex
from autotrace.traces.deletion import redacted_parts, without_undo
from autotrace.traces.embed_batch import TextVectors
from autotrace.traces.ingest import enter_completed
from autotrace.traces.tool_calls import call_of
from autotrace.traces.trace_ids import claim
from autotrace.traces.tree import Tree
from autotrace.worker.batch_selection import UnderWay

_TRACES_AT_ONCE: Final = 64
_SUMMARIES_AT_ONCE: Final = 512
_TEXT_AT_ONCE: Final = 4 * 1024 * 1024
"""Characters of summaries in one write, in case a few of them are very large."""


class Rebuilt(NamedTuple):
    """Report the result of a rebuild."""

    traces: int
    """Number of traces of tasks, each listed now, and recalled if completed."""
    tool_calls: int
    """Number of tool calls, inside and outside tasks."""
    space: str
    """Embedding space of the store after the rebuild."""
    refused_texts: int
    """Number of task texts that the embedder refused; their traces are listed, not recalled."""
    decisions: int = 0
    """Number of decisions in the index by meaning."""


@dataclass
class _Pending:
    """Collect summaries to write together."""

    summaries: dict[str, traces.Summary] = field(default_factory=dict[str, traces.Summary])
    entries: list[TimelineEntry] = field(default_factory=list[TimelineEntry])
    characters: int = 0

    def add(self, entry: TimelineEntry, summary: traces.Summary) -> None:
        self.entries.append(entry)
        self.summaries[entry.trace_id] = summary
        self.characters += len(summary["task"]) + len(summary["outcome"] or "")

    def is_full(self) -> bool:
        return len(self.summaries) >= _SUMMARIES_AT_ONCE or self.characters >= _TEXT_AT_ONCE


def rebuild(
    connection: Connection,
    embedder: Embedder,
    spool: Path,
    *,
    decisions: DecisionIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
    lock_timeout_s: float = DRAIN_LOCK_TIMEOUT_S,
) -> Rebuilt:
    """Rebuild everything except the log in the space of an embedder.

    Args:
        connection: The store, connected with `space=None`, because it may hold another space.
        embedder: Embeds task texts.
        spool: The spool directory of the store on this machine.
        decisions: Embeds the decisions of the store again; None: the store has no decisions.
        progress: Called with the number of OpenTelemetry traces done, and the total.
        lock_timeout_s: How long to wait for a process that is storing, in seconds.

    Returns:
        The numbers of rebuilt records.

    Raises:
        StoreError: The embedder does not work. If its first call failed, the store is unchanged.
        StoreVersionError: A newer autotrace wrote the store, which is unchanged.
        StoreUnavailableError: Another process does not release the store, or Chroma failed.
    """
    _check(embedder)  # vectors that cannot be made again must not be deleted
    try:
        with exclusive_drain_lock(spool, lock_timeout_s):
            connection.drop_broken_indexes()
            with connection.writing() as collections:
                connection.purge_later()
                rebuilt = _Rebuild(connection, embedder, spool, progress).run(collections)
            number = 0 if decisions is None else decisions.rebuild()
            return rebuilt._replace(decisions=number)
    finally:
        connection.close()  # its collections were replaced
        if decisions is not None:
            decisions.close()


class _Rebuild:
    """Run one rebuild of the traces."""

    def __init__(
        self,
        connection: Connection,
        embedder: Embedder,
        spool: Path,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._store = connection.name
        self._exclusive = connection.exclusive
        self._embedder = embedder
        self._progress = progress
        self._under_way = UnderWay(spool)
        self._pending = _Pending()
        self._traces = 0
        self._tool_calls = 0
        self._refused_texts = 0

    def run(self, collections: Collections) -> Rebuilt:
        space = self._embedder.space
        self._recount = Recount(collections.state)
        collections = repair.begin(collections, self._store, space)
        logged = repair.logged_traces(collections.log)
        self._report(0, len(logged))
        for start in range(0, len(logged), _TRACES_AT_ONCE):
            group = logged[start : start + _TRACES_AT_ONCE]
            for trace, parts in read_parts(collections.log, group).items():
                self._take_in(_settled(collections, trace, parts))
                if self._pending.is_full():
                    self._write(collections)
            self._report(start + len(group), len(logged))
        self._write(collections)
        repair.replace_stats(collections, self._recount.counters)
        repair.finish_reset(collections, space)
        return Rebuilt(self._traces, self._tool_calls, space, self._refused_texts)

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def _take_in(self, parts: Sequence[LogPart]) -> None:
        """Count and summarize one OpenTelemetry trace."""
        logged: dict[str, tuple[LogPart, Any]] = {}
        for part in parts:
            for record in part["records"]:
                logged.setdefault(record_key(record), (part, record))
        tree = Tree(record for _, record in logged.values())
        if tree.is_translated:
            self._count_translated(logged)
        else:
            for part, record in logged.values():
                if tree.roles.get(record["id"]) == "tool" and "end_ns" in record:
                    self._count(part, record)
        for task in tree.tasks:
            self._pending.add(
                TimelineEntry(task["start_ns"], trace_id_of(task)), summarize(tree, task)
            )

    def _count_translated(self, logged: Mapping[str, tuple[LogPart, Any]]) -> None:
        """Count the calls of stored records, without those of a pending batch."""
        counted = {k: pr for k, pr in logged.items() if not self._under_way.has(*pr)}
        for call in Tree(record for _, record in counted.values()).calls():
            # A call without its own span counts for the writer of the last record.
            part, _ = counted.get(call["id"]) or next(reversed(counted.values()))
            self._count(part, call)

    def _count(self, part: LogPart, record: Any) -> None:
        self._tool_calls += 1
        if not self._under_way.has(part, record):
            self._recount.add(part["writer"], self._under_way.batch_of(part), call_of(record))

    def _write(self, collections: Collections) -> None:
        pending, self._pending = self._pending, _Pending()
        appender = Appender("rebuild", 0, self._exclusive, collections.max_batch)
        timeline.add_timeline_entry(collections.lists, pending.entries, appender)
        claim(collections, pending.summaries)
        completed = {t: s for t, s in pending.summaries.items() if s["status"] == "completed"}
        vectors = TextVectors(self._embedder, self._count_refused)
        keys = vectors.keys_of(collections, completed)
        traces.put_summary(collections, pending.summaries, keys)
        enter_completed(collections, completed, keys, vectors, appender)
        self._traces += len(pending.summaries)

    def _count_refused(self) -> None:
        self._refused_texts += 1


def _settled(collections: Collections, trace: str, parts: Sequence[LogPart]) -> Sequence[LogPart]:
    """Finish interrupted deletions; return the resulting parts."""
    changed = redacted_parts(parts)
    settled = [changed.get(number, part) for number, part in enumerate(parts)]
    under_way = {n: without_undo(part) for n, part in enumerate(settled) if "undo" in part}
    if changed or under_way:
        replace_parts(collections.log, trace, changed | under_way)
    return [under_way.get(number, part) for number, part in enumerate(settled)]


def _check(embedder: Embedder) -> None:
    try:
        embedder.embed(["a task"])
    except AutotraceError:
        raise
    except Exception as error:
        # A function of the application may raise any exception.
        msg = f"the embedder {embedder.space} failed: {type(error).__name__}: {error}"
        raise StoreError(msg) from error
