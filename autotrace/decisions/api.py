"""The one class behind the library, the CLI, REST and MCP, and the only place that authorises.

`Decisions` belongs to the program that opened the store, which may do everything. `for_caller`
returns the same decisions bound to an API key: each method then raises NotPermittedError unless
the key allows it, and writes the agent of the key as who did it.
"""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotrace.errors import NotPermittedError

if TYPE_CHECKING:
    from autotrace.decisions.notify.delivery import Deliveries
    from autotrace.decisions.queries import DecisionLibrary
    from autotrace.decisions.receipts import ReceiptSigner
    from autotrace.decisions.service import DecisionService
    from autotrace.decisions.verification import DecisionProof
    from autotrace.models import (
        Approval,
        ApprovalRequest,
        AutomationMode,
        Decision,
        DecisionCategory,
        DecisionEvent,
        DecisionStatus,
        DecisionTrace,
        FoundDecision,
        Receipt,
        TraceLocation,
    )
    from autotrace.server.auth.principal import Principal


class Decisions:
    """The decisions of one store. Any thread may use it.

    Args:
        service: Opens, changes and ends decisions.
        library: Reads decisions.
        proof: Signs, verifies and erases histories.
        deliveries: Notices under way.
        actor: Requester of decisions for which no actor is given.
        signer: Returns the signer of the approver on this machine, or None without a key.
    """

    def __init__(
        self,
        service: DecisionService,
        library: DecisionLibrary,
        proof: DecisionProof,
        deliveries: Deliveries,
        actor: str,
        signer: Callable[[], ReceiptSigner | None],
    ) -> None:
        self.service = service
        self.library = library
        self.proof = proof
        self._deliveries = deliveries
        self._actor = actor
        self._signer = signer
        self._caller: Principal | None = None
        self._place: TraceLocation | None = None

    def for_caller(self, caller: Principal, place: TraceLocation) -> Decisions:
        """Return these decisions bound to the caller, who opens new ones in a place of a trace."""
        bound = copy.copy(self)
        bound._caller, bound._actor, bound._place = caller, caller.agent, place
        return bound

    def shut_down(self, timeout_s: float) -> bool:
        """Finish deliveries and release the store; a later call opens it again.

        Returns:
            Whether every notice was delivered, or has failed for good.
        """
        done = self._deliveries.drain(timeout_s)
        self.service.book.connection.close()
        return done

    # --- authorisation

    def _sees(self, decision: Decision) -> bool:
        return self._caller is None or self._caller.sees(decision)

    def _check_sees(self, decision: Decision) -> None:
        if self._caller is not None:
            self._caller.check_sees(decision)

    def _check_owns(self, decision_id: str) -> None:
        if self._caller is not None:
            self._caller.check_owns(self.service.get(decision_id).agent, decision_id)

    def _check_is_program(self, operation: str) -> None:
        if self._caller is not None:
            msg = f"an API key does not allow {operation}: use the command line or the library"
            raise NotPermittedError(msg)

    def _agent(self) -> str | None:
        return None if self._caller is None else self._caller.agent

    # --- reading

    def get(self, decision_id: str) -> Decision:
        """Return a decision as it stands.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: The key may not see it.
            StoreError: The store cannot be read.
        """
        decision = self.library.get(decision_id)
        self._check_sees(decision)
        return decision

    def trace(self, decision_id: str) -> DecisionTrace:
        """Return a decision with its history, oldest event first.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: The key may not see it.
            StoreError: The store cannot be read.
        """
        trace = self.library.trace(decision_id)
        self._check_sees(trace)
        return trace

    def list(
        self,
        *,
        status: DecisionStatus | None = None,
        category: DecisionCategory | None = None,
        actor: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> builtins.list[Decision]:
        """Return a page of decisions, newest first.

        Decisions that the key may not see are left out and do not count.

        Args:
            status: Only decisions of this status.
            category: Only decisions recorded in this category.
            actor: Only decisions that this actor requested.
            limit: Size of a page, 1 to 1000.
            after: Id of the last decision of the previous page.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: `after` is not a decision of the store.
            StoreError: The store cannot be read.
        """
        return self.library.list(
            status=status, category=category, actor=actor, limit=limit, after=after, seen=self._sees
        )

    def pending(self) -> builtins.list[Decision]:
        """Return every decision that waits for an answer, oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return [*filter(self._sees, self.library.pending())]

    def search(
        self,
        query: str | None = None,
        *,
        category: DecisionCategory | None = None,
        tags: Sequence[str] = (),
        status: DecisionStatus | None = None,
        limit: int = 20,
    ) -> builtins.list[FoundDecision]:
        """Return decisions of similar meaning, most similar first.

        A decision just made is found after `autotrace.flush()`. Decisions that the key may not see
        are left out and do not count.

        Args:
            query: Text to search for; None: the newest decisions first.
            category: Only decisions recorded in this category.
            tags: Only decisions that have all of these tags.
            status: Only decisions of this status.
            limit: Maximum number of results, 1 to 100.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        return self.library.search(
            query, category=category, tags=tags, status=status, limit=limit, seen=self._sees
        )

    def receipt(self, decision_id: str) -> Receipt:
        """Return the signed statement of how a decision has ended.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: The key may not see it.
            DecisionStateError: It has not ended.
            StoreError: The store or the signing key cannot be read.
        """
        if self._caller is not None:
            self.get(decision_id)
        return self.proof.receipt(decision_id)

    # --- opening

    def create(
        self,
        intent: str,
        automation_mode: AutomationMode,
        *,
        label: str | None = None,
        instance: str | None = None,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Open a decision that a later call ends; see `DecisionService.create`."""
        return self.service.create(
            intent,
            automation_mode,
            actor=self._actor,
            agent=self._agent(),
            label=label,
            instance=instance,
            version=version,
            metadata=metadata,
            place=self._here(),
        )

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
            decision: What was decided.
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
            StoreError: The store does not take it.
        """
        if self._caller is not None and supersedes is not None:
            store = self.service.book.connection.name
            self._caller.check_supersedes(self.service.get(supersedes), store)
        return self.service.record(
            title=title,
            category=category,
            context=context,
            decision=decision,
            rationale=rationale,
            alternatives_considered=alternatives_considered,
            tags=tags,
            constraints=constraints,
            consequences=consequences,
            supersedes=supersedes,
            actor=self._agent() or actor or self._actor,
            agent=self._agent(),
            place=self._here(),
        )

    def _here(self) -> TraceLocation:
        return self.service.book.recording.place() if self._place is None else self._place

    # --- changing

    def add_context(
        self, decision_id: str, context: Mapping[str, Any], *, summary: str | None = None
    ) -> DecisionEvent:
        """Add facts to a decision that is not closed; see `DecisionService.add_context`.

        Raises:
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        return self.service.add_context(decision_id, context, summary=summary, by=self._actor)

    def evaluate(
        self,
        decision_id: str,
        policy_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        inputs_ref: str | None = None,
    ) -> DecisionEvent:
        """Evaluate a policy of this process; see `DecisionService.evaluate`.

        Raises:
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        return self.service.evaluate(
            decision_id,
            policy_id,
            inputs,
            inputs_ref=inputs_ref,
            by=self._actor,
            principal=self._agent(),
        )

    def request_approval(self, decision_id: str, request: ApprovalRequest) -> Approval:
        """Request approval; the requester cannot answer. See `DecisionService.request_approval`.

        Raises:
            NotPermittedError: The decision belongs to another agent.
        """
        self._check_owns(decision_id)
        return self.service.request_approval(decision_id, request, requester=self._actor)

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
            InvalidArgumentError: The action is another.
            NotPermittedError: The decision belongs to another agent.
            StoreError: The store does not take it.
        """
        self._check_owns(decision_id)
        return self.service.close(
            decision_id, action, by=self._agent() or by, summary=summary, reason=reason
        )

    def answer(
        self,
        decision_id: str,
        *,
        granted: bool,
        approver: str,
        rationale: str | None = None,
        head: str | None = None,
    ) -> Decision:
        """Answer a request for approval, signed if the approver on this machine has a key.

        Raises:
            SigningKeyError: The approver's key cannot be used.
            DamagedDecisionError: The history was changed: an approval of it is not signed.
        """
        from autotrace.decisions import votes  # not needed to import the library

        self._check_is_program("a signature of this machine's approver")
        vote = None
        if (signer := self._signer()) is not None:
            shown = self.library.trace(decision_id, whole=granted)
            if head in (None, shown.head):  # to another head the answer is refused
                vote = votes.sign(shown, signer, granted=granted, approver=approver)
        return self.service.resolve(
            decision_id,
            granted=granted,
            approver=approver,
            rationale=rationale,
            head=head,
            signature=vote and vote.signature,
            public_key=vote and vote.public_key,
        )

    def resolve(
        self,
        decision_id: str,
        *,
        granted: bool,
        rationale: str | None = None,
        head: str | None = None,
        signature: str | None = None,
        public_key: str | None = None,
    ) -> Decision:
        """Answer a request for approval in the name of the actor; see `DecisionService.resolve`.

        Raises:
            NotPermittedError: The key is an agent's, or the requester's.
        """
        decision = self.service.get(decision_id)
        if self._caller is not None:
            approval = decision.approval
            self._caller.check_resolves(decision.agent if approval is None else approval.requester)
        return self.service.resolve(
            decision_id,
            granted=granted,
            approver=self._actor,
            rationale=rationale,
            head=head,
            signature=signature,
            public_key=public_key,
        )

    def erase(self, decision_id: str, *, by: str, reason: str | None = None) -> Decision:
        """Erase what people and agents wrote in a decision; its events stay, and verify.

        Args:
            decision_id: The decision, in any state.
            by: Who erases it.
            reason: Why; this is kept.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: An API key is given.
            StoreError: The store does not take it.
        """
        self._check_is_program("erasing")
        self.proof.erase(decision_id, by=by, reason=reason)
        return self.library.get(decision_id)
