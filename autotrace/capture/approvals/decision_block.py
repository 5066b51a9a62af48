"""`decision`: a block whose outcome is recorded as a decision, with policies and approvals."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from autotrace.active import decisions_or_raise
from autotrace.base import blocking_calls
from autotrace.capture.approvals.decision_access import (
    abort_reason,
    actor_here,
    check_timeout,
    report_unclosed_decision,
)
from autotrace.capture.approvals.decision_scope import DecisionScope
from autotrace.capture.recorder import current
from autotrace.decision_requests import DecisionEnd, DecisionRequest
from autotrace.errors import ApprovalPending, ApprovalRefused, AutotraceError, DecisionStateError
from autotrace.models import ApprovalRequest

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions
    from autotrace.models import (
        Approval,
        AutomationMode,
        Decision,
        DecisionEvent,
        DecisionStatus,
        PolicyOutcome,
    )

_ENDED: Final = ("committed", "aborted")


class decision:
    """Open a decision on entering the block; commit or abort it on leaving.

    ```python
    with decision("customer.order.create", automation_mode="approve", actor="order-bot") as d:
        d.add_context({"risk": 0.12}, summary="low risk")
        if d.evaluate("discount_cap_v1", {"discount": 0.25}) != "allow":
            d.request_approval(title="25 % discount", expires_in_seconds=3600)
            d.wait(timeout=300)
        place_order(...)
    ```

    Use it with `with` or `async with`, one object for one block at a time. A normal exit commits;
    if that is not allowed (a policy denies it, or it waits for approval), it aborts and raises
    DecisionStateError. An exception aborts with itself as the reason, and goes on. `commit` and
    `abort` end the decision before. Tool calls inside become events of it.

    With a `key`, an agent that starts again continues its decision if that is open, waits or is
    approved. If it has ended, entering raises ApprovalRefused, with the reason `used` if it was
    committed. ApprovalPending, of `wait` or of a tool inside, does not abort such a decision; nor
    does an interrupt or a cancellation while it waits for approval.

    Args:
        intent: Label of the subject, such as `customer.order.create`.
        automation_mode: `propose`, `approve`, `override` or `autonomous`.
        actor: Requester, who may not approve. Default: that of the enclosing decision, else the
            agent of the enclosing task, else the setting `agent`, else `agent`.
        metadata: JSON object to record with it.
        key: Idempotency key, unique for this actor.
        instance: Run of the actor.
        version: Version of the actor.

    Raises:
        NotConfiguredError: On entering: `autotrace.configure()` was not called.
        InvalidArgumentError: On entering: an argument has a value that is not allowed.
        ApprovalRefused: On entering: the decision of the key has ended.
        DecisionStateError: On leaving: the decision cannot be committed.
        StoreError: On entering, or leaving without an exception: the event cannot be stored.
    """

    def __init__(
        self,
        intent: str,
        automation_mode: AutomationMode = "propose",
        *,
        actor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
        instance: str | None = None,
        version: str | None = None,
    ) -> None:
        self._request = DecisionRequest(
            intent,
            automation_mode,
            actor=actor,
            instance=instance,
            version=version,
            metadata=metadata,
            key=key,
        )
        self._decisions: Decisions | None = None
        self._scope: DecisionScope | None = None
        self._decision_id = ""
        self._actor = ""
        self._requested: ApprovalRequest | None = None
        """Approval that this block requested."""
        self._ended = False
        """Whether `commit` or `abort` ended it, or the caller got its refusal."""

    # --- state

    @property
    def decision_id(self) -> str:
        """Id of the decision; empty before the block is entered."""
        return self._decision_id

    @property
    def decision(self) -> Decision:
        """The decision in its current state."""
        return self._opened().get(self._decision_id)

    @property
    def status(self) -> DecisionStatus:
        """The current status."""
        return self.decision.status

    # --- commands

    def add_context(self, context: Mapping[str, Any], summary: str | None = None) -> DecisionEvent:
        """Add facts.

        Args:
            context: An object that is not empty.
            summary: The facts in words.

        Raises:
            InvalidArgumentError: `context` is not an object, or empty.
            DecisionStateError: The decision is closed.
            StoreError: The event cannot be stored.
        """
        decisions = self._opened()
        return decisions.add_context(self._decision_id, context, summary=summary, by=self._actor)

    def evaluate(self, policy_id: str, inputs: Mapping[str, Any]) -> PolicyOutcome:
        """Evaluate a policy; its outcome binds the decision: see `docs/guides/approve.md`.

        Args:
            policy_id: The policy.
            inputs: JSON object that the policy gets.

        Returns:
            `allow`, `deny` or `requires_exception`. The reason, and the version of the policy,
            are in `decision.evaluations`.

        Raises:
            PolicyNotFoundError: No policy has this id.
            PolicyError: The policy returned no outcome.
            InvalidArgumentError: The inputs are not a JSON object.
            DecisionStateError: The decision is closed.
            StoreError: The event cannot be stored.
        """
        event: Any = self._opened().evaluate(self._decision_id, policy_id, inputs, by=self._actor)
        return event.outcome

    def request_approval(
        self,
        title: str | None = None,
        message: str | None = None,
        *,
        expires_in_seconds: float | None = None,
        require_rationale: bool = False,
        approvals_needed: int = 1,
        route: str | None = None,
        approver_keys: Sequence[str] | None = None,
    ) -> Approval:
        """Request approval; `wait` waits for the answer.

        With a key, a request that was made before this agent started again stays as it is, answered
        or not.

        Args:
            title: The request in a few words.
            message: Details.
            expires_in_seconds: Time for an answer; None: no limit.
            require_rationale: Whether the answer must give a reason.
            approvals_needed: Number of different approvers who must agree.
            route: Route that notifies approvers; None: the default.
            approver_keys: Public keys whose signed votes alone count; None: those of the setting.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionStateError: Approval was requested before, or the decision is closed.
            StoreError: The request cannot be stored.
        """
        decisions = self._opened()
        request = ApprovalRequest(
            title=title,
            message=message,
            expires_in_seconds=expires_in_seconds,
            require_rationale=require_rationale,
            approvals_needed=approvals_needed,
            route=route,
            approver_keys=approver_keys,
        )
        self._requested = request  # its terms hold for votes, independent of the store
        try:
            return decisions.request_approval(self._decision_id, request, by=self._actor)
        except DecisionStateError:
            earlier = None if self._request.key is None else self.decision.approval
            if earlier is None:
                raise
            return earlier

    def wait(self, timeout: float | None = None) -> Decision:
        """Wait until approval is given; return at once if none was requested.

        Args:
            timeout: Maximum time to wait, in seconds; None: until the request expires.

        Returns:
            The decision in its state then.

        Raises:
            ApprovalRefused: The request was rejected or has expired, or the decision has ended.
            ApprovalPending: Nobody has answered in time; the request stays.
            StoreError: The store cannot be read.
        """
        return blocking_calls.run_through(self._waiting(timeout))

    async def wait_async(self, timeout: float | None = None) -> Decision:
        """Wait until approval is given, without blocking the event loop; see `wait`."""
        return await blocking_calls.run_through_async(self._waiting(timeout))

    def _waiting(self, timeout_s: float | None) -> Generator[float, None, Decision]:
        check_timeout(timeout_s)
        decisions = self._opened()
        yield from decisions.until_answered(self._decision_id, timeout_s)
        try:
            return decisions.check_answer(
                self._decision_id, by=self._actor, request=self._requested
            )
        except ApprovalRefused:
            self._ended = True
            raise

    def commit(self, summary: Mapping[str, Any] | None = None) -> Decision:
        """Commit the decision.

        Args:
            summary: JSON object with the result.

        Raises:
            DecisionStateError: The state does not allow it.
            StoreError: The end cannot be stored.
        """
        return self._end_as("commit", summary=summary)

    def abort(self, reason: str | None = None) -> Decision:
        """Abort the decision.

        Args:
            reason: Reason.

        Raises:
            DecisionStateError: The decision has ended otherwise.
            StoreError: The end cannot be stored.
        """
        return self._end_as("abort", reason=reason)

    add_context_async = blocking_calls.asynchronous(add_context, "add_context_async")
    evaluate_async = blocking_calls.asynchronous(evaluate, "evaluate_async")
    request_approval_async = blocking_calls.asynchronous(request_approval, "request_approval_async")
    commit_async = blocking_calls.asynchronous(commit, "commit_async")
    abort_async = blocking_calls.asynchronous(abort, "abort_async")

    # --- entering

    def __enter__(self) -> Self:
        self._begin(self._open())
        return self

    async def __aenter__(self) -> Self:
        self._begin(await blocking_calls.in_thread(self._open, undo=self._undo_open))
        return self

    def _open(self) -> Decision:
        if self._scope is not None:
            reason = "this object is in a block already; make another one"
            raise DecisionStateError(self._decision_id, "open", "entering", reason)
        decisions = decisions_or_raise("a decision")
        request = self._request
        if request.actor is None:
            request = replace(request, actor=actor_here())
        opened = decisions.create(request)
        if opened.status in _ENDED:
            decisions.check_answer(opened.decision_id, by=opened.actor)
        self._decisions = decisions
        return opened

    def _begin(self, opened: Decision) -> None:
        self._decision_id, self._actor, self._ended = opened.decision_id, opened.actor, False
        self._requested = None
        self._scope = DecisionScope(current.recorder, opened.decision_id, opened.actor)
        self._scope.enter()

    def _undo_open(self, opened: Decision) -> None:
        if self._request.key is None and self._decisions is not None:
            end = DecisionEnd("abort", reason="cancelled while it was opened")
            self._decisions.end(opened.decision_id, end, by=opened.actor)

    def _opened(self) -> Decisions:
        if self._decisions is None:
            msg = "this decision is not open: use it as `with decision(...) as d`"
            raise AutotraceError(msg)
        return self._decisions

    # --- leaving

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._leave():
            self._end(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._leave():
            return
        if isinstance(error, GeneratorExit):  # a generator that is being closed cannot await
            blocking_calls.call_unawaited(self._end, error)
        else:
            await blocking_calls.in_thread(self._end, error)

    def _leave(self) -> bool:
        """Leave the context; return whether the decision has ended already."""
        scope = self._scope
        if scope is None:  # left without having been entered
            return True
        scope.leave()
        if self._ended:
            self._scope = None
        return self._ended

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is None:
                self._commit_or_abort()
            else:
                self._abort_for(error)
        finally:
            self._scope = None

    def _commit_or_abort(self) -> None:
        try:
            self._end_as("commit")
        except DecisionStateError as refused:
            if refused.status not in _ENDED:
                self._give_up(str(refused))
            raise

    def _abort_for(self, error: BaseException) -> None:
        try:
            if self._request.key is None or not self._stays(error):
                self._give_up(abort_reason(error))
        except Exception as ours:  # noqa: BLE001 - the error that left the block goes on
            report_unclosed_decision(self._decision_id, ours)

    def _stays(self, error: BaseException) -> bool:
        if isinstance(error, ApprovalPending):  # raised by `wait`, or by a tool inside
            return True
        # An interrupt, or the cancellation of any event loop, is not an Exception.
        return not isinstance(error, Exception) and self.status == "needs_approval"

    def _give_up(self, reason: str) -> None:
        try:
            self._end_as("abort", reason=reason)
        except DecisionStateError:
            pass  # it has ended: by a rejection, its expiry, or another process
        except Exception as error:  # noqa: BLE001 - another error leaves the block
            report_unclosed_decision(self._decision_id, error)

    def _end_as(
        self, action: str, *, summary: Mapping[str, Any] | None = None, reason: str | None = None
    ) -> Decision:
        calls = () if self._scope is None else self._scope.calls()
        end = DecisionEnd(action, summary, reason, calls, self._requested)
        ended = self._opened().end(self._decision_id, end, by=self._actor)
        self._ended = True
        return ended
