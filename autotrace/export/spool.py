r"""The spool: each process's append-only file of span records, between capture and the store.

A record is on disk when `SpoolWriter.append` returns, so a process that is killed at any moment
loses no ended span, and a store that is down costs nothing but disk. (On disk as seen by every
process of the machine; there is no fsync, so a power cut may lose the last moments.)

Layout of a spool directory::

    <spool>/<process>/owner        locked by the process while it lives
    <spool>/<process>.<lane>/      the same, of one sender for whom it records (see lanes.py)
    <spool>/<process>/00000001.log segments; a full one is followed by the next
    <spool>/bad/                   what could not be read or stored, set aside
    <spool>/cursor.json            how far each segment has been stored (see cursor.py)
    <spool>/drain.lock             held by the one process that stores for all of them

A segment is text: one line per record, `<crc32, 8 hex digits> <JSON>\n`, the first a header. JSON
has no raw newline, so after a damaged line reading goes on at the next.

What can go wrong, and what then happens:

* killed in the middle of a write: the line has no end or a wrong checksum; it is set aside;
* disk full, or the directory is not writable: the record is dropped and counted, and a line that
  was cut short is closed with a newline before the next one;
* a signal handler or a finaliser records while the same thread is writing: the lock is reentrant,
  and each line is one write;
* a span that began before `close` ends after it: its record gets a directory of its own, complete
  at once, which is drained like that of a process that has ended;
* an exception of a signal handler (Ctrl-C, a timeout) breaks off the making of the directory: the
  next record goes on with it;
* fork: the child drops the inherited descriptors and starts a spool of its own;
* a file of a newer version: left untouched, counted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import orjson
from filelock import lock_descriptor

from autotrace.export.records import SpanRecord
from autotrace.signals import let_through
from autotrace.store.folder import private_directory

SPOOL_VERSION: Final = 1
OWNER_FILE: Final = "owner"
BAD_DIRECTORY: Final = "bad"
SEGMENT_SUFFIX: Final = ".log"
MAX_SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Size after which the next segment is begun."""
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
"""A longer line is not written, and not read: it is counted, and set aside if found."""

_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def _default(value: Any) -> Any:
    """Serialise what OpenTelemetry allows in an attribute and JSON does not."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return repr(value)


def encode_line(record: SpanRecord) -> bytes:
    """Make the line of a record."""
    try:
        body = orjson.dumps(record, default=_default)
    except (orjson.JSONEncodeError, ValueError):
        # A lone surrogate, an int beyond 64 bits: rare, so the hot path does not look for them.
        body = orjson.dumps(_plain(record), default=_default)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_plain(str(key)): _plain(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


def decode_line(line: bytes) -> dict[str, Any] | None:
    """Read a line without its newline; None when it is damaged."""
    try:
        if len(line) < 10 or int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        value = orjson.loads(line[9:])
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


class SpoolWriter:
    """Appends this process's records to its segments. Any thread may call it at any time.

    Args:
        directory: The spool directory; made, readable by its owner alone, at the first record.
        count: Called with the name of a counter when a record is dropped.
        max_segment_bytes: Size after which the next segment is begun.
        max_total_bytes: While this process's segments hold more than this, records are dropped.
        on_error: Told about each failing write, to log it once.
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
        self.process = name or _new_name()
        self.directory = directory / self.process
        self._count = count
        self._on_error = on_error
        self._may_hold = has_room
        self._max_segment_bytes = max_segment_bytes
        self._max_total_bytes = max_total_bytes
        self._lock = threading.RLock()
        self._fd = -1
        self._owner_fd = -1
        self._segment = 0
        self._segment_bytes = 0
        self._torn = False
        self._full_until_ns = 0
        self._closed = False

    def append(self, record: SpanRecord) -> bool:
        """Write one record; return whether it is on disk.

        Never raises for a disk or record at fault: the record is dropped and counted as
        `dropped_spool_error` or `dropped_spool_full`.
        """
        line = encode_line(record)
        if len(line) > MAX_RECORD_BYTES:
            self._count("dropped_too_large")
            return False
        with self._lock:
            try:
                if self._segment_bytes >= self._max_segment_bytes or self._fd < 0:
                    if self._closed:
                        return self._append_late(record)
                    if not self._next_segment():
                        self._count("dropped_spool_full")
                        return False
                self._write(line)
            except OSError as error:
                let_through(error)  # a TimeoutError is one, too
                self._count("dropped_spool_error")
                if self._on_error is not None:
                    self._on_error(error)
                return False
            self._segment_bytes += len(line)
            return True

    def _append_late(self, record: SpanRecord) -> bool:
        """Write one record after the end: what was closed may be drained and gone already."""
        lane = self.process.partition(".")[1:]  # a reader of the lane waits for this one, too
        name = _new_name() + "".join(lane)
        late = SpoolWriter(self._spool, count=self._count, on_error=self._on_error, name=name)
        try:
            return late.append(record)
        finally:
            late.close()

    def position(self) -> tuple[int, int]:
        """Return (segment number, bytes in it): every record so far lies before this place."""
        with self._lock:
            return self._segment, self._segment_bytes

    def is_deleted(self) -> bool:
        """Tell whether somebody has deleted what is being written to."""
        with self._lock:
            return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Let the segments be known as complete; later records go into directories of their own."""
        with self._lock:
            self._closed = True
            self._release()

    def abandon_after_fork(self) -> None:
        """In a forked child: drop the descriptors that belong to the parent, without unlocking."""
        self._lock = threading.RLock()
        self._closed = True
        self._release()

    def _release(self) -> None:
        for descriptor in (self._fd, self._owner_fd):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._fd = self._owner_fd = -1

    def _write(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        self._torn = True
        written = os.write(self._fd, line)
        while written < len(line):
            written += os.write(self._fd, line[written:])
        self._torn = False

    def _next_segment(self) -> bool:
        if not self._has_room():
            return False
        self._own_directory()
        path = self.directory / f"{self._segment + 1:08d}{SEGMENT_SUFFIX}"
        descriptor = os.open(path, _OPEN_FLAGS, 0o600)
        full, self._fd = self._fd, descriptor
        if full >= 0:
            os.close(full)
        self._segment += 1
        self._segment_bytes = 0
        self._torn = False
        header = encode_line(cast("SpanRecord", self._header()))
        self._write(header)
        self._segment_bytes = len(header)
        return True

    def _own_directory(self) -> None:
        """Make the directory, or go on with it where a signal handler's exception broke it off."""
        # Locked before it is seen under its name: a directory without a lock is of the dead.
        hidden = self.directory.with_name("." + self.process)
        if self._owner_fd < 0:
            private_directory(hidden)
            self._owner_fd = os.open(hidden / OWNER_FILE, _OPEN_FLAGS, 0o600)
        if not self.directory.exists():
            lock_descriptor(self._owner_fd)
            hidden.rename(self.directory)

    def _has_room(self) -> bool:
        now_ns = time.monotonic_ns()
        if now_ns < self._full_until_ns:
            return False
        total = sum(path.stat().st_size for path in segments_of(self.directory))
        is_full = total + self._max_segment_bytes > self._max_total_bytes
        if is_full or not self._may_hold(self._max_segment_bytes):
            # Asking the disk for every dropped record would cost more than recording it.
            self._full_until_ns = now_ns + 1_000_000_000
            return False
        return True

    def _header(self) -> dict[str, Any]:
        return {
            "autotrace_spool": SPOOL_VERSION,
            "process": self.process,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started_ns": time.time_ns(),
        }


