"""Proof of how decisions came about: receipts, checks of their history; and erasing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol

from autotrace.decisions import chain, machine
from autotrace.decisions.book import DecisionBook, Log
from autotrace.decisions.machine import Draft, State
from autotrace.errors import DecisionNotFoundError, DecisionStateError
from autotrace.models import Receipt, Verification
from autotrace.store import decisions as store
from autotrace.store.times import utc


class Signer(Protocol):
    """Signs receipts."""

    key_id: str
    public_key: str

    def sign(self, receipt_data: dict[str, Any]) -> str:
        """Return the signature of some data, as base64."""
        ...


class DecisionProof:
    """Signs, checks and erases the history of decisions. Any thread may use it.

    Args:
        book: Where they lie.
        signer: Returns what signs receipts.
        is_signed: Tells whether a signature is that of some data, given the public key.
    """

    def __init__(
        self,
        book: DecisionBook,
        *,
        signer: Callable[[], Signer],
        is_signed: Callable[[str, dict[str, Any], str], bool],
    ) -> None:
        self._book = book
        self._signer = signer
        self._is_signed = is_signed

    def sign(self, log: Log) -> dict[str, Any]:
        """Make the receipt of how a decision has ended, as it is to be stored."""
        data, signer = _receipt_data(log), self._signer()
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
            receipt=self._rating(claims, problem),
        )

    def _rating(
        self, receipt: Mapping[str, Any] | None, problem: str | None
    ) -> Literal["valid", "unknown_key", "invalid", "none"]:
        if receipt is None:
            return "none"
        if problem is not None:
            return "invalid"
        return "valid" if receipt["key_id"] == self._signer().key_id else "unknown_key"

    def _receipt_problem(self, log: Log, receipt: Mapping[str, Any]) -> str | None:
        data: dict[str, Any] = receipt["receipt_data"]
        own = self._signer()
        public_key = own.public_key if receipt["key_id"] == own.key_id else receipt["public_key"]
        if not self._is_signed(public_key, data, receipt["signature"]):
            return "the receipt's signature is not that of its data"
        if log.state.closed is None:
            return "the receipt says that it has ended, and it has not"
        expected = _receipt_data(log)
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

    def erase(self, decision_id: str, *, by: str, reason: str | None = None) -> None:
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


def _receipt_data(log: Log) -> dict[str, Any]:
    """Return what a receipt says: how a decision has ended."""
    closed = log.state.closed
    if closed is None:
        reason = "a receipt says how it has ended, and it has not"
        raise DecisionStateError(log.decision_id, log.state.status, "receipt", reason)
    created = log.state.created
    return {
        "decision_id": log.decision_id,
        "intent": created.facts["intent"],
        "status": log.state.status,
        "created_at": utc(created.at_ns).isoformat(),
        "closed_at": utc(closed.at_ns).isoformat(),
        "agent_id": log.state.agent,
        "events": closed.sequence + 1,
        "head": log.events[closed.sequence]["hash"],
    }
