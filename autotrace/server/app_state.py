"""The state of one worker, which every route shares."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Final

import anyio
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from autotrace.decisions.policies import import_policies
from autotrace.errors import NotAuthenticatedError, StoreError
from autotrace.memory import Memory
from autotrace.server.access_log import Metrics
from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.auth.principal import Principal
from autotrace.server.limits import RateLimiter, Turns
from autotrace.server.remote_traces import TraceService
from autotrace.server.tenants import Tenant, Tenants
from autotrace.settings import ServerSettings, Settings
from autotrace.worker.wiring import choose_embedding

if TYPE_CHECKING:
    from autotrace.embedding.choice import Embedding

_log = logging.getLogger("autotrace.server")

_STORE_CHECK_S: Final = 1.0
_BATCHES_AT_ONCE: Final = 2
"""Batches of spans read at once: the largest may take 700 MB of memory each."""
_BATCHES_WAITING: Final = 100
"""Batches of one key that wait for their turn to be read."""


class StoreCheck:
    """Checks whether the store answers, at most once a second."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._checked_s = -_STORE_CHECK_S
        self._is_reachable = False

    def is_reachable(self) -> bool:
        """Return whether the store answers. Blocks: not for the event loop."""
        with self._lock:
            if time.monotonic() - self._checked_s >= _STORE_CHECK_S:
                try:
                    self._keys.refresh()
                    self._is_reachable = True
                except StoreError as error:
                    _log.warning("the store does not answer: %s", error)
                    self._is_reachable = False
                self._checked_s = time.monotonic()
            return self._is_reachable


class AppState:
    """The keys, the tenants and the limits of one worker.

    Raises:
        InvalidArgumentError: A module of policies cannot be imported.
    """

    def __init__(
        self, settings: Settings, server: ServerSettings, embedding: Embedding | None = None
    ) -> None:
        import_policies(settings.policies)
        self.settings = settings
        self.server = server
        self.embedding = choose_embedding(settings, embedding)
        self.keys = KeyRing.of(settings)
        self.tenants = Tenants(settings, self._open_tenant, max_open=server.max_tenants)
        self.rates = RateLimiter(server.requests_per_second, server.request_burst)
        self.turns = Turns(_BATCHES_AT_ONCE, _BATCHES_WAITING)
        self.batch_threads = anyio.CapacityLimiter(_BATCHES_AT_ONCE)
        self.metrics = Metrics()
        self.store_check = StoreCheck(self.keys)

    def _open_tenant(self, name: str, settings: Settings) -> Tenant:
        memory = Memory(settings, self.embedding)
        max_open = self.server.max_open_traces
        traces = TraceService(memory, max_open_per_key=max_open, signer_of_key=self.keys.signer)
        return Tenant(name, memory, traces)

    def lease(self, caller: Principal) -> AbstractContextManager[Tenant]:
        """Return the caller's tenant as a context. Not for the event loop.

        Raises:
            StoreError: Its store cannot be opened.
        """
        return self.tenants.lease(caller.tenant)

    def spend(self, caller: Principal, size_bytes: int, spans: int = 0, traces: int = 0) -> None:
        """Count in a key's rate the cost of a request beyond the request itself.

        Args:
            caller: Principal of the key.
            size_bytes: Bytes received, sent or unpacked.
            spans: Number of spans that were read.
            traces: Number of them that open a trace, each of which costs as much as a request.
        """
        server = self.server
        requests = size_bytes // server.bytes_per_request + spans // server.spans_per_request
        self.rates.spend(caller.key_id, requests + traces)

    def recognise(self, presented: str | None) -> Principal:
        """Return the principal of a key.

        Raises:
            NotAuthenticatedError: The key is missing, unknown, or revoked.
            StoreError: The keys cannot be read.
        """
        principal = None if presented is None else self.keys.authenticate(presented)
        if principal is None:
            raise NotAuthenticatedError
        return principal

    def stop(self, timeout_s: float) -> bool:
        """Store the records that wait, while time allows, and close the stores.

        Returns:
            Whether everything is stored. The rest is on disk, and is stored at the next start.
        """
        deadline_s = time.monotonic() + timeout_s
        done = self.tenants.stop(timeout_s)
        if time.monotonic() < deadline_s:
            self.save_uses()
        self.keys.close()
        return done

    def save_uses(self) -> None:
        """Store when keys were last used; log a failure."""
        try:
            self.keys.save_uses()
        except Exception as error:  # noqa: BLE001 - the server runs on without it
            _log.warning("when keys were used is not stored yet: %s", error)


def served_by(connection: HTTPConnection) -> AppState:
    """Return the state of the application that answers a request."""
    served: AppState = connection.app.state.served
    return served


async def _state(request: Request) -> AppState:
    return served_by(request)


State = Annotated[AppState, Depends(_state)]
"""Parameter of a route that receives the state."""
