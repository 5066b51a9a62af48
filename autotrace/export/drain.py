"""Draining: from every process's spool to the store, by one process at a time.

`drain.lock` names the process that drains for all of a spool directory; the kernel lets go of it
if that process dies. The cursor (cursor.py) says how far each process's segments have been stored.

A batch is first written down as pending, then stored, then taken over into `processes`. After a
crash the pending batch is read from the same places and stored again under the same number, which
changes nothing where it was stored already (see ingest.py). A lost cursor means that segments still
there are read again from their start, and everything in them is recognised as stored.

A process is dead when nobody holds its owner lock; it was asked before its segments are read to
the end, so nothing can come after. Its tasks that started and did not end are then marked as
interrupted, and its directory is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from filelock import FileLock, Timeout

from autotrace.export import apart
from autotrace.export.costs import opens_trace
from autotrace.export.cursor import (
    Cursor,
    Place,
    Process,
    Range,
    Stored,
    load_cursor,
    save_cursor,
)
from autotrace.export.drain_lock import LOCK_FILE
from autotrace.export.fields import conformed
from autotrace.export.ingest import Ingestor
from autotrace.export.lanes import lane_in
from autotrace.export.records import SpanRecord
from autotrace.export.roles import role_of
from autotrace.export.spool import (
    BAD_DIRECTORY,
    is_of_newer_version,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
)

UNSTORED: Final = "unstored"
DAMAGED: Final = "damaged"


@dataclass(frozen=True)
class BatchLimits:
    """About how much goes into one batch; a single larger record still does."""

    records: int
    bytes: int
    """Of each process's spool."""
    tasks: int = sys.maxsize
    """How many of the records may be such as open a trace, which cost more than others."""

    def at_most(self, other: BatchLimits) -> BatchLimits:
        """Return the lower of each limit."""
        return BatchLimits(
            min(self.records, other.records),
            min(self.bytes, other.bytes),
            min(self.tasks, other.tasks),
        )


LARGE_BATCHES: Final = BatchLimits(30_000, 32 * 1024 * 1024)
"""For when somebody waits: large writes are what Chroma is quick at."""
SMALL_BATCHES: Final = BatchLimits(250, 256 * 1024)
"""For the background: Chroma's library keeps Python's interpreter lock for the whole of a call, so
that the program stands still meanwhile; small calls keep each halt to some milliseconds."""
TURN: Final = BatchLimits(2_500, 1024 * 1024, 250)
"""What one spool may add to a batch where senders have lanes: about a second's work."""
_TURNS: Final = BatchLimits(5_000, TURN.bytes, 500)
"""What a batch may hold there: what is recorded while it is stored waits for all of it."""
_PIECE_BYTES: Final = 64 * 1024
"""How much is read at once there, so that a turn ends about where its limits say."""
STEP_BYTES: Final = _PIECE_BYTES // 2
"""By so much at least each turn goes on, if so much waits."""
MAX_BAD_BYTES: Final = 64 * 1024 * 1024
"""How much damaged data is kept; beyond it, it is only counted."""


@dataclass
class _Batch:
    ranges: dict[str, Range] = field(default_factory=dict[str, Range])
    records: dict[str, list[SpanRecord]] = field(default_factory=dict[str, list[SpanRecord]])
    bad_lines: list[bytes] = field(default_factory=list[bytes])
    tasks: int = 0

    def size(self) -> int:
        return sum(map(len, self.records.values()))


