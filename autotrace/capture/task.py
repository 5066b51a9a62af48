"""`task`: what an agent is asked to do, as a span that opens a trace."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.trace import Status, StatusCode

from autotrace import semconv
from autotrace.capture.blocks import Block, described, filled
from autotrace.capture.drive import target_of
from autotrace.capture.recorder import FRAME_KEY, Operation, Recorder
from autotrace.errors import InvalidArgumentError, NotConfiguredWarning

P = ParamSpec("P")
R = TypeVar("R")

_MAX_STREAMED_CHARS = 65_536
"""How much of what a streaming task yields is kept as its outcome."""


@dataclass(frozen=True)
class Frame:
    """What inner tasks inherit from the task they are opened in."""

    handle: Task
    session_id: str | None
    agent: str | None


class TaskOperation(Operation):
    """One task."""

    __slots__ = ("completed", "frame", "streamed", "streamed_chars")

    def __init__(self, recorder: Recorder, name: str, attributes: dict[str, Any]) -> None:
        super().__init__(recorder, name, attributes)
        self.completed: tuple[Any, bool] | None = None
        self.streamed: list[str] = []
        self.streamed_chars = 0
        self.frame: Frame | None = None

    def context(self) -> otel_context.Context:
        """Return the context of the task's body, with what inner tasks inherit."""
        return otel_context.set_value(FRAME_KEY, self.frame, super().context())

    def item(self, value: Any) -> None:
        """Keep the text that a streaming task yields."""
        if isinstance(value, str) and self.streamed_chars < _MAX_STREAMED_CHARS:
            self.streamed.append(value[: _MAX_STREAMED_CHARS - self.streamed_chars])
            self.streamed_chars += len(value)

    def succeed(self, result: Any) -> None:
        """End as completed: with what `complete` was told, or else with the result."""
        self.detach()
        end_ns = self.now_ns()
        if self.completed is None:
            self.completed = ("".join(self.streamed) if self.streamed else result, True)
        self._set_completion(*self.completed)
        self.end(end_ns)

    def close_early(self) -> None:
        """End a streaming task whose consumer has had enough."""
        self.succeed(None)

    def describe(self, error: BaseException) -> None:
        """Complete as failed, with the error as outcome."""
        try:
            kind, message, stacktrace = self.recorder.encoder.error(error)
            text = f"{kind}: {message}" if message else kind
            self.set({semconv.OUTCOME: text, semconv.SUCCESS: False})
            self.set_error(kind, message, stacktrace)
        except Exception as failure:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(failure)

    def _set_completion(self, outcome: Any, success: bool) -> None:
        if self.span is None or self.ended:
            return
        try:
            text = None if outcome is None else self.recorder.encoder.text(outcome)
            attributes: dict[str, Any] = {semconv.SUCCESS: success}
            if text is not None:
                attributes[semconv.OUTCOME] = text
            self.set(attributes)
            if not success:
                self.span.set_status(Status(StatusCode.ERROR, text))
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)


class Task:
    """Handle of an open task."""

    __slots__ = ("_operation",)

    def __init__(self, operation: TaskOperation | None) -> None:
        self._operation = operation

    @property
    def trace_id(self) -> str:
        """Id of the task's trace; empty while nothing records."""
        if self._operation is None or self._operation.span is None:
            return ""
        trace, span = self._operation.ids()
        return f"{semconv.TRACE_ID_PREFIX}{trace}-{span}"

    def complete(self, outcome: Any = None, success: bool = True) -> None:
        """Say how the task ended; the last word before the block is left counts.

        Args:
            outcome: What came of it. What is no string is recorded as JSON.
            success: Whether the task was solved.
        """
        if self._operation is not None:
            self._operation.completed = (outcome, bool(success))


_warned = threading.Lock()


def warn_not_configured() -> None:
    """Say once in a process that nothing is recorded, and how to change it."""
    if _warned.acquire(blocking=False):
        try:
            warnings.warn(
                "autotrace records nothing: call autotrace.configure() once, before the first task",
                NotConfiguredWarning,
                stacklevel=4,
            )
        except NotConfiguredWarning:
            pass  # warnings are errors here; an error of ours must not reach user code


