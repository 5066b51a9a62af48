"""Record a request to an agent as a span that opens a trace."""

from __future__ import annotations

from typing import Any, ClassVar, cast, overload

from autotrace import semconv
from autotrace.capture.blocks import Block, DecoratedCall, filled
from autotrace.capture.not_configured_warning import warn_not_configured
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder, failed
from autotrace.capture.span_attributes import task_attributes, task_span_name
from autotrace.capture.task_operation import TaskOperation, current_frame
from autotrace.capture.wrappers import F, is_function
from autotrace.ids import format_trace_id


class Task:
    """Handle of an open task."""

    __slots__ = ("_operation",)

    def __init__(self, operation: TaskOperation | None) -> None:
        self._operation = operation

    @property
    def trace_id(self) -> str:
        """Id of the task's trace; empty while nothing records."""
        ids = None if self._operation is None else self._operation.ids()
        return "" if ids is None else format_trace_id(*ids)

    def complete(self, outcome: Any = None, success: bool = True) -> None:
        """Set outcome and success; the last call before the block exits counts.

        Args:
            outcome: Outcome, recorded as it is at this moment; as JSON if it is not a string.
            success: Whether the agent solved the task.
        """
        if self._operation is not None:
            self._operation.complete(outcome, success)


class TaskBlock(Block[Task]):
    """Block that `task(...)` returns."""

    _word: ClassVar = "task"

    def __init__(
        self,
        text: Any,
        session_id: str | None = None,
        agent: str | None = None,
        triggered_by_memory_id: str | None = None,
    ) -> None:
        super().__init__()
        self._text = text
        self._session_id = session_id
        self._agent = agent
        self._triggered_by_memory_id = triggered_by_memory_id

    def __reduce__(self) -> Any:
        arguments = (self._text, self._session_id, self._agent, self._triggered_by_memory_id)
        return TaskBlock, arguments

    def _not_configured(self) -> None:
        warn_not_configured()

    def _make(self, recorder: Recorder, call: DecoratedCall | None) -> Operation:
        outer = current_frame()
        session_id = _name(recorder, self._session_id, semconv.GEN_AI_CONVERSATION_ID)
        agent = _name(recorder, self._agent, semconv.GEN_AI_AGENT_NAME)
        if outer is not None:
            session_id, agent = session_id or outer.session_id, agent or outer.agent
        agent = agent or recorder.agent
        triggered_by = semconv.TRIGGERED_BY_MEMORY_ID
        attributes = task_attributes(
            recorder,
            self._text_for(recorder, call),
            session_id=session_id,
            agent=agent,
            triggered_by_memory_id=_name(recorder, self._triggered_by_memory_id, triggered_by),
        )
        name = task_span_name(agent)
        return TaskOperation(recorder, name, attributes, session_id=session_id, agent=agent)

    def _text_for(self, recorder: Recorder, call: DecoratedCall | None) -> Any:
        if call is None:
            return "" if self._text is None else self._text
        if self._text is not None:
            text = self._text
            return filled(text, call.arguments, recorder) if isinstance(text, str) else text
        redactor = recorder.encoder.redactor
        for name, value in call.arguments.items():
            if isinstance(value, str) and value.strip() and not redactor.is_secret(name):
                return value
        return call.description

    def _handle(self, operation: Operation | None) -> Task:
        return Task(cast("TaskOperation | None", operation))


def _name(recorder: Recorder, value: Any, path: str) -> str | None:
    """Return an id or a name as text, or None if it is None or unreadable."""
    try:
        return None if value is None else recorder.encoder.text(str(value), path=path)
    except Exception as error:  # noqa: BLE001 - users' own objects may raise anything
        recorder.failed(error)
        return None


@overload
def task(text: F, /) -> F: ...
@overload
def task(
    text: str | None = None,
    *,
    session_id: str | None = None,
    agent: str | None = None,
    triggered_by_memory_id: str | None = None,
) -> TaskBlock: ...
def task(
    text: Any = None,
    *,
    session_id: str | None = None,
    agent: str | None = None,
    triggered_by_memory_id: str | None = None,
) -> Any:
    """Record a request to an agent; all spans inside belong to its trace.

    ```python
    with task("Find Italian restaurants near the venue", session_id="s1", agent="concierge") as t:
        ...
        t.complete("Top 3 found", success=True)
    ```

    Use with `with`, `async with`, or as a decorator: `@task("Summarise {topic}")` fills in the
    arguments of the call. Without a text, as in bare `@task`, the text is the first argument that
    is a string with content and not secret, or else the first line of the docstring or the
    function's name. A decorated function's return value is the outcome, unless
    `current_task().complete(...)` was called. A block that exits without `complete` succeeds. An
    exception that leaves the block fails the task, is its outcome, and propagates.

    Args:
        text: The request to the agent.
        session_id: Id of the session or conversation. Default: that of the outer task.
        agent: Name of the agent. Default: that of the outer task, or the setting `agent`.
        triggered_by_memory_id: Id of a memory that led to this task.

    Returns:
        A block; or, when used bare on a function, the function wrapped to record its calls.

    Raises:
        InvalidArgumentError: Used bare on a class.
    """
    if is_function(text):
        return TaskBlock(None, session_id, agent, triggered_by_memory_id)(text)
    return TaskBlock(text, session_id, agent, triggered_by_memory_id)


def current_task() -> Task | None:
    """Return the handle of the innermost task, or None outside any task."""
    try:
        frame = current_frame()
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)
        return None
    return None if frame is None else Task(frame.operation)
