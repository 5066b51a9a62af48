"""Reading decisions: one, lists, what waits, by meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, get_args

from autotrace.decisions import to_models
from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.state_machine import State
from autotrace.errors import InvalidArgumentError
from autotrace.models import (
    Decision,
    DecisionCategory,
    DecisionStatus,
    DecisionTrace,
    FoundDecision,
)
from autotrace.store import decision_log as store
from autotrace.store import schema, timeline
from autotrace.store.timeline import TimelineEntry

MAX_PAGE: Final = 1000
MAX_FOUND: Final = 100
_LOGS_AT_ONCE: Final = 64
_WIDENING: Final = 4
_MAX_NEAREST: Final = 4096
"""How far a search looks for decisions that pass a filter."""

Seen = Callable[[Decision], bool]


def _seen_by_all(_: Decision) -> bool:
    return True


class DecisionLibrary:
    """Reads the decisions of one store. Any thread may use it.

    Args:
        book: Where they lie.
        embed: Makes the vector of a text.
    """

    def __init__(
        self,
        book: DecisionEventStore,
        *,
        embed: Callable[[str], Any],
    ) -> None:
        self._book = book
        self._embed = embed

    # --- reading

    def get(self, decision_id: str) -> Decision:
        """Return a decision as it stands.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreError: The store cannot be read.
        """
        return self._views([self._book.read(decision_id)])[0]

    def existing(self, decision_ids: Sequence[str]) -> list[Decision]:
        """Return those of some decisions that exist, oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        logs = self._book.read_all(decision_ids).values()
        return self._views(sorted(logs, key=lambda log: log.state.created.at_ns))

    def trace(self, decision_id: str, *, whole: bool = False) -> DecisionTrace:
        """Return a decision with its history.

        Args:
            decision_id: The decision.
            whole: Whether the history must verify: for an approver, who answers for it.

        Raises:
            DecisionNotFoundError: There is none with this id.
            DamagedDecisionError: It must be whole, and is not.
            StoreError: The store cannot be read.
        """
        log = self._book.read(decision_id, whole=whole)
        decision = self._views([log])[0]
        events = [to_models.to_event(event) for event in log.events]
        return DecisionTrace(**dict(decision), events=events)

    def list(
        self,
        *,
        status: DecisionStatus | None = None,
        category: DecisionCategory | None = None,
        actor: str | None = None,
        limit: int = 50,
        after: str | None = None,
        seen: Seen = _seen_by_all,
    ) -> list[Decision]:
        """Return a page of decisions, newest first.

        Args:
            status: Only those of this status.
            category: Only those recorded in this category.
            actor: Only those this one has asked for.
            limit: Size of a page, 1 to 1000.
            after: Id of the last decision of the page before.
            seen: Tells whether a decision may be seen; others do not count.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: `after` is no decision of the store.
            StoreError: The store cannot be read.
        """
        _check(status, category, limit, MAX_PAGE)
        matches = _matching(status, category, (), actor, seen)
        found: list[Log] = []
        for logs in self._newest_first(after):
            found += [log for log in logs if matches(log.state)]
            if len(found) >= limit:
                break
        return self._views(found[:limit])

    def newest_ids(self, limit: int) -> Sequence[str]:
        """Return the ids of the newest decisions, the newest first.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._book.connection.reading() as collections:
            entries = timeline.newest_first(collections.lists)
            return [entry.trace_id for entry in _first(limit, entries)]

    def pending(self) -> list[Decision]:
        """Return every decision that waits for an answer, the oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._book.connection.reading() as collections:
            names = store.waiting(collections)
        waiting = [
            log
            for start in range(0, len(names), _LOGS_AT_ONCE)
            for log in self._book.read_all(names[start : start + _LOGS_AT_ONCE]).values()
            if log.state.status == "needs_approval"
        ]
        return self._views(sorted(waiting, key=lambda log: log.state.created.at_ns))

    def search(
        self,
        query: str | None = None,
        *,
        category: DecisionCategory | None = None,
        tags: Sequence[str] = (),
        status: DecisionStatus | None = None,
        limit: int = 20,
        seen: Seen = _seen_by_all,
    ) -> list[FoundDecision]:
        """Return decisions that mean something similar, most similar first.

        Args:
            query: What is looked for, in words; None: the newest first.
            category: Only those recorded in this category.
            tags: Only those that have every one of these.
            status: Only those of this status.
            limit: How many to return at most, 1 to 100.
            seen: Tells whether a decision may be seen; others do not count.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        if isinstance(tags, str):
            raise InvalidArgumentError("tags", tags, "a list of texts")
        _check(status, category, limit, MAX_FOUND)
        matches = _matching(status, category, tags, None, seen)
        if query is None:
            newest = (log for logs in self._newest_first(None) for log in logs)
            logs = _first(limit, (log for log in newest if matches(log.state)))
            return [_found(decision, None) for decision in self._views(logs)]
        if not query.strip():
            raise InvalidArgumentError("query", query, "a text that is not empty, or None")
        vector = self._embed(query)
        wanted = limit
        while True:
            near, is_all = self._nearest(vector, wanted)
            logs = self._book.read_all([name for name, _ in near])
            found = [(log, s) for n, s in near if (log := logs.get(n)) and matches(log.state)]
            if len(found) >= limit or is_all or wanted >= _MAX_NEAREST:
                decisions = self._views([log for log, _ in found[:limit]])
                return [_found(d, s) for d, (_, s) in zip(decisions, found, strict=False)]
            wanted *= _WIDENING

    def _nearest(self, vector: Any, number: int) -> tuple[Sequence[tuple[str, float]], bool]:
        return self._book.connection.read(
            lambda collections: store.nearest(collections, vector, number), fresh=True
        )

    def _newest_first(self, after: str | None) -> Iterator[list[Log]]:
        """Yield groups of decisions, newest first."""
        before = None if after is None else TimelineEntry(self._opened_ns(after), after)
        while True:
            # The store is not held open between: one whose time is over is changed by reading it.
            with self._book.connection.reading() as collections:
                entries = timeline.newest_first(collections.lists, before=before)
                group: list[TimelineEntry] = _first(_LOGS_AT_ONCE, entries)
            if not group:
                return
            before = group[-1]
            logs = self._book.read_all([entry.trace_id for entry in group])
            yield [logs[entry.trace_id] for entry in group if entry.trace_id in logs]

    def _opened_ns(self, decision_id: str) -> int:
        return self._book.read(decision_id).state.created.at_ns

    def _views(self, logs: Sequence[Log]) -> list[Decision]:
        with self._book.connection.reading() as collections:
            ids = [store.superseded_id(log.decision_id) for log in logs]
            superseded = schema.documents(collections.log, ids)
            newer = {document["by"] for document in superseded.values()}
            begun = {n for n, c in store.read_logs(collections.log, list(newer)).items() if c}
        by = {i: d["by"] for i, d in superseded.items() if d["by"] in begun}
        return [
            to_models.to_decision(log.state, by.get(store.superseded_id(log.decision_id)))
            for log in logs
        ]


def _found(decision: Decision, similarity: float | None) -> FoundDecision:
    rounded = None if similarity is None else round(similarity, 6)
    return FoundDecision(decision_id=decision.decision_id, similarity=rounded, decision=decision)


def _first(number: int, items: Iterator[Any]) -> list[Any]:
    return [item for _, item in zip(range(number), items, strict=False)]


def _matching(
    status: str | None,
    category: str | None,
    tags: Sequence[str],
    actor: str | None,
    seen: Seen,
) -> Callable[[State], bool]:
    def matches(state: State) -> bool:
        facts = state.created.facts
        return (
            (status is None or state.status == status)
            and (category is None or facts.get("category") == category)
            and (actor is None or state.actor == actor)
            and set(tags) <= set(facts.get("tags") or ())
            and seen(to_models.to_decision(state))
        )

    return matches


def _check(status: Any, category: Any, limit: Any, maximum: int) -> None:
    if status is not None and status not in get_args(DecisionStatus):
        raise InvalidArgumentError("status", status, get_args(DecisionStatus))
    if category is not None and category not in get_args(DecisionCategory):
        raise InvalidArgumentError("category", category, get_args(DecisionCategory))
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= maximum:
        raise InvalidArgumentError("limit", limit, f"a whole number from 1 to {maximum}")
