"""Segments: the files of a spool that one process writes records to.

Where the file system allows it, a segment is allocated whole and mapped into memory before its
first record. A record is then a copy into the page cache: no system call, so nothing that blocks
an event loop, and as safe from `kill -9` as a write. Space not written yet reads as NUL bytes,
which no record has, so that a reader finds the end of the records.

Elsewhere records are written by `os.write`, from a helper thread where an event loop runs.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final

from typing_extensions import override

from autotrace.base.event_loops import off_loop

OPEN_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)

_MOUNTS: Final = Path("/proc/self/mountinfo")
_MAPPABLE: Final = frozenset({"ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs"})
"""File systems that keep allocated space for the file it was allocated for. On others (btrfs, NFS,
FUSE) the kernel may find no room, or no server, when a mapped page is written, and it would end the
program with SIGBUS where a write returns an error."""


class Segment(ABC):
    """One file of a process's spool, to which any thread may write at any time."""

    write: Callable[[bytes], object]
    """Append all of some data.

    It raises ValueError if that does not fit, or the segment is sealed or closed, and OSError if
    the disk does not take it."""

    def __init__(self, descriptor: int, number: int, size_bytes: int) -> None:
        self.number = number
        self.size_bytes = size_bytes
        self._descriptor = descriptor

    @abstractmethod
    def written_bytes(self) -> int:
        """Return how much is written."""

    @abstractmethod
    def seal(self) -> None:
        """Refuse every further write."""

    @abstractmethod
    def close(self, *, keep_size: bool = False) -> None:
        """Close the file; cut off unwritten space, but not of another process's file."""

    def is_deleted(self) -> bool:
        """Return whether somebody has deleted the file."""
        return os.fstat(self._descriptor).st_nlink == 0

    def _close_file(self, cut_at: int | None) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if cut_at is not None:
                os.ftruncate(descriptor, cut_at)
            os.close(descriptor)


class MappedSegment(Segment):
    """A segment in memory that is shared with the file; raises OSError if the disk is full.

    `mmap.write` copies and advances in one step under the interpreter lock, so no other thread,
    signal handler or finaliser runs in between.
    """

    def __init__(self, descriptor: int, number: int, size_bytes: int) -> None:
        super().__init__(descriptor, number, size_bytes)
        os.posix_fallocate(descriptor, 0, size_bytes)
        self._map = mmap.mmap(descriptor, size_bytes)
        self._sealed_at: int | None = None
        self.write = self._map.write

    @override
    def written_bytes(self) -> int:
        return self._map.tell() if self._sealed_at is None else self._sealed_at

    @override
    def seal(self) -> None:
        if self._sealed_at is not None:
            return
        at = self._map.tell()
        self._map.seek(0, os.SEEK_END)  # no later write fits
        # Another thread may have written between the two.
        end = self._map.find(b"\0", at)
        self._sealed_at = self.size_bytes if end < 0 else end

    @override
    def close(self, *, keep_size: bool = False) -> None:
        self.seal()
        self._map.close()
        self._close_file(None if keep_size else self._sealed_at)


class PlainSegment(Segment):
    """A segment that is written by system calls, and grows with each."""

    def __init__(self, descriptor: int, number: int, size_bytes: int) -> None:
        super().__init__(descriptor, number, size_bytes)
        # Reentrant: a signal handler or a finaliser may record while the same thread is writing.
        self._lock = threading.RLock()
        self._written_bytes = 0
        self._is_sealed = False
        self._is_torn = False
        self.write = self._write

    def _write(self, data: bytes) -> None:
        with self._lock:
            if self._is_sealed or self._written_bytes + len(data) > self.size_bytes:
                raise ValueError("the segment is full")
            off_loop(lambda: self._write_all(data))
            self._written_bytes += len(data)

    def _write_all(self, data: bytes) -> None:
        if self._is_torn:  # a line that was cut short is closed before the next one
            data = b"\n" + data
        self._is_torn = True
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, data[written:])
        self._is_torn = False

    @override
    def written_bytes(self) -> int:
        return self._written_bytes

    @override
    def seal(self) -> None:
        with self._lock:
            self._is_sealed = True

    @override
    def close(self, *, keep_size: bool = False) -> None:
        self._is_sealed = True  # without the lock, which a thread of the parent may have held
        self._close_file(None)


def open_segment(path: Path, number: int, size_bytes: int) -> Segment:
    """Make the file of a segment, or use an empty one of this name.

    Raises:
        OSError: It cannot be made, or the disk has no room for it.
    """
    descriptor = os.open(path, OPEN_FLAGS, 0o600)
    try:
        if is_mappable(path.parent):
            return MappedSegment(descriptor, number, size_bytes)
        return PlainSegment(descriptor, number, size_bytes)
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)  # releases space allocated before the disk was full
        os.close(descriptor)
        raise


def is_mappable(directory: Path) -> bool:
    """Return whether files in a directory can be written through memory without risk."""
    if not hasattr(os, "posix_fallocate"):
        return False
    return file_system_of(directory.stat().st_dev) in _MAPPABLE


@functools.cache
def file_system_of(device: int) -> str | None:
    """Return the type of the file system of a device; None where it cannot be found out."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for mount in mounts:
        # 36 35 98:0 /root /mnt options optional… - ext4 /dev/sda1 options
        before, _, after = mount.partition(" - ")
        if before.split(" ")[2:3] == [wanted] and after:
            return after.split(" ")[0]
    return None
