"""Record one turn of an agent's reasoning as a span."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast, overload

from autotrace import semconv
from autotrace.capture.blocks import Block, DecoratedCall, filled
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder
from autotrace.capture.span_attributes import Observations, step_attributes
from autotrace.capture.wrappers import F, is_function
from autotrace.ids import format_step_id


class StepOperation(Operation):
    """Span of one step."""

    __slots__ = ("observations",)

    def __init__(self, recorder: Recorder, attributes: dict[str, Any]) -> None:
        super().__init__(recorder, semconv.STEP_SPAN_NAME, attributes)
        self.observations = Observations(recorder)

    def observe(self, text: Any) -> None:
        """Add an observation."""
        try:
            self.observations.add(text)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def end(self, end_ns: int | None = None) -> None:
        """End the span with the observations."""
        if self.observations.texts and not self.ended:
            self.set({semconv.OBSERVATIONS: self.observations.texts})
        super().end(end_ns)

    def forget(self) -> None:
        """Release the thought, the action and the observations."""
        super().forget()
        self.observations = Observations(self.recorder)


class Step:
    """Handle of an open step."""

    __slots__ = ("_operation",)

    def __init__(self, operation: StepOperation | None) -> None:
        self._operation = operation

    @property
    def step_id(self) -> str:
        """Id of the step; empty while nothing records."""
        ids = None if self._operation is None else self._operation.ids()
        return "" if ids is None else format_step_id(*ids)

    def observe(self, text: Any) -> None:
        """Add an observation: a response of the agent's environment.

        Args:
            text: The observation; recorded as JSON if it is not a string.
        """
        if self._operation is not None:
            self._operation.observe(text)


class StepBlock(Block[Step]):
    """Block that `step(...)` returns."""

    _word: ClassVar = "step"

    def __init__(
        self, thought: Any, action: Any = None, observations: Iterable[Any] | None = None
    ) -> None:
        super().__init__()
        self._thought = thought
        self._action = action
        self._observations = observations

    def __reduce__(self) -> Any:
        return StepBlock, (self._thought, self._action, self._observations)

    def _make(self, recorder: Recorder, call: DecoratedCall | None) -> Operation:
        thought, action = self._thought, self._action
        if call is not None:
            thought = call.description if thought is None else thought
            if isinstance(thought, str):
                thought = filled(thought, call.arguments, recorder)
            if isinstance(action, str):
                action = filled(action, call.arguments, recorder)
        operation = StepOperation(recorder, step_attributes(recorder, thought, action))
        observed = self._observations
        for item in [observed] if isinstance(observed, str) else observed or ():
            operation.observe(item)
        return operation

    def _handle(self, operation: Operation | None) -> Step:
        return Step(cast("StepOperation | None", operation))


@overload
def step(thought: F, /) -> F: ...
@overload
def step(
    thought: str | None = None,
    action: str | None = None,
    observations: Iterable[str] | None = None,
) -> StepBlock: ...
def step(
    thought: Any = None,
    action: str | None = None,
    observations: Iterable[str] | None = None,
) -> Any:
    """Record one turn of reasoning: thought, action and observations.

    ```python
    with step("I need to search first", action="call web_search") as s:
        hits = web_search("italian near Moscone")
        s.observe(f"Found {len(hits)} results")
    ```

    Use with `with`, `async with`, or as a decorator: `@step("Rank the {kind} candidates")` fills
    in the arguments of the call. Without a thought, as in bare `@step`, the thought is the first
    line of the function's docstring, or its name.

    Args:
        thought: The agent's reasoning at this step.
        action: The action that the agent chose.
        observations: Observations that the agent has already made.

    Returns:
        A block; or, when used bare on a function, the function wrapped to record its calls.

    Raises:
        InvalidArgumentError: Used bare on a class.
    """
    if is_function(thought):
        return StepBlock(None)(thought)
    return StepBlock(thought, action, observations)
