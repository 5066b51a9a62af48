"""Receipts, checkpoints and the verification of histories; erasing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from autotrace.decisions import hash_chain, state_machine, votes
from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.hash_chain import StoredEvent
from autotrace.decisions.ledger import Mark, gap
from autotrace.decisions.receipts import ReceiptSigner, verify_signature
from autotrace.decisions.state_machine import Draft, State
from autotrace.errors import DecisionNotFoundError, DecisionStateError, InvalidArgumentError
from autotrace.models import Checkpoint, Receipt, Verification
from autotrace.semconv import CHECKPOINT_KIND
from autotrace.store import decision_log as store
from autotrace.store import schema
from autotrace.store.schema import groups
from autotrace.store.times import utc

_LOGS_AT_ONCE: Final = 50
_UNREADABLE: Final = (KeyError, TypeError, ValueError, AttributeError)
"""Exceptions of reading a damaged receipt."""

_Rating: TypeAlias = Literal["valid", "unknown_key", "invalid", "none"]


class DecisionProof:
    """Signs and verifies how decisions ended. Any thread may use it.

    `Decisions` documents the methods that have its names.

    Args:
        events: The decisions.
        signer: Returns the signer of receipts.
        trusted: Public keys of other machines whose receipts are accepted.
    """

    def __init__(
        self,
        events: DecisionEventStore,
        signer: Callable[[], ReceiptSigner],
        trusted: Collection[str],
    ) -> None:
        self._events = events
        self._signer = signer
        self._trusted = frozenset(trusted)

    def sign(self, log: Log) -> dict[str, Any]:
        """Return the receipt of a decision, as it is stored."""
        data, signer = _receipt_data(log), self._signer()
        return {
            "receipt_data": data,
            "signature": signer.sign(data),
            "signed_at_ns": self._events.now_ns(),
            "key_id": signer.key_id,
            "public_key": signer.public_key,
        }

    def receipt(self, decision_id: str) -> Receipt:
        """Return the receipt of a decision; sign it now if the process that ended it could not."""
        log = self._events.read(decision_id)
        stored = self._stored_receipt(log)
        if stored is None:
            stored = self._sign_late(log)
        return Receipt(
            decision_id=decision_id,
            status=stored["receipt_data"]["status"],
            signature=stored["signature"],
            signed_at=utc(stored["signed_at_ns"]),
            receipt_data=stored["receipt_data"],
            key_id=stored["key_id"],
            public_key=stored["public_key"],
        )

    def _sign_late(self, log: Log) -> dict[str, Any]:
        data = _receipt_data(log)
        if not self._events.ledger.vouches(log.decision_id, log.events[: data["events"]]):
            reason = "its receipt is missing, and the ledger of this machine does not name its end"
            raise DecisionStateError(log.decision_id, log.state.status, "receipt", reason)
        signed = self.sign(log)
        if (closed := log.state.closed) is None:
            return signed
        with self._events.connection.writing() as collections:
            record_id = store.receipt_id(log.decision_id, closed.event_id)
            schema.add(collections.log, {record_id: signed})
            stored: Any = schema.documents(collections.log, [record_id])[record_id]
        return stored

    def _stored_receipt(self, log: Log) -> Any:
        closed = log.state.closed
        if closed is None:
            return None
        with self._events.connection.reading() as collections:
            record_id = store.receipt_id(log.decision_id, closed.event_id)
            return schema.documents(collections.log, [record_id]).get(record_id)

    # --- verification

    def check(
        self, decision_id: str, receipt: Receipt | None, checkpoint: Checkpoint | None
    ) -> Verification:
        """Verify one decision."""
        kept = {} if checkpoint is None else self._marks_of(checkpoint)
        return self._verify(decision_id, kept.get(decision_id), receipt)

    def check_all(self, checkpoint: Checkpoint | None) -> list[Verification]:
        """Verify each decision that store, ledger or checkpoint names."""
        kept = {} if checkpoint is None else self._marks_of(checkpoint)
        with self._events.connection.reading() as collections:
            receipts = store.receipts(collections.log)
            known = [*store.logged(collections.log), *receipts, *self._events.ledger.decision_ids()]
        checked: list[Verification] = []
        for decision_id in dict.fromkeys([*known, *kept]):
            own_receipts = receipts.get(decision_id, ())
            try:
                found = self._verify(decision_id, kept.get(decision_id), None, own_receipts)
            except DecisionNotFoundError:
                gone = "its first events are gone"
                found = Verification(decision_id=decision_id, ok=False, events=0, problem=gone)
            checked.append(found)
        return checked

    def _verify(
        self,
        decision_id: str,
        kept: Mark | None,
        receipt: Receipt | None,
        receipts: Collection[str] | None = None,
    ) -> Verification:
        """Verify a decision.

        Args:
            decision_id: The decision.
            kept: Entry of a checkpoint.
            receipt: Receipt to verify in place of the stored one.
            receipts: Ids of its events that have a stored receipt; None: read them if needed.
        """
        marks, changes = self._read([decision_id])[decision_id]
        events = [event for change in changes for event in change]
        lacks = gap(marks, events, "the ledger")
        if lacks is None and kept is not None:
            lacks = gap([kept], events, "the checkpoint")
        if not changes and lacks is None:
            raise DecisionNotFoundError(decision_id, self._events.connection.name)
        bad = hash_chain.check(decision_id, events)
        if bad is not None or lacks is not None:
            return Verification(
                decision_id=decision_id,
                ok=False,
                events=len(events),
                first_bad_event=None if bad is None else bad.event_id,
                problem=lacks if bad is None else bad.problem,
            )
        log = Log(decision_id, changes)
        state = log.state
        claims = self._stored_receipt(log) if receipt is None else receipt.model_dump()
        problem, rating = self._rate(log, claims)
        problem = problem or self._stray(log, receipts) or votes.problem(state)
        keys = [votes.key_of(state, vote, state.arguments_sha256) for vote in state.answers]
        return Verification(
            decision_id=decision_id,
            ok=problem is None,
            events=len(events),
            erased_events=sum(event.erased for event in state.events),
            signed_votes=sum(key is not None for key in keys),
            problem=problem,
            receipt=rating,
        )

    def _rate(self, log: Log, receipt: Mapping[str, Any] | None) -> tuple[str | None, _Rating]:
        """Return the problem of a receipt, and its rating."""
        if receipt is None:
            missing = "it has ended, and its receipt is missing" if log.state.closed else None
            return missing, "none"
        try:
            problem = self._receipt_problem(log, receipt)
            is_trusted = self._trusted_key(receipt) is not None
        except _UNREADABLE as error:
            return f"its receipt cannot be read: {error!r}", "invalid"
        if problem is not None:
            return problem, "invalid"
        if not is_trusted:
            unknown = (
                f"its receipt is signed with the key {receipt['public_key']!r}, which is not "
                "this store's; the setting receipt_keys names the keys of other machines"
            )
            return unknown, "unknown_key"
        return None, "valid"

    def _trusted_key(self, signed: Mapping[str, Any]) -> str | None:
        own, public_key = self._signer(), signed["public_key"]
        if signed["key_id"] == own.key_id:
            return own.public_key if public_key == own.public_key else None
        return public_key if public_key in self._trusted else None

    def _stray(self, log: Log, receipts: Collection[str] | None) -> str | None:
        """Return the problem of a receipt whose event does not exist; None without one."""
        closed = log.state.closed
        if receipts is None:
            if closed is not None:
                return None  # its own receipt was verified; others would need a scan of the store
            with self._events.connection.reading() as collections:
                receipts = store.receipts(collections.log).get(log.decision_id, ())
        own = None if closed is None else closed.event_id
        stray = [event_id for event_id in receipts if event_id != own]
        return f"there is a receipt of the event {stray[0]}, which is gone" if stray else None

    def _receipt_problem(self, log: Log, receipt: Mapping[str, Any]) -> str | None:
        data: dict[str, Any] = receipt["receipt_data"]
        public_key = self._trusted_key(receipt) or receipt["public_key"]
        if not verify_signature(public_key, data, receipt["signature"]):
            return "the receipt's signature is not that of its data"
        if log.state.closed is None:
            return "there is a receipt of its end, and it has not ended"
        expected = _receipt_data(log)
        wrong = [name for name, value in expected.items() if data.get(name) != value]
        return f"the receipt has another {', '.join(wrong)}" if wrong else None

    def _read(
        self, decision_ids: Sequence[str]
    ) -> dict[str, tuple[list[Mark], list[list[StoredEvent]]]]:
        """Return the ledger's marks and the stored changes of decisions."""
        # Marks are read before the logs, so that they name no event appended in between.
        marks = {each: self._events.ledger.marks(each) for each in decision_ids}
        with self._events.connection.reading() as collections:
            changes = store.read_logs(collections.log, decision_ids)
        return {each: (marks[each], changes[each]) for each in decision_ids}

    # --- checkpoints

    def checkpoint(self) -> Checkpoint:
        """Sign count and head of each decision that verifies; name the others."""
        with self._events.connection.reading() as collections:
            known = {*store.logged(collections.log), *self._events.ledger.decision_ids()}
        entries: list[dict[str, Any]] = []
        left_out: list[str] = []
        for group in groups(sorted(known), _LOGS_AT_ONCE):
            for decision_id, (marks, changes) in self._read(group).items():
                events = [event for change in changes for event in change]
                lacks = not events or gap(marks, events, "the ledger") is not None
                if lacks or hash_chain.check(decision_id, events) is not None:
                    left_out.append(decision_id)
                else:
                    entry = {"decision_id": decision_id, "events": len(events)}
                    entries.append(entry | {"head": events[-1]["hash"]})
        data = {
            "kind": CHECKPOINT_KIND,
            "store": self._events.connection.name,
            "created_at": utc(self._events.now_ns()).isoformat(),
            "decisions": entries,
            "left_out": left_out,
        }
        signer = self._signer()
        return Checkpoint(
            checkpoint_data=data,
            signature=signer.sign(data),
            key_id=signer.key_id,
            public_key=signer.public_key,
        )

    def _marks_of(self, checkpoint: Checkpoint) -> dict[str, Mark]:
        """Return the entries of a checkpoint by decision.

        Raises:
            InvalidArgumentError: The object is not a checkpoint that a trusted key signed.
        """
        data = checkpoint.checkpoint_data
        key = self._trusted_key(checkpoint.model_dump(include={"key_id", "public_key"}))
        if key is None:
            given = f"signed with the key {checkpoint.public_key}"
            allowed = (
                "signed with this store's key, or with one that the setting receipt_keys names"
            )
            raise InvalidArgumentError("checkpoint", given, allowed)
        if not verify_signature(key, data, checkpoint.signature):
            given = f"a signature of other data, by the key {checkpoint.key_id}"
            allowed = "as `autotrace decisions checkpoint` wrote it: it was changed, or forged"
            raise InvalidArgumentError("checkpoint", given, allowed)
        if data.get("kind") != CHECKPOINT_KIND:
            allowed = f"of the kind {CHECKPOINT_KIND!r}, which this version reads"
            raise InvalidArgumentError("checkpoint", data.get("kind"), allowed)
        return {e["decision_id"]: Mark(e["events"], e["head"]) for e in data["decisions"]}


