"""Limits on each API key: requests, bytes in memory, turns for batches."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio

from autotrace.errors import LimitExceededError

_RETRY_AFTER_S: Final = 1.0

_Queue = deque[anyio.Event]


class RateLimiter:
    """Buckets of tokens, filled at a steady rate. Any thread may use it.

    Args:
        per_second: Requests a second in the long run; 0: no limit.
        burst: Requests at once after a pause.
        clock_s: Returns the time in seconds.
    """

    def __init__(
        self, per_second: float, burst: int, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock_s = clock_s
        self._lock = threading.Lock()
        # Only valid keys that were used have an entry, so their number bounds it.
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key_id: str) -> None:
        """Count a request; raise LimitExceededError if no token is left."""
        if not self._per_second:
            return
        with self._lock:
            tokens = self._tokens(key_id)
            if tokens >= 1:
                self._buckets[key_id] = (tokens - 1, self._clock_s())
                return
        self._refuse(tokens)

    def spend(self, key_id: str, requests: int) -> None:
        """Count the cost of a running request as that of so many more.

        The bucket may then lack tokens, which must come in before the key's next request.
        """
        if not self._per_second or not requests:
            return
        with self._lock:
            self._buckets[key_id] = (self._tokens(key_id) - requests, self._clock_s())

    def check(self, key_id: str) -> None:
        """Raise LimitExceededError if the key has spent more tokens than it had."""
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


class Held:
    """Bytes of bodies in memory, by key. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def by(self, key_id: str) -> Generator[Callable[[int], None]]:
        """Yield a function that counts bytes until this context ends.

        The function raises LimitExceededError if the key holds too many.
        """
        mine = 0

        def hold(size_bytes: int) -> None:
            nonlocal mine
            if self._bytes[key_id] + size_bytes > self._max_bytes:
                msg = f"the requests of this key hold {self._max_bytes} bytes already"
                raise LimitExceededError(msg, _RETRY_AFTER_S)
            mine += size_bytes
            self._bytes[key_id] += size_bytes

        try:
            yield hold
        finally:
            self._bytes[key_id] -= mine
            if not self._bytes[key_id]:
                del self._bytes[key_id]


class Turns:
    """Turns to read a batch: one for each key, tenants and keys in rotation.

    For one event loop.

    Args:
        at_once: Number of turns at the same time.
        max_waiting: Number of requests of one key that may wait.
    """

    def __init__(self, at_once: int, max_waiting: int) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._running: dict[str, str] = {}
        """The tenant of each key that has a turn."""
        # The tenant, and of it the key, that was longest without a turn comes first.
        self._waiting: OrderedDict[str, OrderedDict[str, _Queue]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, tenant: str, key_id: str) -> AsyncGenerator[None]:
        """Wait for a turn of a key, and keep it until this context ends.

        Raises:
            LimitExceededError: Too many requests of the key wait already.
        """
        queue = self._waiting.setdefault(tenant, OrderedDict()).setdefault(key_id, deque())
        if len(queue) >= self._max_waiting:
            msg = f"{self._max_waiting} batches of this key wait already"
            raise LimitExceededError(msg, _RETRY_AFTER_S)
        mine = anyio.Event()
        queue.append(mine)
        try:
            self._start()
            await mine.wait()
            yield
        finally:
            if mine.is_set():
                del self._running[key_id]
                self._start()
            else:
                queue.remove(mine)
                self._drop_empty(tenant, key_id)

    def _start(self) -> None:
        """Start as many turns as there is room for."""
        while len(self._running) < self._at_once and (found := self._next()):
            tenant, key_id = found
            keys = self._waiting[tenant]
            keys[key_id].popleft().set()
            self._running[key_id] = tenant
            keys.move_to_end(key_id)
            self._waiting.move_to_end(tenant)
            self._drop_empty(tenant, key_id)

    def _next(self) -> tuple[str, str] | None:
        """Return tenant and key of the next turn; tenants without one go first."""
        busy = set(self._running.values())
        for tenant, keys in sorted(self._waiting.items(), key=lambda item: item[0] in busy):
            for key_id in keys:
                if key_id not in self._running:
                    return tenant, key_id
        return None

    def _drop_empty(self, tenant: str, key_id: str) -> None:
        keys = self._waiting[tenant]
        if not keys[key_id]:
            del keys[key_id]
        if not keys:
            del self._waiting[tenant]
