"""Read a store: traces, listings, recall, statistics. Every surface reads through `Reader`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack, get_args

from autotrace.base.page_limits import DEFAULT_TOOLS, MAX_AGENTS, MAX_PAGE, MAX_RECALL
from autotrace.embedding.embedder import Embedder
from autotrace.errors import InvalidArgumentError, StoreError, TraceNotFoundError
from autotrace.models import (
    Decision,
    RecallResult,
    ToolStats,
    ToolStatsPage,
    Trace,
    TraceStatus,
    TraceSummary,
)
from autotrace.store import tool_stats as stats
from autotrace.store import trace_summaries
from autotrace.store.connection import Connection
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKeys
from autotrace.store.timeline import TimelineEntry
from autotrace.store.trace_log import read_records
from autotrace.store.trace_summaries import TraceFilter
from autotrace.traces import recall as search
from autotrace.traces.assembly import build_trace, decisions_of
from autotrace.traces.trace_ids import Located, locate, public_ids
from autotrace.traces.tree import Tree


class RecallFilters(TypedDict, total=False):
    """Filters of a recall. None lets every trace pass."""

    agent: str | None
    """The agent's name, as its program gave it."""
    agents: Sequence[str] | None
    """Agents, 1 to 100, of which one recorded the trace: with a key of its own, or, for programs on
    the store's machine, under its name."""
    session_id: str | None
    tools: Sequence[str] | None
    """Tools that the trace called, all of them, among the first 200 that it called."""


