"""The decisions of one tenant, as whoever holds a key of it may read and change them.

Decisions are opened under the agent of the key, which is also who asks; a label that the caller
gives itself is kept without effect. Beside the
rules of access (server/auth/principal.py), everything is as in the library.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from autotrace.errors import TraceNotFoundError
from autotrace.models import (
    NOWHERE,
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
from autotrace.server import remote_records
from autotrace.server.auth.principal import Principal
from autotrace.server.consistent_reads import lane_for
from autotrace.spool.lanes import LOCAL_LANE

if TYPE_CHECKING:
    from autotrace.decisions.service import DecisionService
    from autotrace.memory import Memory

CATCH_UP_TIMEOUT_S: Final = 5.0
"""How long a search waits for decisions just made to be among those it looks through."""


class DecisionApi:
    """Reads and changes the decisions of one tenant. Any thread may use it.

    Args:
        memory: The tenant's.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    # --- opening

    def create(
        self,
        intent: str,
        automation_mode: AutomationMode,
        *,
        actor: str | None = None,
        instance: str | None = None,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        trace_id: str | None = None,
        by: Principal,
    ) -> Decision:
        """Open a decision.

        Args:
            intent: What is to be decided, as a label such as `customer.order.create`.
            automation_mode: How much may be done unasked.
            actor: A label of the caller's own, kept as `actor_label`. The key's agent is who asks.
            instance: Which run of the actor.
            version: Which version of it.
            metadata: Anything to be kept with it.
            trace_id: The trace in which it is opened, and which lists it then.
            by: Whose it becomes.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            TraceNotFoundError: There is no such trace.
            NotPermittedError: The trace is another agent's.
            StoreError: The store does not take it.
        """
        return self._memory.deciding().service.create(
            intent,
            automation_mode,
            actor=by.agent,
            agent=by.agent,
            label=actor,
            instance=instance,
            version=version,
            metadata=metadata,
            place=self._place(trace_id, by),
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
        trace_id: str | None = None,
        by: Principal,
    ) -> Decision:
        """Open, fill and commit a decision in one call.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: What it supersedes does not exist, or is not to be seen.
            DecisionStateError: That is superseded already.
            TraceNotFoundError: There is no such trace.
            NotPermittedError: The trace, or what it supersedes, is another agent's.
            StoreError: The store does not take it.
        """
        service = self._memory.deciding().service
        if supersedes is not None:
            by.check_supersedes(service.get(supersedes), service.book.connection.name)
        return service.record(
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
            actor=by.agent,
            agent=by.agent,
            place=self._place(trace_id, by),
        )

    def _place(self, trace_id: str | None, by: Principal) -> TraceLocation:
        if trace_id is None:
            return NOWHERE
        task = remote_records.task_named(trace_id)
        if task is None:
            raise TraceNotFoundError(trace_id)
        self._memory.catch_up(CATCH_UP_TIMEOUT_S, lane=lane_for(by))
        reader = self._memory.reader
        by.check_owns_trace(reader.get_trace(trace_id, asked_by=by.agent), trace_id)
        share, span = reader.locate(trace_id, asked_by=by.agent)
        otel = (share.trace, span) if share.owner is None else (share.trace, span, share.owner)
        return TraceLocation(trace_id, otel)

    # --- looking

    def get(self, decision_id: str, *, by: Principal) -> Decision:
        """Return a decision as it stands.

        Raises:
            DecisionNotFoundError: There is no such decision.
            NotPermittedError: It is not to be seen with this key.
            StoreError: The store cannot be read.
        """
        decision = self._memory.deciding().library.get(decision_id)
        by.check_sees(decision)
        return decision

    def trace(self, decision_id: str, *, by: Principal) -> DecisionTrace:
        """Return a decision with its history.

        Raises:
            DecisionNotFoundError: There is no such decision.
            NotPermittedError: It is not to be seen with this key.
            StoreError: The store cannot be read.
        """
        trace = self._memory.deciding().library.trace(decision_id)
        by.check_sees(trace)
        return trace

    def receipt(self, decision_id: str, *, by: Principal) -> Receipt:
        """Return the signed statement of how a decision has ended.

        Raises:
            DecisionNotFoundError: There is no such decision.
            NotPermittedError: It is not to be seen with this key.
            DecisionStateError: It has not ended.
            StoreError: The store cannot be read.
        """
        by.check_sees(self._memory.deciding().library.get(decision_id))
        return self._memory.deciding().proof.receipt(decision_id)

    def list(
        self,
        *,
        status: DecisionStatus | None = None,
        category: DecisionCategory | None = None,
        actor: str | None = None,
        limit: int = 50,
        after: str | None = None,
        by: Principal,
    ) -> builtins.list[Decision]:
        """Return a page of decisions, newest first: those that may be seen.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: `after` is no decision of the tenant.
            StoreError: The store cannot be read.
        """
        return self._memory.deciding().library.list(
            status=status, category=category, actor=actor, limit=limit, after=after, seen=by.sees
        )

    def pending(self, *, by: Principal) -> builtins.list[Decision]:
        """Return every decision that waits for an answer and may be seen, the oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return [*filter(by.sees, self._memory.deciding().library.pending())]

    def search(
        self,
        query: str | None = None,
        *,
        category: DecisionCategory | None = None,
        tags: Sequence[str] = (),
        status: DecisionStatus | None = None,
        limit: int = 20,
        by: Principal,
    ) -> builtins.list[FoundDecision]:
        """Return decisions that mean something similar, most similar first; or the newest first.

        Decisions that may not be seen do not count.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        if query is not None:
            # Events are recorded by this process; those within a trace, in its owner's lane.
            for lane in dict.fromkeys((lane_for(by), LOCAL_LANE)):
                self._memory.catch_up(CATCH_UP_TIMEOUT_S, lane=lane)
        return self._memory.deciding().library.search(
            query, category=category, tags=tags, status=status, limit=limit, seen=by.sees
        )

    # --- changing what is one's own

    def add_context(
        self,
        decision_id: str,
        context: Mapping[str, Any],
        *,
        summary: str | None = None,
        by: Principal,
    ) -> DecisionEvent:
        """Add what is known.

        Raises:
            InvalidArgumentError: `context` is no object, or empty.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is closed.
            NotPermittedError: It is another agent's.
        """
        service = self._own(decision_id, by)
        return service.add_context(decision_id, context, summary=summary, by=by.agent)

    def evaluate(
        self,
        decision_id: str,
        policy_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        inputs_ref: str | None = None,
        by: Principal,
    ) -> DecisionEvent:
        """Ask a policy of this process.

        Returns:
            The event, with `policy_id`, `version`, `outcome` and `rationale`.

        Raises:
            InvalidArgumentError: Inputs are missing, or no object, or both are given, or they name
                who asks.
            PolicyNotFoundError: No such policy is registered.
            PolicyError: It gave no outcome.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is closed.
            NotPermittedError: It is another agent's.
        """
        service = self._own(decision_id, by)
        return service.evaluate(
            decision_id,
            policy_id,
            inputs,
            inputs_ref=inputs_ref,
            by=by.agent,
            principal=by.agent,
        )

    def request_approval(
        self, decision_id: str, request: ApprovalRequest, *, by: Principal
    ) -> Approval:
        """Ask for approval; the key's agent is who asks, and so cannot answer.

        Raises:
            InvalidArgumentError: There is no such route.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: It is not open.
            NotPermittedError: It is another agent's.
        """
        service = self._own(decision_id, by)
        return service.request_approval(decision_id, request, requester=by.agent)

    def close(
        self,
        decision_id: str,
        action: str,
        *,
        summary: Mapping[str, Any] | None = None,
        reason: str | None = None,
        by: Principal,
    ) -> Decision:
        """End a decision.

        Raises:
            InvalidArgumentError: The action is none of `commit`, `abort` and `rollback`.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: Its state does not allow it, or another call has ended it.
            NotPermittedError: It is another agent's.
        """
        service = self._own(decision_id, by)
        return service.close(decision_id, action, by=by.agent, summary=summary, reason=reason)

    def _own(self, decision_id: str, by: Principal) -> DecisionService:
        service = self._memory.deciding().service
        by.check_owns(service.get(decision_id).agent, decision_id)
        return service

    # --- answering what others ask

    def resolve(
        self,
        decision_id: str,
        *,
        granted: bool,
        rationale: str | None = None,
        head: str | None = None,
        signature: str | None = None,
        public_key: str | None = None,
        by: Principal,
    ) -> Decision:
        """Answer a request for approval.

        Args:
            decision_id: The decision.
            granted: Whether the answer is yes.
            rationale: Why.
            head: The `head` that the approver was shown. Default: see `DecisionService.resolve`.
            signature: The approver's signature of this answer.
            public_key: The key that verifies it.
            by: Who answers.

        Raises:
            InvalidArgumentError: The request wants a rationale or a signature, or the signature is
                not that of this answer.
            DecisionNotFoundError: There is no such decision.
            DecisionStateError: No request waits, or the head has moved.
            NotPermittedError: The key is neither an approver's nor an admin's, or its agent asks.
            ApprovalRefused: The key's agent owns the decision, or its name looks like the owner's.
        """
        service = self._memory.deciding().service
        decision = service.get(decision_id)
        asking = decision.agent if decision.approval is None else decision.approval.requester
        by.check_resolves(asking)
        return service.resolve(
            decision_id,
            granted=granted,
            approver=by.agent,
            rationale=rationale,
            head=head,
            signature=signature,
            public_key=public_key,
        )
