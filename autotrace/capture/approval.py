"""The gate before a tool's body: what runs is what was approved, once.

An approval is bound to the tool's name and the real arguments by their SHA-256, is claimed before
the body starts, by one caller whoever races, and is used up by that. Whatever goes wrong before the
claim, the body does not run; whatever goes wrong after it, the body does not run again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry import context as otel_context

from autotrace import semconv
from autotrace.capture.binding import Binding
from autotrace.capture.deciding import (
    Service,
    actor_here,
    left_open,
    reason_of,
    service_or_raise,
)
from autotrace.capture.decision_span import place
from autotrace.capture.drive import MakeOperation
from autotrace.capture.envelope import Enclosure
from autotrace.capture.operation import Operation, surroundings
from autotrace.capture.recorder import Recorder, current
from autotrace.capture.requirement import Requirement
from autotrace.errors import ApprovalRefused, DecisionStateError, PolicyError

if TYPE_CHECKING:
    from autotrace.models import ApprovalRequest, DecisionEvent

_USE_KEY: Final = otel_context.create_key("autotrace-use")
"""Context key of the innermost `use_decision` block."""
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
        self._binding = Binding(function)

    def passage(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Passage:
        """Return the passage of one call.

        Raises:
            TypeError: The function cannot be called like this.
        """
        return Passage(self, self._binding.bind(instance, args, kwargs))


class Run:
    """The one run that a decision allows, under way.

    No method raises an `Exception`: what the body did has happened, whether or not it can be
    written down.

    Args:
        service: Where the decision is.
        decision_id: The decision.
        actor: Who asked.
        secrets: Texts to take out of an error.
        used: The `use_decision` block that named the decision, if one did.
    """

    def __init__(
        self,
        service: Service,
        decision_id: str,
        actor: str,
        secrets: list[str],
        used: _Use | None = None,
    ) -> None:
        self.decision_id = decision_id
        self._service = service
        self._actor = actor
        self._secrets = secrets
        self._used = used
        self._started_ns = time.perf_counter_ns()
        if used is not None:
            used.runs = True

    def succeed(self) -> None:
        """Commit: the body has returned."""
        duration_ms = (time.perf_counter_ns() - self._started_ns) // 1_000_000
        self._close("commit", summary={"status": "success", "duration_ms": duration_ms})

    def fail(self, error: BaseException) -> None:
        """Abort: the body has raised."""
        self._close("abort", reason=reason_of(error, self._secrets))

    def give_up(self, reason: str) -> None:
        """Abort: the body has not run, and will not."""
        self._close("abort", reason=reason)

    def _close(
        self, action: str, *, summary: Mapping[str, Any] | None = None, reason: str | None = None
    ) -> None:
        try:
            self._service.close(
                self.decision_id, action, by=self._actor, summary=summary, reason=reason
            )
        except Exception as error:  # noqa: BLE001 - the decision stays claimed, which is true too
            left_open(self.decision_id, error)
        finally:
            if self._used is not None:
                self._used.runs = False


class Passage:
    """One call on its way through the gate.

    Args:
        gate: The gate.
        arguments: The call's arguments, by parameter name.
    """

    def __init__(self, gate: Gate, arguments: dict[str, Any]) -> None:
        self._gate = gate
        self._arguments = arguments
        self._must_ask = True
        self._secrets: list[str] = []
        self._asked_sha256 = ""
        self._shown: Any = None
        """The arguments as people may see them; None if they may not."""
        self._decision_id: str | None = None
        self._operation: Operation | None = None

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
        requirement = self._gate.requirement
        self._must_ask = requirement.must_ask(self._arguments)
        return self._must_ask or bool(requirement.policies)

    def steps(self) -> Generator[float, None, Run]:
        """Go through, after `is_closed` has said that it must be.

        Yields:
            How long to sleep before the next look, in seconds.

        Returns:
            The run to begin now.

        Raises:
            ApprovalRefused: The call must not run: says why.
            ApprovalPending: Nobody has answered yet.
            InvalidArgumentError: An argument has no spelling to which an approval could be bound.
            NotConfiguredError: `autotrace.configure()` was not called.
            StoreError: The store does not answer.
        """
        policies = self._gate.requirement.policies
        # First: what cannot be bound is refused before anything is asked, and what another thread
        # changes while people and policies are shown the arguments is seen by the claim.
        self._asked_sha256 = self._fingerprint()
        service = service_or_raise(f"the tool {self._gate.tool_name!r}, which requires approval,")
        actor = actor_here()
        self._show()
        inputs: dict[str, Any] = {}
        if policies:
            from autotrace.capture.spelling import plain_arguments

            inputs = plain_arguments(self._arguments)
        said = [service.outcome_of(policy, inputs) for policy in policies]
        if "deny" in said or not (self._must_ask or "requires_exception" in said):
            run = self._decide_by_policies(service, actor, inputs)
        else:
            run = yield from self._ask(service, actor, inputs)
        self._decision_id = run.decision_id
        self._name_decision()
        return run

    def _fingerprint(self) -> str:
        from autotrace.capture.spelling import fingerprint

        return fingerprint(self._gate.tool_name, self._arguments)

    def _decide_by_policies(self, service: Service, actor: str, inputs: dict[str, Any]) -> Run:
        decision_id = service.create(
            self._intent, "autonomous", actor=actor, place=place()
        ).decision_id
        run = Run(service, decision_id, actor, self._secrets)
        try:
            said = self._evaluate(service, decision_id, actor, inputs)
        except BaseException as error:
            run.fail(error)
            raise
        outcomes = {event.outcome: event for event in said}
        if (denied := outcomes.get("deny")) is not None:
            rationale = orjson.dumps(denied.rationale).decode() if denied.rationale else ""
            why = f"the policy {denied.policy_id!r} denies it" + (rationale and f": {rationale}")
            run.give_up(why)
            raise ApprovalRefused(decision_id, "denied", why)
        if (other := outcomes.get("requires_exception")) is not None:
            error = PolicyError(other.policy_id, "it says now this, now that of the same inputs")
            run.fail(error)
            raise error
        return run

    def _evaluate(
        self, service: Service, decision_id: str, actor: str, inputs: dict[str, Any]
    ) -> list[Any]:
        """Ask the policies for the record."""
        events: list[DecisionEvent] = [
            service.evaluate(decision_id, policy, inputs, shown=self._shown or {}, by=actor)
            for policy in self._gate.requirement.policies
        ]
        return events

    def _ask(
        self, service: Service, actor: str, inputs: dict[str, Any]
    ) -> Generator[float, None, Run]:
        """Have the call approved, and claim the approval."""
        gate, wait = self._gate, self._gate.requirement.wait
        used = _use_here()
        if used is None:
            decision_id = self._opened(service, actor, inputs)
        else:
            decision_id = used.decision_id
            service.check_call(
                decision_id, tool_name=gate.tool_name, arguments_sha256=self._asked_sha256
            )
        if wait is not False:
            seconds = None if wait is None or wait is True else wait
            yield from service.until_answered(decision_id, seconds)
        service.check_answer(decision_id, by=actor)
        # Of the arguments as they are now: what was changed meanwhile was not approved.
        service.claim(
            decision_id, tool_name=gate.tool_name, arguments_sha256=self._fingerprint(), by=actor
        )
        return Run(service, decision_id, actor, self._secrets, used)

    def _opened(self, service: Service, actor: str, inputs: dict[str, Any]) -> str:
        """Return the decision on this call, for which approval has been asked."""
        request = self._request(actor)
        service.check_route(request.route)
        opened = service.open_call(
            self._intent,
            "approve",
            actor=actor,
            tool_name=self._gate.tool_name,
            arguments_sha256=self._asked_sha256,
            place=place(),
        )
        decision_id = opened.decision_id
        if opened.status != "open":
            return decision_id
        try:
            self._evaluate(service, decision_id, actor, inputs)
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
        return replace(
            asked,
            title=asked.title or f"{actor} asks to run {self._gate.tool_name}",
            arguments=self._shown if asked.arguments is None else self._kept(asked.arguments),
        )

    def _show(self) -> None:
        recorder, capture = current.recorder, self._gate.capture_arguments
        if recorder is not None and (recorder.capture_arguments if capture is None else capture):
            self._shown = self._kept(self._arguments)

    def _kept(self, arguments: Any) -> Any:
        recorder = current.recorder
        if recorder is None:
            return None
        return orjson.loads(
            recorder.encoder.json(
                arguments,
                secret_keys=self._gate.secret_keys,
                found=self._secrets,
                path="arguments",
            )
        )


class _Use(Enclosure):
    """A decision that the next call has to be about."""

    __slots__ = ("decision_id", "runs")

    def __init__(self, decision_id: str) -> None:
        super().__init__(current.recorder, _USE_KEY)
        self.decision_id = decision_id
        self.runs = False
        """Whether the call is under way: what it calls in turn is not meant."""


def _use_here() -> _Use | None:
    found = surroundings().get(_USE_KEY)
    return found if isinstance(found, _Use) and not found.ended and not found.runs else None


@contextlib.contextmanager
def use_decision(decision_id: str) -> Generator[None]:
    """Run, inside the block, the very call for which a decision was opened.

    ```python
    try:
        place_order(items)                 # @tool(requires_approval=True, wait=False)
    except ApprovalPending as pending:
        save(pending.decision_id)
    ...
    with autotrace.use_decision(decision_id):   # later, in any process
        place_order(items)
    ```

    Without it, a call finds the decision that is open on the same arguments, and asks anew if there
    is none. Inside it, a call that requires approval never asks anew: with other arguments, of
    another tool, a second time, or after the approval was rejected or has expired, it raises
    ApprovalRefused naming why.

    Args:
        decision_id: The decision.
    """
    enclosure = _Use(decision_id)
    enclosure.enter()
    try:
        yield
    finally:
        enclosure.leave()
