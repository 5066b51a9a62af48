"""Lanes: the records of each sender wait in a spool of their own, apart from those of the others.

A server's process records for many senders. The drainer takes from their spools by turns, so that
the backlog of one holds up no other; and a reader waits for what its own sender has recorded, in
any process: the name of a spool contains the lane. See docs/explanation/storage.md.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from autotrace.spool.cursor import START, SpoolPosition
from autotrace.spool.files import size_bytes_of
from autotrace.spool.shares import owner_of
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.writer import MAX_SEGMENT_BYTES, SpoolWriter

LOCAL_LANE: Final = ""
"""Of the programs on this machine."""
MAX_LANES: Final = 32
"""How many senders have a lane of their own in one process; each keeps two files open."""
_SHARED_LANE: Final = "shared"
"""Of all senders beyond those."""
_DIGEST_CHARS: Final = 24


def lane_of(sender: str | None) -> str:
    """Return the lane of the agent of a key; None: of the programs on this machine."""
    if sender is None:
        return LOCAL_LANE
    return hashlib.sha256(sender.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]


def lane_in(process: str) -> str:
    """Return the lane in the name of a process's spool."""
    return process.partition(".")[2]


def process_in(spool: str) -> str:
    """Return which process a spool is of, given its name: a process has several."""
    return spool.partition(".")[0]


def holds_lane(process: str, lane: str) -> bool:
    """Return whether records of a lane may be in a process's spool."""
    found = lane_in(process)
    return found == lane or (found == _SHARED_LANE and lane != LOCAL_LANE)


class SpoolLanes:
    """The spools of one process. Any thread may call it at any time.

    While the spools hold more than `max_total_bytes`, or that of a sender more than half of it,
    records are dropped and counted by `count`. `on_error` gets the error of each failing write.
    """

    def __init__(
        self,
        directory: Path,
        *,
        count: Callable[[str], None],
        max_total_bytes: int,
        on_error: Callable[[OSError], None],
    ) -> None:
        self._directory = directory
        self._count = count
        self._max_total_bytes = max_total_bytes
        self._on_error = on_error
        self._lock = threading.RLock()
        self._closed = False
        self._local = self._open(LOCAL_LANE)
        self._by_lane: dict[str, SpoolWriter] = {}

    def _open(self, lane: str) -> SpoolWriter:
        is_local = lane == LOCAL_LANE
        half = max(self._max_total_bytes // 2, MAX_SEGMENT_BYTES)
        return SpoolWriter(
            self._directory,
            count=self._count,
            max_total_bytes=self._max_total_bytes if is_local else half,
            on_error=self._on_error,
            name=None if is_local else f"{self._local.process}.{lane}",
            has_room=self._has_room,
        )

    def write(self, record: SpanRecord, sender: str | None = None) -> bool:
        """Write one record; return whether it is on disk. Never raises for the disk.

        `sender` is the agent that owns it; None if the record names its owner.
        """
        if sender is None:
            sender = record["sender"]["agent"] if "sender" in record else owner_of(record)
        writer = self._local if sender is None else self._of(lane_of(sender))
        return writer.write(record)

    def _of(self, lane: str) -> SpoolWriter:
        writer = self._by_lane.get(lane)
        if writer is not None:
            return writer
        with self._lock:
            if lane not in self._by_lane and len(self._by_lane) >= MAX_LANES:
                lane = _SHARED_LANE
            writer = self._by_lane.get(lane)
            if writer is None:
                writer = self._by_lane[lane] = self._open(lane)
                if self._closed:
                    writer.close()
            return writer

    def _writers(self) -> Iterator[SpoolWriter]:
        # Without the lock: asked by the thread that makes a segment, for which `close` waits.
        yield self._local
        yield from list(self._by_lane.values())

    def _has_room(self, more_bytes: int) -> bool:
        held_bytes = sum(size_bytes_of(each.directory) for each in self._writers())
        return held_bytes + more_bytes <= self._max_total_bytes

    def places(self, lane: str | None = None) -> dict[str, SpoolPosition]:
        """Return how far each spool was written that has begun; of one lane, or of all."""
        return {
            writer.process: place
            for writer in self._writers()
            if (place := writer.position()) != START
            and (lane is None or holds_lane(writer.process, lane))
        }

    @property
    def process(self) -> str:
        """Name of this process's own spool, with which those of senders begin."""
        return self._local.process

    def prepare(self) -> None:
        """Make the spool of this program ready, so that its first record waits for no disk."""
        self._local.prepare()

    def discard_unused(self) -> None:
        """Remove what `prepare` has made if nothing was recorded."""
        self._local.discard_unused()

    def is_deleted(self) -> bool:
        """Return whether a spool that is written to was deleted."""
        return any(writer.is_deleted() for writer in self._writers())

    def close(self) -> None:
        """Let the spools be known as complete; later records go into directories of their own."""
        with self._lock:
            self._closed = True
            for writer in self._writers():
                writer.close()

    def reopen(self) -> None:
        """Write to new spools from now on: the present ones were deleted."""
        with self._lock:
            deleted = list(self._writers())
            self._local, self._by_lane = self._open(LOCAL_LANE), {}
            for writer in deleted:
                writer.close()
            if self._closed:
                self._local.close()

    def abandon_after_fork(self) -> None:
        """In a forked child: drop the parent's files."""
        self._lock = threading.RLock()
        for writer in self._writers():
            writer.abandon_after_fork()