def _new_name() -> str:
    return f"{time.time_ns():016x}-{os.getpid()}-{secrets.token_hex(3)}"


def segments_of(directory: Path) -> list[Path]:
    """Return the segments in a process's directory, oldest first."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [directory / name for name in sorted(names) if name.endswith(SEGMENT_SUFFIX)]


def processes_in(spool: Path) -> list[str]:
    """Return the names of the processes that have a spool here, oldest first."""
    try:
        with os.scandir(spool) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name != BAD_DIRECTORY and entry.name[0] != "." and entry.is_dir()
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(names)


def owner_is_alive(directory: Path) -> bool:
    """Tell whether the process that writes into this directory still runs.

    The kernel lets go of the lock on the owner file when the process ends in whatever way.
    """
    try:
        descriptor = os.open(directory / OWNER_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)


@dataclass
class Chunk:
    """What one read of a segment gave."""

    records: list[SpanRecord]
    end_offset: int
    """Where the next read begins."""
    bad_lines: list[bytes]
    newer_version: bool = False


def is_of_newer_version(directory: Path) -> bool:
    """Tell whether a newer autotrace has written a process's spool, which is then left to it."""
    try:
        return any(
            read_chunk(segment, 0, max_bytes=1024, complete=False).newer_version
            for segment in segments_of(directory)[:1]
        )
    except FileNotFoundError:
        return False  # whoever drains has just stored it


def read_chunk(path: Path, offset: int, *, max_bytes: int, complete: bool) -> Chunk:
    """Read whole records from a segment.

    Args:
        path: The segment.
        offset: Where to begin, in bytes; the end_offset of the read before.
        max_bytes: About how much to read at once; one record beyond it is still read whole.
        complete: Whether nothing will be added any more: then an unfinished last line is damage,
            and otherwise a write under way, left for the next read.

    Returns:
        The records in order, where to go on, and the lines that are damaged.
    """
    chunk = Chunk(records=[], end_offset=offset, bad_lines=[])
    with path.open("rb") as file:
        file.seek(offset)
        for line in _lines(file.read, max_bytes):
            if not line.endswith(b"\n"):
                if complete or len(line) >= MAX_RECORD_BYTES:
                    chunk.end_offset += len(line)
                    chunk.bad_lines.append(line[:4096])
                break
            chunk.end_offset += len(line)
            if line.isspace():  # purged, or what closes a line that was cut short
                continue
            record = decode_line(line[:-1])
            if record is None:
                chunk.bad_lines.append(line)
            elif "autotrace_spool" in record:
                if record["autotrace_spool"] > SPOOL_VERSION:
                    chunk.newer_version = True
                    chunk.end_offset = offset
                    break
            else:
                chunk.records.append(cast("SpanRecord", record))
    return chunk


def _lines(read: Callable[[int], bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield lines of about max_bytes in all, the last without its newline if it is unfinished."""
    data = read(max_bytes)
    while data and b"\n" not in data[-max_bytes:] and len(data) < MAX_RECORD_BYTES:
        more = read(max_bytes)
        if not more:
            break
        data += more
    end = data.rfind(b"\n") + 1
    if end:
        yield from data[:end].splitlines(keepends=True)
    elif data:
        yield data
