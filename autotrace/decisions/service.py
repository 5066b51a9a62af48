"""What can be done to a decision: each call checked, kept fit to be stored, and answered.

The library, the command line and the servers all come here. The rules are the state machine's
(state_machine.py), who wins a race is the book's (event_store.py); here arguments become events,
and what was asked for is told to whom it concerns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from autotrace.decisions import state_machine, to_models, validation
from autotrace.decisions.approvals import Approvals
from autotrace.decisions.event_store import Log
from autotrace.decisions.policies import Evaluated
from autotrace.decisions.state_machine import Draft, State
from autotrace.errors import ApprovalRefused, DecisionStateError, InvalidArgumentError
from autotrace.models import (
    NOWHERE,
    ApprovalRequest,
    AutomationMode,
    Decision,
    DecisionCategory,
    DecisionEvent,
    TraceLocation,
)

RECORD_INTENT: Final = "decision.record"


class DecisionService(Approvals):
    """Opens, changes and ends decisions. Any thread may use it."""

    # --- opening

    def create(
        self,
        intent: str,
        automation_mode: AutomationMode = "propose",
        *,
        actor: str,
        agent: str | None = None,
        label: str | None = None,
        instance: str | None = None,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
        place: TraceLocation = NOWHERE,
    ) -> Decision:
        """Open a decision; with a key that was used before, find the one it has opened.

        Args:
            intent: What is to be decided, as a label such as `customer.order.create`.
            automation_mode: How much may be done unasked.
            actor: Who asks.
            agent: Whose it is. Default: the actor.
            label: What the caller calls itself; kept, and without effect.
            instance: Which run of the actor.
            version: Which version of it.
            metadata: Anything to be kept with it.
            key: Idempotency key, for this agent.
            place: Where in a trace this happens.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store does not take it.
        """
        facts = self._facts(intent, automation_mode, actor, agent)
        facts |= {
            "instance": validation.optional_name("instance", instance),
            "version": validation.optional_name("version", version),
        }
        if label is not None:
            facts["actor_label"] = validation.name("actor", label)
        key = validation.optional_name("key", key)
        content = {"metadata": self._given.object("metadata", metadata or {})}
        return self._view(self.book.create(facts, content, place=place, key=key))

    def record(
        self,
        *,
        title: str,
        category: DecisionCategory,
        context: str,
        decision: str,
        rationale: str,
        alternatives_considered: Iterable[Mapping[str, str]] = (),
        tags: Iterable[str] = (),
        constraints: Iterable[str] = (),
        consequences: Iterable[str] = (),
        supersedes: str | None = None,
        actor: str,
        agent: str | None = None,
        place: TraceLocation = NOWHERE,
    ) -> Decision:
        """Open, fill and commit a decision in one call.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: What it supersedes does not exist.
            DecisionStateError: That is superseded already.
            StoreError: The store does not take it.
        """
        if category not in get_args(DecisionCategory):
            raise InvalidArgumentError("category", category, get_args(DecisionCategory))
        facts = self._facts(RECORD_INTENT, "autonomous", actor, agent)
        facts |= {
            "category": category,
            "tags": self._given.texts("tags", tags),
            "supersedes": supersedes,
        }
        named = {"title": title, "context": context, "decision": decision, "rationale": rationale}
        content: dict[str, Any] = {
            name: self._given.text(name, text) for name, text in named.items()
        }
        content |= {
            "alternatives_considered": self._given.alternatives(alternatives_considered),
            "constraints": self._given.texts("constraints", constraints),
            "consequences": self._given.texts("consequences", consequences),
        }
        end = Draft(state_machine.CLOSED, {"action": "commit"})
        return self._view(
            self.book.create(facts, content, place=place, then=[end], supersedes=supersedes)
        )

    # --- looking

    def get(self, decision_id: str) -> Decision:
        """Return a decision as it stands.

        Raises:
            DecisionNotFoundError: There is no such decision.
        """
        return self._view(self.book.read(decision_id))

    def ask(self, policy_id: str, inputs: Mapping[str, Any]) -> Evaluated:
        """Ask a policy before there is a decision; `keep_answer` records what it returns.

        Raises:
            PolicyNotFoundError: No such policy is registered.
            PolicyError: It gave no outcome.
        """
        return self._evaluate(policy_id, inputs, None)

    # --- while it is open

    def add_context(
        self, decision_id: str, context: Mapping[str, Any], *, summary: str | None = None, by: str
    ) -> DecisionEvent:
        """Add what is known.

        Args:
            decision_id: The decision.
            context: An object that is not empty.
            summary: It in words.
            by: Who adds it.

        Raises:
            InvalidArgumentError: `context` is no object, or empty.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is closed.
        """
        if not context:
            raise InvalidArgumentError("context", context, "an object that is not empty")
        content: dict[str, Any] = {"context": self._given.object("context", context)}
        if summary is not None:
            content["summary"] = self._given.text("summary", summary)
        draft = Draft(state_machine.CONTEXT_ADDED, {}, content)
        log = self.book.change(decision_id, by, lambda state: state_machine.add_once(state, draft))
        return self._event(log, draft)

    def evaluate(
        self,
        decision_id: str,
        policy_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        inputs_ref: str | None = None,
        by: str,
        principal: str | None = None,
    ) -> DecisionEvent:
        """Ask a policy.

        Args:
            decision_id: The decision.
            policy_id: The policy.
            inputs: What it is to look at.
            inputs_ref: In their place: id of an earlier event, whose context or inputs to take.
            by: Who asks.
            principal: The agent of the key with which a server was asked; inputs then cannot say
                who asks. None: the program itself asks, and its inputs may.

        Returns:
            The event, with `policy_id`, `version`, `outcome` and `rationale`.

        Raises:
            InvalidArgumentError: Inputs are missing, or no object, or both are given.
            PolicyNotFoundError: No such policy is registered.
            PolicyError: It gave no outcome.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is closed.
        """
        if (inputs is None) == (inputs_ref is None):
            raise InvalidArgumentError("inputs", inputs, "given, or else inputs_ref: one of both")
        log = self.book.read(decision_id)
        state_machine.add(
            log.state, Draft(state_machine.POLICY_EVALUATED)
        )  # before a policy runs for nothing
        if inputs_ref is not None:
            inputs = _content_of(log, inputs_ref)
        answer = self._evaluate(policy_id, inputs, principal)
        return self._keep(decision_id, answer, None if inputs_ref else inputs, inputs_ref, by)

    def keep_answer(
        self, decision_id: str, answer: Evaluated, inputs: Mapping[str, Any], *, by: str
    ) -> DecisionEvent:
        """Record what `ask` has returned, with the inputs as they may be recorded.

        Raises:
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is closed.
        """
        return self._keep(decision_id, answer, inputs, None, by)

    def _keep(
        self,
        decision_id: str,
        answer: Evaluated,
        inputs: Mapping[str, Any] | None,
        inputs_ref: str | None,
        by: str,
    ) -> DecisionEvent:
        facts = {
            "policy_id": answer.policy_id,
            "version": answer.version,
            "outcome": answer.outcome,
            "inputs_ref": inputs_ref,
        }
        content = {"rationale": self._given.object("rationale", answer.rationale)}
        if inputs is not None:
            content["inputs"] = self._given.object("inputs", inputs)
        draft = Draft(state_machine.POLICY_EVALUATED, facts, content)
        log = self.book.change(decision_id, by, lambda state: state_machine.add_once(state, draft))
        return self._event(log, draft)

    # --- the end

    def close(
        self,
        decision_id: str,
        action: str,
        *,
        by: str,
        summary: Mapping[str, Any] | None = None,
        reason: str | None = None,
        tool_calls: Sequence[Mapping[str, Any]] = (),
        request: ApprovalRequest | None = None,
    ) -> Decision:
        """End a decision.

        Args:
            decision_id: The decision.
            action: `commit`, or `abort`; `rollback` means abort.
            by: Who ends it.
            summary: What came of it.
            reason: Why.
            tool_calls: Calls made inside it: `tool_name`, `tool_call_id`, `status`, `duration_ms`.
            request: What the caller has asked of approvers, if it has.

        Raises:
            InvalidArgumentError: The action is another.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: Its state does not allow it, or another call has ended it.
        """
        action = "abort" if action == "rollback" else action
        if action not in ("commit", "abort"):
            raise InvalidArgumentError("action", action, ("commit", "abort", "rollback"))
        kept_summary = None if summary is None else self._given.object("summary", summary)
        kept_reason = (
            None if reason is None else self._given.text("reason", reason, may_be_empty=True)
        )
        calls = [Draft(state_machine.TOOL_CALLED, dict(call)) for call in tool_calls]
        terms = self._terms(request) if action == "commit" else None

        def command(state: State) -> list[Draft]:
            drafts = state_machine.close(
                state,
                action,
                summary=kept_summary,
                reason=kept_reason,
                enforce_modes=self._enforce_modes,
                before=calls,
            )
            if drafts and state.claim is None:  # what was claimed has passed its gate
                try:
                    self._check_votes(state, terms, is_asked=request is not None)
                except ApprovalRefused as refused:
                    raise DecisionStateError(
                        decision_id, state.status, action, refused.why
                    ) from None
            return drafts

        whole = terms is not None
        return self._view(self.book.change(decision_id, by, command, whole=whole))

    # --- what is answered

    def _event(self, log: Log, draft: Draft) -> DecisionEvent:
        """Return the latest event that says what a draft says: it was added now, or before."""
        said = state_machine.recorded(log.state, draft)
        return to_models.to_event(log.events[-1 if said is None else said.sequence])


def _content_of(log: Log, event_id: str) -> Mapping[str, Any]:
    for event in log.events:
        if event["event_id"] == event_id:
            content = event["content"] or {}
            found: Any = content.get("context", content.get("inputs"))
            if found is not None:
                return found
            raise InvalidArgumentError(
                "inputs_ref", event_id, "an event with context or inputs that are not erased"
            )
    known = [event["event_id"] for event in log.events if event["content"]]
    raise InvalidArgumentError("inputs_ref", event_id, known)
