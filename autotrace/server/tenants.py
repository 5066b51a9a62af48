"""Open the memories of tenants, and close those that are longest idle.

The tenant `default` has the store that the settings name, shared with programs of the library. Any
other has a store of its own: embedded, the folder `tenants/{name}` of that store; on a Chroma
server, the Chroma tenant of that name, so that a program configured with `chroma_tenant` has the
same memory as a key of that tenant.
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
from autotrace.models import NOWHERE
from autotrace.server.auth.principal import DEFAULT_TENANT, Principal, check_tenant
from autotrace.settings import Settings
from autotrace.spool.lanes import LOCAL_LANE
from autotrace.store.chroma_tenant import ensure_tenant
from autotrace.store.connection import ServerOptions

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions
    from autotrace.memory import Memory
    from autotrace.server.remote_traces import TraceService

FOLDER: Final = "tenants"
"""Of an embedded store."""
_IDLE_STOP_TIMEOUT_S: Final = 30.0
_SEARCH_WAIT_S: Final = 5.0
"""How long a search waits until it finds the decisions just made."""

_log = logging.getLogger("autotrace.service")


def settings_of(settings: Settings, tenant: str) -> Settings:
    """Return the settings of a tenant, given those of the default tenant.

    Raises:
        InvalidArgumentError: The name cannot be a tenant's, or is a second name of the default
            tenant's memory.
    """
    if tenant == DEFAULT_TENANT:
        return settings
    check_tenant(tenant)
    # Next to the default tenant's spool, not in it: each folder of a spool is one process's.
    spool = None if settings.spool is None else f"{settings.spool}-{tenant}"
    if settings.is_embedded:
        place = f"{settings.store}/{FOLDER}/{tenant}"
        return settings.model_copy(update={"store": place, "spool": spool})
    if tenant == settings.chroma_tenant:
        allowed = f"another name: the Chroma tenant {tenant!r} is that of {DEFAULT_TENANT!r}"
        raise InvalidArgumentError("tenant", tenant, allowed)
    return settings.model_copy(update={"chroma_tenant": tenant, "spool": spool})


def prepare(settings: Settings, tenant: str) -> None:
    """Create the Chroma tenant of a tenant on a Chroma server.

    Raises:
        InvalidArgumentError: The name cannot be a tenant's.
        StoreUnavailableError: The Chroma server does not create it.
    """
    own = settings_of(settings, tenant)
    if not own.is_embedded and tenant != DEFAULT_TENANT:
        ensure_tenant(own.store, ServerOptions.of(own))


@dataclass(frozen=True)
class Tenant:
    """The memory of one tenant, with its traces and decisions."""

    name: str
    memory: Memory
    traces: TraceService

    def decisions(self, caller: Principal, trace_id: str | None = None) -> Decisions:
        """Return the decisions for a caller; new ones open in the trace.

        `Decisions` authorises each call by the rules of auth/principal.py.

        Raises:
            TraceNotFoundError: No trace has this id.
            NotPermittedError: The trace belongs to another agent.
        """
        place = NOWHERE if trace_id is None else self.traces.locate(trace_id, by=caller)
        return self.memory.deciding().for_caller(caller, place)

    def await_decisions(self, caller: Principal) -> None:
        """Wait a few seconds at most until a search finds the decisions just made."""
        # Events are recorded by this process; those within a trace, in its owner's lane.
        for lane in dict.fromkeys((caller.lane, LOCAL_LANE)):
            self.memory.catch_up(_SEARCH_WAIT_S, lane=lane)

    def stop(self, timeout_s: float) -> bool:
        """Store the records that wait; return whether all are stored in time."""
        self.traces.stop()
        return self.memory.stop(timeout_s)


@dataclass
class _Slot:
    """A tenant that is open, or being opened, with the number of its users."""

    tenant: Tenant | None = None
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Tenants:
    """Opens the memory of a tenant at its first use. Any thread may use it.

    Args:
        settings: Settings that name the store of the default tenant.
        open_tenant: Makes a tenant of its name and the settings of its store.
        max_open: Number of tenants to keep open. Another one stops the one that was longest idle;
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
        """Yield a tenant, which is not stopped until this context ends.

        Raises:
            InvalidArgumentError: The name cannot be a tenant's.
            StoreError: Its store cannot be opened.
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
                # In a thread, as storing the records that wait may take a while.
                threading.Thread(
                    target=_stop_idle, args=(tenant,), name="autotrace-idle", daemon=True
                ).start()

    def behind_s(self) -> float:
        """Return how long storing has stood still in the slowest tenant."""
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
        """Stop all tenants; return whether all their records are stored.

        The rest is on disk, and is stored at the next start.
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
        _log.warning("the last records of the tenant %s are stored later", tenant.name)
