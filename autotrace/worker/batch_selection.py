"""Select the records of a batch from the spools of all processes.

Where senders have spools of their own (spool/lanes.py), each spool gets a turn in a batch, and the
next batch begins with the spool after the last one read.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from autotrace.dialects.span_kinds import span_kind
from autotrace.spool.cursor import Cursor, Group, Process, Range, load_cursor
from autotrace.spool.files import (
    begun_segments_of,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
)
from autotrace.spool.lanes import lane_in
from autotrace.spool.record_fields import conformed
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import SpanRecord, record_key
from autotrace.spool.span_roles import role_of
from autotrace.store.trace_log import LogPart


@dataclass(frozen=True)
class BatchLimits:
    """Approximate limits of one batch; a single larger record is accepted."""

    records: int
    bytes: int
    """Per spool."""
    tasks: int = sys.maxsize
    """Number of records that open a trace, which cost more than others."""

    def at_most(self, other: BatchLimits) -> BatchLimits:
        """Return the lower of each limit."""
        return BatchLimits(
            min(self.records, other.records),
            min(self.bytes, other.bytes),
            min(self.tasks, other.tasks),
        )


LARGE_BATCHES: Final = BatchLimits(30_000, 32 * 1024 * 1024)
"""Limits while a caller waits: Chroma is fastest with large writes."""
SMALL_BATCHES: Final = BatchLimits(250, 256 * 1024)
"""Limits in the background: Chroma holds the interpreter lock for a whole call, which stops the
program; small calls limit each stop to some milliseconds."""
TURN: Final = BatchLimits(2_500, 1024 * 1024, 250)
"""Limits of one spool in a batch where senders have lanes: about one second of work."""
_TURNS: Final = BatchLimits(5_000, TURN.bytes, 500)
"""Limits of a whole batch where senders have lanes: later records wait for all of it."""
_PIECE_BYTES: Final = 64 * 1024
"""Size of one read where senders have lanes, so that a turn ends close to its limits."""
STEP_BYTES: Final = _PIECE_BYTES // 2
"""Minimum progress of each turn, if that much is left."""


@dataclass
class SpooledBatch:
    """Records of some spools, and their ranges."""

    ranges: dict[str, Range] = field(default_factory=dict[str, Range])
    records: dict[str, list[SpanRecord]] = field(default_factory=dict[str, list[SpanRecord]])
    bad_lines: list[bytes] = field(default_factory=list[bytes])
    tasks: int = 0
    """Number of records that open a trace; 0 where it is not limited."""

    def size(self) -> int:
        """Return the number of records."""
        return sum(map(len, self.records.values()))


class BatchReader:
    """Read batches of one spool directory. For one thread at a time.

    Args:
        spool: The spool directory.
        count: Called with the name of a counter and a number.
    """

    def __init__(self, spool: Path, count: Callable[[str, int], None]) -> None:
        self._spool = spool
        self._count = count
        self._newer: set[str] = set()
        self._last = ""
        """Process whose spool ended the last batch; the next batch begins with those after it."""
        self.has_more = False
        """Whether the last batch reached a limit, so that more records may be left."""

    def collect(self, cursor: Cursor, limits: BatchLimits = LARGE_BATCHES) -> SpooledBatch:
        """Return the pending batch of a cursor, else the next batch.

        Args:
            cursor: Stored position of each process.
            limits: Limits of the batch. A pending batch keeps its size.
        """
        pending = cursor.pending
        batch = SpooledBatch()
        self.has_more = False
        processes = list(pending) if pending is not None else self._in_turn()
        turn = limits
        if any(map(lane_in, processes)):
            limits, turn = limits.at_most(_TURNS), limits.at_most(TURN)
        for process in processes:
            if process in self._newer:
                continue
            limit = pending[process] if pending is not None else None
            left = BatchLimits(
                limits.records - batch.size(), limits.bytes, limits.tasks - batch.tasks
            )
            self._collect_process(process, cursor, batch, limit, turn.at_most(left))
            is_full = batch.size() >= limits.records or batch.tasks >= limits.tasks
            if pending is None and is_full:
                self.has_more = True
                self._last = process
                break
        return batch

    def _in_turn(self) -> list[str]:
        processes = processes_in(self._spool)
        return [p for p in processes if p > self._last] + [p for p in processes if p <= self._last]

    def _collect_process(
        self,
        process: str,
        cursor: Cursor,
        batch: SpooledBatch,
        limit: Range | None,
        turn: BatchLimits,
    ) -> None:
        """Read from one spool up to the limit or the end of its turn."""
        directory = self._spool / process
        known = cursor.processes.get(process) or Process()
        alive = limit is None and owner_is_alive(directory)
        records: list[SpanRecord] = []
        at, read_bytes, tasks = known.at, 0, 0
        counts_tasks = turn.tasks < sys.maxsize
        exhausted = False
        while not exhausted and (limit is None or at < limit.to):
            # Read all segments of a dead process: a power cut may have erased the start of one.
            listed = begun_segments_of(directory) if alive else segments_of(directory)
            segments = {int(path.stem): path for path in listed}
            following = min((number for number in segments if number > at[0]), default=None)
            if limit is not None:  # the whole range, even if limits are lower now
                room = limit.to[1] - at[1] if limit.to[0] == at[0] else LARGE_BATCHES.bytes
            else:
                room = turn.bytes - read_bytes
                if room <= 0 or len(records) >= turn.records or tasks >= turn.tasks:
                    self.has_more = True
                    break
                room = min(room, _PIECE_BYTES) if counts_tasks else room
            end_offset = at[1]
            if at[0] in segments:
                complete = following is not None or not alive
                left = None if limit is not None else turn.records - len(records)
                chunk = read_chunk(
                    segments[at[0]], at[1], max_bytes=room, complete=complete, max_records=left
                )
                if chunk.newer_version:
                    self._newer.add(process)
                    self._count("newer_spools", 1)
                    return
                read = _conformed(chunk.records, batch.bad_lines)
                records += read
                tasks += sum(map(opens_trace, read)) if counts_tasks else 0
                batch.bad_lines += chunk.bad_lines
                end_offset = chunk.end_offset
            if end_offset > at[1]:
                read_bytes += end_offset - at[1]
                at = (at[0], end_offset)
            elif following is not None:
                at = (following, 0)
            else:
                exhausted = True
        ended = limit.ended if limit is not None else exhausted and not alive
        if ended:
            still_open = dict(known.open)
            follow_open_tasks(still_open, records)
            records += [
                SpanRecord(
                    trace=trace, id=span_id, start_ns=seen_ns, end_ns=seen_ns, interrupted=True
                )
                for span_id, (trace, seen_ns) in still_open.items()
            ]
        if at != known.at or ended:
            batch.ranges[process] = Range(to=at, ended=ended)
            batch.records[process] = records
            batch.tasks += tasks


def _conformed(records: Iterable[SpanRecord], bad_lines: list[bytes]) -> list[SpanRecord]:
    """Return the valid records; add all others to the damaged lines."""
    found: list[SpanRecord] = []
    for record in records:
        try:
            found.append(conformed(record))
        except ValueError:
            bad_lines.append(orjson.dumps(record))
    return found


def follow_open_tasks(
    open_tasks: dict[str, tuple[str, int]], records: Sequence[SpanRecord]
) -> None:
    """Update the open tasks from records of starts, of work and of ends."""
    for record in records:
        if "open" in record and not record.get("shared") and role_of(record) == "task":
            open_tasks[record["id"]] = (record["trace"], record["start_ns"])
    if not open_tasks:
        return
    # A record sent with an API key does not end a task of a program.
    ended = [r for r in records if "end_ns" in r and "interrupted" not in r and "sender" not in r]
    for record in ended:
        open_tasks.pop(record["id"], None)
    if not open_tasks:
        return
    seen_ns: dict[str, int] = {}
    for record in ended:
        trace = record["trace"]
        seen_ns[trace] = max(seen_ns.get(trace, 0), record.get("end_ns", 0))
    for span_id, (trace, last_ns) in open_tasks.items():
        open_tasks[span_id] = (trace, max(last_ns, seen_ns.get(trace, 0)))


def opens_trace(record: SpanRecord) -> bool:
    """Return whether a span opens a trace, judged by its record alone."""
    if "scope" in record:
        kind = span_kind(record)
        # A tool call without a parent is counted but is not a trace; a skeleton is not one either.
        may_be_task = not record.get("parent") and kind != "tool" and "skeleton" not in record
        return may_be_task or kind in ("agent", "workflow")
    return role_of(record) == "task"


class UnderWay:
    """Look up records in the pending batch of a spool directory.

    Args:
        spool: The spool directory. No process may store from it meanwhile.
    """

    def __init__(self, spool: Path) -> None:
        cursor = load_cursor(spool)
        self._writer = cursor.writer
        self._left: dict[tuple[str, str], set[int]] = defaultdict(set)
        """By share and record: batches whose parts hold the record, if it is not counted yet."""
        self._attempts: set[int] = set()
        if cursor.pending is None:
            return
        batch = BatchReader(spool, lambda name, number: None).collect(cursor)
        records = [record for records in batch.records.values() for record in records]
        whole = [Group(list(range(len(records))))]
        groups = whole if cursor.groups is None else cursor.groups
        for group in groups:
            self._attempts.update(group.attempts)
            for place in group.records:
                if place < len(records):
                    record = records[place]
                    left = self._left[partition_of(record), record_key(record)]
                    left.update((cursor.batch + 1, *group.attempts))

    def has(self, part: LogPart, record: Any) -> bool:
        """Return whether a logged record is counted once its group is stored."""
        if part["writer"] != self._writer or not self._left:
            return False
        return part["batch"] in self._left.get((partition_of(record), record_key(record)), ())

    def batch_of(self, part: LogPart) -> int:
        """Return the batch in which the counted records of a part were counted.

        Records written by an attempt are counted later, with their group. A counter must not name
        the attempt, because its other records would then be taken as counted.
        """
        is_attempt = part["writer"] == self._writer and part["batch"] in self._attempts
        return 0 if is_attempt else part["batch"]
