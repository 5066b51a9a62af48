"""Proof of how decisions came about: receipts, checkpoints, checks of history; and erasing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from autotrace.decisions import hash_chain, state_machine, votes
from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.ledger import Mark, gap
from autotrace.decisions.receipts import ReceiptSigner
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
"""What reading a damaged receipt raises."""

_Rating: TypeAlias = Literal["valid", "unknown_key", "invalid", "none"]


class DecisionProof:
    """Signs, checks and erases the history of decisions. Any thread may use it.

    Args:
        book: Where they lie.
        signer: Returns what signs receipts.
        is_signed: Tells whether a signature is that of some data, given the public key.
        trusted: Public keys of other machines whose receipts are accepted.
    """

    def __init__(
        self,
        book: DecisionEventStore,
        *,
        signer: Callable[[], ReceiptSigner],
        is_signed: Callable[[str, dict[str, Any], str], bool],
        trusted: Collection[str] = (),
    ) -> None:
        self._book = book
        self._signer = signer
        self._is_signed = is_signed
        self._trusted = frozenset(trusted)

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
            DecisionStateError: It has not ended; or it has no receipt, and the ledger of this
                machine does not name how it ended.
            StoreError: The store cannot be read.
        """
        log = self._book.read(decision_id)
        stored = self._stored_receipt(log)
        if stored is None:  # it was ended by a process that could not sign
            data = _receipt_data(log)
            ended = log.events[: data["events"]]
            if not self._book.ledger.vouches(decision_id, ended):
                reason = "its receipt is missing, and this machine has not recorded how it ended"
                raise DecisionStateError(decision_id, log.state.status, "receipt", reason)
            stored = self.sign(log)
            closed = log.state.closed
            if closed is not None:
                with self._book.connection.writing() as collections:
                    record_id = store.receipt_id(decision_id, closed.event_id)
                    schema.add(collections.log, {record_id: stored})
                    stored = schema.documents(collections.log, [record_id])[record_id]
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
            return schema.documents(collections.log, [record_id]).get(record_id)

    def verify(self, decision_id: str) -> bool:
        """Return whether a decision's history, and its receipt, are as they were written.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreError: The store cannot be read.
        """
        return self.check(decision_id).ok

    def check(
        self,
        decision_id: str,
        receipt: Receipt | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Verification:
        """Check a decision's history and receipt.

        Args:
            decision_id: The decision.
            receipt: One that was kept elsewhere, which shows if the end was exchanged; None: the
                one in the store.
            checkpoint: One that was kept elsewhere, which the history must continue.

        Returns:
            What was found; the first event that is not as it was written, if any.

        Raises:
            DecisionNotFoundError: There is none with this id.
            InvalidArgumentError: The checkpoint is not signed by a trusted key.
            StoreError: The store cannot be read.
        """
        kept = {} if checkpoint is None else self._marks_of(checkpoint)
        return self._checked(decision_id, receipt, None, kept.get(decision_id))

    def _checked(
        self,
        decision_id: str,
        receipt: Receipt | None,
        receipts: Collection[str] | None,
        kept: Mark | None,
    ) -> Verification:
        """Check a decision; `receipts` are the events that have one, if known.

        `kept` is what a checkpoint names of it, if there is one.
        """
        marks, changes = self._read([decision_id])[decision_id]
        events = [event for change in changes for event in change]
        lacks = gap(marks, events, "the ledger")
        if lacks is None and kept is not None:
            lacks = gap([kept], events, "the checkpoint")
        if not changes and lacks is None:
            raise DecisionNotFoundError(decision_id, self._book.connection.name)
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
        claims = self._stored_receipt(log) if receipt is None else receipt.model_dump()
        problem, rating = self._rated(log, claims)
        state = log.state
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

    def _rated(self, log: Log, receipt: Mapping[str, Any] | None) -> tuple[str | None, _Rating]:
        """Return what is wrong with the receipt of a decision, and how to call it."""
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

    def _trusted_key(self, receipt: Mapping[str, Any]) -> str | None:
        own, public_key = self._signer(), receipt["public_key"]
        if receipt["key_id"] == own.key_id:
            return own.public_key if public_key == own.public_key else None
        return public_key if public_key in self._trusted else None

    def _stray(self, log: Log, receipts: Collection[str] | None) -> str | None:
        """Return what is wrong if there is a receipt of an event that is not there."""
        closed = log.state.closed
        if receipts is None:
            if closed is not None:
                return None  # its own receipt was checked: no scan of the store for others
            with self._book.connection.reading() as collections:
                receipts = store.receipts(collections.log).get(log.decision_id, ())
        own = None if closed is None else closed.event_id
        stray = [event_id for event_id in receipts if event_id != own]
        return f"there is a receipt of the event {stray[0]}, which is gone" if stray else None

    def _receipt_problem(self, log: Log, receipt: Mapping[str, Any]) -> str | None:
        data: dict[str, Any] = receipt["receipt_data"]
        public_key = self._trusted_key(receipt) or receipt["public_key"]
        if not self._is_signed(public_key, data, receipt["signature"]):
            return "the receipt's signature is not that of its data"
        if log.state.closed is None:
            return "the receipt says that it has ended, and it has not"
        expected = _receipt_data(log)
        wrong = [name for name, value in expected.items() if data.get(name) != value]
        return f"the receipt says another {', '.join(wrong)}" if wrong else None

    def check_all(self, checkpoint: Checkpoint | None = None) -> list[Verification]:
        """Check every decision of which anything is left, or which ledger or checkpoint name.

        Args:
            checkpoint: One that was kept elsewhere, which the histories must continue.

        Raises:
            InvalidArgumentError: The checkpoint is not signed by a trusted key.
            StoreError: The store cannot be read.
        """
        kept = {} if checkpoint is None else self._marks_of(checkpoint)
        with self._book.connection.reading() as collections:
            receipts = store.receipts(collections.log)
            known = [*store.logged(collections.log), *receipts, *self._book.ledger.decision_ids()]
        checked: list[Verification] = []
        for decision_id in dict.fromkeys([*known, *kept]):
            mark = kept.get(decision_id)
            try:
                found = self._checked(decision_id, None, receipts.get(decision_id, ()), mark)
            except DecisionNotFoundError:
                gone = "its first events are gone"
                found = Verification(decision_id=decision_id, ok=False, events=0, problem=gone)
            checked.append(found)
        return checked

    def verify_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Return whether every decision verifies, and continues what a checkpoint names.

        Raises:
            InvalidArgumentError: The checkpoint is not signed by a trusted key.
            StoreError: The store cannot be read.
        """
        return all(found.ok for found in self.check_all(checkpoint))

    def _read(
        self, decision_ids: Sequence[str]
    ) -> dict[str, tuple[list[Mark], list[list[hash_chain.StoredEvent]]]]:
        """Return what the ledger names of decisions, and their changes."""
        # The ledger first: it then names nothing that was appended after the logs were read.
        marks = {each: self._book.ledger.marks(each) for each in decision_ids}
        with self._book.connection.reading() as collections:
            changes = store.read_logs(collections.log, decision_ids)
        return {each: (marks[each], changes[each]) for each in decision_ids}

    # --- checkpoints

    def checkpoint(self) -> Checkpoint:
        """Sign the number of events and the head of every decision, in the order of their ids.

        A decision whose chain does not hold, or lacks what the ledger names, is left out by name:
        a checkpoint vouches for no history that does not verify.

        Raises:
            SigningKeyError: The key cannot be read.
            StoreError: The store cannot be read.
        """
        with self._book.connection.reading() as collections:
            known = {*store.logged(collections.log), *self._book.ledger.decision_ids()}
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
            "store": self._book.connection.name,
            "created_at": utc(self._book.now_ns()).isoformat(),
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
        """Return what a checkpoint names, by decision.

        Raises:
            InvalidArgumentError: It is not signed by a trusted key, or not a checkpoint.
        """
        data = checkpoint.checkpoint_data
        key = self._trusted_key(checkpoint.model_dump(include={"key_id", "public_key"}))
        if key is None:
            given = f"signed with the key {checkpoint.public_key}"
            allowed = (
                "signed with this store's key, or with one that the setting receipt_keys names"
            )
            raise InvalidArgumentError("checkpoint", given, allowed)
        if not self._is_signed(key, data, checkpoint.signature):
            given = f"a signature of other data, by the key {checkpoint.key_id}"
            allowed = "as `autotrace decisions checkpoint` wrote it: it was changed, or forged"
            raise InvalidArgumentError("checkpoint", given, allowed)
        if data.get("kind") != CHECKPOINT_KIND:
            allowed = f"of the kind {CHECKPOINT_KIND!r}, which this version reads"
            raise InvalidArgumentError("checkpoint", data.get("kind"), allowed)
        return {e["decision_id"]: Mark(e["events"], e["head"]) for e in data["decisions"]}

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
            return [Draft(state_machine.CONTENT_ERASED, facts)]

        log = self._book.change(decision_id, by, command)
        said = {n for e in log.state.events for n in e.facts.get("sequences", ())}
        changed = {
            number: [
                hash_chain.erased(event) if event["sequence"] in said else event for event in change
            ]
            for number, change in enumerate(log.changes)
            if any(e["sequence"] in said and e["content"] is not None for e in change)
        }
        if changed:
            with self._book.connection.writing() as collections:
                self._book.connection.purge_later()
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
