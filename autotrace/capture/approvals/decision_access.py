"""Access of capture to the decisions in use.

`current.open` is None until `autotrace.configure()`. Unlike recording, a decision that cannot be
made raises an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.capture.approvals.decision_scope import current_envelope
from autotrace.capture.recorder import current as recording
from autotrace.capture.task_operation import current_frame
from autotrace.errors import InvalidArgumentError, NotConfiguredError
from autotrace.semconv import DEFAULT_ACTOR

if TYPE_CHECKING:
    from autotrace.decisions.service import DecisionService


class Current:
    """Holder of the function that opens the decisions at first use."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: Callable[[], DecisionService] | None = None


current: Final = Current()


def service_or_raise(what: str) -> DecisionService:
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
