"""The requester of a decision, and the reasons for which a decision or call is given up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.capture.approvals.decision_scope import current_scope
from autotrace.capture.recorder import current as recording
from autotrace.capture.task_operation import current_frame
from autotrace.errors import InvalidArgumentError
from autotrace.semconv import DEFAULT_ACTOR


def actor_here() -> str:
    """Return the requester: of the open decision, else the task's agent, else the settings'."""
    scope = current_scope()
    if scope is not None:
        return scope.actor
    frame = current_frame()
    if frame is not None and frame.agent:
        return frame.agent
    recorder = recording.recorder
    return (recorder.agent if recorder is not None else None) or DEFAULT_ACTOR


def check_timeout(timeout_s: Any) -> None:
    """Raise InvalidArgumentError unless the value is a number of seconds, or None."""
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (is_number and timeout_s >= 0):
        raise InvalidArgumentError("timeout", timeout_s, "a number of seconds, or None")


def abort_reason(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Return an exception as the reason of an abort, without secrets.

    Args:
        error: The exception.
        secrets: Further texts to remove.
    """
    recorder = recording.recorder
    if recorder is None:
        return type(error).__qualname__
    kind, message, _ = recorder.encoder.error(error, secrets)
    return f"{kind}: {message}" if message else kind


def report_unclosed_decision(decision_id: str, error: Exception) -> None:
    """Count and log a decision whose end could not be stored."""
    reraise_if_from_signal_handler(error)
    recorder = recording.recorder
    if recorder is None:
        return
    try:
        recorder.count("unclosed_decisions")
        recorder.note("decision", f"{decision_id} could not be ended: {error}", error)
    except Exception as ours:  # noqa: BLE001 - the guard of this package
        recorder.failed(ours)
