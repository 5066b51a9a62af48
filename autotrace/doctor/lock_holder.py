"""Who holds a lock file."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import lock_descriptor


def lock_holder(path: Path) -> str | None:
    """Return who holds a lock file, in words; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if lock_descriptor(descriptor, blocking=False):
            return None
        inode = os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
    return _process_with_lock(inode)


def _process_with_lock(inode: int) -> str:
    """Name the process that has locked a file, where the system tells (Linux)."""
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                name = Path(f"/proc/{fields[4]}/comm").read_text(encoding="utf-8").strip()
                return f"process {fields[4]} ({name})"
    except (OSError, IndexError):
        pass  # not Linux, or the process has just ended, or lives in another container
    return "another process"
