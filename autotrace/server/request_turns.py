"""Whose batch is read next: one at a time of each key, tenants and keys by turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from autotrace.errors import LimitExceededError

_RETRY_AFTER_S = 1.0

_Queue = deque[anyio.Event]


class Turns:
    """Hands out turns. For one event loop.

    Args:
        at_once: How many turns there are at the same time.
        max_waiting: How many requests of one key may wait.
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
        """Wait for a turn of a key, and keep it as long as this context lasts.

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
        """Begin as many turns as there is room for."""
        while len(self._running) < self._at_once:
            found = self._next()
            if found is None:
                return
            tenant, key_id = found
            keys = self._waiting[tenant]
            keys[key_id].popleft().set()
            self._running[key_id] = tenant
            keys.move_to_end(key_id)
            self._waiting.move_to_end(tenant)
            self._drop_empty(tenant, key_id)

    def _next(self) -> tuple[str, str] | None:
        """Return the tenant and the key whose turn it is: of a tenant without a turn, if any."""
        busy = set(self._running.values())
        for may_be_busy in (False, True):
            for tenant, keys in self._waiting.items():
                if (tenant in busy) is not may_be_busy:
                    continue
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
