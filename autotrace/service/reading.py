"""Reading for servers: it sees all that any process of this machine had recorded before.

While storing fails or lags, a reader gets StoreUnavailableError instead of an old answer.
What other machines acknowledged is in the store already (see traces.py).
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Generator, Sequence
from typing import Final, TypeVar

from autotrace.access.principal import Principal
from autotrace.errors import StoreError, StoreUnavailableError, TraceNotFoundError
from autotrace.memory import Memory
from autotrace.models import RecallResult, ToolStatsPage, Trace, TraceStatus, TraceSummary
from autotrace.reader import DEFAULT_TOOLS
from autotrace.service import told

_ASK_AFTER_S: Final = 1.0
"""How long to wait before the store is asked whether it is there at all."""
_NOT_READ: Final = "the decisions cannot be read just now; ask again"
BEHIND: Final = "the store has not taken in yet what was recorded; ask again"

T = TypeVar("T", TraceSummary, RecallResult)


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
        if told.task_named(trace_id) is None:
            raise TraceNotFoundError(trace_id)
        is_whole = self._catch_up()
        try:
            with unnamed():
                trace = self.memory.reader.get_trace(trace_id, asked_by=by.agent)
        except TraceNotFoundError:
            if is_whole:
                raise
            raise StoreUnavailableError(BEHIND) from None
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
        self._be_current()
        with unnamed():
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
        self._be_current()
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

    def tool_stats(self, *, limit: int = DEFAULT_TOOLS, after: str | None = None) -> ToolStatsPage:
        """Return a page of the statistics of tools; see `Reader.tool_stats_page`.

        Raises:
            StoreUnavailableError: The store has not taken in what was recorded.
        """
        self._be_current()
        return self.memory.reader.tool_stats_page(limit=limit, after=after)

    def _be_current(self) -> None:
        if not self._catch_up():
            raise StoreUnavailableError(BEHIND)

    def _catch_up(self) -> bool:
        """Wait for the store to take in what was recorded; tell whether it has."""
        if self.memory.catch_up(min(_ASK_AFTER_S, self._wait_s)):
            return True
        # Raises if the store is down, so that nobody waits for it in vain.
        self.memory.connection.read(lambda c: c.state.get(limit=1))
        # Who asks while storing fails is answered soon.
        is_stuck = self.memory.behind_s() > self._wait_s
        return self.memory.catch_up(0.0 if is_stuck else self._wait_s)


@contextlib.contextmanager
def unnamed() -> Generator[None]:
    """Keep from who asks from afar where the store is."""
    try:
        yield
    except TraceNotFoundError as error:
        raise TraceNotFoundError(error.trace_id) from None
