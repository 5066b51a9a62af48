"""Reading a store: traces, listings, recall, statistics. Every surface reads through this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from autotrace.errors import (
    InvalidArgumentError,
    StoreError,
    TraceNotFoundError,
)
from autotrace.export.assemble import Tree, build_trace, decisions_of
from autotrace.export.roles import span_of, trace_id_of
from autotrace.models import (
    Decision,
    RecallResult,
    ToolStats,
    ToolStatsPage,
    Trace,
    TraceStatus,
    TraceSummary,
)
from autotrace.retrieval import search
from autotrace.store import stats, traces
from autotrace.store.connection import Connection
from autotrace.store.embedder import Embedder, text_key
from autotrace.store.log import read_records
from autotrace.store.schema import Collections
from autotrace.store.stats import UnknownToolError
from autotrace.store.timeline import Entry
from autotrace.store.tool_names import bounded_name

MAX_RECALL = 50
MAX_PAGE = 1000
DEFAULT_TOOLS = 100


class Reader:
    """Answers questions about what is stored. Any thread may use it.

    Args:
        connection: The store.
        embedder: Makes the vectors of queries; must be of the store's embedding space.
        decisions: Returns those of some decisions that exist, oldest first. Without it traces
            have none.
    """

    def __init__(
        self,
        connection: Connection,
        embedder: Embedder,
        decisions: Callable[[Sequence[str]], list[Decision]] | None = None,
    ) -> None:
        self._connection = connection
        self._embedder = embedder
        self._decisions = decisions

    def get_trace(self, trace_id: str) -> Trace:
        """Return a trace with its steps, its tool calls, and its decisions as they stand now.

        That the decisions cannot be read is no error: `decisions_error` says so.

        Raises:
            TraceNotFoundError: There is none with this id.
            StoreError: The store cannot be read.
        """
        place = span_of(str(trace_id))
        if place is not None:
            otel_trace, _ = place
            tree = Tree(self._connection.read(lambda c: read_records(c.log, otel_trace)))
            for task in tree.tasks:
                if trace_id_of(task) == trace_id:
                    trace = build_trace(tree, task)
                    ids = decisions_of(tree, task)
                    return self._with_decisions(trace, ids) if ids else trace
        raise TraceNotFoundError(trace_id, self._connection.name)

    def _with_decisions(self, trace: Trace, decision_ids: Sequence[str]) -> Trace:
        if self._decisions is None:
            return trace
        try:
            return trace.model_copy(update={"decisions": self._decisions(decision_ids)})
        except StoreError as error:
            return trace.model_copy(update={"decisions_error": str(error)})

    def list_traces(
        self,
        *,
        status: TraceStatus | None = None,
        session_id: str | None = None,
        agent: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[TraceSummary]:
        """Return a page of traces, newest first.

        Args:
            status: Only traces of this status.
            session_id: Only traces of this session.
            agent: Only traces of this agent.
            limit: Size of a page, 1 to 1000.
            after: Id of the last trace of the page before.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            TraceNotFoundError: `after` is no trace of the store.
            StoreError: The store cannot be read.
        """
        if status is not None and status not in get_args(TraceStatus):
            raise InvalidArgumentError("status", status, get_args(TraceStatus))
        _check_limit(limit, MAX_PAGE)

        def read(collections: Collections) -> list[tuple[str, traces.Summary]]:
            return traces.list_summaries(
                collections,
                status=status,
                session_id=session_id,
                agent=agent,
                limit=limit,
                before=None if after is None else self._entry(collections, after),
            )

        return [
            traces.to_model(trace_id, summary) for trace_id, summary in self._connection.read(read)
        ]

    def _entry(self, collections: Collections, trace_id: str) -> Entry:
        summary = traces.get_summaries(collections, [trace_id]).get(trace_id)
        if summary is None:
            raise TraceNotFoundError(trace_id, self._connection.name)
        return Entry(summary["created_ns"], trace_id)

    def recall(
        self,
        query: str,
        success_only: bool = True,
        limit: int = 10,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        tools: Sequence[str] | None = None,
    ) -> list[RecallResult]:
        """Return past completed traces whose tasks mean something similar, most similar first.

        Args:
            query: The task at hand, in words.
            success_only: Whether to leave out traces that failed.
            limit: How many to return at most, 1 to 50.
            agent: Only traces of this agent.
            session_id: Only traces of this session.
            tools: Only traces that called every one of these (of the first 200 they called).

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        if not str(query or "").strip():
            raise InvalidArgumentError("query", query, "a text that is not empty")
        if isinstance(tools, str):
            raise InvalidArgumentError("tools", tools, "a list of tool names")
        _check_limit(limit, MAX_RECALL)
        vector = self._embedder.embed([str(query)])[0]

        where = search.Filter(agent, session_id, tuple(tools or ()))

        def find(collections: Collections) -> list[search.Found]:
            return search.find(
                collections,
                str(query),
                vector,
                lambda text: text_key(self._embedder, text),
                success_only=success_only,
                limit=limit,
                where=where,
            )

        return [search.to_model(found) for found in self._connection.read(find, fresh=True)]

    def tool_stats(
        self, *, limit: int = DEFAULT_TOOLS, after: str | None = None
    ) -> list[ToolStats]:
        """Return a page of the statistics of tools, most used first.

        Args:
            limit: Size of a page, 1 to 1000.
            after: Name of the last tool of the page before.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        return self.tool_stats_page(limit=limit, after=after).tools

    def tool_stats_page(
        self, *, limit: int = DEFAULT_TOOLS, after: str | None = None
    ) -> ToolStatsPage:
        """Return the same page, with the statistics of all calls that come after it together."""
        _check_limit(limit, MAX_PAGE)
        try:
            return self._connection.read(lambda c: stats.read_page(c.state, limit, after))
        except UnknownToolError:
            allowed = "the tool_name of a tool in the statistics"
            raise InvalidArgumentError("after", bounded_name(str(after)), allowed) from None


def _check_limit(limit: Any, maximum: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= maximum:
        raise InvalidArgumentError("limit", limit, f"a whole number from 1 to {maximum}")
