"""Counters of dropped, cut and failed records, each kind logged once."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Final

logger = logging.getLogger("autotrace")

DROPPED_SPANS: Final = frozenset(
    {"dropped_spans", "dropped_spool_error", "dropped_spool_full", "dropped_too_large"}
)
"""Counters of spans that are in no spool, and so never get into the store."""
_SAY_AGAIN_S = 600.0
"""A kind of failure that lasts is logged again after this time."""


class HealthCounters:
    """Counts by name; any thread may count at any time."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._said_at_s: dict[str, float] = {}
        self._last_error: str | None = None

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += number

    def record_failure(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Keep a failure as the last one, and log it unless its kind was logged lately."""
        now_s = time.monotonic()
        with self._lock:
            self._last_error = message
            said_at_s = self._said_at_s.get(kind)
            if said_at_s is not None and now_s - said_at_s < _SAY_AGAIN_S:
                return
            self._said_at_s[kind] = now_s
        logger.warning("%s", message)
        if error is not None:
            logger.debug("the failure noted above", exc_info=error)

    def snapshot(self) -> dict[str, int]:
        """Return all counts by name."""
        with self._lock:
            return dict(self._counts)

    def dropped(self) -> int:
        """Return how many spans were not recorded."""
        with self._lock:
            return sum(n for name, n in self._counts.items() if name in DROPPED_SPANS)

    @property
    def last_error(self) -> str | None:
        """The latest failure in words, or None."""
        return self._last_error

    def reset_after_fork(self) -> None:
        """In a forked child: the lock may have been held by a thread that is not there."""
        self._lock = threading.RLock()
