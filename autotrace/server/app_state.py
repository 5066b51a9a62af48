"""What one worker serves: the parts that every route has in common."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import anyio
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from autotrace.decisions.policies import import_policies
from autotrace.errors import NotAuthenticatedError, StoreError
from autotrace.memory import Memory
from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.auth.principal import Principal
from autotrace.server.decision_api import DecisionApi
from autotrace.server.metrics import Metrics
from autotrace.server.rate_limits import RateLimiter
from autotrace.server.remote_traces import TraceService
from autotrace.server.request_turns import Turns
from autotrace.server.tenants import Tenant, Tenants
from autotrace.settings import ServerSettings, Settings
from autotrace.worker.exporter import choose_embedding

if TYPE_CHECKING:
    from autotrace.embedding.choice import Embedding


_log = logging.getLogger("autotrace.server")

_LOOK_AGAIN_S: Final = 1.0
_BATCHES_AT_ONCE: Final = 2
"""Batches of spans that are read at once: the largest may take 700 MB of memory each."""
_BATCHES_WAITING: Final = 100
"""Batches of one key that wait for their turn to be read."""


class StoreCheck:
    """Looks whether the store answers: once a second, however often it is asked.

    Args:
        keys: Lie in the store.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._looked_s = -_LOOK_AGAIN_S
        self._is_reachable = False

    def is_reachable(self) -> bool:
        """Tell whether the store answers. Not on the event loop."""
        with self._lock:
            if time.monotonic() - self._looked_s >= _LOOK_AGAIN_S:
                self._is_reachable = self._look()
                self._looked_s = time.monotonic()
            return self._is_reachable

    def _look(self) -> bool:
        try:
            self._keys.refresh()
        except StoreError as error:
            _log.warning("the store does not answer: %s", error)
            return False
        return True


class AppState:
    """The keys, the tenants and the limits of one worker.

    Args:
        settings: Name the store.
        server: What the server was told.
        embedding: Of the store; None: the one that the settings name.

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
        traces = TraceService(
            memory,
            max_open_per_key=self.server.max_open_traces,
            signer_of_key=self.keys.signer,
        )
        return Tenant(name, memory, traces, DecisionApi(memory))

    @contextmanager
    def lease(self, caller: Principal) -> Generator[Tenant]:
        """Use what is the caller's tenant's: traces, decisions, memory. Not on the event loop.

        Raises:
            StoreError: It cannot be opened.
        """
        with self.tenants.lease(caller.tenant) as tenant:
            yield tenant

    def spend(self, caller: Principal, size_bytes: int, spans: int = 0, traces: int = 0) -> None:
        """Count in a key's rate what a request has cost beyond itself.

        Args:
            caller: Whose key.
            size_bytes: How many bytes it has sent, been sent, or had unpacked.
            spans: How many spans were read.
            traces: How many of them open a trace, which costs what a request to open one does.
        """
        server = self.server
        requests = size_bytes // server.bytes_per_request + spans // server.spans_per_request
        self.rates.spend(caller.key_id, requests + traces)

    def recognise(self, presented: str | None) -> Principal:
        """Return whom a key stands for.

        Args:
            presented: The key; None: there was none.

        Raises:
            NotAuthenticatedError: It is none, unknown, or revoked.
            StoreError: The keys cannot be read.
        """
        principal = None if presented is None else self.keys.authenticate(presented)
        if principal is None:
            raise NotAuthenticatedError
        return principal

    def stop(self, timeout_s: float) -> bool:
        """Store what is left, as far as time allows, and let go of everything.

        Returns:
            Whether everything is stored. What is not is on disk, and is stored at the next start.
        """
        deadline_s = time.monotonic() + timeout_s
        done = self.tenants.stop(timeout_s)
        if time.monotonic() < deadline_s:
            self.save_uses()
        self.keys.close()
        return done

    def save_uses(self) -> None:
        """Store when keys were last used, or say why not."""
        try:
            self.keys.save_uses()
        except Exception as error:  # noqa: BLE001 - no reason for a server to end
            _log.warning("when keys were used is not stored yet: %s", error)


def served_by(connection: HTTPConnection) -> AppState:
    """Return what the application that answers a request serves."""
    served: AppState = connection.app.state.served
    return served


async def _here(request: Request) -> AppState:
    return served_by(request)


State = Annotated[AppState, Depends(_here)]
"""The parameter of a route that has what is served."""
