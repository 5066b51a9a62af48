"""Drain the spools of all processes into the store.

One process at a time drains; it holds `drain.lock`, which the kernel releases if it dies. The
cursor has the stored position of each spool. A batch is saved as pending, stored, then committed;
after a crash it is stored again under the same number, which is idempotent (traces/ingest.py), as
is reading all segments again after the loss of the cursor. If the owner lock of a process is free,
its open tasks are marked as interrupted and its directory is removed; the lock is checked before
the last read.
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
"""Size of a file of bad records above which further ones are only counted."""


class Drainer:
    """Store the records of all processes of one spool directory.

    For one thread at a time.

    Args:
        spool: The spool directory.
        ingestor: Stores batches.
        count: Called with the name of a counter and a number.
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
        """Number of quarantined records and the reason; the caller that reports them removes it."""

    @property
    def active(self) -> bool:
        """Whether this process holds `drain.lock` through this drainer."""
        return self._lock.is_locked

    @property
    def has_more(self) -> bool:
        """Whether the last batch reached a limit: more records may be left."""
        return self._reader.has_more

    def acquire(self) -> bool:
        """Acquire `drain.lock`; return whether this drainer holds it.

        After a handover request of another process, the lock is released for `GIVE_WAY_S`.
        """
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
        """Release `drain.lock`, so that another process can drain."""
        self._lock.release()

    def stored(self) -> Stored:
        """Return the stored position of each spool."""
        return Stored(self._spool, self._cursor if self.active else load_cursor(self._spool))

    def recorded_up_to(self) -> dict[str, SpoolPosition]:
        """Return the end position of each spool."""
        places: dict[str, SpoolPosition] = {}
        for process in processes_in(self._spool):
            segments = begun_segments_of(self._spool / process)
            with contextlib.suppress(FileNotFoundError, IndexError):  # it has just been stored
                places[process] = (int(segments[-1].stem), written_bytes(segments[-1]))
        return places

    def is_newer_version(self, process: str) -> bool:
        """Return whether a newer autotrace wrote a spool, which is not stored."""
        return is_of_newer_version(self._spool / process)

    def backlog_bytes(self) -> int:
        """Return the bytes of all spools that are not stored yet."""
        return backlog_bytes(self._spool, self._cursor if self.active else load_cursor(self._spool))

    def step(self, limits: BatchLimits = LARGE_BATCHES) -> int:
        """Store one batch; return its number of records, 0 if there is none.

        A batch without records that changes a position counts as 1.

        Args:
            limits: Limits of the batch. A pending batch keeps its size.

        Raises:
            StoreError: The store failed; the next step retries the same batch.
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
    """Return the bytes in a spool directory after the positions of a cursor."""
    total = 0
    for process in processes_in(spool):
        segment, offset = cursor.processes.get(process, Process()).at
        for path in segments_of(spool / process):
            number = int(path.stem)
            with contextlib.suppress(FileNotFoundError):
                if number >= segment:
                    total += written_bytes(path) - (offset if number == segment else 0)
    return total