def erase(events: DecisionEventStore, decision_id: str, *, by: str, reason: str | None) -> None:
    """Record that the content of a decision is erased, then erase it.

    A later call finishes an erasure whose process died in between.
    """
    reason = None if reason is None else events.recording.text(reason, "reason")

    def command(state: State) -> list[Draft]:
        sequences = [event.sequence for event in state.events if event.content is not None]
        recorded = {n for e in state.events for n in e.facts.get("sequences", ())}
        if not set(sequences) - recorded:
            return []
        facts = {"sequences": sequences, "reason": reason}
        return [Draft(state_machine.CONTENT_ERASED, facts)]

    log = events.change(decision_id, by, command)
    recorded = {n for e in log.state.events for n in e.facts.get("sequences", ())}
    changed = {
        number: [
            hash_chain.erased(event) if event["sequence"] in recorded else event for event in change
        ]
        for number, change in enumerate(log.changes)
        if any(e["sequence"] in recorded and e["content"] is not None for e in change)
    }
    if changed:
        with events.connection.writing() as collections:
            events.connection.purge_later()
            store.replace(collections, decision_id, changed)


def _receipt_data(log: Log) -> dict[str, Any]:
    """Return the data of a receipt.

    Raises:
        DecisionStateError: The decision has not ended.
    """
    closed = log.state.closed
    if closed is None:
        reason = "a receipt needs a decision that has ended"
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
