"""Reading for servers: a reader sees all that its own agent had recorded before.

It waits for that in the spools of all processes of this machine. For what others recorded it waits
as well, but not behind their backlogs. While storing fails, or lags behind what the reader's agent
recorded, it gets StoreUnavailableError instead of an old answer. What other machines acknowledged
is in the store already (see remote_traces.py).
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Final, TypeVar

from autotrace.errors import StoreError, StoreUnavailableError, TraceNotFoundError
from autotrace.ids import parse_trace_id
from autotrace.memory import Memory
from autotrace.models import RecallResult, ToolStatsPage, Trace, TraceStatus, TraceSummary
from autotrace.server.auth.principal import LOCAL_KEY_ID, Principal
from autotrace.spool.lanes import LOCAL_LANE, lane_of
from autotrace.traces.reader import DEFAULT_TOOLS

_ASK_AFTER_S: Final = 1.0
"""How long to wait before the store is asked whether it is there at all; and, where storing goes
on, for what other senders recorded."""
_NOT_READ: Final = "the decisions cannot be read just now; ask again"
NOT_STORED_YET_MESSAGE: Final = "the store has not taken in yet what was recorded; ask again"

T = TypeVar("T", TraceSummary, RecallResult)
F = TypeVar("F")


class TraceReading:
    """The traces of one memory, as a key may see them. Any thread may use it; calls block.

    Every server reads traces through this class. A trace is seen by every key of the tenant; its
    decisions, and the ids of decisions that a summary names, as `Principal.sees` has it.

    Args:
        memory: Where traces are recorded and read.
        wait_s: How long a call waits at most for the store to take in what was recorded.
    """

    def __init__(self, memory: Memory, wait_s: float = 10.0) -> None:
        self.memory = memory
        self._wait_s = wait_s

    def get(self, trace_id: str, *, by: Principal) -> Trace:
        """Return a trace, with those of its decisions that may be seen; see `Reader.get_trace`.

        Raises:
            TraceNotFoundError: There is none.
            StoreUnavailableError: It may be among what the store has not taken in yet.
        """
        if parse_trace_id(trace_id) is None:
            raise TraceNotFoundError(trace_id)
        trace = self._found(lambda: self.memory.reader.get_trace(trace_id, asked_by=by.agent), by)
        return trace.model_copy(
            update={
                "decisions": [*filter(by.sees, trace.decisions)],
                "decisions_error": trace.decisions_error and _NOT_READ,
            }
        )

    def list(
        self,
        *,
        status: TraceStatus | None = None,
        session_id: str | None = None,
        agent: str | None = None,
        agents: Sequence[str] | None = None,
        limit: int = 50,
        after: str | None = None,
        by: Principal,
    ) -> Sequence[TraceSummary]:
        """Return a page of traces, newest first; see `Reader.list_traces`.

        Raises:
            StoreUnavailableError: The store has not taken in what was recorded.
        """
        self._be_current(by)
        with hide_store_name():
            page = self.memory.reader.list_traces(
                status=status,
                session_id=session_id,
                agent=agent,
                agents=agents,
                limit=limit,
                after=after,
                asked_by=by.agent,
            )
        return self._without_hidden(page, by)

    def recall(
        self,
        query: str,
        success_only: bool = True,
        limit: int = 10,
        *,
        agent: str | None = None,
        agents: Sequence[str] | None = None,
        session_id: str | None = None,
        tools: Sequence[str] | None = None,
        by: Principal,
    ) -> Sequence[RecallResult]:
        """Return past traces whose tasks mean something similar; see `Reader.recall`.

        Raises:
            StoreUnavailableError: The store has not taken in what was recorded.
        """
        self._be_current(by)
        found = self.memory.reader.recall(
            query,
            success_only,
            limit,
            agent=agent,
            agents=agents,
            session_id=session_id,
            tools=tools,
        )
        return self._without_hidden(found, by)

    def nearer_failure(
        self,
        query: str,
        found: Sequence[RecallResult],
        *,
        agents: Sequence[str] | None = None,
    ) -> RecallResult | None:
        """Return a failed trace that is nearer than all results; see `Reader.nearer_failure`."""
        return self.memory.reader.nearer_failure(query, found, agents=agents)

    def _without_hidden(self, found: Sequence[T], by: Principal) -> builtins.list[T]:
        """Return summaries without the ids of decisions that may not be seen."""
        named = {i: None for each in found for i in each.rejected_decisions}
        seen = self._seen(list(named), by) if named else set[str]()
        return [
            each
            if seen.issuperset(each.rejected_decisions)
            else each.model_copy(
                update={"rejected_decisions": [i for i in each.rejected_decisions if i in seen]}
            )
            for each in found
        ]

    def _seen(self, decision_ids: Sequence[str], by: Principal) -> set[str]:
        try:
            decisions = self.memory.deciding().library.existing(decision_ids)
        except StoreError:
            return set()  # nothing is shown that is not known to be visible
        return {decision.decision_id for decision in decisions if by.sees(decision)}

    def tool_stats(
        self, *, limit: int = DEFAULT_TOOLS, after: str | None = None, by: Principal
    ) -> ToolStatsPage:
        """Return a page of the statistics of tools; see `Reader.tool_stats_page`.

        Raises:
            StoreUnavailableError: The store has not taken in what was recorded.
        """
        self._be_current(by)
        return self.memory.reader.tool_stats_page(limit=limit, after=after)

    def _found(self, read: Callable[[], F], by: Principal) -> F:
        """Return what is read of a trace, which may be among what waits to be stored.

        Raises:
            TraceNotFoundError: There is none, and nothing waits.
            StoreUnavailableError: It may be among what waits.
        """
        self._catch_up(by)
        with hide_store_name(), contextlib.suppress(TraceNotFoundError):
            return read()
        if not self.memory.catch_up(self._patience_s()):
            raise StoreUnavailableError(NOT_STORED_YET_MESSAGE)
        with hide_store_name():
            return read()

    def _be_current(self, by: Principal) -> None:
        if not self._catch_up(by):
            raise StoreUnavailableError(NOT_STORED_YET_MESSAGE)

    def _catch_up(self, by: Principal) -> bool:
        """Wait for the store to take in what was recorded; tell whether it has."""
        lane, before = lane_for(by), self.memory.pipeline.batches_stored()
        if self.memory.catch_up(min(_ASK_AFTER_S, self._wait_s), lane=lane):
            return True
        # Raises if the store is down, so that nobody waits for it in vain.
        self.memory.connection.read(lambda c: c.state.get(limit=1))
        return self.memory.catch_up(self._patience_s(), lane=lane, after_batch=before)

    def _patience_s(self) -> float:
        """Return how long to wait: not at all while storing fails, so that the answer is soon."""
        return 0.0 if self.memory.behind_s() > self._wait_s else self._wait_s


def lane_for(by: Principal) -> str:
    """Return where records wait that came with a key."""
    return LOCAL_LANE if by.key_id == LOCAL_KEY_ID else lane_of(by.agent)


def sender_for(by: Principal) -> str | None:
    """Return whose lane takes what came with a key; None: the record says so."""
    return None if by.key_id == LOCAL_KEY_ID else by.agent


@contextlib.contextmanager
def hide_store_name() -> Generator[None]:
    """Keep from who asks from afar where the store is."""
    try:
        yield
    except TraceNotFoundError as error:
        raise TraceNotFoundError(error.trace_id) from None
