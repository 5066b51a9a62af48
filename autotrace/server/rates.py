"""How many requests a key may make: a bucket of tokens for each, filled at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from autotrace.errors import LimitExceededError


class Rates:
    """Counts the requests of each key. Any thread may use it.

    Args:
        per_second: How many in the long run; 0: any number.
        burst: How many at once, after a pause.
        clock_s: Tells the time, in seconds.
    """

    def __init__(
        self, per_second: float, burst: int, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock_s = clock_s
        self._lock = threading.Lock()
        # One entry for each valid key that was used: their number is that of the keys.
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str) -> None:
        """Count a request.

        Raises:
            LimitExceededError: It is one too many; says when there may be another one.
        """
        if not self._per_second:
            return
        with self._lock:
            now_s = self._clock_s()
            tokens, at_s = self._buckets.get(key_id, (float(self._burst), now_s))
            tokens = min(float(self._burst), tokens + (now_s - at_s) * self._per_second)
            if tokens >= 1:
                self._buckets[key_id] = (tokens - 1, now_s)
                return
            self._buckets[key_id] = (tokens, now_s)
        msg = f"this key makes more than {self._per_second:g} requests a second"
        raise LimitExceededError(msg, (1 - tokens) / self._per_second)
