"""The memories of all tenants that one process serves.

The tenant `default` has the store that the settings name, so that a program that uses the library
and a server share it. Any other has a store of its own: embedded, the folder `tenants/{name}` of
that store; on a Chroma server, the Chroma tenant of that name, so that a program configured with
`chroma_tenant` has the same memory as a key of that tenant.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from autotrace.errors import InvalidArgumentError
from autotrace.server.auth.principal import DEFAULT_TENANT, check_tenant
from autotrace.settings import Settings
from autotrace.store.chroma_tenant import ensure_tenant
from autotrace.store.connection import ServerOptions

if TYPE_CHECKING:
    from autotrace.memory import Memory
    from autotrace.server.decision_api import DecisionApi
    from autotrace.server.remote_traces import TraceService

FOLDER: Final = "tenants"
"""Of an embedded store."""
_IDLE_STOP_TIMEOUT_S: Final = 30.0

_log = logging.getLogger("autotrace.service")


def settings_of(settings: Settings, tenant: str) -> Settings:
    """Return the settings that name the store of a tenant.

    Args:
        settings: Name the store of the default tenant.
        tenant: The tenant.

    Raises:
        InvalidArgumentError: It cannot name one, or is another name of the default tenant's memory.
    """
    if tenant == DEFAULT_TENANT:
        return settings
    check_tenant(tenant)
    # Beside the default tenant's spool, not in it: what drains a spool takes each folder for one
    # process's.
    spool = None if settings.spool is None else f"{settings.spool}-{tenant}"
    if settings.is_embedded:
        place = f"{settings.store}/{FOLDER}/{tenant}"
        return settings.model_copy(update={"store": place, "spool": spool})
    if tenant == settings.chroma_tenant:
        allowed = f"another name: the Chroma tenant {tenant!r} is that of {DEFAULT_TENANT!r}"
        raise InvalidArgumentError("tenant", tenant, allowed)
    return settings.model_copy(update={"chroma_tenant": tenant, "spool": spool})


def prepare(settings: Settings, tenant: str) -> None:
    """Make what must be there before a tenant's memory can be opened: a Chroma tenant.

    Args:
        settings: Name the store of the default tenant.
        tenant: The tenant.

    Raises:
        InvalidArgumentError: The name cannot be a tenant's.
        StoreUnavailableError: The Chroma server does not make it.
    """
    own = settings_of(settings, tenant)
    if not own.is_embedded and tenant != DEFAULT_TENANT:
        ensure_tenant(own.store, ServerOptions.of(own))


@dataclass(frozen=True)
class Tenant:
    """What is served of one tenant."""

    name: str
    memory: Memory
    traces: TraceService
    decisions: DecisionApi

    def stop(self, timeout_s: float) -> bool:
        """Let go of the store; store what is left, as far as time allows, and say whether it is."""
        self.traces.stop()
        return self.memory.stop(timeout_s)


@dataclass
class _Slot:
    """A place for a tenant that is open, or being opened."""

    tenant: Tenant | None = None
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Tenants:
    """Opens the memory of a tenant when it is first asked for. Any thread may use it.

    Args:
        settings: Name the store of the default tenant.
        open_tenant: Makes what is served of a tenant, given its name and the settings of its store.
        max_open: How many to keep open. The one that was longest idle is stopped for another one;
            if all are in use, there is one more for a while.
    """

    def __init__(
        self,
        settings: Settings,
        open_tenant: Callable[[str, Settings], Tenant],
        *,
        max_open: int = 16,
    ) -> None:
        self._settings = settings
        self._open_tenant = open_tenant
        self._max_open = max_open
        self._lock = threading.Lock()
        self._slots: OrderedDict[str, _Slot] = OrderedDict()

    @contextmanager
    def lease(self, name: str) -> Generator[Tenant]:
        """Use a tenant's memory, which is not stopped meanwhile.

        Raises:
            InvalidArgumentError: The name cannot be a tenant's.
            StoreError: It cannot be opened.
        """
        with self._lock:
            slot = self._slots.setdefault(name, _Slot())
            slot.users += 1
            self._slots.move_to_end(name)
        try:
            with slot.lock:
                tenant = slot.tenant
                if tenant is None:
                    tenant = self._open_tenant(name, settings_of(self._settings, name))
                    tenant.memory.start()
                    slot.tenant = tenant
            yield tenant
        finally:
            with self._lock:
                slot.users -= 1
                surplus = self._take_surplus()
            for tenant in surplus:
                # Elsewhere: what it has not stored yet may take a while.
                threading.Thread(
                    target=_stop_idle, args=(tenant,), name="autotrace-idle", daemon=True
                ).start()

    def behind_s(self) -> float:
        """Return for how long nothing was stored of that tenant of which it is longest."""
        with self._lock:
            opened = [slot.tenant for slot in self._slots.values() if slot.tenant is not None]
        return max((tenant.memory.behind_s() for tenant in opened), default=0.0)

    def _take_surplus(self) -> list[Tenant]:
        taken: list[Tenant] = []
        for name, slot in list(self._slots.items()):
            if len(self._slots) <= self._max_open:
                break
            if slot.users == 0:
                del self._slots[name]
                if slot.tenant is not None:
                    taken.append(slot.tenant)
        return taken

    def stop(self, timeout_s: float) -> bool:
        """Stop all of them, and store what is left, as far as time allows.

        Returns:
            Whether everything is stored. What is not is on disk, and is stored at the next start.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            slots, self._slots = self._slots, OrderedDict()
        done = True
        for slot in slots.values():
            if slot.tenant is not None:
                done = slot.tenant.stop(max(0.0, deadline_s - time.monotonic())) and done
        return done


def _stop_idle(tenant: Tenant) -> None:
    if not tenant.stop(_IDLE_STOP_TIMEOUT_S):
        _log.warning("what the tenant %s has recorded is stored later", tenant.name)
