"""Queries over the decisions of a store: pages, waiting requests, search by meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, get_args

from autotrace.base.page_limits import MAX_FOUND, MAX_PAGE
from autotrace.decisions import to_models
from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.state_machine import State
from autotrace.errors import InvalidArgumentError
from autotrace.models import Decision, DecisionCategory, DecisionStatus, FoundDecision
from autotrace.store import decision_log as store
from autotrace.store import schema, timeline
from autotrace.store.timeline import TimelineEntry

_LOGS_AT_ONCE: Final = 64
_WIDENING: Final = 4
_MAX_NEAREST: Final = 4096
"""Limit of neighbours that a search reads to find enough decisions that pass its filter."""


@dataclass(frozen=True)
class DecisionFilter:
    """The decisions that a query returns.

    Args:
        sees: Whether the caller may see a decision; others do not count.
        status: Only decisions of this status.
        category: Only decisions recorded in this category.
        actor: Only decisions that this actor requested.
        tags: Only decisions that have all of these tags.

    Raises:
        InvalidArgumentError: A value is not allowed.
    """

    sees: Callable[[Decision], bool]
    status: DecisionStatus | None = None
    category: DecisionCategory | None = None
    actor: str | None = None
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.tags, str):
            raise InvalidArgumentError("tags", self.tags, "a list of texts")
        if self.status is not None and self.status not in get_args(DecisionStatus):
            raise InvalidArgumentError("status", self.status, get_args(DecisionStatus))
        if self.category is not None and self.category not in get_args(DecisionCategory):
            raise InvalidArgumentError("category", self.category, get_args(DecisionCategory))

    def matches(self, state: State) -> bool:
        """Return whether a decision passes."""
        facts = state.created.facts
        return (
            self.status in (None, state.status)
            and self.category in (None, facts.get("category"))
            and self.actor in (None, state.actor)
            and set(self.tags) <= set(facts.get("tags") or ())
            and self.sees(to_models.to_decision(state))
        )


def to_decisions(events: DecisionEventStore, logs: Sequence[Log]) -> list[Decision]:
    """Return the models of decisions, with the decisions that supersede them."""
    with events.connection.reading() as collections:
        ids = [store.superseded_id(log.decision_id) for log in logs]
        superseded = schema.documents(collections.log, ids)
        newer = {document["by"] for document in superseded.values()}
        begun = {n for n, c in store.read_logs(collections.log, list(newer)).items() if c}
    by = {i: d["by"] for i, d in superseded.items() if d["by"] in begun}
    return [
        to_models.to_decision(log.state, by.get(store.superseded_id(log.decision_id)))
        for log in logs
    ]


def oldest_first(events: DecisionEventStore, logs: Iterator[Log]) -> list[Decision]:
    """Return the models of decisions in the order in which they were opened."""
    return to_decisions(events, sorted(logs, key=lambda log: log.state.created.at_ns))


def find_page(
    events: DecisionEventStore, wanted: DecisionFilter, limit: int, after: str | None
) -> list[Decision]:
    """Return a page of decisions, newest first; see `Decisions.list`."""
    _check_limit(limit, MAX_PAGE)
    logs = (log for log in _newest_first(events, after) if wanted.matches(log.state))
    return to_decisions(events, list(islice(logs, limit)))


def newest_ids(events: DecisionEventStore, limit: int) -> list[str]:
    """Return the ids of the newest decisions, newest first."""
    with events.connection.reading() as collections:
        entries = timeline.newest_first(collections.lists)
        return [entry.trace_id for entry in islice(entries, limit)]


def find_pending(events: DecisionEventStore) -> list[Decision]:
    """Return every decision that waits for an answer, oldest first."""
    with events.connection.reading() as collections:
        names = store.waiting(collections)
    waiting = (
        log
        for start in range(0, len(names), _LOGS_AT_ONCE)
        for log in events.read_all(names[start : start + _LOGS_AT_ONCE]).values()
        if log.state.status == "needs_approval"
    )
    return oldest_first(events, waiting)


def find_similar(
    events: DecisionEventStore,
    wanted: DecisionFilter,
    limit: int,
    query: str | None,
    embed: Callable[[str], Any],
) -> list[FoundDecision]:
    """Return decisions of similar meaning, most similar first; see `Decisions.search`."""
    _check_limit(limit, MAX_FOUND)
    if query is None:
        newest = find_page(events, wanted, limit, None)
        return [FoundDecision(decision_id=d.decision_id, decision=d) for d in newest]
    if not query.strip():
        raise InvalidArgumentError("query", query, "a text that is not empty, or None")
    vector, number = embed(query), limit
    while True:
        near, is_all = _nearest(events, vector, number)
        logs = events.read_all([name for name, _ in near])
        found = [(log, s) for n, s in near if (log := logs.get(n)) and wanted.matches(log.state)]
        if len(found) >= limit or is_all or number >= _MAX_NEAREST:
            found = found[:limit]
            decisions = to_decisions(events, [log for log, _ in found])
            return [
                FoundDecision(decision_id=d.decision_id, similarity=round(s, 6), decision=d)
                for d, (_, s) in zip(decisions, found, strict=True)
            ]
        number *= _WIDENING


def _nearest(
    events: DecisionEventStore, vector: Any, number: int
) -> tuple[Sequence[tuple[str, float]], bool]:
    return events.connection.read(
        lambda collections: store.nearest(collections, vector, number), fresh=True
    )


def _newest_first(events: DecisionEventStore, after: str | None) -> Iterator[Log]:
    before = None
    if after is not None:
        before = TimelineEntry(events.read(after).state.created.at_ns, after)
    while True:
        # Not read inside `reading`: reading a decision whose request has expired changes it.
        with events.connection.reading() as collections:
            entries = timeline.newest_first(collections.lists, before=before)
            group = list(islice(entries, _LOGS_AT_ONCE))
        if not group:
            return
        before = group[-1]
        logs = events.read_all([entry.trace_id for entry in group])
        yield from (logs[entry.trace_id] for entry in group if entry.trace_id in logs)


def _check_limit(limit: Any, maximum: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= maximum:
        raise InvalidArgumentError("limit", limit, f"a whole number from 1 to {maximum}")
