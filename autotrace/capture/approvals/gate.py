"""The gate before a tool's body: what runs is what was approved, once.

An approval is bound to the tool's code and to its arguments as they were shown, by their SHA-256.
One caller claims it before the body starts, and uses it up by that. The body runs on a copy of the
arguments that no other thread has, which is hashed again after the claim. A failure before the
claim means that the body does not run; after it, that it does not run again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from autotrace import semconv
from autotrace.capture.approvals.approved_run import ApprovedRun
from autotrace.capture.approvals.argument_copies import Snapshot
from autotrace.capture.approvals.bind_arguments import Binding
from autotrace.capture.approvals.decision_access import (
    actor_here,
    service_or_raise,
)
from autotrace.capture.approvals.decision_spans import current_trace_location
from autotrace.capture.approvals.requirement import Requirement
from autotrace.capture.approvals.tool_identity import identity_of
from autotrace.capture.approvals.use_decision import use_decision as use_decision
from autotrace.capture.approvals.use_decision import use_here
from autotrace.capture.call_drivers import MakeOperation
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder, current, failed
from autotrace.errors import ApprovalRefused, DecisionStateError, InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.capture.approvals.arguments_hash import ShownCall
    from autotrace.capture.approvals.hidden_arguments import HiddenPlaces
    from autotrace.decisions.policies import Evaluated
    from autotrace.decisions.service import DecisionService
    from autotrace.models import ApprovalRequest

_MAX_INTENT_CHARS: Final = 256


class Gate:
    """What each call of one tool has to pass.

    Args:
        function: What is decorated.
        tool_name: Name of the tool.
        requirement: When it asks, what for, and how long it waits.
        secret_keys: Names of arguments that approvers may not see.
        capture_arguments: Whether approvers see arguments; None: if the settings say so.
        make: Makes the operation of a call.
    """

    def __init__(
        self,
        function: Any,
        tool_name: str,
        requirement: Requirement,
        *,
        secret_keys: frozenset[str],
        capture_arguments: bool | None,
        make: MakeOperation,
    ) -> None:
        self.tool_name = tool_name
        self.requirement = requirement
        self.secret_keys = secret_keys
        self.capture_arguments = capture_arguments
        self.make = make
        self.identity: Final = {"name": tool_name, **identity_of(function)}
        """What identifies the tool: its name, and module, qualified name and source hash of it."""
        self._binding = Binding(function)

    def prepare(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ApprovalCall:
        """Return the passage of one call.

        Raises:
            TypeError: The function cannot be called like this.
        """
        live = self._binding.bind(instance, args, kwargs)
        snapshot = Snapshot(args, kwargs)
        copied = self._binding.bind(instance, snapshot.args, snapshot.kwargs) if snapshot else live
        return ApprovalCall(self, live, copied, snapshot)


class ApprovalCall:
    """One call on its way through the gate.

    Args:
        gate: The gate.
        live: The call's arguments by parameter name, as the caller's objects.
        copied: The same, as the body gets them.
        snapshot: What made the copies.
    """

    def __init__(
        self,
        gate: Gate,
        live: dict[str, Any],
        copied: dict[str, Any],
        snapshot: Snapshot,
    ) -> None:
        self._gate = gate
        self._live = live
        self._arguments = copied
        self._looked_at = copied
        """Which of both is hashed next."""
        self._snapshot = snapshot
        self._must_ask = True
        self._is_closed: bool | None = None
        self._secrets: list[str] = []
        self._service: DecisionService | None = None
        self._shown: ShownCall | None = None
        """The call as approvers see it."""
        self._asked_sha256 = ""
        self._decision_id: str | None = None
        self._operation: Operation | None = None

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments for the body."""
        return self._snapshot.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments for the body."""
        return self._snapshot.kwargs

    @property
    def has_copies(self) -> bool:
        """Whether the body gets copies of the caller's objects."""
        return bool(self._snapshot)

    def leave(self) -> None:
        """Change the caller's objects as the body has changed its copies of them."""
        try:
            self._snapshot.write_back()
        except Exception as error:  # noqa: BLE001 - the body has run: its result counts
            failed(error)

    def result_of(self, result: Any) -> Any:
        """Return a result of the body: the caller's object where it is a copy of one."""
        return self._snapshot.original_of(result)

    def make(
        self, recorder: Recorder, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation:
        """Make the operation of the call, which names the decision that allows it."""
        self._operation = self._gate.make(recorder, instance, args, kwargs)
        self._name_decision()
        return self._operation

    def _name_decision(self) -> None:
        # Before or after the operation is made: the body of a generator waits for the gate.
        if self._operation is not None and self._decision_id is not None:
            self._operation.attributes[semconv.DECISION_ID] = self._decision_id

    def is_closed(self) -> bool:
        """Tell whether anything is required of this call.

        Raises:
            InvalidArgumentError: A function did not say whether to ask.
            Exception: What such a function raises.
        """
        if self._is_closed is None:
            self._is_closed = self._closes()
        return self._is_closed

    def _closes(self) -> bool:
        requirement = self._gate.requirement
        if requirement.tests:
            from autotrace.capture.approvals.arguments_hash import are_finite

            if not are_finite(self._arguments):
                # NaN passes every limit, so that a test of it says nothing: a person decides.
                self._must_ask = True
                return True
        self._must_ask = requirement.must_ask(self._arguments)
        return self._must_ask or bool(requirement.policies)

    def steps(self) -> Generator[float, None, ApprovedRun]:
        """Go through, after `is_closed` has said that it must be.

        Yields:
            How long to sleep before the next look, in seconds.

        Returns:
            The run to begin now.

        Raises:
            ApprovalRefused: The call must not run: says why.
            ApprovalPending: Nobody has answered yet.
            InvalidArgumentError: An argument cannot be shown whole to an approver.
            NotConfiguredError: `autotrace.configure()` was not called.
            StoreError: The store does not answer.
        """
        policies = self._gate.requirement.policies
        service = service_or_raise(f"the tool {self._gate.tool_name!r}, which requires approval,")
        self._service = service
        actor = actor_here()
        answers: list[Evaluated] = []
        if policies:
            from autotrace.capture.approvals.arguments_hash import plain_arguments

            self._check_apart()
            inputs = plain_arguments(self._arguments)
            answers = [service.ask(policy, inputs) for policy in policies]
        said = {answer.outcome for answer in answers}
        if "deny" in said or not (self._must_ask or "requires_exception" in said):
            run = self._decide_by_policies(service, actor, answers)
        else:
            run = yield from self._ask(service, actor, answers)
        self._decision_id = run.decision_id
        self._name_decision()
        return run

    def _fingerprint(self) -> str:
        from autotrace.capture.approvals.arguments_hash import show_call

        shown = show_call(self._gate.identity, self._looked_at, self._hiding())
        if self._shown is None:
            self._shown = shown
        return shown.sha256

    def _hiding(self) -> HiddenPlaces:
        from autotrace.capture.approvals.hidden_arguments import HiddenPlaces
        from autotrace.encoding.redaction import Redactor

        recorder, capture = current.recorder, self._gate.capture_arguments
        captures = True if recorder is None else recorder.capture_arguments
        return HiddenPlaces(
            Redactor() if recorder is None else recorder.encoder.redactor,
            self._gate.secret_keys,
            everything=not (captures if capture is None else capture),
            key=self._hiding_key,
            secrets=self._secrets,
        )

    def _hiding_key(self) -> bytes:
        service = self._service
        return b"" if service is None else service.hiding_key()

    def _decide_by_policies(
        self, service: DecisionService, actor: str, answers: Sequence[Evaluated]
    ) -> ApprovedRun:
        decision_id = service.create(
            self._intent, "autonomous", actor=actor, place=current_trace_location()
        ).decision_id
        run = ApprovedRun(service, decision_id, actor, self._secrets)
        try:
            self._keep(service, decision_id, actor, answers)
        except BaseException as error:
            run.fail(error)
            raise
        denied = next((answer for answer in answers if answer.outcome == "deny"), None)
        if denied is not None:
            rationale = orjson.dumps(denied.rationale).decode() if denied.rationale else ""
            why = f"the policy {denied.policy_id!r} denies it" + (rationale and f": {rationale}")
            run.give_up(why)
            raise ApprovalRefused(decision_id, "denied", why)
        return run

    def _keep(
        self, service: DecisionService, decision_id: str, actor: str, answers: Sequence[Evaluated]
    ) -> None:
        """Record what the policies have answered."""
        inputs = self._recordable() if answers else {}
        for answer in answers:
            service.keep_answer(decision_id, answer, inputs, by=actor)

    def _recordable(self) -> dict[str, Any]:
        """Return the arguments as they may be recorded."""
        recorder, capture = current.recorder, self._gate.capture_arguments
        if recorder is None or not (recorder.capture_arguments if capture is None else capture):
            return {}
        return orjson.loads(
            recorder.encoder.json(
                self._arguments,
                secret_keys=self._gate.secret_keys,
                found=self._secrets,
                path="arguments",
            )
        )

    def _ask(
        self, service: DecisionService, actor: str, answers: Sequence[Evaluated]
    ) -> Generator[float, None, ApprovedRun]:
        """Have the call approved, and claim the approval."""
        gate, wait = self._gate, self._gate.requirement.wait
        self._asked_sha256 = self._fingerprint()
        self._check_apart()
        used = use_here()
        if used is None:
            decision_id = self._opened(service, actor, answers)
        else:
            decision_id = used.decision_id
            service.check_call(
                decision_id, tool_name=gate.tool_name, arguments_sha256=self._asked_sha256
            )
        if wait is not False:
            seconds = None if wait is None or wait is True else wait
            yield from service.until_answered(decision_id, seconds)
        service.check_answer(decision_id, by=actor, request=gate.requirement.request)
        # Of the caller's objects as they are now: what the caller has changed was not approved.
        self._looked_at = self._live
        service.claim(
            decision_id,
            tool_name=gate.tool_name,
            arguments_sha256=self._fingerprint(),
            by=actor,
            request=gate.requirement.request,
        )
        run = ApprovedRun(service, decision_id, actor, self._secrets, used)
        self._check_unchanged(run)
        return run

    def _check_apart(self) -> None:
        """Raise InvalidArgumentError if the body would get an object that another thread may have.

        Only what could not be copied, or not be shown when the call began.
        """
        shared = self._snapshot.shared
        for name, value in self._arguments.items():
            if any(value is each for each in shared):
                allowed = "a value that can be copied, so that nothing changes it meanwhile"
                raise InvalidArgumentError(name, f"<{type(value).__qualname__}>", allowed)

    def _check_unchanged(self, run: ApprovedRun) -> None:
        """Hash what the body gets once more, after the claim; give up unless it was approved.

        Raises:
            ApprovalRefused: It has changed. The approval is used up, and the next call asks.
        """
        self._looked_at = self._arguments
        try:
            is_same = self._fingerprint() == self._asked_sha256
        except BaseException as error:
            run.fail(error)
            raise
        if not is_same:
            why = "the arguments changed while the approval was claimed; call again to ask again"
            run.give_up(why)
            raise ApprovalRefused(run.decision_id, "changed", why)

    def _opened(self, service: DecisionService, actor: str, answers: Sequence[Evaluated]) -> str:
        """Return the decision on this call, for which approval has been asked."""
        gate = self._gate
        request = self._request(actor)
        service.check_route(request.route)
        opened = service.open_call(
            self._intent,
            "approve",
            actor=actor,
            tool_name=gate.tool_name,
            arguments_sha256=self._asked_sha256,
            code={name: value for name, value in gate.identity.items() if name != "name"},
            place=current_trace_location(),
        )
        decision_id = opened.decision_id
        if opened.status != "open":
            return decision_id
        try:
            self._keep(service, decision_id, actor, answers)
            service.request_approval(decision_id, request, requester=actor)
        except DecisionStateError:
            # Another caller of the same call has asked first, and may have its answer already.
            if service.get(decision_id).status == "open":
                raise
        return decision_id

    @property
    def _intent(self) -> str:
        return f"tool.{self._gate.tool_name}"[:_MAX_INTENT_CHARS]

    def _request(self, actor: str) -> ApprovalRequest:
        from autotrace.models import ApprovalRequest

        asked = self._gate.requirement.request or ApprovalRequest()
        shown = self._shown
        return replace(
            asked,
            title=asked.title or f"{actor} asks to run {self._gate.tool_name}",
            arguments=None if shown is None else shown.arguments,
            hidden=() if shown is None else shown.hidden,
            arguments_sha256=self._asked_sha256,
        )