class Reader:
    """Answers queries about a store. Any thread may use it.

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

    def get_trace(self, trace_id: str, *, asked_by: str | None = None) -> Trace:
        """Return a trace with its steps, its tool calls, and its decisions as they are now.

        If the decisions cannot be read, `decisions_error` has the reason.

        Args:
            trace_id: The trace.
            asked_by: The agent of the caller's key; None: a program on this machine. Of tasks of
                several agents with this id, the caller's own comes first.

        Raises:
            TraceNotFoundError: The store has no trace with this id.
            StoreError: The store cannot be read.
        """

        def read(collections: Collections) -> tuple[Located | None, list[Any]]:
            place = locate(collections, str(trace_id), asked_by)
            return place, [] if place is None else read_records(collections.log, place.share.key)

        place, records = self._connection.read(read)
        if place is not None:
            tree = Tree(records)
            for task in tree.tasks:
                if task["id"] == place.span:
                    trace = build_trace(tree, task).model_copy(update={"trace_id": str(trace_id)})
                    ids = decisions_of(tree, task)
                    return self._with_decisions(trace, ids) if ids else trace
        raise TraceNotFoundError(trace_id, self._connection.name)

    def locate(self, trace_id: str, *, asked_by: str | None = None) -> Located:
        """Return the place of a trace's task; see trace_ids.py.

        Raises:
            TraceNotFoundError: The id is malformed.
            StoreError: The store cannot be read.
        """
        place = self._connection.read(lambda c: locate(c, trace_id, asked_by))
        if place is None:
            raise TraceNotFoundError(trace_id, self._connection.name)
        return place

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
        agents: Sequence[str] | None = None,
        limit: int = 50,
        after: str | None = None,
        asked_by: str | None = None,
    ) -> list[TraceSummary]:
        """Return a page of traces, newest first.

        Args:
            status: Only traces of this status.
            session_id: Only traces of this session.
            agent: Only traces of this agent; see `RecallFilters`.
            agents: Only traces that one of these agents recorded; see `RecallFilters`.
            limit: Size of a page, 1 to 1000.
            after: Id of the last trace of the page before.
            asked_by: The agent of the caller's key, on which `after` may depend; see `get_trace`.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            TraceNotFoundError: The store has no trace with the id `after`.
            StoreError: The store cannot be read.
        """
        if status is not None and status not in get_args(TraceStatus):
            raise InvalidArgumentError("status", status, get_args(TraceStatus))
        _check_limit(limit, MAX_PAGE)
        where = TraceFilter(status, agent, session_id, agents=_checked_agents(agents))

        def read(collections: Collections) -> list[TraceSummary]:
            before = None if after is None else self._entry(collections, after, asked_by)
            found = trace_summaries.list_summaries(collections, where, limit, before)
            shown = public_ids(collections, dict(found))
            return [
                trace_summaries.to_model(shown[trace_id], summary) for trace_id, summary in found
            ]

        return self._connection.read(read)

    def _entry(
        self, collections: Collections, trace_id: str, asked_by: str | None
    ) -> TimelineEntry:
        place = locate(collections, trace_id, asked_by)
        kept = trace_id if place is None else place.trace_id
        summary = trace_summaries.get_summaries(collections, [kept]).get(kept)
        if summary is None:
            raise TraceNotFoundError(trace_id, self._connection.name)
        return TimelineEntry(summary["created_ns"], kept)

    def recall(
        self,
        query: str,
        success_only: bool = True,
        limit: int = 10,
        **filters: Unpack[RecallFilters],
    ) -> list[RecallResult]:
        """Return past completed traces with tasks of similar meaning, most similar first.

        Related traces, at least half as similar as the best one, come before copies: of each sender
        and task text the newest two. More copies fill the remaining places; copies that an agent's
        key has sent do not. Traces that came with the keys of one agent take at most half of the
        places while others have related traces. Texts that differ only in case, spaces and
        punctuation count as one.

        Args:
            query: The task at hand, in words.
            success_only: Whether to leave out failed traces; see `nearer_failure`.
            limit: Number of traces at most, 1 to 50.
            **filters: See `RecallFilters`.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        outcomes = (True,) if success_only else (True, False)
        return self._recall(query, outcomes, limit, _filter(**filters))

    def nearer_failure(
        self, query: str, found: Sequence[RecallResult], **filters: Unpack[RecallFilters]
    ) -> RecallResult | None:
        """Return a failed trace that is more similar than all results of a recall of successes.

        Given are the query and the filters of that recall, and the results that it `found`.
        """
        failed = self._recall(query, (False,), 1, _filter(**filters))
        best = found[0].similarity if found else -1.0
        return failed[0] if failed and failed[0].similarity > best else None

    def _recall(
        self, query: str, outcomes: Sequence[bool], limit: int, where: TraceFilter
    ) -> list[RecallResult]:
        if not str(query or "").strip():
            raise InvalidArgumentError("query", query, "a text that is not empty")
        _check_limit(limit, MAX_RECALL)
        vector = self._embedder.embed([str(query)])[0]

        def find(collections: Collections) -> list[RecallResult]:
            found = search.find(
                collections,
                str(query),
                vector,
                TextKeys(self._embedder, collections.by_tokens),
                outcomes=outcomes,
                limit=limit,
                where=where,
            )
            shown = public_ids(collections, {each.trace_id: each.summary for each in found})
            return [search.to_model(shown[each.trace_id], each) for each in found]

        return self._connection.read(find, fresh=True)

    def tool_stats(
        self, *, limit: int = DEFAULT_TOOLS, after: str | None = None
    ) -> list[ToolStats]:
        """Return a page of the statistics of tools, most used first.

        Raises:
            InvalidArgumentError: The limit is not allowed.
            ToolNotFoundError: `after` is not a tool that is counted by name.
            StoreError: The store cannot be read.
        """
        return self.tool_stats_page(limit=limit, after=after).tools

    def tool_stats_page(
        self, *, limit: int = DEFAULT_TOOLS, after: str | None = None
    ) -> ToolStatsPage:
        """Return the same page, with the sum of the statistics of all later tools."""
        _check_limit(limit, MAX_PAGE)
        return self._connection.read(lambda c: stats.read_page(c.state, limit, after))


def _filter(
    agent: str | None = None,
    agents: Sequence[str] | None = None,
    session_id: str | None = None,
    tools: Sequence[str] | None = None,
) -> TraceFilter:
    if isinstance(tools, str):
        raise InvalidArgumentError("tools", tools, "a list of tool names")
    return TraceFilter(None, agent, session_id, tuple(tools or ()), _checked_agents(agents))


def _checked_agents(agents: Sequence[str] | None) -> tuple[str, ...]:
    """Return the agents to select; an empty tuple for None, which selects all.

    Raises:
        InvalidArgumentError: The list is empty, which must not select all agents, or too long.
    """
    if agents is None:
        return ()
    if isinstance(agents, str) or not 1 <= len(agents) <= MAX_AGENTS:
        raise InvalidArgumentError("agents", agents, f"a list of 1 to {MAX_AGENTS} agents' names")
    return tuple(agents)


def _check_limit(limit: Any, maximum: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= maximum:
        raise InvalidArgumentError("limit", limit, f"a whole number from 1 to {maximum}")
