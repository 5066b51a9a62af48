"""The spool: records of each process, on disk between capture and the store.

A record is on disk when `SpoolWriter.write` returns, so a process that is killed at any moment
loses no ended span, and a store that is down costs nothing but disk. (On disk as seen by every
process of the machine; without fsync, a power cut may lose the last moments.) The files are
described in files.py, and segments in segment.py.

Failures:

* an event loop runs in the thread that records: nothing here blocks it. A segment is allocated
  before it is needed, the first by `prepare` and each later one by a helper thread while the one
  before is filled; a record that comes too early waits for that thread;
* killed in the middle of a write: the line has no end or a wrong checksum; it is quarantined;
* disk full, or the directory is not writable: the record is dropped and counted;
* a signal handler or a finaliser records while the same thread is writing: a write is one step; in
  the middle of going on to the next segment, the record is written with the one that needed it;
* a span that began before `close` ends after it: its record gets a directory of its own, complete
  at once, which is drained like that of a process that has ended;
* an exception of a signal handler (Ctrl-C, a timeout) breaks off the making of a file: the next
  record goes on with it;
* fork: the child drops what it has inherited and starts a spool of its own;
* a file of a newer version: left untouched, counted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, cast

from filelock import lock_descriptor

from autotrace.base.event_loops import hand_over, is_running, off_loop
from autotrace.base.private_folder import private_directory
from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.spool.files import (
    MAX_RECORD_BYTES,
    OWNER_FILE,
    SPOOL_VERSION,
    encode_line,
    segment_path,
    size_bytes_of,
)
from autotrace.spool.segment import OPEN_FLAGS, Segment, open_segment
from autotrace.spool.span_records import SpanRecord

MAX_SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""Size of the largest segments; a record that is larger gets one of its own."""
_FIRST_SEGMENT_BYTES: Final = 256 * 1024
"""Each later one is twice as large as the one before, up to the largest."""
_SMALL_SEGMENT_BYTES: Final = 64 * 1024
"""Fallback size where the disk has no room for more."""

_LOOK_AGAIN_NS: Final = 1_000_000_000
_AHEAD_TIMEOUT_S: Final = 60.0

_Prepared = SimpleQueue[Segment | None]


def _no_segment(_: bytes) -> None:
    raise ValueError("there is no segment")


