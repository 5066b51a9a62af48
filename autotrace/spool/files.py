r"""The files of a spool: where they lie, and how they are read.

Layout of a spool directory::

    <spool>/<process>/owner        locked by the process while it lives
    <spool>/<process>.<lane>/      the same, of one sender for whom it records (see lanes.py)
    <spool>/<process>/00000001.log segments; a full one is followed by the next
    <spool>/bad/                   unreadable and refused records, in quarantine
    <spool>/cursor.json            how far each segment has been stored (see cursor.py)
    <spool>/drain.lock             held by the one process that stores for all of them

A segment is text: one line per record, `<crc32, 8 hex digits> <JSON>\n`, the first a header. JSON
has no raw newline, so after a damaged line reading goes on at the next. JSON has no NUL byte
either: behind the last record a segment may be allocated, and reads as NUL bytes. The next segment
may be there before this one is full; it has begun once its first byte is not NUL, and then nothing
is added to this one any more.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson
from filelock import lock_descriptor

from autotrace.spool.span_records import SpanRecord

SPOOL_VERSION: Final = 2
"""2: segments are allocated ahead of their records; 1: they grow."""
OWNER_FILE: Final = "owner"
BAD_DIRECTORY: Final = "bad"
SEGMENT_SUFFIX: Final = ".log"
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
"""A longer line is neither written nor read: it is counted, and quarantined if found."""
_READ_BYTES: Final = 1024 * 1024
_NUL: Final = b"\0"


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
        body = orjson.dumps(_to_plain_json(record), default=_default)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _to_plain_json(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_to_plain_json(str(key)): _to_plain_json(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_to_plain_json(item) for item in cast("list[Any]", value)]
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
    """Return whether the process that writes into this directory still runs.

    The kernel releases the lock on the owner file however the process ends.
    """
    try:
        descriptor = os.open(directory / OWNER_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)


def segment_path(directory: Path, number: int) -> Path:
    """Return the file of a segment of a process."""
    return directory / f"{number:08d}{SEGMENT_SUFFIX}"


def begun_segments_of(directory: Path) -> list[Path]:
    """Return the segments in a process's directory to which anything was written, oldest first."""
    segments = segments_of(directory)
    while segments and not _has_begun(segments[-1]):  # at most one is prepared
        segments.pop()
    return segments


def size_bytes_of(directory: Path) -> int:
    """Return how much the segments in a process's directory take up."""
    total = 0
    for path in segments_of(directory):
        with contextlib.suppress(FileNotFoundError):  # the draining process has just stored it
            total += path.stat().st_size
    return total


def _has_begun(path: Path) -> bool:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(1) not in (b"", _NUL)
    except FileNotFoundError:  # the draining process has just stored it
        return False


def written_bytes(path: Path) -> int:
    """Return how far a segment is written."""
    with path.open("rb", buffering=0) as file:
        low, high = 0, file.seek(0, os.SEEK_END)

        def is_written(offset: int) -> bool:
            file.seek(offset)
            return file.read(1) != _NUL

        if high and is_written(high - 1):
            return high
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if is_written(middle) else (low, middle)
        return low


@dataclass
class Chunk:
    """The result of one read of a segment."""

    records: list[SpanRecord]
    end_offset: int
    """Where the next read begins."""
    bad_lines: list[bytes]
    newer_version: bool = False


def is_of_newer_version(directory: Path) -> bool:
    """Return whether a newer autotrace has written a process's spool, which is then left to it."""
    try:
        return any(
            read_chunk(segment, 0, max_bytes=1024, complete=False).newer_version
            for segment in segments_of(directory)[:1]
        )
    except FileNotFoundError:
        return False  # the draining process has just stored it


def read_chunk(
    path: Path, offset: int, *, max_bytes: int, complete: bool, max_records: int | None = None
) -> Chunk:
    """Read whole records from a segment.

    Args:
        path: The segment.
        offset: Where to begin, in bytes; the end_offset of the read before.
        max_bytes: About how much to read at once; one record beyond it is still read whole.
        complete: Whether nothing will be added any more: then an unfinished last line is damage,
            and otherwise a write under way, left for the next read.
        max_records: How many records to read at most.
    """
    chunk = Chunk(records=[], end_offset=offset, bad_lines=[])
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        data = _read(file, max_bytes, complete=complete)
    end = data.rfind(b"\n") + 1
    for line in data[:end].splitlines(keepends=True) if end else filter(None, [data]):
        if len(chunk.records) == max_records:
            break
        if not line.endswith(b"\n"):
            if complete or len(line) >= MAX_RECORD_BYTES:
                chunk.end_offset += len(line)
                chunk.bad_lines.append(line[:4096])
            break
        chunk.end_offset += len(line)
        # A power cut leaves NUL bytes in place of records, and perhaps the beginning of one.
        before, _, text = line.rpartition(_NUL)
        record = decode_line(text[:-1])
        damaged = (line if record is None else before).strip(_NUL)
        if damaged.strip():  # spaces alone were purged, or close a line that was cut short
            chunk.bad_lines.append(damaged)
        if record is None:
            continue
        if "autotrace_spool" in record:
            if record["autotrace_spool"] > SPOOL_VERSION:
                chunk.newer_version = True
                chunk.end_offset = offset
                break
        else:
            chunk.records.append(cast("SpanRecord", record))
    return chunk


def _read(file: BinaryIO, max_bytes: int, *, complete: bool) -> bytes:
    """Read so many bytes, and on to the end of a line; nothing that is not written yet."""
    data = bytearray()
    wanted = max_bytes
    while len(data) < wanted:
        block = file.read(min(_READ_BYTES, wanted - len(data)))
        if not block:
            return bytes(data.rstrip(_NUL))
        if not complete and (end := block.find(_NUL)) >= 0:
            return bytes(data + block[:end])
        data += block
        if len(data) == wanted < MAX_RECORD_BYTES and b"\n" not in data[-max_bytes:]:
            wanted += max_bytes
    return bytes(data)
