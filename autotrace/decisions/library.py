"""Reading decisions: one, lists, what waits, by meaning; and the proof of their history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, get_args

from autotrace.decisions import chain, machine, views
from autotrace.decisions.book import DecisionBook, Log
from autotrace.decisions.machine import Draft, State
from autotrace.errors import DecisionNotFoundError, DecisionStateError, InvalidArgumentError
from autotrace.models import (
    Decision,
    DecisionCategory,
    DecisionStatus,
    DecisionTrace,
    FoundDecision,
    Receipt,
    Verification,
)
from autotrace.store import decisions as store
from autotrace.store import timeline
from autotrace.store.timeline import Entry
from autotrace.store.times import utc

MAX_PAGE: Final = 1000
MAX_FOUND: Final = 100
_LOGS_AT_ONCE: Final = 64
_WIDENING: Final = 4
_MAX_NEAREST: Final = 4096
"""How far a search looks for decisions that pass a filter."""


class Signer(Protocol):
    """Signs receipts."""

    key_id: str
    public_key: str

    def sign(self, receipt_data: dict[str, Any]) -> str:
        """Return the signature of some data, as base64."""
        ...


class DecisionLibrary:
    """Reads the decisions of one store. Any thread may use it.

    Args:
        book: Where they lie.
        embed: Makes the vector of a text.
        signer: Returns what signs receipts.
        is_signed: Tells whether a signature is that of some data, given the public key.
    """

    def __init__(
        self,
        book: DecisionBook,
        *,
        embed: Callable[[str], Any],
        signer: Callable[[], Signer],
        is_signed: Callable[[str, dict[str, Any], str], bool],
    ) -> None:
        self._book = book
        self._embed = embed
        self._signer = signer
        self._is_signed = is_signed

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

    def trace(self, decision_id: str) -> DecisionTrace:
        """Return a decision with its history.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreError: The store cannot be read.
        """
        log = self._book.read(decision_id)
        decision = self._views([log])[0]
        events = [views.to_event(event) for event in log.events]
        return DecisionTrace(**dict(decision), events=events)

    def list(
        self,
        *,
        status: DecisionStatus | None = None,
        category: DecisionCategory | None = None,
        actor: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Decision]:
        """Return a page of decisions, newest first.

        Args:
            status: Only those of this status.
            category: Only those recorded in this category.
            actor: Only those this one has asked for.
            limit: Size of a page, 1 to 1000.
            after: Id of the last decision of the page before.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: `after` is no decision of the store.
            StoreError: The store cannot be read.
        """
        _check(status, category, limit, MAX_PAGE)
        matches = _matching(status, category, (), actor)
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
    ) -> list[FoundDecision]:
        """Return decisions that mean something similar, most similar first.

        Args:
            query: What is looked for, in words; None: the newest first.
            category: Only those recorded in this category.
            tags: Only those that have every one of these.
            status: Only those of this status.
            limit: How many to return at most, 1 to 100.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        if isinstance(tags, str):
            raise InvalidArgumentError("tags", tags, "a list of texts")
        _check(status, category, limit, MAX_FOUND)
        matches = _matching(status, category, tags, None)
        if query is None:
            newest = (log for logs in self._newest_first(None) for log in logs)
            logs = _first(limit, (log for log in newest if matches(log.state)))
            return [_found(decision, None) for decision in self._views(logs)]
        if not query.strip():
            raise InvalidArgumentError("query", query, "a text that is not empty, or None")
        vector = self._embed(query)
        wanted = limit
        while True:
            near = self._nearest(vector, wanted)
            logs = self._book.read_all([name for name, _ in near])
            found = [(log, s) for n, s in near if (log := logs.get(n)) and matches(log.state)]
            if len(found) >= limit or len(near) < wanted or wanted >= _MAX_NEAREST:
                decisions = self._views([log for log, _ in found[:limit]])
                return [_found(d, s) for d, (_, s) in zip(decisions, found, strict=False)]
            wanted *= _WIDENING

    def _nearest(self, vector: Any, number: int) -> Sequence[tuple[str, float]]:
        return self._book.connection.read(
            lambda collections: store.nearest(collections, vector, number), fresh=True
        )

    def _newest_first(self, after: str | None) -> Iterator[list[Log]]:
        """Yield groups of decisions, newest first."""
        before = None if after is None else Entry(self._opened_ns(after), after)
        while True:
            # The store is not held open between: one whose time is over is changed by reading it.
            with self._book.connection.reading() as collections:
                entries = timeline.newest_first(collections.lists, before=before)
                group: list[Entry] = _first(_LOGS_AT_ONCE, entries)
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
            superseded = store.get(collections.log, ids)
            newer = {document["by"] for document in superseded.values()}
            begun = {n for n, c in store.read_logs(collections.log, list(newer)).items() if c}
        by = {i: d["by"] for i, d in superseded.items() if d["by"] in begun}
        return [
            views.to_decision(log.state, by.get(store.superseded_id(log.decision_id)))
            for log in logs
        ]

    # --- proof

    def sign(self, log: Log) -> dict[str, Any]:
        """Make the receipt of how a decision has ended, as it is to be stored."""
        closed = log.state.closed
        if closed is None:
            reason = "a receipt says how it has ended, and it has not"
            raise DecisionStateError(log.decision_id, log.state.status, "receipt", reason)
        created, signer = log.state.created, self._signer()
        stored = log.events[closed.sequence]
        data = {
            "decision_id": log.decision_id,
            "intent": created.facts["intent"],
            "status": log.state.status,
            "created_at": utc(created.at_ns).isoformat(),
            "closed_at": utc(closed.at_ns).isoformat(),
            "agent_id": log.state.actor,
            "events": closed.sequence + 1,
            "head": stored["hash"],
        }
        return {
            "receipt_data": data,
            "signature": signer.sign(data),
            "signed_at_ns": self._book.now_ns(),
            "key_id": signer.key_id,
            "public_key": signer.public_key,
        }

    def receipt(self, decision_id: str) -> Receipt:
        """Return the signed statement of how a decision has ended.

        Raises:
            DecisionNotFoundError: There is none with this id.
            DecisionStateError: It has not ended.
            StoreError: The store cannot be read.
        """
        log = self._book.read(decision_id)
        stored = self._stored_receipt(log)
        if stored is None:  # it was ended by a process that could not sign
            stored = self.sign(log)
            closed = log.state.closed
            if closed is not None:
                with self._book.connection.writing() as collections:
                    record_id = store.receipt_id(decision_id, closed.event_id)
                    store.put(collections.log, record_id, stored)
                    stored = store.get(collections.log, [record_id])[record_id]
        return Receipt(
            decision_id=decision_id,
            status=stored["receipt_data"]["status"],
            signature=stored["signature"],
            signed_at=utc(stored["signed_at_ns"]),
            receipt_data=stored["receipt_data"],
            key_id=stored["key_id"],
            public_key=stored["public_key"],
        )

    def _stored_receipt(self, log: Log) -> Any:
        closed = log.state.closed
        if closed is None:
            return None
        with self._book.connection.reading() as collections:
            record_id = store.receipt_id(log.decision_id, closed.event_id)
            return store.get(collections.log, [record_id]).get(record_id)

    def verify(self, decision_id: str) -> bool:
        """Tell whether a decision's history is as it was written.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreError: The store cannot be read.
        """
        return self.check(decision_id).ok

    def check(self, decision_id: str, receipt: Receipt | None = None) -> Verification:
        """Check a decision's history and receipt.

        Args:
            decision_id: The decision.
            receipt: One that was kept elsewhere, which shows if the end was exchanged; None: the
                one in the store.

        Returns:
            What was found; the first event that is not as it was written, if any.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreError: The store cannot be read.
        """
        with self._book.connection.reading() as collections:
            changes = store.read_logs(collections.log, [decision_id])[decision_id]
        if not changes:
            raise DecisionNotFoundError(decision_id, self._book.connection.name)
        events = [event for change in changes for event in change]
        bad = chain.check(decision_id, events)
        if bad is not None:
            return Verification(
                decision_id=decision_id,
                ok=False,
                events=len(events),
                first_bad_event=bad.event_id,
                problem=bad.problem,
            )
        log = Log(decision_id, changes)
        claims = self._stored_receipt(log) if receipt is None else receipt.model_dump()
        problem = None if claims is None else self._receipt_problem(log, claims)
        return Verification(
            decision_id=decision_id,
            ok=problem is None,
            events=len(events),
            erased_events=sum(event.erased for event in log.state.events),
            problem=problem,
            receipt="none" if claims is None else "invalid" if problem else "valid",
        )

    def _receipt_problem(self, log: Log, receipt: Mapping[str, Any]) -> str | None:
        data: dict[str, Any] = receipt["receipt_data"]
        own = self._signer()
        public_key = own.public_key if receipt["key_id"] == own.key_id else receipt["public_key"]
        if not self._is_signed(public_key, data, receipt["signature"]):
            return "the receipt's signature is not that of its data"
        if log.state.closed is None:
            return "the receipt says that it has ended, and it has not"
        expected = self.sign(log)["receipt_data"]
        wrong = [name for name, value in expected.items() if data.get(name) != value]
        return f"the receipt says another {', '.join(wrong)}" if wrong else None

    def check_all(self) -> Iterator[Verification]:
        """Check every decision of which anything is left.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._book.connection.reading() as collections:
            decision_ids = store.logged(collections.log)
        for decision_id in decision_ids:
            try:
                yield self.check(decision_id)
            except DecisionNotFoundError:
                yield Verification(
                    decision_id=decision_id, ok=False, events=0, problem="its first events are gone"
                )

    # --- forgetting

    def erase(self, decision_id: str, *, by: str, reason: str | None = None) -> Decision:
        """Erase what people and agents wrote in a decision; that it happened stays, and verifies.

        Args:
            decision_id: The decision, in whatever state.
            by: Who erases it.
            reason: Why.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreError: The store does not take it.
        """
        kept_reason = None if reason is None else self._book.recording.text(reason, "reason")

        def command(state: State) -> list[Draft]:
            sequences = [event.sequence for event in state.events if event.content is not None]
            said = {n for e in state.events for n in e.facts.get("sequences", ())}
            if not set(sequences) - said:
                return []  # said before, by who may have died before it was done
            facts = {"sequences": sequences, "reason": kept_reason}
            return [Draft(machine.CONTENT_ERASED, facts)]

        log = self._book.change(decision_id, by, command)
        said = {n for e in log.state.events for n in e.facts.get("sequences", ())}
        changed = {
            number: [
                chain.erased(event) if event["sequence"] in said else event for event in change
            ]
            for number, change in enumerate(log.changes)
            if any(e["sequence"] in said and e["content"] is not None for e in change)
        }
        if changed:
            with self._book.connection.writing() as collections:
                store.replace(collections, decision_id, changed)
        return self.get(decision_id)


def _found(decision: Decision, similarity: float | None) -> FoundDecision:
    rounded = None if similarity is None else round(similarity, 6)
    return FoundDecision(decision_id=decision.decision_id, similarity=rounded, decision=decision)


def _first(number: int, items: Iterator[Any]) -> list[Any]:
    return [item for _, item in zip(range(number), items, strict=False)]


def _matching(
    status: str | None, category: str | None, tags: Sequence[str], actor: str | None
) -> Callable[[State], bool]:
    def matches(state: State) -> bool:
        facts = state.created.facts
        return (
            (status is None or state.status == status)
            and (category is None or facts.get("category") == category)
            and (actor is None or state.actor == actor)
            and set(tags) <= set(facts.get("tags") or ())
        )

    return matches


def _check(status: Any, category: Any, limit: Any, maximum: int) -> None:
    if status is not None and status not in get_args(DecisionStatus):
        raise InvalidArgumentError("status", status, get_args(DecisionStatus))
    if category is not None and category not in get_args(DecisionCategory):
        raise InvalidArgumentError("category", category, get_args(DecisionCategory))
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= maximum:
        raise InvalidArgumentError("limit", limit, f"a whole number from 1 to {maximum}")