class task(Block[Task]):  # noqa: N801 - used like a function, as a block and as a decorator
    """Record what an agent is asked to do; everything inside belongs to its trace.

    ```python
    with task("Find Italian restaurants near the venue", session_id="s1", agent="concierge") as t:
        ...
        t.complete("Top 3 found", success=True)
    ```

    Use with `with`, `async with`, or as a decorator: `@task("Summarise {topic}")` fills in the
    arguments of the call, and bare `@task` takes the first argument that is a string as the text.
    A decorated function's return value is the outcome, unless `current_task().complete(...)` says
    otherwise. Left without `complete`, the task succeeded; left by an exception, it failed with
    the error as outcome, and the exception goes on.

    Args:
        text: What the agent is asked to do.
        session_id: The session or conversation it belongs to. Default: that of the outer task.
        agent: Name of the agent. Default: that of the outer task, or the setting `agent`.
        triggered_by_memory_id: Id of a memory that led to this task.

    Raises:
        InvalidArgumentError: Used bare on something that is not a function.
    """

    def __new__(cls, text: Any = None, **options: Any) -> Any:
        """Make a block; or, used bare on a function, decorate it."""
        if callable(text) or isinstance(text, classmethod | staticmethod):
            if options:
                raise InvalidArgumentError("task", text, "used as @task or @task(text, ...)")
            return cls(None)._decorate(text)
        return super().__new__(cls)

    def __init__(
        self,
        text: Any,
        *,
        session_id: str | None = None,
        agent: str | None = None,
        triggered_by_memory_id: str | None = None,
    ) -> None:
        super().__init__()
        self._text = text
        self._session_id = session_id
        self._agent = agent
        self._triggered_by_memory_id = triggered_by_memory_id
        self._described: str | None = None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: each call is a task."""
        return cast("Callable[P, R]", self._decorate(function))

    def _decorate(self, function: Callable[..., Any]) -> Any:
        self._described = described(target_of(function))
        return super()._decorate(function)

    def _not_configured(self) -> None:
        warn_not_configured()

    def _make(self, recorder: Recorder, arguments: Mapping[str, Any] | None) -> Operation:
        if recorder.before_task is not None:
            recorder.before_task()
        outer = cast("Frame | None", otel_context.get_value(FRAME_KEY))
        session_id = self._session_id or (outer.session_id if outer else None)
        agent = self._agent or (outer.agent if outer else None) or recorder.agent
        attributes: dict[str, Any] = {
            semconv.GEN_AI_OPERATION_NAME: semconv.INVOKE_AGENT,
            semconv.KIND: semconv.KIND_TASK,
            semconv.TASK: recorder.encoder.text(self._text_for(recorder, arguments)),
        }
        optional = {
            semconv.GEN_AI_AGENT_NAME: agent,
            semconv.GEN_AI_CONVERSATION_ID: session_id,
            semconv.TRIGGERED_BY_MEMORY_ID: self._triggered_by_memory_id,
        }
        attributes |= {key: str(value) for key, value in optional.items() if value is not None}
        name = f"{semconv.INVOKE_AGENT} {agent}" if agent else semconv.INVOKE_AGENT
        operation = TaskOperation(recorder, name, attributes)
        operation.frame = Frame(Task(operation), session_id, agent)
        return operation

    def _text_for(self, recorder: Recorder, arguments: Mapping[str, Any] | None) -> Any:
        if self._text is not None or arguments is None:
            text = "" if self._text is None else self._text
            return filled(text, arguments, recorder) if isinstance(text, str) else text
        redactor = recorder.encoder.redactor
        for name, value in arguments.items():
            if isinstance(value, str) and value.strip() and not redactor.is_secret(name):
                return value
        return self._described or ""

    def _handle(self, operation: Operation | None) -> Task:
        return Task(cast("TaskOperation | None", operation))


def current_task() -> Task | None:
    """Return the handle of the task that encloses the caller, or None outside any."""
    frame = cast("Frame | None", otel_context.get_value(FRAME_KEY))
    return None if frame is None else frame.handle
