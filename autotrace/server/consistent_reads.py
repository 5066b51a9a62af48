"""Read traces so that a reader sees all records of its own agent.

A read waits until the records in the spools of all processes of this machine are stored; not for
the backlogs of other agents. While storing fails, or lags behind the records of the reader's agent,
the read raises StoreUnavailableError and returns no old answer. Records that other machines
acknowledged are in the store already (see remote_traces.py).
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Generator, Sequence
from typing import Final, TypedDict, TypeVar

from typing_extensions import Unpack

from autotrace.base.page_limits import DEFAULT_TOOLS
from autotrace.errors import StoreError, StoreUnavailableError, TraceNotFoundError
from autotrace.ids import SpanIds, parse_trace_id
from autotrace.memory import Memory
from autotrace.models import (
    RecallResult,
    ToolStatsPage,
    Trace,
    TraceLocation,
    TraceStatus,
    TraceSummary,
)
from autotrace.server.auth.principal import Principal

_ASK_AFTER_S: Final = 1.0
"""How long to wait before the store is asked whether it answers; and, while records are stored, for
those of other senders."""
_NOT_READ: Final = "the decisions cannot be read just now; ask again"
NOT_STORED_YET_MESSAGE: Final = "the store has not taken in yet what was recorded; ask again"

T = TypeVar("T", TraceSummary, RecallResult)


class TraceFilters(TypedDict, total=False):
    """The filters and the page of `Reader.list_traces`."""

    status: TraceStatus | None
    session_id: str | None
    agent: str | None
    agents: Sequence[str] | None
    limit: int
    after: str | None


class TraceReading:
    """The traces of one memory as a key may see them. Calls block.

    Every key of the tenant sees all traces. `Principal.sees` decides which of their decisions, and
    of the ids of decisions in a summary, it sees. Each read raises StoreUnavailableError while the
    records of the caller's agent are not stored.

    Args:
        memory: Memory that holds the traces.
        wait_s: Seconds that a call waits at most for records to be stored.
    """

    def __init__(self, memory: Memory, wait_s: float = 10.0) -> None:
        self.memory = memory
        self._wait_s = wait_s

    def get(self, trace_id: str, *, by: Principal) -> Trace:
        """Return a trace with the visible decisions; see `Reader.get_trace`.

        Raises:
            TraceNotFoundError: No trace has this id.
            StoreUnavailableError: It may be among the records that wait to be stored.
        """
        check_trace_id(trace_id)
        trace = self._read(trace_id, by)
        return trace.model_copy(
            update={
                "decisions": [*filter(by.sees, trace.decisions)],
                "decisions_error": trace.decisions_error and _NOT_READ,
            }
        )

    def locate(self, trace_id: str, *, by: Principal) -> TraceLocation:
        """Return the location for new decisions of a trace of the caller.

        Raises:
            TraceNotFoundError: No trace has this id.
            StoreUnavailableError: It may be among the records that wait to be stored.
            NotPermittedError: The trace belongs to another agent.
        """
        check_trace_id(trace_id)
        by.check_owns_trace(self._read(trace_id, by), trace_id)
        share, span = self.memory.reader.locate(trace_id, asked_by=by.agent)
        otel = (share.trace, span) if share.owner is None else (share.trace, span, share.owner)
        return TraceLocation(trace_id, otel)

    def list(self, *, by: Principal, **filters: Unpack[TraceFilters]) -> Sequence[TraceSummary]:
        """Return a page of traces, newest first; see `Reader.list_traces`."""
        self._be_current(by)
        with hide_store_name():
            page = self.memory.reader.list_traces(**filters, asked_by=by.agent)
        return self._without_hidden(page, by)

    def recall(
        self,
        query: str,
        success_only: bool = True,
        limit: int = 10,
        *,
        agents: Sequence[str] | None = None,
        by: Principal,
    ) -> Sequence[RecallResult]:
        """Return past traces of similar tasks; see `Reader.recall`."""
        self._be_current(by)
        found = self.memory.reader.recall(query, success_only, limit, agents=agents)
        return self._without_hidden(found, by)

    def tool_stats(
        self, *, limit: int = DEFAULT_TOOLS, after: str | None = None, by: Principal
    ) -> ToolStatsPage:
        """Return a page of the statistics of tools; see `Reader.tool_stats_page`."""
        self._be_current(by)
        return self.memory.reader.tool_stats_page(limit=limit, after=after)

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
            decisions = self.memory.deciding().existing(decision_ids)
        except StoreError:
            return set()  # a decision is hidden unless it is known to be visible
        return {decision.decision_id for decision in decisions if by.sees(decision)}

    def _read(self, trace_id: str, by: Principal) -> Trace:
        self._catch_up(by)
        with hide_store_name(), contextlib.suppress(TraceNotFoundError):
            return self.memory.reader.get_trace(trace_id, asked_by=by.agent)
        if not self.memory.catch_up(self._patience_s()):
            raise StoreUnavailableError(NOT_STORED_YET_MESSAGE)
        with hide_store_name():
            return self.memory.reader.get_trace(trace_id, asked_by=by.agent)

    def _be_current(self, by: Principal) -> None:
        if not self._catch_up(by):
            raise StoreUnavailableError(NOT_STORED_YET_MESSAGE)

    def _catch_up(self, by: Principal) -> bool:
        """Wait for the records of the caller's agent; return if all are stored."""
        before = self.memory.pipeline.batches_stored()
        if self.memory.catch_up(min(_ASK_AFTER_S, self._wait_s), lane=by.lane):
            return True
        # Raises if the store is down, so that no caller waits for it in vain.
        self.memory.connection.read(lambda c: c.state.get(limit=1))
        return self.memory.catch_up(self._patience_s(), lane=by.lane, after_batch=before)

    def _patience_s(self) -> float:
        """Return how long to wait: not at all while storing fails."""
        return 0.0 if self.memory.behind_s() > self._wait_s else self._wait_s


def check_trace_id(trace_id: str) -> SpanIds:
    """Return the ids in a trace id; raise TraceNotFoundError if malformed."""
    task = parse_trace_id(trace_id)
    if task is None:
        raise TraceNotFoundError(trace_id)
    return task


@contextlib.contextmanager
def hide_store_name() -> Generator[None]:
    """Raise TraceNotFoundError without the place of the store."""
    try:
        yield
    except TraceNotFoundError as error:
        raise TraceNotFoundError(error.trace_id) from None
