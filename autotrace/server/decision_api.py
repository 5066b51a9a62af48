"""The decisions of one tenant, bound to the caller who reads or changes them.

`autotrace.decisions.api.Decisions` authorises each call by the rules of server/auth/principal.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from autotrace.errors import TraceNotFoundError
from autotrace.ids import parse_trace_id
from autotrace.models import NOWHERE, TraceLocation
from autotrace.server.auth.principal import Principal
from autotrace.server.consistent_reads import lane_for
from autotrace.spool.lanes import LOCAL_LANE

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions
    from autotrace.memory import Memory

CATCH_UP_TIMEOUT_S: Final = 5.0
"""How long a search waits until decisions just made can be found."""


class DecisionApi:
    """Gives callers the decisions of one tenant. Any thread may use it.

    Args:
        memory: Memory of the tenant.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def of(self, caller: Principal, trace_id: str | None = None) -> Decisions:
        """Return the decisions as a caller may read and change them.

        Args:
            caller: Principal of the API key.
            trace_id: Trace in which new decisions are opened, and which lists them then.

        Raises:
            TraceNotFoundError: There is no such trace.
            NotPermittedError: The trace belongs to another agent.
        """
        return self._memory.deciding().for_caller(caller, self._place(trace_id, caller))

    def catch_up(self, caller: Principal) -> None:
        """Wait until a search finds the decisions just made, for a few seconds at most."""
        # Events are recorded by this process; those within a trace, in its owner's lane.
        for lane in dict.fromkeys((lane_for(caller), LOCAL_LANE)):
            self._memory.catch_up(CATCH_UP_TIMEOUT_S, lane=lane)

    def _place(self, trace_id: str | None, caller: Principal) -> TraceLocation:
        if trace_id is None:
            return NOWHERE
        task = parse_trace_id(trace_id)
        if task is None:
            raise TraceNotFoundError(trace_id)
        self._memory.catch_up(CATCH_UP_TIMEOUT_S, lane=lane_for(caller))
        reader = self._memory.reader
        caller.check_owns_trace(reader.get_trace(trace_id, asked_by=caller.agent), trace_id)
        share, span = reader.locate(trace_id, asked_by=caller.agent)
        otel = (share.trace, span) if share.owner is None else (share.trace, span, share.owner)
        return TraceLocation(trace_id, otel)