class SpoolWriter:
    """Append this process's records to its segments. Any thread may call it at any time.

    After a fork the child calls `abandon_after_fork` and makes a writer of its own.

    Args:
        directory: The spool directory; made, readable by its owner alone, by `prepare` or at the
            first record.
        count: Called with the name of a counter when a record is dropped.
        max_segment_bytes: Size of the largest segments; a record that is larger gets its own.
        max_total_bytes: While this process's segments hold more than this, records are dropped.
        on_error: Called with the error of each failing write, to log it once.
        name: Of the process's spool; None: a new one.
        has_room: Called with a number of bytes: whether all spools of this process may hold as
            many more.
    """

    def __init__(
        self,
        directory: Path,
        *,
        count: Callable[[str], None],
        max_segment_bytes: int = MAX_SEGMENT_BYTES,
        max_total_bytes: int = 4 * 1024 * 1024 * 1024,
        on_error: Callable[[OSError], None] | None = None,
        name: str | None = None,
        has_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._spool = directory
        self._host = socket.gethostname()
        self.process = name or _new_name()
        self.directory = directory / self.process
        self._count = count
        self._on_error = on_error
        self._may_hold = has_room
        self._max_segment_bytes = max_segment_bytes
        self._max_total_bytes = max_total_bytes
        self._lock = threading.RLock()
        self._owner_fd = -1
        self._segment: Segment | None = None
        """Current segment."""
        self._write: Callable[[bytes], object] = _no_segment
        """Writes to it; raises ValueError where that does not fit. Called without the lock."""
        self._next: Segment | None = None
        self._ahead: _Prepared | None = None
        """Where the helper thread puts the next segment."""
        self._switching = False
        self._interrupting: list[bytes] = []
        """Lines of signal handlers and finalisers that came while the segment was changed."""
        self._full_until_ns = 0
        self._closed = False

    def write(self, record: SpanRecord) -> bool:
        """Write one record; return whether it is on disk.

        Never raises for a disk or record at fault: the record is dropped and counted as
        `dropped_spool_error` or `dropped_spool_full`.
        """
        line = encode_line(record)
        if len(line) > MAX_RECORD_BYTES:
            self._count("dropped_too_large")
            return False
        return self._append_line(line)

    def _append_line(self, line: bytes) -> bool:
        try:
            self._write(line)
        except ValueError:
            return self._write_to_next(line)
        except OSError as error:
            return self._fail(error)
        return True

    def prepare(self) -> None:
        """Make the directory and a segment, so that the first record has to wait for neither.

        What fails here is tried again by the first record, and counted then.
        """
        with self._lock:
            if self._segment is None and self._next is None and not self._closed:
                with contextlib.suppress(OSError):
                    self._next = off_loop(lambda: self._make_next(0))

    def position(self) -> tuple[int, int]:
        """Return (segment number, bytes in it): every record so far lies before this place."""
        segment = self._segment
        return (0, 0) if segment is None else (segment.number, segment.written_bytes())

    def is_deleted(self) -> bool:
        """Return whether the directory that is written to was deleted."""
        with self._lock:
            return self._segment is not None and not self._closed and self._segment.is_deleted()

    def discard_unused(self) -> None:
        """Remove what `prepare` has made if nothing was recorded; a later record makes it again."""
        with self._lock:
            if self._segment is None and not self._switching:
                self._release_unused()

    def _release_unused(self) -> None:
        self._release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def close(self) -> None:
        """Let the segments be known as complete; later records go into directories of their own."""
        with self._lock:
            self._closed = True
            self._write = _no_segment
            self._next = self._next or self._take_ahead()
            self._release()
        self.discard_unused()

    def abandon_after_fork(self) -> None:
        """In a forked child: drop what belongs to the parent, without unlocking or changing it."""
        self._lock = threading.RLock()
        self._closed = True
        self._write = _no_segment
        self._ahead = None  # the thread that would fill it is the parent's
        self._release(keep_size=True)

    def _release(self, *, keep_size: bool = False) -> None:
        for segment in (self._segment, self._next):
            if segment is not None:
                segment.close(keep_size=keep_size)
        self._next = None
        if self._owner_fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._owner_fd)
        self._owner_fd = -1

    def _fail(self, error: OSError) -> bool:
        reraise_if_from_signal_handler(error)  # a TimeoutError is one, too
        self._count("dropped_spool_error")
        if self._on_error is not None:
            self._on_error(error)
        return False

    def _write_to_next(self, line: bytes) -> bool:
        with self._lock:
            if self._switching:
                self._interrupting.append(line)
                return True
            self._switching = True
            try:
                return self._switch(line)
            except OSError as error:
                return self._fail(error)
            finally:
                self._switching = False
                while self._interrupting:
                    self._append_line(self._interrupting.pop(0))

    def _switch(self, line: bytes) -> bool:
        """Write to a new segment, or to the present one if another thread has changed it."""
        try:
            self._write(line)
        except ValueError:
            pass
        else:
            return True
        if self._closed:
            return off_loop(lambda: self._append_late(line))
        header = encode_line(cast("SpanRecord", self._header()))
        self._next = made = self._take_next(len(header) + len(line))
        if made is None:
            self._count("dropped_spool_full")
            return False
        full = self._segment
        if full is not None:
            full.seal()  # before anything is in the next one, which marks this one as complete
        # If a signal handler raises from here on, the next record writes a header again, over which
        # readers pass.
        made.write(header + line)
        self._segment = made
        self._write = made.write
        self._next = None
        if full is not None:
            hand_over(full.close) if is_running() else full.close()
        if is_running():
            self._prepare_ahead(made.number + 1)
        return True

    def _append_late(self, line: bytes) -> bool:
        """Write one record after `close`: the closed spool may be drained and gone already."""
        lane = self.process.partition(".")[1:]  # a reader of the lane waits for this one, too
        name = _new_name() + "".join(lane)
        late = SpoolWriter(self._spool, count=self._count, on_error=self._on_error, name=name)
        try:
            return late._append_line(line)
        finally:
            late.close()

    def _take_next(self, needed_bytes: int) -> Segment | None:
        """Return an empty segment; None where this process must not keep more on disk."""
        made = self._next or self._take_ahead()
        if made is not None and self._segment is None and made.is_deleted():
            # Somebody has deleted the spool since `prepare`, and nothing was in it.
            self._next = made
            off_loop(self._release_unused)
            made = None
        if made is not None and made.size_bytes < needed_bytes:
            made.close()
            made = None
        return made or off_loop(lambda: self._make_next(needed_bytes))

    def _take_ahead(self) -> Segment | None:
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        try:
            return ahead.get(timeout=_AHEAD_TIMEOUT_S)
        except Empty:  # the interpreter ends, and the thread has been stopped
            return None

    def _prepare_ahead(self, number: int) -> None:
        ahead: _Prepared = SimpleQueue()

        def prepare() -> None:
            try:
                ahead.put(self._open(number, 0))
            except Exception:  # noqa: BLE001 - tried again, and counted, by the record that needs it
                ahead.put(None)

        self._ahead = ahead
        hand_over(prepare)

    def _make_next(self, needed_bytes: int) -> Segment | None:
        self._own_directory()
        return self._open(1 if self._segment is None else self._segment.number + 1, needed_bytes)

    def _open(self, number: int, needed_bytes: int) -> Segment | None:
        room_bytes = self._room_bytes()
        if room_bytes < max(needed_bytes, 1):
            return None
        path = segment_path(self.directory, number)
        planned_bytes = min(_FIRST_SEGMENT_BYTES << min(number - 1, 32), self._max_segment_bytes)
        size_bytes = max(min(planned_bytes, room_bytes), needed_bytes)
        if not self._may_hold(size_bytes):
            self._full_until_ns = time.monotonic_ns() + _LOOK_AGAIN_NS
            return None
        try:
            return open_segment(path, number, size_bytes)
        except OSError:
            small_bytes = max(needed_bytes, _SMALL_SEGMENT_BYTES)
            if size_bytes <= small_bytes:
                raise
            return open_segment(path, number, small_bytes)

    def _room_bytes(self) -> int:
        now_ns = time.monotonic_ns()
        if now_ns < self._full_until_ns:
            return 0
        room_bytes = self._max_total_bytes - size_bytes_of(self.directory)
        if room_bytes <= 0:
            # Asking the disk for every dropped record would cost more than recording it.
            self._full_until_ns = now_ns + _LOOK_AGAIN_NS
        return room_bytes

    def _own_directory(self) -> None:
        """Make the directory, or go on with it where a signal handler's exception broke it off."""
        # Locked before it is seen under its name: a directory without a lock is of the dead.
        hidden = self.directory.with_name("." + self.process)
        if self._owner_fd < 0:
            private_directory(hidden)
            self._owner_fd = os.open(hidden / OWNER_FILE, OPEN_FLAGS, 0o600)
        if not self.directory.exists():
            lock_descriptor(self._owner_fd)
            hidden.rename(self.directory)

    def _header(self) -> dict[str, Any]:
        return {
            "autotrace_spool": SPOOL_VERSION,
            "process": self.process,
            "pid": os.getpid(),
            "host": self._host,
            "started_ns": time.time_ns(),
        }


def _new_name() -> str:
    return f"{time.time_ns():016x}-{os.getpid()}-{secrets.token_hex(3)}"
