"""Commands of agents: open, fill, evaluate, end and erase decisions.

Each command authorises its caller, validates its arguments, and appends what follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, get_args

from autotrace.decision_requests import DecisionEnd, DecisionRequest
from autotrace.decisions import (
    policies,
    queries,
    state_machine,
    to_models,
    validation,
    verification,
)
from autotrace.decisions.approvals import Approvals
from autotrace.decisions.event_store import Log
from autotrace.decisions.policies import Evaluated
from autotrace.decisions.state_machine import Draft, State
from autotrace.errors import ApprovalRefused, DecisionStateError, InvalidArgumentError
from autotrace.models import Decision, DecisionCategory, DecisionEvent

RECORD_INTENT: Final = "decision.record"


class DecisionCommands(Approvals):
    """Base of `Decisions`: commands that open, fill, evaluate, end and erase decisions."""

    # --- opening

    def create(self, request: DecisionRequest) -> Decision:
        """Open a decision, or return the one that an earlier request opened with the same key.

        Raises:
            InvalidArgumentError: A field has a value that is not allowed.
            StoreError: The decision cannot be stored.
        """
        facts = self._facts(request.intent, request.automation_mode, self._by(request.actor))
        facts["instance"] = validation.optional_name("instance", request.instance)
        facts["version"] = validation.optional_name("version", request.version)
        if request.label is not None:
            facts["actor_label"] = validation.name("actor", request.label)
        key = validation.optional_name("key", request.key)
        content = {"metadata": self._validator.object("metadata", request.metadata or {})}
        log = self.event_store.create(facts, content, place=self._here(), key=key)
        return to_models.to_decision(log.state)

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
        actor: str | None = None,
    ) -> Decision:
        """Record a decision that was made: opened, filled and committed in one call.

        Args:
            title: The decision in a few words.
            category: Its subject: `architecture`, `dependency`, `schema`, `api_design`, `infra`,
                `tradeoff`, `convention` or `other`.
            context: What made the decision necessary.
            decision: The decision in full.
            rationale: Why.
            alternatives_considered: Each an `option` and why it was `rejected_because`.
            tags: Labels to search by.
            constraints: What limited the choice.
            consequences: What follows from it.
            supersedes: Id of the decision that this one replaces.
            actor: Who decided. Default: the agent of the settings, or of the key.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: The superseded decision does not exist, or the key may not see
                it.
            DecisionStateError: The superseded decision is superseded already.
            NotPermittedError: The superseded decision belongs to another agent.
            StoreError: The decision cannot be stored.
        """
        if self._caller is not None and supersedes is not None:
            old = to_models.to_decision(self.event_store.read(supersedes).state)
            self._caller.check_supersedes(old, self.event_store.connection.name)
        if category not in get_args(DecisionCategory):
            raise InvalidArgumentError("category", category, get_args(DecisionCategory))
        text, texts = self._validator.text, self._validator.texts
        facts = self._facts(RECORD_INTENT, "autonomous", self._by(actor or None))
        facts |= {"category": category, "tags": texts("tags", tags), "supersedes": supersedes}
        content = {
            "title": text("title", title),
            "context": text("context", context),
            "decision": text("decision", decision),
            "rationale": text("rationale", rationale),
            "alternatives_considered": self._validator.alternatives(alternatives_considered),
            "constraints": texts("constraints", constraints),
            "consequences": texts("consequences", consequences),
        }
        end = Draft(state_machine.CLOSED, {"action": "commit"})
        log = self.event_store.create(facts, content, place=self._here(), then=[end])
        return to_models.to_decision(log.state)

    # --- filling

    def add_context(
        self,
        decision_id: str,
        context: Mapping[str, Any],
        *,
        summary: str | None = None,
        by: str | None = None,
    ) -> DecisionEvent:
        """Add facts to a decision that is not closed.

        Raises:
            InvalidArgumentError: `context` is not an object, or empty.
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: The decision is closed.
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        if not context:
            raise InvalidArgumentError("context", context, "an object that is not empty")
        content: dict[str, Any] = {"context": self._validator.object("context", context)}
        if summary is not None:
            content["summary"] = self._validator.text("summary", summary)
        return self._add(decision_id, Draft(state_machine.CONTEXT_ADDED, {}, content), by)

    def evaluate(
        self,
        decision_id: str,
        policy_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        inputs_ref: str | None = None,
        by: str | None = None,
    ) -> DecisionEvent:
        """Evaluate a policy of this process and record its outcome, which binds the decision.

        Args:
            decision_id: The decision.
            policy_id: The policy.
            inputs: JSON object that the policy gets. A client of a server cannot set in it who
                asks.
            inputs_ref: Instead of `inputs`: id of an earlier event with context or inputs.
            by: Name recorded in the event.

        Raises:
            InvalidArgumentError: `inputs` is not an object, or not exactly one of both is given.
            PolicyNotFoundError: No policy has this id.
            PolicyError: The policy returned no outcome.
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: The decision is closed.
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        if (inputs is None) == (inputs_ref is None):
            allowed = "exactly one of `inputs` and `inputs_ref`"
            raise InvalidArgumentError("inputs", inputs, allowed)
        log = self.event_store.read(decision_id)
        # Before the policy runs: its outcome could not be recorded.
        state_machine.add(log.state, Draft(state_machine.POLICY_EVALUATED))
        asked = inputs if inputs is not None else _content_of(log, inputs_ref)
        principal = None if self._caller is None else self._caller.agent
        evaluated = policies.evaluate(policy_id, asked, principal)
        return self._record_evaluation(decision_id, evaluated, inputs, inputs_ref, by)

    def ask_policy(self, policy_id: str, inputs: Mapping[str, Any]) -> Evaluated:
        """Evaluate a policy before a decision exists; `record_evaluation` records the outcome.

        Raises:
            PolicyNotFoundError: No policy has this id.
            PolicyError: The policy returned no outcome.
        """
        self._check_program("the gate of a tool")
        return policies.evaluate(policy_id, inputs)

    def record_evaluation(
        self, decision_id: str, evaluated: Evaluated, inputs: Mapping[str, Any], *, by: str
    ) -> DecisionEvent:
        """Record an outcome of `ask_policy`, with its redacted inputs."""
        self._check_program("the gate of a tool")
        return self._record_evaluation(decision_id, evaluated, inputs, None, by)

    def _record_evaluation(
        self,
        decision_id: str,
        evaluated: Evaluated,
        inputs: Mapping[str, Any] | None,
        inputs_ref: str | None,
        by: str | None,
    ) -> DecisionEvent:
        facts = {
            "policy_id": evaluated.policy_id,
            "version": evaluated.version,
            "outcome": evaluated.outcome,
            "inputs_ref": inputs_ref,
        }
        content = {"rationale": self._validator.object("rationale", evaluated.rationale)}
        if inputs is not None:
            content["inputs"] = self._validator.object("inputs", inputs)
        return self._add(decision_id, Draft(state_machine.POLICY_EVALUATED, facts, content), by)

    def _add(self, decision_id: str, draft: Draft, by: str | None) -> DecisionEvent:
        log = self.event_store.change(
            decision_id, self._by(by), lambda state: state_machine.add_once(state, draft)
        )
        same = state_machine.recorded(log.state, draft)
        return to_models.to_event(log.events[-1 if same is None else same.sequence])

    # --- ending

    def close(
        self,
        decision_id: str,
        action: str,
        *,
        by: str,
        summary: Mapping[str, object] | None = None,
        reason: str | None = None,
    ) -> Decision:
        """End a decision, such as one whose agent has died.

        Args:
            decision_id: The decision.
            action: `commit` or `abort`.
            by: Who ends it; with a key, always the agent of the key.
            summary: What came of it.
            reason: Why.

        Raises:
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: Its state does not allow it, or another call has ended it.
            InvalidArgumentError: The action has another name.
            NotPermittedError: The decision belongs to another agent.
            StoreError: The end cannot be stored.
        """
        return self.end(decision_id, DecisionEnd(action, summary, reason), by=by)

    def end(self, decision_id: str, end: DecisionEnd, *, by: str) -> Decision:
        """End a decision.

        Raises:
            InvalidArgumentError: The action has another name.
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: The state does not allow it, or another call ended the decision.
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        action = "abort" if end.action == "rollback" else end.action
        if action not in ("commit", "abort"):
            raise InvalidArgumentError("action", action, ("commit", "abort", "rollback"))
        summary, reason = end.summary, end.reason
        if summary is not None:
            summary = self._validator.object("summary", summary)
        if reason is not None:
            reason = self._validator.text("reason", reason, may_be_empty=True)
        checked = replace(end, action=action, summary=summary, reason=reason)
        terms = self._terms(end.requested) if action == "commit" else None
        is_requested = end.requested is not None

        def command(state: State) -> list[Draft]:
            enforce_modes = self._settings.enforce_modes
            drafts = state_machine.close(state, checked, enforce_modes=enforce_modes)
            if drafts and state.claim is None:  # the votes were verified before the claim
                try:
                    self._check_votes(state, terms, is_requested=is_requested)
                except ApprovalRefused as refused:
                    why = refused.why
                    raise DecisionStateError(decision_id, state.status, action, why) from None
            return drafts

        whole = terms is not None
        log = self.event_store.change(decision_id, self._by(by), command, whole=whole)
        return to_models.to_decision(log.state)

    def erase(self, decision_id: str, *, by: str, reason: str | None = None) -> Decision:
        """Erase what people and agents wrote in a decision; its events stay, and verify.

        Args:
            decision_id: The decision, in any state.
            by: Who erases it.
            reason: Why; this is kept.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: An API key is given.
            StoreError: The content cannot be erased.
        """
        self._check_program("erasing")
        verification.erase(self.event_store, decision_id, by=by, reason=reason)
        return queries.to_decisions(self.event_store, [self.event_store.read(decision_id)])[0]


def _content_of(log: Log, event_id: str | None) -> Mapping[str, Any]:
    """Return the context or inputs of an event."""
    for event in log.events:
        if event["event_id"] == event_id:
            content = event["content"] or {}
            found: Any = content.get("context", content.get("inputs"))
            if found is not None:
                return found
            allowed = "an event with context or inputs that are not erased"
            raise InvalidArgumentError("inputs_ref", event_id, allowed)
    known = [event["event_id"] for event in log.events if event["content"]]
    raise InvalidArgumentError("inputs_ref", event_id, known)
