"""Store batch after batch until none is left; retry after failures.

* After a failure of the store the loop retries the batch after 0.5 s, doubling up to 30 s.
* The drainer quarantines records that the store refuses for their content, without the rest of
  their batch (quarantine.py).
* While another process holds `drain.lock`, the loop stores nothing and polls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from autotrace.base.health_counters import HealthCounters
from autotrace.errors import EmbeddingSpaceError, StoreVersionError
from autotrace.worker.batch_selection import BatchLimits
from autotrace.worker.quarantine import set_aside_fix, set_aside_records
from autotrace.worker.spool_reader import Drainer

POLL_S: Final = 0.2
"""Interval of polling for records of other processes."""
FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 30.0


class Pause(Enum):
    """Name the reason why the loop waits."""

    GATHER = "gather"
    """For more records to store together; a waiting caller ends the pause."""
    REST = "rest"
    """To leave the interpreter to the program; `seconds` is the duration of the batch."""
    POLL = "poll"
    """For the next poll, because there was nothing to store."""
    BACKOFF = "backoff"
    """Before a retry; a rebuild ends the pause, a waiting caller does not."""


@dataclass(frozen=True)
class Schedule:
    """Define the limits and pauses of a storing loop.

    The loop calls all functions on its own thread.
    """

    flush_interval_s: float
    linger_s: float
    """Time after the last batch at which an idle loop ends."""
    wait: Callable[[Pause, float], BatchLimits]
    """Wait about that many seconds; return the limits of the next batch."""
    is_closing: Callable[[], bool]
    """Return whether the loop must end, even if records are left."""
    on_batch: Callable[[int], None]
    """Report the size of a stored batch; 0: there was nothing to store."""
    on_failure: Callable[[bool], None]
    """Report a failed batch; True: retries fail, too (version or embedding space)."""
    awaits_more: Callable[[], bool] = lambda: False
    """Return whether records are left, which another process may be storing."""


def store_until_idle(
    drainer: Drainer, counters: HealthCounters, store: str, schedule: Schedule
) -> None:
    """Store until no record is left, or the schedule ends the loop.

    Args:
        drainer: Stores batches; used by this loop alone.
        counters: Count and name failures.
        store: Name of the store, for messages.
        schedule: The limits and the waiting.
    """
    backoff_s = FIRST_BACKOFF_S
    worked_at_s = time.monotonic()
    limits = schedule.wait(Pause.GATHER, schedule.flush_interval_s)
    while not schedule.is_closing():
        began_at_s = time.monotonic()
        try:
            stored = _store_batch(drainer, counters, store, limits)
        except Exception as error:  # noqa: BLE001 - the batch is retried after any error
            if schedule.is_closing():
                return  # the interpreter shuts down; the records are on disk
            counters.add("export_failures")
            counters.record_failure("export", f"not stored yet, trying again: {error}", error)
            schedule.on_failure(isinstance(error, StoreVersionError | EmbeddingSpaceError))
            limits = schedule.wait(Pause.BACKOFF, backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            worked_at_s = time.monotonic()
            continue
        backoff_s = FIRST_BACKOFF_S
        schedule.on_batch(stored)
        if stored:
            worked_at_s = time.monotonic()
            if drainer.has_more:
                limits = schedule.wait(Pause.REST, worked_at_s - began_at_s)
            else:
                limits = schedule.wait(Pause.GATHER, schedule.flush_interval_s)
        elif not schedule.awaits_more() and time.monotonic() - worked_at_s > schedule.linger_s:
            return
        else:
            limits = schedule.wait(Pause.POLL, POLL_S)


def _store_batch(
    drainer: Drainer, counters: HealthCounters, store: str, limits: BatchLimits
) -> int:
    try:
        return drainer.step(limits) if drainer.acquire() else 0
    finally:
        while drainer.refused:
            number, error = drainer.refused.pop(0)
            counters.add("unstored_records", number)
            message = f"the store refused {set_aside_records(number)} set aside: {error}; "
            fix = f"`{set_aside_fix(store)}` tries them again"
            counters.record_failure("set aside", message + fix, error)
