"""Approvals of decisions: requested, answered, and claimed by one call."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from autotrace.decisions import approval_use, state_machine, to_models, validation, votes
from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.notify.routes import approval_notice
from autotrace.decisions.policies import Evaluated
from autotrace.decisions.polling import until_answered
from autotrace.decisions.state_machine import Draft, State
from autotrace.decisions.validation import ArgumentValidator
from autotrace.errors import ApprovalRefused, InvalidArgumentError
from autotrace.ids import new_approval_id
from autotrace.models import (
    NOWHERE,
    Approval,
    ApprovalRequest,
    AutomationMode,
    Decision,
    TraceLocation,
)

EventReporter = Callable[[str, str, int], None]
"""Told once how a delivery went: `delivered` or `failed`, a note, and after how many attempts."""
Send = Callable[[Mapping[str, Any], EventReporter], None]
"""Begins to deliver a notice; never raises."""


class Approvals:
    """Requests for approval, answers to them, and their use; the base of `DecisionService`.

    Args:
        book: Where they lie.
        evaluate: Asks a policy, by its id, about inputs, for the agent of a key or None.
        route: Returns what notifies approvers, by name; None for the default, which may be nobody.
        enforce_modes: Whether `propose` and `approve` need an approval before a commit.
        approver_keys: Public keys whose signed votes alone count where a request names none; None:
            any vote counts.
    """

    def __init__(
        self,
        book: DecisionEventStore,
        *,
        evaluate: Callable[[str, Any, str | None], Evaluated],
        route: Callable[[str | None], Send | None],
        enforce_modes: bool = False,
        approver_keys: Sequence[str] | None = None,
    ) -> None:
        self.book = book
        self._given = ArgumentValidator(book.recording)
        self._evaluate = evaluate
        self._route = route
        self._enforce_modes = enforce_modes
        self._keys = ApprovalRequest(approver_keys=approver_keys).approver_keys
        self._hiding_key: bytes | None = None

    # --- calls of tools

    def open_call(
        self,
        intent: str,
        automation_mode: AutomationMode,
        *,
        actor: str,
        tool_name: str,
        arguments_sha256: str,
        code: Mapping[str, Any] | None = None,
        place: TraceLocation = NOWHERE,
    ) -> Decision:
        """Return the decision on a call of a tool: the one under way, or a new one.

        Args:
            intent: What is to be decided.
            automation_mode: How much may be done unasked.
            actor: Who asks.
            tool_name: Name of the tool.
            arguments_sha256: What the approval is bound to.
            code: `module`, `qualname` and `source_sha256` of the function, to be shown.
            place: Where in a trace this happens.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store does not take it.
        """
        facts = self._facts(intent, automation_mode, actor, None)
        tool = {"name": tool_name, "arguments_sha256": arguments_sha256, **(code or {})}
        return self._view(self.book.open_call(facts | {"tool": tool}, place=place))

    def until_answered(
        self, decision_id: str, timeout_s: float | None
    ) -> Generator[float, None, Decision]:
        """Follow a decision until its request is answered, or ends, or the time is over.

        Yields:
            How long to sleep before the next look, in seconds.

        Returns:
            The decision as it stands then.

        Raises:
            DecisionNotFoundError: There is none with this id.
            StoreUnavailableError: The store has not answered for a minute.
        """
        return self._view((yield from until_answered(self.book, decision_id, timeout_s)))

    def check_route(self, name: str | None) -> None:
        """Pass the name of an approval route, or none.

        Raises:
            InvalidArgumentError: There is no such route.
        """
        self._route(name)

    def hiding_key(self) -> bytes:
        """Return the key of the digests that stand for hidden arguments.

        Raises:
            StoreError: The store does not answer.
        """
        if self._hiding_key is None:
            self._hiding_key = self.book.hiding_key()
        return self._hiding_key

    # --- requests and answers

    def request_approval(
        self, decision_id: str, request: ApprovalRequest, *, requester: str
    ) -> Approval:
        """Ask for approval, and notify whom the route names; an earlier request that waits stays.

        Raises:
            InvalidArgumentError: There is no such route.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is not open.
        """
        send = self._route(request.route)
        approval_id = new_approval_id()
        facts: dict[str, Any] = {
            "approval_id": approval_id,
            "requester": requester,
            "require_rationale": request.require_rationale,
            "approvals_needed": request.approvals_needed,
            "expires_in_seconds": request.expires_in_seconds,
            "route": request.route,
            "notifies": send is not None,
            "arguments_sha256": request.arguments_sha256,
        }
        terms = self._terms(request)
        if terms is not None:
            facts["approver_keys"] = terms.approver_keys
        content: dict[str, Any] = {
            name: self._given.text(name, text)
            for name, text in (("title", request.title), ("message", request.message))
            if text is not None
        }
        if request.arguments is not None:
            content["arguments"] = request.arguments
            content["hidden"] = list(request.hidden)
        draft = Draft(state_machine.APPROVAL_REQUESTED, facts, content)
        log = self.book.change(
            decision_id, requester, lambda state: state_machine.request_approval(state, draft)
        )
        asked = log.state.request
        if asked is None:  # the machine never returns such a state
            raise AssertionError(decision_id)
        if send is not None and asked.event.facts["approval_id"] == approval_id:
            self._notify(send, log)
        return to_models.to_approval(log.state, asked)

    def _notify(self, send: Send, log: Log) -> None:
        decision_id = log.decision_id

        def report(status: str, note: str, attempts: int) -> None:
            facts = {"status": status, "attempts": attempts}
            draft = Draft(state_machine.APPROVAL_DELIVERY, facts, {"note": note})
            self.book.change(decision_id, "autotrace", lambda _: [draft])

        asked = log.state.request
        if asked is not None:
            arguments = (asked.event.content or {}).get("arguments")
            approval = to_models.to_approval(log.state, asked)
            send(approval_notice(self._view(log), approval, arguments), report)

    def resolve(
        self,
        decision_id: str,
        *,
        granted: bool,
        approver: str,
        rationale: str | None = None,
        head: str | None = None,
        signature: str | None = None,
        public_key: str | None = None,
    ) -> Decision:
        """Answer a request for approval.

        Args:
            decision_id: The decision.
            granted: Whether the answer is yes.
            approver: Who answers.
            rationale: Why.
            head: The `head` of the decision as the approver was shown it. Default: of a yes, the
                head of the request; of a no, the present one.
            signature: The approver's signature of this answer: see `votes.statement`.
            public_key: The key that verifies it.

        Raises:
            InvalidArgumentError: No approver is named, the request wants a rationale or a
                signature, or the signature is not that of this answer.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: No request waits, or the head has moved.
            ApprovalRefused: The approver is who asks.
        """
        name = validation.name("approver", approver)
        why = (
            None
            if rationale is None
            else self._given.text("rationale", rationale, may_be_empty=True)
        )

        def command(state: State) -> list[Draft]:
            drafts = state_machine.resolve(
                state, granted=granted, approver=name, rationale=why, head=head
            )
            return votes.with_signature(state, drafts, public_key=public_key, signature=signature)

        return self._view(self.book.change(decision_id, name, command, whole=granted))

    def check_call(self, decision_id: str, *, tool_name: str, arguments_sha256: str) -> None:
        """Pass the call of a tool for which a decision was opened, and no other.

        Raises:
            ApprovalRefused: It was opened for another one, or for none.
            DecisionNotFoundError: There is no such decision.
        """
        approval_use.check_call(
            self.book.read(decision_id).state,
            tool_name=tool_name,
            arguments_sha256=arguments_sha256,
        )

    def claim(
        self,
        decision_id: str,
        *,
        tool_name: str,
        arguments_sha256: str,
        by: str,
        request: ApprovalRequest | None = None,
    ) -> Decision:
        """Use an approval up for one run, which is the caller's if this returns.

        Args:
            decision_id: The decision.
            tool_name: Name of the tool that is to run.
            arguments_sha256: The hash of its code and arguments.
            by: Who runs it.
            request: What the gate's own code asks of approvers.

        Raises:
            ApprovalPending: It has not been approved yet.
            ApprovalRefused: It may not run: says why. If its votes do not count here, that has
                ended it, and the next call asks anew.
            DecisionNotFoundError: There is no such decision.
        """
        terms = self._terms(request)

        def command(state: State) -> list[Draft]:
            drafts = approval_use.claim(
                state, tool_name=tool_name, arguments_sha256=arguments_sha256
            )
            if terms is not None:
                now_ns = self.book.now_ns()
                votes.check(state, terms, arguments_sha256=arguments_sha256, now_ns=now_ns)
            return drafts

        try:
            return self._view(self.book.change(decision_id, by, command, whole=True))
        except ApprovalRefused as refused:
            self._refuse(decision_id, by, refused)
            raise

    def check_answer(
        self, decision_id: str, *, by: str, request: ApprovalRequest | None = None
    ) -> Decision:
        """Return a decision that is approved, or open; a refusal of a tool call counts as told.

        Args:
            decision_id: The decision.
            by: Who asks.
            request: What the caller has asked of approvers, if it has; it is not open then.

        Raises:
            ApprovalPending: Nobody has answered yet.
            ApprovalRefused: It was refused, or is used up: says why. If its votes do not count
                here, that has ended it.
            DecisionNotFoundError: There is no such decision.
        """
        terms = self._terms(request)
        log = self.book.read(decision_id, whole=terms is not None)
        try:
            approval_use.check_not_refused(log.state)
        except Exception:
            if log.state.tool is not None and log.state.is_closed and not log.state.told:
                told = Draft(state_machine.REFUSAL_TOLD)
                self.book.change(decision_id, by, lambda s: [] if s.told else [told])
            raise
        approval_use.check_not_pending(log.state)
        try:
            self._check_votes(log.state, terms, is_asked=request is not None)
        except ApprovalRefused as refused:
            self._refuse(decision_id, by, refused)
            raise
        return self._view(log)

    def _terms(self, request: ApprovalRequest | None) -> ApprovalRequest | None:
        """Return what a gate requires of signed votes; None if any vote counts."""
        terms = request or ApprovalRequest()
        if terms.approver_keys is not None or self._keys is None:
            return None if terms.approver_keys is None else terms
        return replace(terms, approver_keys=self._keys)

    def _check_votes(self, state: State, terms: ApprovalRequest | None, *, is_asked: bool) -> None:
        """Raise ApprovalRefused unless the votes count, if approval was asked for.

        `is_asked`: the caller knows that it was, whatever the store holds. Only the claim of a call
        needs no such knowledge.
        """
        is_asked = is_asked and state.tool is None
        if terms is not None and (is_asked or state.request is not None):
            sha256 = state.arguments_sha256
            votes.check(state, terms, arguments_sha256=sha256, now_ns=self.book.now_ns())

    def _refuse(self, decision_id: str, by: str, refused: ApprovalRefused) -> None:
        if refused.reason in ("unsigned", "expired"):
            self.book.change(decision_id, by, lambda s: approval_use.refuse(s, refused.why))

    def _facts(self, intent: Any, mode: Any, actor: Any, agent: Any) -> dict[str, Any]:
        if mode not in get_args(AutomationMode):
            raise InvalidArgumentError("automation_mode", mode, get_args(AutomationMode))
        actor = validation.name("actor", actor)
        return {
            "intent": validation.name("intent", intent),
            "automation_mode": mode,
            "actor": actor,
            "agent": actor if agent is None else validation.name("agent", agent),
        }

    def _view(self, log: Log) -> Decision:
        return to_models.to_decision(log.state)
