"""`decision`: a block whose outcome is a decision on the record, with policies and approvals."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from autotrace.base import blocking_calls
from autotrace.capture.approvals.decision_access import (
    abort_reason,
    actor_here,
    check_timeout,
    report_unclosed_decision,
    service_or_raise,
)
from autotrace.capture.approvals.decision_scope import DecisionScope
from autotrace.capture.approvals.decision_spans import current_trace_location
from autotrace.capture.recorder import current
from autotrace.errors import ApprovalPending, ApprovalRefused, AutotraceError, DecisionStateError

if TYPE_CHECKING:
    from autotrace.decisions.service import DecisionService
    from autotrace.models import (
        Approval,
        ApprovalRequest,
        AutomationMode,
        Decision,
        DecisionEvent,
        DecisionStatus,
        PolicyOutcome,
    )

_ENDED: Final = ("committed", "aborted")


class decision:
    """Decide something on the record: opened on entering, committed or aborted on leaving.

    ```python
    with decision("customer.order.create", automation_mode="approve", actor="order-bot") as d:
        d.add_context({"risk": 0.12}, summary="low risk")
        if d.evaluate("discount_cap_v1", {"discount": 0.25}) != "allow":
            d.request_approval(title="25 % discount", expires_in_seconds=3600)
            d.wait(timeout=300)
        place_order(...)
    ```

    Use with `with` or `async with`, one object for one block at a time. Left normally, the decision
    is committed; if it cannot be (a policy denies it, or it waits for approval), it is aborted and
    DecisionStateError is raised. Left by an exception, it is aborted with that as the reason, and
    the exception goes on. `commit` and `abort` end it before. Tool calls made inside become events
    of it.

    With a `key`, an agent that starts again finds its decision: entering with the key of one that
    is open, waits or is approved goes on with that one. One that has ended is not decided twice:
    entering raises ApprovalRefused, with `used` as reason if it was committed. And it is not
    aborted by what only stops the agent: by ApprovalPending, its own or that of a tool called
    inside; nor, while its approval is outstanding, by an interrupt or by cancellation.

    Args:
        intent: What is to be decided, as a label such as `customer.order.create`.
        automation_mode: `propose`, `approve`, `override` or `autonomous`.
        actor: Who asks, and so may not approve. Default: that of the decision or else the agent of
            the task that encloses it, or else the setting `agent`, or `agent`.
        metadata: Anything to be kept with it.
        key: Idempotency key, unique for this actor.
        instance: Which run of the actor.
        version: Which version of it.

    Raises:
        NotConfiguredError: On entering: `autotrace.configure()` was not called.
        InvalidArgumentError: On entering: an argument has a value that is not allowed.
        ApprovalRefused: On entering: the key is that of a decision that has ended.
        DecisionStateError: On leaving: it cannot be committed.
        StoreError: On entering, or leaving without an exception: the store does not take it.
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
        self._intent = intent
        self._automation_mode: AutomationMode = automation_mode
        self._named_actor = actor
        self._metadata = metadata
        self._key = key
        self._instance = instance
        self._version = version
        self._service: DecisionService | None = None
        self._envelope: DecisionScope | None = None
        self._decision_id = ""
        self._actor = ""
        self._asked: ApprovalRequest | None = None
        """What this block has asked of approvers."""
        self._ended = False
        """Whether `commit` or `abort` has ended it, or the caller was told that it was refused."""

    # --- what it is

    @property
    def decision_id(self) -> str:
        """Id of the decision; empty before the block is entered."""
        return self._decision_id

    @property
    def decision(self) -> Decision:
        """The decision as it stands at this moment."""
        return self._opened().get(self._decision_id)

    @property
    def status(self) -> DecisionStatus:
        """Its status at this moment."""
        return self.decision.status

    # --- what is done with it

    def add_context(self, context: Mapping[str, Any], summary: str | None = None) -> DecisionEvent:
        """Add what is known.

        Args:
            context: An object that is not empty.
            summary: It in words.

        Raises:
            InvalidArgumentError: `context` is no object, or empty.
            DecisionStateError: The decision is closed.
            StoreError: The store does not take it.
        """
        service = self._opened()
        return service.add_context(self._decision_id, context, summary=summary, by=self._actor)

    def evaluate(self, policy_id: str, inputs: Mapping[str, Any]) -> PolicyOutcome:
        """Ask a policy; what it says binds: see `docs/guides/approve.md`.

        Args:
            policy_id: The policy.
            inputs: What it is to look at: a JSON object.

        Returns:
            `allow`, `deny` or `requires_exception`. Why, and which version of the policy said so,
            is in `decision.evaluations`.

        Raises:
            PolicyNotFoundError: No such policy is registered.
            PolicyError: It gave no outcome.
            InvalidArgumentError: The inputs are no JSON object.
            DecisionStateError: The decision is closed.
            StoreError: The store does not take it.
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
        """Ask for approval; `wait` waits for the answer.

        With a key, a request that was made before this agent started again stays as it is, answered
        or not.

        Args:
            title: What is asked for, in a few words.
            message: In more.
            expires_in_seconds: How long an answer is waited for; None: for ever.
            require_rationale: Whether the answer must give a reason.
            approvals_needed: How many different approvers must agree.
            route: Name of who is to be notified; None: the default.
            approver_keys: Public keys whose signed votes alone count; None: those of the setting.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionStateError: It was asked for before, or the decision is closed.
            StoreError: The store does not take it.
        """
        from autotrace.models import ApprovalRequest

        service = self._opened()
        request = ApprovalRequest(
            title=title,
            message=message,
            expires_in_seconds=expires_in_seconds,
            require_rationale=require_rationale,
            approvals_needed=approvals_needed,
            route=route,
            approver_keys=approver_keys,
        )
        self._asked = request  # whatever the store holds later
        try:
            return service.request_approval(self._decision_id, request, requester=self._actor)
        except DecisionStateError:
            asked_before = None if self._key is None else self.decision.approval
            if asked_before is None:
                raise
            return asked_before

    def wait(self, timeout: float | None = None) -> Decision:
        """Wait until approval is given; return at once if none was asked for.

        Args:
            timeout: How long to wait at most, in seconds; None: until the request expires.

        Returns:
            The decision as it stands then.

        Raises:
            ApprovalRefused: It was rejected, has expired, or has ended otherwise: says why.
            ApprovalPending: Nobody has answered in time; the request stays.
            StoreError: The store cannot be read.
        """
        return blocking_calls.run_through(self._waiting(timeout))

    async def wait_async(self, timeout: float | None = None) -> Decision:
        """Wait until approval is given, without blocking the event loop; see `wait`."""
        return await blocking_calls.run_through_async(self._waiting(timeout))

    def _waiting(self, timeout_s: float | None) -> Generator[float, None, Decision]:
        check_timeout(timeout_s)
        service = self._opened()
        yield from service.until_answered(self._decision_id, timeout_s)
        try:
            return service.check_answer(self._decision_id, by=self._actor, request=self._asked)
        except ApprovalRefused:
            self._ended = True
            raise

    def commit(self, summary: Mapping[str, Any] | None = None) -> Decision:
        """End it: what was decided holds.

        Args:
            summary: What came of it: a JSON object.

        Raises:
            DecisionStateError: Its state does not allow it; says why.
            StoreError: The store does not take it.
        """
        return self._close("commit", summary=summary)

    def abort(self, reason: str | None = None) -> Decision:
        """End it: what was to be decided is given up.

        Args:
            reason: Why.

        Raises:
            DecisionStateError: It has ended otherwise.
            StoreError: The store does not take it.
        """
        return self._close("abort", reason=reason)

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
        if self._envelope is not None:
            reason = "this object is in a block already; make another one"
            raise DecisionStateError(self._decision_id, "open", "entering", reason)
        service = service_or_raise("a decision")
        opened = service.create(
            self._intent,
            self._automation_mode,
            actor=actor_here() if self._named_actor is None else self._named_actor,
            instance=self._instance,
            version=self._version,
            metadata=self._metadata,
            key=self._key,
            place=current_trace_location(),
        )
        if opened.status in _ENDED:
            service.check_answer(opened.decision_id, by=opened.actor)
        self._service = service
        return opened

    def _begin(self, opened: Decision) -> None:
        self._decision_id, self._actor, self._ended = opened.decision_id, opened.actor, False
        self._asked = None
        self._envelope = DecisionScope(current.recorder, opened.decision_id, opened.actor)
        self._envelope.enter()

    def _undo_open(self, opened: Decision) -> None:
        if self._key is None and self._service is not None:
            reason = "cancelled while it was opened"
            self._service.close(opened.decision_id, "abort", by=opened.actor, reason=reason)

    def _opened(self) -> DecisionService:
        if self._service is None:
            msg = "this decision is not open: use it as `with decision(...) as d`"
            raise AutotraceError(msg)
        return self._service

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
        if isinstance(error, GeneratorExit):  # what is being closed cannot await
            blocking_calls.call_unawaited(self._end, error)
        else:
            await blocking_calls.in_thread(self._end, error)

    def _leave(self) -> bool:
        """Leave the context; return whether the decision has ended already."""
        envelope = self._envelope
        if envelope is None:  # left without having been entered
            return True
        envelope.leave()
        if self._ended:
            self._envelope = None
        return self._ended

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is None:
                self._commit_or_abort()
            else:
                self._abort_for(error)
        finally:
            self._envelope = None

    def _commit_or_abort(self) -> None:
        try:
            self._close("commit")
        except DecisionStateError as refused:
            if refused.status not in _ENDED:
                self._give_up(str(refused))
            raise

    def _abort_for(self, error: BaseException) -> None:
        try:
            if self._key is None or not self._stays(error):
                self._give_up(abort_reason(error))
        except Exception as ours:  # noqa: BLE001 - never in place of the error that left the block
            report_unclosed_decision(self._decision_id, ours)

    def _stays(self, error: BaseException) -> bool:
        if isinstance(error, ApprovalPending):  # its own, or that of a tool inside
            return True
        # No Exception is an interrupt, and a cancelled task of whatever event loop.
        return not isinstance(error, Exception) and self.status == "needs_approval"

    def _give_up(self, reason: str) -> None:
        try:
            self._close("abort", reason=reason)
        except DecisionStateError:
            pass  # somebody else has ended it: a rejection, its expiry, another process
        except Exception as error:  # noqa: BLE001 - an error is on its way already
            report_unclosed_decision(self._decision_id, error)

    def _close(
        self, action: str, *, summary: Mapping[str, Any] | None = None, reason: str | None = None
    ) -> Decision:
        envelope = self._envelope
        closed = self._opened().close(
            self._decision_id,
            action,
            by=self._actor,
            summary=summary,
            reason=reason,
            tool_calls=() if envelope is None else envelope.calls(),
            request=self._asked,
        )
        self._ended = True
        return closed
