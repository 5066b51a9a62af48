"""How much a key may ask for: a bucket of tokens for each, filled at a steady rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from autotrace.errors import LimitExceededError


class RateLimiter:
    """Counts what each key asks for, in requests. Any thread may use it.

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
            tokens = self._tokens(key_id)
            if tokens >= 1:
                self._buckets[key_id] = (tokens - 1, self._clock_s())
                return
        self._refuse(tokens)

    def spend(self, key_id: str, requests: int) -> None:
        """Count that a request has cost as much as so many more, known once it is under way.

        The bucket may then lack tokens, which have to come in before the key's next request.
        """
        if not self._per_second or not requests:
            return
        with self._lock:
            self._buckets[key_id] = (self._tokens(key_id) - requests, self._clock_s())

    def check(self, key_id: str) -> None:
        """Raise if the key has spent more than it may.

        Raises:
            LimitExceededError: It has; says when there may be another request.
        """
        if not self._per_second:
            return
        with self._lock:
            tokens = self._tokens(key_id)
        if tokens < 0:
            self._refuse(tokens)

    def _tokens(self, key_id: str) -> float:
        now_s = self._clock_s()
        tokens, at_s = self._buckets.get(key_id, (float(self._burst), now_s))
        return min(float(self._burst), tokens + (now_s - at_s) * self._per_second)

    def _refuse(self, tokens: float) -> None:
        msg = (
            f"this key asks for more than {self._per_second:g} requests a second,"
            " to which large bodies, spans and new traces are added"
        )
        raise LimitExceededError(msg, (1 - tokens) / self._per_second)
