"""Record the span of a task, its outcome, and the scope of inner tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.trace import Status, StatusCode

from autotrace import semconv
from autotrace.capture.call_outcomes import ending_of
from autotrace.capture.operation import FRAME_KEY, Operation, effective_context

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from autotrace.capture.recorder import Recorder

_MAX_STREAMED_CHARS: Final = 65_536
"""Limit of yielded text kept as the outcome of a streaming task."""


@dataclass(frozen=True, slots=True)
class TaskScope:
    """Values that inner tasks inherit."""

    operation: TaskOperation
    session_id: str | None
    agent: str | None


def current_frame() -> TaskScope | None:
    """Return the scope of the innermost task, or None outside any task."""
    frame = effective_context().get(FRAME_KEY)
    return frame if isinstance(frame, TaskScope) else None


class TaskOperation(Operation):
    """Span of one task."""

    __slots__ = ("agent", "completion", "session_id", "streamed", "streamed_chars")

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        attributes: dict[str, Any],
        *,
        session_id: str | None,
        agent: str | None,
    ) -> None:
        super().__init__(recorder, name, attributes)
        self.session_id = session_id
        self.agent = agent
        self.completion: tuple[str | None, bool] | None = None
        self.streamed: list[str] = []
        self.streamed_chars = 0

    def context(self, span: Span, outside: Context) -> Context:
        """Return the context of the task's body, with its scope."""
        frame = TaskScope(self, self.session_id, self.agent)
        return super().context(span, otel_context.set_value(FRAME_KEY, frame, outside))

    def item(self, value: Any) -> None:
        """Keep the text that a streaming task yields."""
        if isinstance(value, str) and self.streamed_chars < _MAX_STREAMED_CHARS:
            self.streamed.append(value[: _MAX_STREAMED_CHARS - self.streamed_chars])
            self.streamed_chars += len(value)

    def complete(self, outcome: Any, success: Any) -> None:
        """Encode and keep the outcome, as it is at this moment."""
        try:
            self.completion = (self._text(outcome), bool(success))
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def forget(self) -> None:
        """Release the task's text and its outcome."""
        super().forget()
        self.completion = None
        self.streamed = []

    def _text(self, outcome: Any) -> str | None:
        return None if outcome is None else self.recorder.encoder.text(outcome, path="outcome")

    def describe_result(self, result: Any) -> None:
        """Set the outcome: of `complete`, else the result or the yielded text."""
        if self.completion is None:
            outcome = "".join(self.streamed) if self.streamed and result is None else result
            self.completion = (self._text(outcome), True)
        text, success = self.completion
        attributes: dict[str, Any] = {semconv.SUCCESS: success}
        if text is not None:
            attributes[semconv.OUTCOME] = text
        self.set(attributes)
        if not success and self.span is not None:
            self.span.set_status(Status(StatusCode.ERROR, text))

    def describe_early_close(self, _: None) -> None:
        """Complete a streaming task that its consumer closed early."""
        self.describe_result(None)

    def describe_error(self, error: BaseException) -> None:
        """Set the error as outcome; a pause does not set an error status."""
        kind, message, stacktrace = self.recorder.encoder.error(error)
        text = f"{kind}: {message}" if message else kind
        self.set({semconv.OUTCOME: text, semconv.SUCCESS: False})
        if ending_of(error) == "paused":
            self.describe_end(error)
            return
        self.set_error(kind, message, stacktrace)
