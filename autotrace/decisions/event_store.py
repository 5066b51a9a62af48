"""Append-only event log of each decision in a store.

`change` reads the events, lets the state machine derive the next ones, and appends those under the
next number. If another process has taken that number, it starts over: each transition has one
winner, and all processes read the same history. An exception leaves the log unchanged.

Stored values are redacted first; policies and approval hashes see the originals.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from autotrace.decisions import approval_use, hash_chain, state_machine
from autotrace.decisions.hash_chain import StoredEvent
from autotrace.decisions.ledger import Ledger, Mark, gap
from autotrace.decisions.state_machine import Draft, State
from autotrace.errors import (
    DamagedDecisionError,
    DecisionNotFoundError,
    DecisionStateError,
    InvalidArgumentError,
    StoreUnavailableError,
)
from autotrace.ids import format_decision_id
from autotrace.models import TraceLocation
from autotrace.store import decision_log as store
from autotrace.store import paged_lists, schema
from autotrace.store.connection import Connection
from autotrace.store.decision_log import DecisionCollections

if TYPE_CHECKING:
    from autotrace.capture.approvals.decision_spans import DecisionRecording

logger = logging.getLogger("autotrace")

_MAX_ATTEMPTS: Final = 50


@dataclass(frozen=True)
class AppendedEvent:
    """An event that was appended, and the status of its decision after it."""

    decision_id: str
    intent: str
    status: str
    event: StoredEvent
    otel: tuple[str, ...] | None
    """`TraceLocation.otel` of the place where the decision was opened."""


@dataclass
class Log:
    """The stored changes of a decision, each a list of events, and the state they lead to."""

    decision_id: str
    changes: list[list[StoredEvent]]
    state: State = field(init=False)

    def __post_init__(self) -> None:
        try:
            events = [hash_chain.to_event(event) for event in self.events]
            self.state = state_machine.fold_events(self.decision_id, events)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedDecisionError(self.decision_id) from error
        if events[0].type != state_machine.CREATED:
            raise DamagedDecisionError(self.decision_id)

    @property
    def events(self) -> list[StoredEvent]:
        """All events, oldest first."""
        return [event for change in self.changes for event in change]


Command = Callable[[State], list[Draft]]
"""Returns the events that follow from a state, or raises."""


class DecisionEventStore:
    """The decisions of one store. Any thread may use it.

    Args:
        connection: Connection to the store.
        recording: Redacts values and records spans of events.
        ledger: Records count and head of each log outside of the store.
        sign: Makes the receipt of a decision that ended; None leaves it without one.
    """

    def __init__(
        self,
        connection: Connection[DecisionCollections],
        recording: DecisionRecording,
        *,
        ledger: Ledger,
        sign: Callable[[Log], Mapping[str, Any] | None],
    ) -> None:
        self.connection = connection
        self.recording = recording
        self.ledger = ledger
        self._sign = sign
        self.now_ns = time.time_ns
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    # --- opening

    def create(
        self,
        facts: Mapping[str, Any],
        content: Mapping[str, Any],
        *,
        place: TraceLocation,
        key: str | None = None,
        then: Sequence[Draft] = (),
    ) -> Log:
        """Open a decision, or return the one that an earlier call opened with the same key.

        Args:
            facts: `intent`, `automation_mode`, `actor`, `agent`, and other fields for rules and
                filters; `supersedes` is the id of the decision that this one replaces.
            content: Erasable text of people and agents.
            place: Current place in a trace.
            key: Idempotency key, unique for this agent.
            then: Events to append in the same change.

        Raises:
            InvalidArgumentError: The key belongs to a decision with another intent.
            DecisionNotFoundError: The superseded decision does not exist.
            DecisionStateError: Another decision supersedes it already.
            StoreUnavailableError: The store does not answer.
        """
        digits = None if key is None else _hashed("key", facts["agent"], key)
        decision_id = format_decision_id(digits)
        with self.connection.writing() as collections:
            log = self._find(collections, decision_id) if key is not None else None
            is_new = log is None
            if log is None:
                if (supersedes := facts.get("supersedes")) is not None:
                    self._supersede(collections, supersedes, decision_id)
                facts = {**facts, "key": key, "trace_id": place.trace_id, "otel": place.otel}
                draft = Draft(state_machine.CREATED, facts, dict(content))
                log, is_new = self._begin(collections, decision_id, [draft, *then])
        intent = log.state.created.facts["intent"]
        if intent != facts["intent"]:
            allowed = f"unique: this key belongs to {decision_id}, whose intent is {intent!r}"
            raise InvalidArgumentError("key", key, allowed)
        if is_new:
            self._report(log, log.events)
        return log

    def open_call(self, facts: Mapping[str, Any], *, place: TraceLocation) -> Log:
        """Return the unused decision on a tool call, or open a new one.

        Args:
            facts: As for `create`, with `tool`: its `name` and `arguments_sha256`.
            place: Current place in a trace.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        tool = facts["tool"]
        call = _hashed("call", facts["agent"], tool["name"], tool["arguments_sha256"])
        name = f"call/{call}"
        with self.connection.writing() as collections:
            number = paged_lists.lengths(collections.lists, [name])[name]
            if number and (log := self._find(collections, _call_id(call, number - 1))) is not None:
                if not approval_use.is_spent(log.state):
                    return log
                facts = {**facts, "previous_decision_id": log.decision_id}
            facts = {**facts, "trace_id": place.trace_id, "otel": place.otel}
            draft = Draft(state_machine.CREATED, facts, {})
            log, is_new = self._begin(collections, _call_id(call, number), [draft])
            # Decision n takes slot n, so that processes that race count it once.
            paged_lists.add(collections.lists, name, number, (log.decision_id,), self._writer)
        if is_new:
            self._report(log, log.events)
        return log

    def hiding_key(self) -> bytes:
        """Return the store's key for digests of hidden arguments; create it at first use."""
        with self.connection.writing() as collections:
            schema.add(collections.log, {store.HIDING_KEY_ID: {"key": secrets.token_hex(32)}})
            found: Any = schema.documents(collections.log, [store.HIDING_KEY_ID])[
                store.HIDING_KEY_ID
            ]
        return bytes.fromhex(found["key"])

    def _supersede(self, collections: DecisionCollections, old_id: str, new_id: str) -> None:
        old = self._read(collections, old_id)
        record_id = store.superseded_id(old_id)
        schema.add(collections.log, {record_id: {"by": new_id}})
        first = schema.documents(collections.log, [record_id])[record_id]["by"]
        if first != new_id and self._find(collections, first) is not None:
            reason = f"{first} supersedes it already"
            raise DecisionStateError(old_id, old.state.status, "supersede", reason)
        if first != new_id:  # its process died before it opened the decision
            schema.upsert(collections.log, {record_id: {"by": new_id}})

    def _begin(
        self, collections: DecisionCollections, decision_id: str, drafts: Sequence[Draft]
    ) -> tuple[Log, bool]:
        """Append the first change; return the log, and whether this call began it."""
        now_ns = self.now_ns()
        agent: str = drafts[0].facts["agent"]
        events = hash_chain.link(decision_id, None, drafts, by=agent, at_ns=now_ns)
        exclusive = self.connection.exclusive
        # Listed first: a crash before the append then leaves no decision out of the lists.
        store.add_decision_entry(collections, now_ns, decision_id, self._writer, exclusive)
        log = Log(decision_id, [events])
        if store.append_event(collections, decision_id, 0, events, also=self._receipt(log)):
            self._note(log)
            return log, True
        return self._read(collections, decision_id), False

    # --- changing

    def change(self, decision_id: str, by: str, command: Command, *, whole: bool = False) -> Log:
        """Append the events of a command; return the log with them.

        Args:
            decision_id: The decision.
            by: Name recorded in the events.
            command: Derives the events from the state; may run more than once.
            whole: Whether the chain and the ledger must verify, as for all that lets a call run.

        Raises:
            DecisionNotFoundError: No decision has this id.
            DamagedDecisionError: The log does not verify, and `whole` is set.
            StoreUnavailableError: The store does not answer, or other processes always won.
            AutotraceError: Raised by the command.
        """
        appended: list[tuple[Log, list[StoredEvent]]] = []
        try:
            with self.connection.writing() as collections:
                for _ in range(_MAX_ATTEMPTS):
                    log = self._read(collections, decision_id, whole=whole)
                    now_ns = self.now_ns()
                    ended = state_machine.expire(log.state, now_ns)
                    drafts = ended or command(log.state)
                    if not drafts:
                        return log
                    last = log.events[-1]
                    events = hash_chain.link(decision_id, last, drafts, by=by, at_ns=now_ns)
                    after = self._append(collections, log, events)
                    if after is None:
                        continue
                    appended.append((after, events))
                    if not ended:
                        return after
            msg = f"{decision_id} is contended; try again"
            raise StoreUnavailableError(msg)
        finally:
            for after, events in appended:
                self._report(after, events)

    def _append(
        self, collections: DecisionCollections, log: Log, events: list[StoredEvent]
    ) -> Log | None:
        after = Log(log.decision_id, [*log.changes, events])
        waits, waited = (at.state.status == "needs_approval" for at in (after, log))
        if waits and not waited:
            store.set_waiting(collections, log.decision_id, waits=True)
        number = len(log.changes)
        also = self._receipt(after)
        if not store.append_event(collections, log.decision_id, number, events, also=also):
            return None
        if waited and not waits:
            store.set_waiting(collections, log.decision_id, waits=False)
        self._note(after)
        return after

    def _note(self, log: Log) -> None:
        """Append to the ledger; nothing may run on an event that the ledger does not name."""
        try:
            self.ledger.note(log.decision_id, log.events)
        except OSError as error:
            msg = f"{log.decision_id} was changed, but its ledger cannot be written: {error}"
            raise StoreUnavailableError(msg) from error

    def _receipt(self, log: Log) -> dict[str, Any]:
        closed = log.state.closed
        if closed is None or closed not in log.state.events[-1:]:
            return {}
        receipt = self._sign(log)
        record_id = store.receipt_id(log.decision_id, closed.event_id)
        return {} if receipt is None else {record_id: receipt}

    def _report(self, log: Log, events: Sequence[StoredEvent]) -> None:
        facts, status = log.state.created.facts, log.state.status
        otel = None if facts.get("otel") is None else tuple(facts["otel"])
        for event in events:
            self.recording.event(
                AppendedEvent(log.decision_id, facts["intent"], status, event, otel)
            )

    # --- reading

    def read(self, decision_id: str, *, whole: bool = False) -> Log:
        """Return a decision; if its request has expired, append that first.

        Args:
            decision_id: The decision.
            whole: Whether the log must verify: see `change`.

        Raises:
            DecisionNotFoundError: No decision has this id.
            DamagedDecisionError: The log does not verify, and `whole` is set.
            StoreError: The store cannot be read.
        """
        with self.connection.reading() as collections:
            log = self._read(collections, decision_id, whole=whole)
        if state_machine.expire(log.state, self.now_ns()):
            return self.change(decision_id, log.state.agent, lambda _: [], whole=whole)
        return log

    def read_all(self, decision_ids: Sequence[str]) -> dict[str, Log]:
        """Return those decisions that exist and are not damaged, by id."""
        with self.connection.reading() as collections:
            found = store.read_logs(collections.log, decision_ids)
        logs: dict[str, Log] = {}
        for name, changes in found.items():
            try:
                if changes:
                    logs[name] = Log(name, changes)
            except DamagedDecisionError as error:
                logger.warning("left out: %s", error)
        now_ns = self.now_ns()
        over = [name for name, log in logs.items() if state_machine.expire(log.state, now_ns)]
        return logs | {name: self.read(name) for name in over}

    def _find(self, collections: DecisionCollections, decision_id: str) -> Log | None:
        changes = store.read_logs(collections.log, [decision_id])[decision_id]
        return Log(decision_id, changes) if changes else None

    def _read(
        self, collections: DecisionCollections, decision_id: str, *, whole: bool = False
    ) -> Log:
        # Marks are read before the log, so that they name no event appended in between.
        marks = self._marks(decision_id) if whole else []
        log = self._find(collections, decision_id)
        if log is None:
            raise DecisionNotFoundError(decision_id, self.connection.name)
        if whole:
            _check_whole(log, marks)
        return log

    def _marks(self, decision_id: str) -> list[Mark]:
        try:
            return self.ledger.marks(decision_id)
        except OSError as error:
            msg = f"the ledger of {decision_id} cannot be read: {error}"
            raise StoreUnavailableError(msg) from error


def _check_whole(log: Log, marks: Sequence[Mark]) -> None:
    """Raise DamagedDecisionError unless the chain holds and includes all marks of the ledger."""
    bad = hash_chain.check(log.decision_id, log.events)
    lacks = gap(marks, log.events, "the ledger")
    problem = lacks if bad is None else f"{bad.event_id}: {bad.problem}"
    if problem is not None:
        logger.error("%s: %s", log.decision_id, problem)
        raise DamagedDecisionError(log.decision_id)


def _hashed(*parts: str) -> str:
    """Return one id for several texts; their lengths separate them."""
    lengths = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(lengths.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _call_id(call: str, number: int) -> str:
    return format_decision_id(_hashed(call, str(number)))