class Drainer:
    """Stores what the processes of one spool directory have recorded. For one thread at a time.

    Args:
        spool: The spool directory.
        ingestor: Stores batches.
        count: Called with a counter's name and a number.
    """

    def __init__(self, spool: Path, ingestor: Ingestor, count: Callable[[str, int], None]) -> None:
        self._spool = spool
        self._ingestor = ingestor
        self._count = count
        self._lock = FileLock(spool / LOCK_FILE, thread_local=False, mode=0o600)
        self._cursor = Cursor()
        self._newer: set[str] = set()
        self._last = ""
        """The process whose spool ended the last batch: the next one begins with those after it."""
        self.has_more = False
        """Whether the last batch was as large as it may be: more is to be stored at once."""
        self.refused: list[tuple[int, Exception]] = []
        """How many records were quarantined, and why; whoever has reported it empties it."""

    @property
    def active(self) -> bool:
        """Whether this process drains at present."""
        return self._lock.is_locked

    def acquire(self) -> bool:
        """Become the process that drains; return False while another one is."""
        if self._lock.is_locked:
            return True
        if not self._spool.is_dir():
            return False
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        self._cursor = load_cursor(self._spool)
        self._ingestor.forget()
        return True

    def release(self) -> None:
        """Let another process drain."""
        self._lock.release()

    def stored(self) -> Stored:
        """Return how far the spool of each process is stored."""
        return Stored(self._spool, self._cursor if self.active else load_cursor(self._spool))

    def recorded_up_to(self) -> dict[str, Place]:
        """Return how far each process has recorded."""
        places: dict[str, Place] = {}
        for process in processes_in(self._spool):
            segments = segments_of(self._spool / process)
            with contextlib.suppress(FileNotFoundError, IndexError):  # it has just been stored
                places[process] = (int(segments[-1].stem), segments[-1].stat().st_size)
        return places

    def is_left_alone(self, process: str) -> bool:
        """Tell whether nothing of a process will be stored: it is of a newer autotrace."""
        return is_of_newer_version(self._spool / process)

    def backlog_bytes(self) -> int:
        """Return how many bytes, of all processes, are recorded and not stored yet."""
        cursor = self._cursor if self.active else load_cursor(self._spool)
        total = 0
        for process in processes_in(self._spool):
            segment, offset = cursor.processes.get(process, Process()).at
            for path in segments_of(self._spool / process):
                number = int(path.stem)
                with contextlib.suppress(FileNotFoundError):
                    if number >= segment:
                        total += path.stat().st_size - (offset if number == segment else 0)
        return total

    def step(self, limits: BatchLimits = LARGE_BATCHES) -> int:
        """Store one batch; return how many records it had (0: there is nothing to do).

        Args:
            limits: How large the batch may be; one left over from before is as large as it was.

        Raises:
            StoreError: The store does not answer; the next step goes on with the same batch.
            OSError: The disk does not take what is to be kept; the next step goes on.
        """
        batch = self._collect(self._cursor.pending, limits)
        if not batch.ranges:
            return 0
        if self._cursor.pending is None:
            self._cursor.pending, self._cursor.groups = batch.ranges, None
            self._save()
        records = [record for records in batch.records.values() for record in records]
        if records:
            owners = [process for process, of in batch.records.items() for _ in of]

            def refuse(places: Sequence[int], error: Exception) -> None:
                self._set_aside([records[place] for place in places], error)
                for place in places:
                    self._cursor.processes.setdefault(owners[place], Process()).set_aside += 1

            apart.store(self._ingestor, records, self._cursor, refuse=refuse, save=self._save)
        self._commit(batch)
        return len(records) or 1

    def _set_aside(self, records: Sequence[SpanRecord], error: Exception) -> None:
        self._keep_bad(UNSTORED, [orjson.dumps(record) + b"\n" for record in records])
        self.refused.append((len(records), error))

    def _commit(self, batch: _Batch) -> None:
        cursor = self._cursor
        for process, taken in batch.ranges.items():
            known = cursor.processes.setdefault(process, Process())
            known.at = taken.to
            _follow_open_tasks(known.open, batch.records.get(process, []))
            if taken.ended:
                del cursor.processes[process]
        cursor.batch += 1
        cursor.pending = cursor.groups = None
        self._save()
        if batch.bad_lines:
            self._count("damaged_records", len(batch.bad_lines))
            try:
                self._keep_bad(DAMAGED, batch.bad_lines)
            except OSError:
                self._count("bad_records_not_kept", len(batch.bad_lines))
        for process, taken in batch.ranges.items():
            self._remove_stored(process, taken)

    def _collect(self, pending: dict[str, Range] | None, limits: BatchLimits) -> _Batch:
        batch = _Batch()
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
            self._collect_process(process, batch, limit, turn.at_most(left))
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
        self, process: str, batch: _Batch, limit: Range | None, turn: BatchLimits
    ) -> None:
        """Read on in one process's spool: to the limit, or until its turn is over."""
        directory = self._spool / process
        known = self._cursor.processes.get(process) or Process()
        alive = limit is None and owner_is_alive(directory)
        records: list[SpanRecord] = []
        at, read_bytes, tasks = known.at, 0, 0
        counts_tasks = turn.tasks < sys.maxsize
        exhausted = False
        while not exhausted and (limit is None or at < limit.to):
            segments = {int(path.stem): path for path in segments_of(directory)}
            following = min((number for number in segments if number > at[0]), default=None)
            if limit is not None:  # all of it, however much is taken at once today
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
                chunk = read_chunk(segments[at[0]], at[1], max_bytes=room, complete=complete)
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
            _follow_open_tasks(still_open, records)
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

    def _remove_stored(self, process: str, taken: Range) -> None:
        directory = self._spool / process
        if taken.ended:
            shutil.rmtree(directory, ignore_errors=True)
            return
        for path in segments_of(directory):
            if int(path.stem) < taken.to[0]:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _keep_bad(self, name: str, lines: list[bytes]) -> None:
        directory = self._spool / BAD_DIRECTORY
        path = directory / f"{name}.log"
        directory.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and path.stat().st_size > MAX_BAD_BYTES:
            self._count("bad_records_not_kept", len(lines))
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.writelines(line if line.endswith(b"\n") else line + b"\n" for line in lines)

    def _save(self) -> None:
        save_cursor(self._spool, self._cursor)


def _conformed(records: Iterable[SpanRecord], bad_lines: list[bytes]) -> list[SpanRecord]:
    """Return the records among what was read; anything else is damage."""
    found: list[SpanRecord] = []
    for record in records:
        try:
            found.append(conformed(record))
        except ValueError:
            bad_lines.append(orjson.dumps(record))
    return found


def _follow_open_tasks(open_tasks: dict[str, tuple[str, int]], records: list[SpanRecord]) -> None:
    """Take in what records say of tasks that started, were at work, and ended."""
    for record in records:
        if "open" in record and not record.get("shared") and role_of(record) == "task":
            open_tasks[record["id"]] = (record["trace"], record["start_ns"])
    if not open_tasks:
        return
    # What came with a key ends no task of a program.
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
