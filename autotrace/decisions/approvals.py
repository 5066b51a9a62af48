"""Approvals: requests, answers, and their use by one tool call. The first part of `Decisions`.

This base class also holds the store and the caller, and authorises the caller. The rules are pure
functions (state_machine.py, approval_use.py, votes.py); event_store.py settles races.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from autotrace.decision_requests import ApprovalAnswer, GatedCall, tool_intent
from autotrace.decisions import approval_use, state_machine, to_models, validation, votes
from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.ledger import Ledger
from autotrace.decisions.notify.delivery import Deliveries, DeliveryReporter
from autotrace.decisions.notify.routes import approval_notice, route_named
from autotrace.decisions.polling import until_answered
from autotrace.decisions.receipts import receipt_signer
from autotrace.decisions.state_machine import Draft, State
from autotrace.decisions.validation import ArgumentValidator
from autotrace.decisions.verification import DecisionProof
from autotrace.errors import (
    ApprovalRefused,
    InvalidArgumentError,
    NotPermittedError,
)
from autotrace.ids import new_approval_id
from autotrace.models import (
    Approval,
    ApprovalRequest,
    AutomationMode,
    Decision,
    TraceLocation,
)
from autotrace.semconv import DEFAULT_ACTOR
from autotrace.store.connection import ServerOptions
from autotrace.store.decision_log import connect_decisions

if TYPE_CHECKING:
    from autotrace.base.health_counters import HealthCounters
    from autotrace.capture.approvals.decision_spans import DecisionRecording
    from autotrace.embedding.choice import Embedding
    from autotrace.server.auth.principal import Principal
    from autotrace.settings import Settings

_Send = Callable[[Mapping[str, Any], DeliveryReporter], None]


class Approvals:
    """Base of `Decisions`: requests for approval, answers, and their use.

    Args:
        settings: Name the store, keys, routes and rules.
        recording: Redacts values and records spans of events.
        counters: Count and log failures.
        embedding: Embedding of the store; None: nothing can be searched by meaning.
    """

    def __init__(
        self,
        settings: Settings,
        recording: DecisionRecording,
        counters: HealthCounters,
        embedding: Embedding | None = None,
    ) -> None:
        self._settings = settings
        self._counters = counters
        self._embedding = embedding
        self._validator = ArgumentValidator(recording)
        self._deliveries = Deliveries(count=counters.add)
        self._actor = settings.agent or DEFAULT_ACTOR
        self._keys = ApprovalRequest(approver_keys=settings.approver_keys).approver_keys
        self._caller: Principal | None = None
        self._place: TraceLocation | None = None
        space = None if embedding is None else embedding.space
        server = ServerOptions.of(settings)
        # In the folder of the signing key: a client of Chroma can write to neither.
        ledger = Ledger(settings.receipt_key_path.with_name("ledger"))
        self.event_store = DecisionEventStore(
            connect_decisions(settings.store, space=space, server=server),
            recording,
            ledger=ledger,
            sign=self._sign_end,
        )
        signer = functools.cache(lambda: receipt_signer(settings))
        self._proof = DecisionProof(self.event_store, signer, settings.receipt_keys)

    def _sign_end(self, log: Log) -> Mapping[str, Any] | None:
        try:
            return self._proof.sign(log)
        except Exception as error:  # noqa: BLE001 - a decision ends with or without a receipt
            self._counters.add("unsigned_decisions")
            message = f"a decision has ended without a receipt: {error}"
            self._counters.record_failure("receipt", message, error)
            return None

    # --- authorisation

    def _check_program(self, operation: str) -> None:
        """Raise NotPermittedError unless the program itself calls, without an API key."""
        if self._caller is not None:
            msg = f"an API key does not allow {operation}: use the command line or the library"
            raise NotPermittedError(msg)

    def _check_owns(self, decision_id: str) -> None:
        """Raise NotPermittedError unless the caller may change the decision."""
        if self._caller is not None:
            self._caller.check_owns(self.event_store.read(decision_id).state.agent, decision_id)

    def _sees(self, decision: Decision) -> bool:
        return self._caller is None or self._caller.sees(decision)

    def _by(self, name: str | None) -> str:
        """Return the agent of the key; without a key, the given name or that of the settings."""
        if self._caller is not None:
            return self._caller.agent
        return self._actor if name is None else name

    def _here(self) -> TraceLocation:
        return self.event_store.recording.place() if self._place is None else self._place

    def _facts(self, intent: Any, mode: Any, actor: Any) -> dict[str, Any]:
        if mode not in get_args(AutomationMode):
            raise InvalidArgumentError("automation_mode", mode, get_args(AutomationMode))
        actor = validation.name("actor", actor)
        intent = validation.name("intent", intent)
        return {"intent": intent, "automation_mode": mode, "actor": actor, "agent": actor}

    # --- requests and answers

    def check_route(self, name: str | None) -> None:
        """Raise InvalidArgumentError unless an approval route has this name, or None."""
        self._check_program("the gate of a tool")
        route_named(name, self._settings)

    def request_approval(
        self, decision_id: str, request: ApprovalRequest, *, by: str | None = None
    ) -> Approval:
        """Request approval and notify approvers; a request that waits already stays as it is.

        The requester cannot answer.

        Raises:
            InvalidArgumentError: No route has this name.
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: The decision is not open.
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        requester = self._by(by)
        sender = route_named(request.route, self._settings)
        approval_id = new_approval_id()
        facts: dict[str, Any] = {
            "approval_id": approval_id,
            "requester": requester,
            "require_rationale": request.require_rationale,
            "approvals_needed": request.approvals_needed,
            "expires_in_seconds": request.expires_in_seconds,
            "route": request.route,
            "notifies": sender is not None,
            "arguments_sha256": request.arguments_sha256,
        }
        if (terms := self._terms(request)) is not None:
            facts["approver_keys"] = terms.approver_keys
        content: dict[str, Any] = {
            name: self._validator.text(name, text)
            for name, text in (("title", request.title), ("message", request.message))
            if text is not None
        }
        if request.arguments is not None:
            content |= {"arguments": request.arguments, "hidden": list(request.hidden)}
        draft = Draft(state_machine.APPROVAL_REQUESTED, facts, content)
        log = self.event_store.change(
            decision_id, requester, lambda state: state_machine.request_approval(state, draft)
        )
        waiting = log.state.request
        assert waiting is not None  # noqa: S101 - the state machine returned no other state
        approval = to_models.to_approval(log.state, waiting)
        if sender is not None and approval.id == approval_id:
            send = functools.partial(self._deliveries.deliver, sender)
            self._notify(send, log, approval, content.get("arguments"))
        return approval

    def _notify(self, send: _Send, log: Log, approval: Approval, arguments: Any) -> None:
        def report(status: Literal["delivered", "failed"], note: str, attempts: int) -> None:
            facts = {"status": status, "attempts": attempts}
            draft = Draft(state_machine.APPROVAL_DELIVERY, facts, {"note": note})
            self.event_store.change(log.decision_id, "autotrace", lambda _: [draft])

        send(approval_notice(to_models.to_decision(log.state), approval, arguments), report)

    def resolve(self, decision_id: str, answer: ApprovalAnswer) -> Decision:
        """Record an answer to a request for approval.

        Raises:
            InvalidArgumentError: The approver has no name, the request requires a rationale or a
                signature, or the signature does not verify.
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: No request waits, or the head has moved.
            ApprovalRefused: The approver is the requester.
            NotPermittedError: The key is an agent's, or the requester's.
        """
        if self._caller is not None:
            state = self.event_store.read(decision_id).state
            requested = state.request
            self._caller.check_resolves(
                state.agent if requested is None else requested.event.facts["requester"]
            )
        rationale = answer.rationale
        if rationale is not None:
            rationale = self._validator.text("rationale", rationale, may_be_empty=True)
        approver = validation.name("approver", self._by(answer.approver))
        checked = replace(answer, approver=approver, rationale=rationale)

        def command(state: State) -> list[Draft]:
            drafts = state_machine.resolve(state, checked)
            return votes.with_signature(state, drafts, checked)

        log = self.event_store.change(decision_id, approver, command, whole=answer.granted)
        return to_models.to_decision(log.state)

    def until_answered(
        self, decision_id: str, timeout_s: float | None
    ) -> Generator[float, None, Decision]:
        """Wait until the request is answered or ends, or the time is over.

        Yields:
            Seconds to sleep before the next look.

        Returns:
            The decision in its state then.

        Raises:
            DecisionNotFoundError: No decision has this id.
            StoreUnavailableError: The store has not answered for a minute.
        """
        self._check_program("waiting for an answer")
        log = yield from until_answered(self.event_store, decision_id, timeout_s)
        return to_models.to_decision(log.state)

    # --- use of an approval

    def open_call(self, call: GatedCall) -> Decision:
        """Return the unused decision on a tool call, or open a new one.

        Raises:
            InvalidArgumentError: The actor has a name that is not allowed.
            StoreError: The decision cannot be stored.
        """
        self._check_program("the gate of a tool")
        facts = self._facts(tool_intent(call.tool["name"]), "approve", call.actor)
        facts["tool"] = {**call.tool, "arguments_sha256": call.arguments_sha256}
        return to_models.to_decision(self.event_store.open_call(facts, place=self._here()).state)

    def hiding_key(self) -> bytes:
        """Return the key for digests of hidden arguments."""
        self._check_program("the gate of a tool")
        return self._hiding_key

    @functools.cached_property
    def _hiding_key(self) -> bytes:
        return self.event_store.hiding_key()

    def check_call(self, decision_id: str, call: GatedCall) -> None:
        """Raise ApprovalRefused unless the decision was opened for this call."""
        self._check_program("the gate of a tool")
        approval_use.check_call(self.event_store.read(decision_id).state, call)

    def claim(self, decision_id: str, call: GatedCall) -> Decision:
        """Use an approval up for one run, which belongs to the caller once this returns.

        Raises:
            ApprovalPending: Nobody has answered yet.
            ApprovalRefused: The call must not run. If the votes do not count at this gate, the
                decision is aborted, and the next call requests approval again.
            DecisionNotFoundError: No decision has this id.
        """
        self._check_program("the gate of a tool")
        terms = self._terms(call.approval)

        def command(state: State) -> list[Draft]:
            drafts = approval_use.claim(state, call)
            if terms is not None:
                votes.check(state, terms, call.arguments_sha256, self.event_store.now_ns())
            return drafts

        try:
            log = self.event_store.change(decision_id, call.actor, command, whole=True)
        except ApprovalRefused as refused:
            self._abort_refused(decision_id, call.actor, refused)
            raise
        return to_models.to_decision(log.state)

    def check_answer(
        self, decision_id: str, *, by: str, request: ApprovalRequest | None = None
    ) -> Decision:
        """Return a decision that is approved, or open; record that a refusal was reported.

        Args:
            decision_id: The decision.
            by: Name recorded in the events.
            request: Approval that the caller requested, if any: then the decision is not open.

        Raises:
            ApprovalPending: Nobody has answered yet.
            ApprovalRefused: The request was refused, or the approval used up. If the votes do not
                count here, the decision is aborted.
            DecisionNotFoundError: No decision has this id.
        """
        self._check_program("the gate of a tool")
        terms = self._terms(request)
        log = self.event_store.read(decision_id, whole=terms is not None)
        try:
            approval_use.check_not_refused(log.state)
        except ApprovalRefused:
            if log.state.tool is not None and log.state.is_closed and not log.state.told:
                draft = Draft(state_machine.REFUSAL_TOLD)
                self.event_store.change(decision_id, by, lambda s: [] if s.told else [draft])
            raise
        approval_use.check_not_pending(log.state)
        try:
            self._check_votes(log.state, terms, is_requested=request is not None)
        except ApprovalRefused as refused:
            self._abort_refused(decision_id, by, refused)
            raise
        return to_models.to_decision(log.state)

    def _terms(self, request: ApprovalRequest | None) -> ApprovalRequest | None:
        """Return the requirements of a gate for signed votes; None if any vote counts."""
        terms = request or ApprovalRequest()
        if terms.approver_keys is not None or self._keys is None:
            return None if terms.approver_keys is None else terms
        return replace(terms, approver_keys=self._keys)

    def _check_votes(
        self, state: State, terms: ApprovalRequest | None, *, is_requested: bool
    ) -> None:
        """Raise ApprovalRefused unless the votes on a requested approval count.

        `is_requested`: the caller requested it, and does not rely on the store for that. A tool
        call is claimed, which verifies its votes in any case.
        """
        is_requested = is_requested and state.tool is None
        if terms is not None and (is_requested or state.request is not None):
            votes.check(state, terms, state.arguments_sha256, self.event_store.now_ns())

    def _abort_refused(self, decision_id: str, by: str, refused: ApprovalRefused) -> None:
        if refused.reason in ("unsigned", "expired"):
            self.event_store.change(decision_id, by, lambda s: approval_use.abort(s, refused.why))
