"""The gate before a tool's body: only the approved call runs, and once.

An approval is bound to the SHA-256 of the tool's code and of the arguments as they were shown. One
caller claims it before the body starts, which uses it up. The body runs on a copy of the arguments
that no other thread has, which is hashed again after the claim. After a failure before the claim,
the body does not run; after a later one, it does not run again.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from autotrace import semconv
from autotrace.active import decisions_or_raise
from autotrace.capture.approvals.approved_run import ApprovedRun
from autotrace.capture.approvals.argument_copies import Snapshot
from autotrace.capture.approvals.bind_arguments import Binding
from autotrace.capture.approvals.decision_access import actor_here
from autotrace.capture.approvals.requirement import Requirement
from autotrace.capture.approvals.tool_identity import identity_of
from autotrace.capture.approvals.use_decision import use_decision as use_decision
from autotrace.capture.approvals.use_decision import use_here
from autotrace.capture.call_drivers import MakeOperation
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder, current, failed
from autotrace.decision_requests import DecisionRequest, GatedCall, tool_intent
from autotrace.errors import ApprovalRefused, DecisionStateError, InvalidArgumentError
from autotrace.models import ApprovalRequest

if TYPE_CHECKING:
    from autotrace.capture.approvals.arguments_hash import ShownCall
    from autotrace.capture.approvals.hidden_arguments import HiddenPlaces
    from autotrace.decisions.api import Decisions
    from autotrace.decisions.policies import Evaluated


class Gate:
    """The gate of one tool.

    Args:
        function: The decorated function.
        tool_name: Name of the tool.
        requirement: When it requests approval, of whom, and how long it waits.
        secret_keys: Names of arguments that approvers may not see.
        capture_arguments: Whether approvers see arguments; None: as in the settings.
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
        """Name of the tool; module, qualified name and source hash of its function."""
        self._binding = Binding(function)

    def prepare(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ApprovalCall:
        """Return the state of one call.

        Raises:
            TypeError: The arguments do not match the signature.
        """
        live = self._binding.bind(instance, args, kwargs)
        snapshot = Snapshot(args, kwargs)
        copied = self._binding.bind(instance, snapshot.args, snapshot.kwargs) if snapshot else live
        return ApprovalCall(self, live, copied, snapshot)


class ApprovalCall:
    """One call at the gate.

    Args:
        gate: The gate.
        live: The caller's arguments by parameter name.
        copied: The arguments of the body by parameter name.
        snapshot: Made the copies.
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
        """The arguments that are hashed next."""
        self._snapshot = snapshot
        self._must_ask = True
        self._is_closed: bool | None = None
        self._secrets: list[str] = []
        self._decisions: Decisions
        self._evaluations: list[Evaluated] = []
        self._shown: ShownCall | None = None
        """The call as approvers see it."""
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
        """Write the body's changes of the arguments back to the caller's objects."""
        try:
            self._snapshot.write_back()
        except Exception as error:  # noqa: BLE001 - the body has run, so its result is returned
            failed(error)

    def result_of(self, result: Any) -> Any:
        """Return a result of the body: the caller's object in place of its copy."""
        return self._snapshot.original_of(result)

    def make(
        self, recorder: Recorder, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Operation:
        """Make the operation of the call, with the id of its decision."""
        self._operation = self._gate.make(recorder, instance, args, kwargs)
        self._name_decision()
        return self._operation

    def _name_decision(self) -> None:
        # The operation of a generator is made before its gate is passed.
        if self._operation is not None and self._decision_id is not None:
            self._operation.attributes[semconv.DECISION_ID] = self._decision_id

    def is_closed(self) -> bool:
        """Return whether the gate is closed for this call: it must pass `steps`.

        Raises:
            InvalidArgumentError: A function of `requires_approval` did not return a bool.
            Exception: Raised by such a function.
        """
        if self._is_closed is None:
            self._is_closed = self._closes()
        return self._is_closed

    def _closes(self) -> bool:
        requirement = self._gate.requirement
        if requirement.tests:
            from autotrace.capture.approvals.arguments_hash import are_finite

            if not are_finite(self._arguments):
                # Comparisons with NaN are false, so a test cannot decide: a person does.
                self._must_ask = True
                return True
        self._must_ask = requirement.must_ask(self._arguments)
        return self._must_ask or bool(requirement.policies)

    def steps(self) -> Generator[float, None, ApprovedRun]:
        """Acquire the run of this call, after `is_closed` returned True.

        Yields:
            Seconds to sleep before the next look.

        Returns:
            The run to begin now.

        Raises:
            ApprovalRefused: The call must not run.
            ApprovalPending: Nobody has answered yet.
            InvalidArgumentError: An argument cannot be shown whole to an approver.
            NotConfiguredError: `autotrace.configure()` was not called.
            StoreError: The store does not answer.
        """
        self._decisions = decisions_or_raise(
            f"the tool {self._gate.tool_name!r}, which requires approval,"
        )
        actor = actor_here()
        outcomes = {evaluated.outcome for evaluated in self._ask_policies()}
        if "deny" in outcomes or not (self._must_ask or "requires_exception" in outcomes):
            run = self._decide_by_policies(actor)
        else:
            run = yield from self._request_approval(actor)
        self._decision_id = run.decision_id
        self._name_decision()
        return run

    def _ask_policies(self) -> list[Evaluated]:
        if policies := self._gate.requirement.policies:
            from autotrace.capture.approvals.arguments_hash import plain_arguments

            self._check_apart()
            inputs = plain_arguments(self._arguments)
            self._evaluations = [self._decisions.ask_policy(each, inputs) for each in policies]
        return self._evaluations

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
            key=lambda: self._decisions.hiding_key(),
            secrets=self._secrets,
        )

    def _decide_by_policies(self, actor: str) -> ApprovedRun:
        request = DecisionRequest(tool_intent(self._gate.tool_name), "autonomous", actor)
        decision_id = self._decisions.create(request).decision_id
        run = ApprovedRun(self._decisions, decision_id, actor, self._secrets)
        try:
            self._record_evaluations(decision_id, actor)
        except BaseException as error:
            run.fail(error)
            raise
        denied = next((each for each in self._evaluations if each.outcome == "deny"), None)
        if denied is not None:
            rationale = orjson.dumps(denied.rationale).decode() if denied.rationale else ""
            why = f"the policy {denied.policy_id!r} denies it" + (rationale and f": {rationale}")
            run.give_up(why)
            raise ApprovalRefused(decision_id, "denied", why)
        return run

    def _record_evaluations(self, decision_id: str, actor: str) -> None:
        inputs = self._recordable() if self._evaluations else {}
        for evaluated in self._evaluations:
            self._decisions.record_evaluation(decision_id, evaluated, inputs, by=actor)

    def _recordable(self) -> dict[str, Any]:
        """Return the redacted arguments; none if arguments are not captured."""
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

    def _request_approval(self, actor: str) -> Generator[float, None, ApprovedRun]:
        """Have the call approved, and claim the approval."""
        gate, wait = self._gate, self._gate.requirement.wait
        approval = gate.requirement.request
        call = GatedCall(actor, gate.identity, self._fingerprint(), approval)
        self._check_apart()
        used = use_here()
        if used is None:
            decision_id = self._open(call)
        else:
            decision_id = used.decision_id
            self._decisions.check_call(decision_id, call)
        if wait is not False:
            seconds = None if wait is None or wait is True else wait
            yield from self._decisions.until_answered(decision_id, seconds)
        self._decisions.check_answer(decision_id, by=actor, request=approval)
        # The caller's objects, hashed now: approval does not cover their changes since.
        self._looked_at = self._live
        self._decisions.claim(decision_id, replace(call, arguments_sha256=self._fingerprint()))
        run = ApprovedRun(self._decisions, decision_id, actor, self._secrets, used)
        self._check_unchanged(run, call)
        return run

    def _check_apart(self) -> None:
        """Raise InvalidArgumentError if the body would share an object with other threads.

        These are the objects that could be neither copied nor shown when the call began.
        """
        shared = self._snapshot.shared
        for name, value in self._arguments.items():
            if any(value is each for each in shared):
                allowed = "a value that can be copied, so that nothing changes it meanwhile"
                raise InvalidArgumentError(name, f"<{type(value).__qualname__}>", allowed)

    def _check_unchanged(self, run: ApprovedRun, call: GatedCall) -> None:
        """Hash the body's arguments once more, after the claim; give up unless they were approved.

        Raises:
            ApprovalRefused: They have changed. The approval is used up; the next call asks again.
        """
        self._looked_at = self._arguments
        try:
            is_same = self._fingerprint() == call.arguments_sha256
        except BaseException as error:
            run.fail(error)
            raise
        if not is_same:
            why = "the arguments changed while the approval was claimed; call again to ask again"
            run.give_up(why)
            raise ApprovalRefused(run.decision_id, "changed", why)

    def _open(self, call: GatedCall) -> str:
        """Return the id of the decision on this call, for which approval was requested."""
        request = self._approval_request(call)
        self._decisions.check_route(request.route)
        opened = self._decisions.open_call(call)
        decision_id = opened.decision_id
        if opened.status != "open":
            return decision_id
        try:
            self._record_evaluations(decision_id, call.actor)
            self._decisions.request_approval(decision_id, request, by=call.actor)
        except DecisionStateError:
            # Another caller of the same call requested approval first, and may be answered already.
            if self._decisions.get(decision_id).status == "open":
                raise
        return decision_id

    def _approval_request(self, call: GatedCall) -> ApprovalRequest:
        asked = call.approval or ApprovalRequest()
        shown = self._shown
        return replace(
            asked,
            title=asked.title or f"{call.actor} asks to run {self._gate.tool_name}",
            arguments=None if shown is None else shown.arguments,
            hidden=() if shown is None else shown.hidden,
            arguments_sha256=call.arguments_sha256,
        )
