"""What capture needs of decisions, and the holder through which it gets it.

`current.open` is None until `autotrace.configure()`. Unlike recording, a decision that cannot be
made is not left out: what asks for one raises.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from autotrace.capture.approvals.decision_scope import current_envelope
from autotrace.capture.recorder import current as recording
from autotrace.capture.task_operation import current_frame
from autotrace.errors import InvalidArgumentError, NotConfiguredError
from autotrace.semconv import DEFAULT_ACTOR

if TYPE_CHECKING:
    from autotrace.models import (
        Approval,
        ApprovalRequest,
        AutomationMode,
        Decision,
        DecisionEvent,
        PolicyOutcome,
        TraceLocation,
    )
from autotrace.base.signal_errors import reraise_if_from_signal_handler

"""Who asks where neither the code nor the settings name an agent."""


class ApprovalAnswer(Protocol):
    """What a policy has answered."""

    @property
    def policy_id(self) -> str:
        """The policy."""
        ...

    @property
    def outcome(self) -> PolicyOutcome:
        """What it allows."""
        ...

    @property
    def rationale(self) -> Mapping[str, Any]:
        """Why."""
        ...


class Service(Protocol):
    """What can be done to decisions: see `autotrace.decisions.service`."""

    def create(
        self,
        intent: str,
        automation_mode: AutomationMode = "propose",
        *,
        actor: str,
        instance: str | None = None,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
        place: TraceLocation = ...,
    ) -> Decision:
        """Open a decision, or find the one that a key has opened."""
        ...

    def open_call(
        self,
        intent: str,
        automation_mode: AutomationMode,
        *,
        actor: str,
        tool_name: str,
        arguments_sha256: str,
        code: Mapping[str, Any] | None = None,
        place: TraceLocation = ...,
    ) -> Decision:
        """Return the decision on a call of a tool: the one under way, or a new one."""
        ...

    def get(self, decision_id: str) -> Decision:
        """Return a decision as it stands."""
        ...

    def until_answered(
        self, decision_id: str, timeout_s: float | None
    ) -> Generator[float, None, Decision]:
        """Follow a decision until its request is answered; yields how long to sleep."""
        ...

    def ask(self, policy_id: str, inputs: Mapping[str, Any]) -> ApprovalAnswer:
        """Ask a policy; nothing is recorded."""
        ...

    def keep_answer(
        self, decision_id: str, answer: Any, inputs: Mapping[str, Any], *, by: str
    ) -> DecisionEvent:
        """Record what `ask` has returned."""
        ...

    def hiding_key(self) -> bytes:
        """Return the key of the digests that stand for hidden arguments."""
        ...

    def check_route(self, name: str | None) -> None:
        """Pass the name of an approval route, or none."""
        ...

    def add_context(
        self, decision_id: str, context: Mapping[str, Any], *, summary: str | None = None, by: str
    ) -> DecisionEvent:
        """Add what is known."""
        ...

    def evaluate(
        self,
        decision_id: str,
        policy_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        inputs_ref: str | None = None,
        by: str,
    ) -> DecisionEvent:
        """Ask a policy."""
        ...

    def request_approval(
        self, decision_id: str, request: ApprovalRequest, *, requester: str
    ) -> Approval:
        """Ask for approval."""
        ...

    def check_answer(
        self, decision_id: str, *, by: str, request: ApprovalRequest | None = None
    ) -> Decision:
        """Return a decision that is approved, or open; raise if it is not."""
        ...

    def check_call(self, decision_id: str, *, tool_name: str, arguments_sha256: str) -> None:
        """Pass the call of a tool for which a decision was opened, and no other."""
        ...

    def claim(
        self,
        decision_id: str,
        *,
        tool_name: str,
        arguments_sha256: str,
        by: str,
        request: ApprovalRequest | None = None,
    ) -> Decision:
        """Use an approval up for one run."""
        ...

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
        """End a decision."""
        ...


class Current:
    """Holds what opens the decisions in use: many a program never decides anything."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: Callable[[], Service] | None = None


current: Final = Current()


def service_or_raise(what: str) -> Service:
    """Return the decisions in use.

    Raises:
        NotConfiguredError: There are none; names what was asked for.
    """
    if current.open is None:
        raise NotConfiguredError(what)
    return current.open()


def actor_here() -> str:
    """Return who asks: that of the open decision, or else the task's agent, or the settings'."""
    envelope = current_envelope()
    if envelope is not None:
        return envelope.actor
    frame = current_frame()
    if frame is not None and frame.agent:
        return frame.agent
    recorder = recording.recorder
    return (recorder.agent if recorder is not None else None) or DEFAULT_ACTOR


def check_timeout(timeout_s: Any) -> None:
    """Raise InvalidArgumentError unless it is a number of seconds, or None."""
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (is_number and timeout_s >= 0):
        raise InvalidArgumentError("timeout", timeout_s, "a number of seconds, or None")


def abort_reason(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Return an exception as the reason for which something was given up, without secrets.

    Args:
        error: The exception.
        secrets: Further texts to take out.
    """
    recorder = recording.recorder
    if recorder is None:
        return type(error).__qualname__
    kind, message, _ = recorder.encoder.error(error, secrets)
    return f"{kind}: {message}" if message else kind


def report_unclosed_decision(decision_id: str, error: Exception) -> None:
    """Count and log a decision that could not be ended, as the store did not take it."""
    reraise_if_from_signal_handler(error)
    recorder = recording.recorder
    if recorder is None:
        return
    try:
        recorder.count("unclosed_decisions")
        recorder.note("decision", f"{decision_id} could not be ended: {error}", error)
    except Exception as ours:  # noqa: BLE001 - the guard of this package
        recorder.failed(ours)
