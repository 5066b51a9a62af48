"""The lock of a spool directory: its holder stores for all processes, or keeps them from it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from autotrace.errors import StoreUnavailableError

LOCK_FILE: Final = "drain.lock"
GIVE_WAY_FILE: Final = "give-way"
GIVE_WAY_S: Final = 1.0
"""How long a process that was asked for the lock leaves it to others."""
DRAIN_LOCK_TIMEOUT_S: Final = 30.0
"""How long to wait for the lock; a large batch takes some seconds."""


def _ask_to_give_way(spool: Path) -> None:
    """Ask the process that stores to release `drain.lock` soon, though more may wait."""
    with contextlib.suppress(OSError):  # without it, the lock is released after a long idle time
        (spool / GIVE_WAY_FILE).touch(mode=0o600)


def handover_requested_ns(spool: Path) -> int:
    """Return the time of the last request; 0 for never."""
    try:
        return (spool / GIVE_WAY_FILE).stat().st_mtime_ns
    except OSError:
        return 0


@contextlib.contextmanager
def exclusive_drain_lock(spool: Path, timeout_s: float) -> Generator[None]:
    """Keep every process from storing; do nothing without a spool directory.

    Raises:
        StoreUnavailableError: The lock is not released within `timeout_s` seconds.
    """
    if not spool.is_dir():
        yield
        return
    lock = FileLock(spool / LOCK_FILE, thread_local=False, mode=0o600)
    deadline_s = time.monotonic() + timeout_s
    while not lock.is_locked:
        # At each turn, since another process may have begun to store.
        _ask_to_give_way(spool)
        try:
            lock.acquire(timeout=GIVE_WAY_S / 2)
        except Timeout:
            if time.monotonic() > deadline_s:
                msg = (
                    f"another process has been storing from {spool} for {timeout_s:g} s: stop it, "
                    "or try again when it is idle (`autotrace doctor` says which it is)"
                )
                raise StoreUnavailableError(msg) from None
    try:
        yield
    finally:
        lock.release()
