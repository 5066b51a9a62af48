"""Storing: batch after batch until nothing is left, whatever fails on the way.

* A store that fails is tried again after 0.5 s, doubling up to 30 s; nothing is lost meanwhile.
* Records that the store refuses for what they hold are quarantined at once, and them alone
  (traces/batch_groups.py); `quarantine.py` tries them again.
* While another process drains, this one only looks on.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Final

from autotrace.base.health_counters import HealthCounters
from autotrace.errors import EmbeddingSpaceError, StoreVersionError
from autotrace.worker.batch_selection import BatchLimits
from autotrace.worker.quarantine import set_aside_fix
from autotrace.worker.spool_reader import Drainer

POLL_S: Final = 0.2
"""How often to look for records of other processes."""
FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 30.0


class StoreLoop(ABC):
    """Stores what a spool directory holds. For one thread at a time.

    Args:
        drainer: Knows what is to be stored, and stores a batch of it.
        counters: Where failures are counted and noted.
        store: Name of the store, for what is noted.
        linger_s: How long to look for more once nothing is left, in seconds.
    """

    def __init__(
        self, drainer: Drainer, counters: HealthCounters, store: str, linger_s: float
    ) -> None:
        self.drainer = drainer
        self.counters = counters
        self._store = store
        self._linger_s = linger_s

    def run(self) -> None:
        """Store until nothing is left, or it is to end."""
        backoff_s = FIRST_BACKOFF_S
        worked_at_s = time.monotonic()
        self.wait_for_batch()
        while not self.is_closing():
            began_at_s = time.monotonic()
            try:
                stored = self._step()
                backoff_s = FIRST_BACKOFF_S
            except Exception as error:  # noqa: BLE001 - whatever it was, the batch is tried again
                if self.is_closing():
                    return  # the interpreter is going, and what is not stored is on disk
                self.counters.add("export_failures")
                self.counters.record_failure(
                    "export", f"not stored yet, trying again: {error}", error
                )
                # To wait for a store of another version or embedder is of no use.
                self.failed(is_final=isinstance(error, StoreVersionError | EmbeddingSpaceError))
                self.backoff(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                worked_at_s = time.monotonic()
                continue
            self.on_batch(stored)
            if stored:
                worked_at_s = time.monotonic()
                if self.drainer.has_more:
                    self.throttle(worked_at_s - began_at_s)
                else:
                    self.wait_for_batch()
            elif not self.awaits_more() and time.monotonic() - worked_at_s > self._linger_s:
                return
            else:
                self.poll()

    def _step(self) -> int:
        try:
            return self.drainer.step(self.limits()) if self.drainer.acquire() else 0
        finally:
            while self.drainer.refused:
                self._report(*self.drainer.refused.pop(0))

    def _report(self, number: int, error: Exception) -> None:
        self.counters.add("unstored_records", number)
        message = f"the store refused {number} records, which are set aside: {error}; "
        fix = f"`{set_aside_fix(self._store)}` tries them again"
        self.counters.record_failure("set aside", message + fix, error)

    @abstractmethod
    def is_closing(self) -> bool:
        """Tell whether to end as soon as can be."""

    @abstractmethod
    def awaits_more(self) -> bool:
        """Tell whether something is known to be recorded and not stored, though none was found."""

    @abstractmethod
    def limits(self) -> BatchLimits:
        """Return how large the next batch may be."""

    @abstractmethod
    def wait_for_batch(self) -> None:
        """Wait for records to be stored together, unless somebody waits for them."""

    @abstractmethod
    def throttle(self, took_s: float) -> None:
        """Leave the program some time after a batch that took so many seconds."""

    @abstractmethod
    def poll(self) -> None:
        """Wait before the next look for records."""

    @abstractmethod
    def backoff(self, seconds: float) -> None:
        """Wait before another attempt."""

    @abstractmethod
    def on_batch(self, stored: int) -> None:
        """Take note of a batch with so many records; 0: there was nothing to store."""

    @abstractmethod
    def failed(self, *, is_final: bool) -> None:
        """Take note of a failure, and perhaps let others try; a final one lasts."""
