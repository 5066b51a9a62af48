"""Drain the spool of every process into the store, by one process at a time.

`drain.lock` names the process that drains for all of a spool directory; the kernel lets go of it if
that process dies. The cursor (spool/cursor.py) says how far each process's segments have been
stored.

A batch is first written down as pending, then stored, then taken over into `processes`. After a
crash the pending batch is read from the same places and stored again under the same number, which
changes nothing where it was stored already (see traces/ingest.py). A lost cursor means that
segments still there are read again from their start, and everything in them is recognised as
stored.

A process is dead when nobody holds its owner lock; it was asked before its segments are read to
the end, so nothing can come after. Its tasks that started and did not end are then marked as
interrupted, and its directory is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import orjson
from filelock import FileLock, Timeout

from autotrace.spool.cursor import (
    Cursor,
    Process,
    Range,
    SpoolPosition,
    Stored,
    load_cursor,
    save_cursor,
)
from autotrace.spool.drain_lock import GIVE_WAY_S, LOCK_FILE, handover_requested_ns
from autotrace.spool.files import (
    BAD_DIRECTORY,
    begun_segments_of,
    is_of_newer_version,
    processes_in,
    segments_of,
    written_bytes,
)
from autotrace.spool.span_records import SpanRecord
from autotrace.traces import batch_groups
from autotrace.traces.ingest import Ingestor
from autotrace.worker.batch_selection import (
    LARGE_BATCHES,
    BatchLimits,
    BatchReader,
    SpooledBatch,
    follow_open_tasks,
)

UNSTORED: Final = "unstored"
DAMAGED: Final = "damaged"
MAX_BAD_BYTES: Final = 64 * 1024 * 1024
"""How much damaged data is kept; beyond it, it is only counted."""


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
        self._asked_ns = handover_requested_ns(spool)
        self._waits_until_s = 0.0
        self._cursor = Cursor()
        self._reader = BatchReader(spool, count)
        self.refused: list[tuple[int, Exception]] = []
        """How many records were quarantined, and why; the caller that reports them empties it."""

    @property
    def active(self) -> bool:
        """Whether this process drains at present."""
        return self._lock.is_locked

    @property
    def has_more(self) -> bool:
        """Whether the last batch was as large as it may be: more is to be stored at once."""
        return self._reader.has_more

    def acquire(self) -> bool:
        """Become the process that drains; return False while another one is, or wants the lock."""
        asked_ns = handover_requested_ns(self._spool)
        if asked_ns != self._asked_ns:
            self._asked_ns = asked_ns
            self._waits_until_s = time.monotonic() + GIVE_WAY_S
            self.release()
        if self._lock.is_locked:
            return True
        if time.monotonic() < self._waits_until_s:
            return False
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

    def recorded_up_to(self) -> dict[str, SpoolPosition]:
        """Return how far each process has recorded."""
        places: dict[str, SpoolPosition] = {}
        for process in processes_in(self._spool):
            segments = begun_segments_of(self._spool / process)
            with contextlib.suppress(FileNotFoundError, IndexError):  # it has just been stored
                places[process] = (int(segments[-1].stem), written_bytes(segments[-1]))
        return places

    def is_newer_version(self, process: str) -> bool:
        """Return whether nothing of a process will be stored: it is of a newer autotrace."""
        return is_of_newer_version(self._spool / process)

    def backlog_bytes(self) -> int:
        """Return how many bytes, of all processes, are recorded and not stored yet."""
        return backlog_bytes(self._spool, self._cursor if self.active else load_cursor(self._spool))

    def step(self, limits: BatchLimits = LARGE_BATCHES) -> int:
        """Store one batch; return how many records it had (0: there is nothing to do).

        Args:
            limits: How large the batch may be; one left over from before is as large as it was.

        Raises:
            StoreError: The store does not answer; the next step goes on with the same batch.
            OSError: The disk cannot be written; the next step retries.
        """
        batch = self._reader.collect(self._cursor, limits)
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

            batch_groups.store(
                self._ingestor, records, self._cursor, refuse=refuse, save=self._save
            )
        self._commit(batch)
        return len(records) or 1

    def _set_aside(self, records: Sequence[SpanRecord], error: Exception) -> None:
        self._keep_bad(UNSTORED, [orjson.dumps(record) + b"\n" for record in records])
        self.refused.append((len(records), error))

    def _commit(self, batch: SpooledBatch) -> None:
        cursor = self._cursor
        for process, taken in batch.ranges.items():
            known = cursor.processes.setdefault(process, Process())
            known.at = taken.to
            follow_open_tasks(known.open, batch.records.get(process, []))
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


def backlog_bytes(spool: Path, cursor: Cursor) -> int:
    """Return how many bytes of all processes lie in a spool directory after a cursor."""
    total = 0
    for process in processes_in(spool):
        segment, offset = cursor.processes.get(process, Process()).at
        for path in segments_of(spool / process):
            number = int(path.stem)
            with contextlib.suppress(FileNotFoundError):
                if number >= segment:
                    total += written_bytes(path) - (offset if number == segment else 0)
    return total
