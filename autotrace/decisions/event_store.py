"""The book of decisions: opens, changes and reads them in a store.

Every change reads the events, asks the state machine what follows, and appends that under the next
number; who finds the number taken reads again. So whatever processes race, each transition has one
winner, and all see the same history. Nothing is changed when anything raises.

What is stored is redacted first; what policies see, and what an approval is bound to, is not.
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
from typing import Any, Final, Protocol

from autotrace.decisions import approval_use, hash_chain, state_machine
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
from autotrace.models import NOWHERE, TraceLocation
from autotrace.store import decision_log as store
from autotrace.store import paged_lists, schema
from autotrace.store.connection import Connection
from autotrace.store.decision_log import DecisionCollections

logger = logging.getLogger("autotrace")

_MAX_ATTEMPTS: Final = 50


class EventContext(Protocol):
    """What the book needs of capture: values that may be kept, and spans."""

    def value(self, value: Any, path: str) -> Any:
        """Return what may be kept of a value: redacted, bounded JSON."""
        ...

    def text(self, value: Any, path: str) -> str:
        """Return what may be kept of a text."""
        ...

    def place(self) -> TraceLocation:
        """Return where in a trace the caller is."""
        ...

    def event(self, happened: AppendedEvent) -> None:
        """Make the span of an event. Never raises."""
        ...


@dataclass(frozen=True)
class AppendedEvent:
    """An event that was appended."""

    decision_id: str
    intent: str
    status: str
    event: hash_chain.StoredEvent
    otel: tuple[str, ...] | None
    """Where the decision was opened: see `TraceLocation`."""


@dataclass
class Log:
    """A decision as it lies in the store."""

    decision_id: str
    changes: list[list[hash_chain.StoredEvent]]
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
    def events(self) -> list[hash_chain.StoredEvent]:
        """All events, oldest first."""
        return [event for change in self.changes for event in change]


Command = Callable[[State], list[Draft]]


class DecisionEventStore:
    """The decisions of one store. Any thread may use it.

    Args:
        connection: The store.
        recording: Makes values fit to be kept, and spans of events.
        ledger: Keeps count and head of what is appended.
        sign: Makes the receipt of an end; what it cannot sign ends without.
        clock_ns: Tells the time.
    """

    def __init__(
        self,
        connection: Connection[DecisionCollections],
        recording: EventContext,
        *,
        ledger: Ledger,
        sign: Callable[[Log], Mapping[str, Any] | None] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.connection = connection
        self.recording = recording
        self.ledger = ledger
        self._sign = sign
        self.now_ns = clock_ns
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    # --- opening

    def create(
        self,
        facts: Mapping[str, Any],
        content: Mapping[str, Any] | None = None,
        *,
        place: TraceLocation = NOWHERE,
        key: str | None = None,
        then: Sequence[Draft] = (),
        supersedes: str | None = None,
    ) -> Log:
        """Open a decision; with a key that was used before, find the one it has opened.

        Args:
            facts: `intent`, `automation_mode`, `actor`, `agent`, and more that rules and filters
                look at.
            content: What people and agents wrote.
            place: Where in a trace this happens.
            key: Idempotency key, for this agent.
            then: Events that follow at once.
            supersedes: The decision in whose place this one comes.

        Raises:
            InvalidArgumentError: The key has opened a decision with another intent.
            DecisionNotFoundError: What it supersedes does not exist.
            DecisionStateError: That is superseded already.
            StoreUnavailableError: The store does not answer.
        """
        digits = None if key is None else _hashed("key", facts["agent"], key)
        decision_id = format_decision_id(digits)
        with self.connection.writing() as collections:
            log = self._find(collections, decision_id) if key is not None else None
            is_new = log is None
            if log is None:
                if supersedes is not None:
                    self._supersede(collections, supersedes, decision_id)
                facts = {**facts, "key": key, "trace_id": place.trace_id, "otel": place.otel}
                draft = Draft(state_machine.CREATED, facts, dict(content or {}))
                log, is_new = self._begin(collections, decision_id, [draft, *then])
        if log.state.created.facts["intent"] != facts["intent"]:
            intent = log.state.created.facts["intent"]
            allowed = f"a key of its own: this one has opened {decision_id} with intent {intent!r}"
            raise InvalidArgumentError("key", key, allowed)
        if is_new:
            self._tell(log, log.events)
        return log

    def open_call(self, facts: Mapping[str, Any], *, place: TraceLocation = NOWHERE) -> Log:
        """Return the decision on a call of a tool: the one under way, or a new one.

        Args:
            facts: As for `create`, with `tool`: its `name` and `arguments_sha256`.
            place: Where in a trace this happens.

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
            # By whoever comes first of those who race: decision n is slot n, and is counted once.
            paged_lists.add(collections.lists, name, number, (log.decision_id,), self._writer)
        if is_new:
            self._tell(log, log.events)
        return log

    def hiding_key(self) -> bytes:
        """Return the store's key for the digests of hidden arguments, made at first use.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
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
            raise DecisionStateError(
                old_id, old.state.status, "supersede", f"{first} has superseded it"
            )
        if first != new_id:  # whoever it was has died before there was a decision
            schema.upsert(collections.log, {record_id: {"by": new_id}})

    def _begin(
        self, collections: DecisionCollections, decision_id: str, drafts: Sequence[Draft]
    ) -> tuple[Log, bool]:
        """Append the first change; return the log, and whether it was this one that began it."""
        now_ns = self.now_ns()
        agent: str = drafts[0].facts["agent"]
        events = hash_chain.link(decision_id, None, drafts, by=agent, at_ns=now_ns)
        exclusive = self.connection.exclusive
        # First, so that whatever dies in between, no decision is left out of the lists.
        store.add_decision_entry(collections, now_ns, decision_id, self._writer, exclusive)
        log = Log(decision_id, [events])
        if store.append_event(collections, decision_id, 0, events, also=self._receipt(log)):
            self._note(log)
            return log, True
        return self._read(collections, decision_id), False

    # --- changing

    def change(self, decision_id: str, by: str, command: Command, *, whole: bool = False) -> Log:
        """Append what follows from a command; return the log with it.

        Args:
            decision_id: The decision.
            by: Who does it.
            command: Returns the events that follow from a state, or raises.
            whole: Whether the chain must hold, with all that the ledger names: for what lets a call
                run.

        Raises:
            DecisionNotFoundError: There is none with this id.
            DamagedDecisionError: It must be whole, and is not.
            StoreUnavailableError: The store does not answer, or others always came first.
            AutotraceError: What the command raises.
        """
        appended: list[tuple[Log, list[hash_chain.StoredEvent]]] = []
        read = self._read_whole if whole else self._read
        try:
            with self.connection.writing() as collections:
                for _ in range(_MAX_ATTEMPTS):
                    log = read(collections, decision_id)
                    now_ns = self.now_ns()
                    ended = state_machine.expire(log.state, now_ns)
                    drafts = ended or command(log.state)
                    if not drafts:
                        return log
                    events = hash_chain.link(
                        decision_id, log.events[-1], drafts, by=by, at_ns=now_ns
                    )
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
                self._tell(after, events)

    def _append(
        self, collections: DecisionCollections, log: Log, events: list[hash_chain.StoredEvent]
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
        """Append to the ledger.

        Raises:
            StoreUnavailableError: It cannot be written: nothing may run on what it does not name.
        """
        try:
            self.ledger.note(log.decision_id, log.events)
        except OSError as error:
            msg = f"{log.decision_id} was changed, and its ledger cannot be written: {error}"
            raise StoreUnavailableError(msg) from error

    def _marks(self, decision_id: str) -> list[Mark]:
        """Return what the ledger names of a decision.

        Raises:
            StoreUnavailableError: It cannot be read.
        """
        try:
            return self.ledger.marks(decision_id)
        except OSError as error:
            msg = f"the ledger of {decision_id} cannot be read: {error}"
            raise StoreUnavailableError(msg) from error

    def _receipt(self, log: Log) -> dict[str, Any]:
        closed = log.state.closed
        if self._sign is None or closed is None or closed not in log.state.events[-1:]:
            return {}
        receipt = self._sign(log)
        record_id = store.receipt_id(log.decision_id, closed.event_id)
        return {} if receipt is None else {record_id: receipt}

    def _tell(self, log: Log, events: Sequence[hash_chain.StoredEvent]) -> None:
        facts = log.state.created.facts
        otel = facts.get("otel")
        for event in events:
            self.recording.event(
                AppendedEvent(
                    log.decision_id,
                    facts["intent"],
                    log.state.status,
                    event,
                    None if otel is None else tuple(otel),
                )
            )

    # --- reading

    def read(self, decision_id: str, *, whole: bool = False) -> Log:
        """Return a decision as it stands; one whose time is over is ended by that.

        Args:
            decision_id: The decision.
            whole: Whether the log must verify: see `change`.

        Raises:
            DecisionNotFoundError: There is none with this id.
            DamagedDecisionError: It must be whole, and is not.
            StoreError: The store cannot be read.
        """
        with self.connection.reading() as collections:
            log = (self._read_whole if whole else self._read)(collections, decision_id)
        if state_machine.expire(log.state, self.now_ns()):
            return self.change(decision_id, log.state.agent, lambda _: [], whole=whole)
        return log

    def read_all(self, decision_ids: Sequence[str]) -> dict[str, Log]:
        """Return those of some decisions that exist, as they stand; without damaged ones."""
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

    def _read(self, collections: DecisionCollections, decision_id: str) -> Log:
        log = self._find(collections, decision_id)
        if log is None:
            raise DecisionNotFoundError(decision_id, self.connection.name)
        return log

    def _read_whole(self, collections: DecisionCollections, decision_id: str) -> Log:
        # Read before the log: so they name nothing that is appended between both reads.
        marks = self._marks(decision_id)
        log = self._read(collections, decision_id)
        _check_whole(log, marks)
        return log


def _check_whole(log: Log, marks: Sequence[Mark]) -> None:
    """Raise DamagedDecisionError unless a chain holds, with all that the ledger names."""
    bad = hash_chain.check(log.decision_id, log.events)
    lacks = gap(marks, log.events, "the ledger")
    problem = lacks if bad is None else f"{bad.event_id}: {bad.problem}"
    if problem is not None:
        logger.error("%s: %s", log.decision_id, problem)
        raise DamagedDecisionError(log.decision_id)


def _hashed(*parts: str) -> str:
    """Return one id for several texts; their boundaries count."""
    lengths = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(lengths.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _call_id(call: str, number: int) -> str:
    return format_decision_id(_hashed(call, str(number)))
