"""`step`: one turn of an agent's reasoning, as a span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from autotrace import semconv
from autotrace.capture.blocks import Block, described, filled
from autotrace.capture.drive import target_of
from autotrace.capture.recorder import Operation, Recorder

P = ParamSpec("P")
R = TypeVar("R")

_MAX_OBSERVATIONS = 1000


class StepOperation(Operation):
    """One step."""

    __slots__ = ("observations",)

    def __init__(
        self, recorder: Recorder, attributes: dict[str, Any], observations: list[str]
    ) -> None:
        super().__init__(recorder, semconv.STEP_SPAN_NAME, attributes)
        self.observations = observations

    def observe(self, text: Any) -> None:
        """Add an observation."""
        try:
            if len(self.observations) < _MAX_OBSERVATIONS:
                self.observations.append(self.recorder.encoder.text(text))
            else:
                self.recorder.count("truncated")
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def end(self, end_ns: int | None = None) -> None:
        """End the span with what was observed."""
        if self.observations and not self.ended:
            self.set({semconv.OBSERVATIONS: self.observations})
        super().end(end_ns)


class Step:
    """Handle of an open step."""

    __slots__ = ("_operation",)

    def __init__(self, operation: StepOperation | None) -> None:
        self._operation = operation

    @property
    def step_id(self) -> str:
        """Id of the step; empty while nothing records."""
        if self._operation is None or self._operation.span is None:
            return ""
        trace, span = self._operation.ids()
        return f"{semconv.STEP_ID_PREFIX}{trace}-{span}"

    def observe(self, text: Any) -> None:
        """Add an observation: what the agent saw come back from its environment.

        Args:
            text: The observation. What is no string is recorded as JSON.
        """
        if self._operation is not None:
            self._operation.observe(text)


class step(Block[Step]):  # noqa: N801 - used like a function, as a block and as a decorator
    """Record one turn of reasoning: a thought, the action chosen, and what was observed.

    ```python
    with step("I need to search first", action="call web_search") as s:
        hits = web_search("italian near Moscone")
        s.observe(f"Found {len(hits)} results")
    ```

    Use with `with`, `async with`, or as a decorator: `@step("Rank the {kind} candidates")` fills
    in the arguments of the call; bare `@step` takes the thought from the function's docstring or
    name.

    Args:
        thought: The agent's reasoning at this step.
        action: What it decided to do.
        observations: What it has observed already.
    """

    def __new__(cls, thought: Any = None, *args: Any, **options: Any) -> Any:
        """Make a block; or, used bare on a function, decorate it."""
        if callable(thought) or isinstance(thought, classmethod | staticmethod):
            return cls(None)._decorate(thought)
        return super().__new__(cls)

    def __init__(
        self,
        thought: Any = None,
        action: Any = None,
        observations: Iterable[Any] | None = None,
    ) -> None:
        super().__init__()
        self._thought = thought
        self._action = action
        self._observations = observations
        self._described: str | None = None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: each call is a step."""
        return cast("Callable[P, R]", self._decorate(function))

    def _decorate(self, function: Callable[..., Any]) -> Any:
        self._described = described(target_of(function))
        return super()._decorate(function)

    def _make(self, recorder: Recorder, arguments: Mapping[str, Any] | None) -> Operation:
        text = recorder.encoder.text
        thought = self._described if self._thought is None else self._thought
        if isinstance(thought, str):
            thought = filled(thought, arguments, recorder)
        attributes: dict[str, Any] = {
            semconv.KIND: semconv.KIND_STEP,
            semconv.THOUGHT: "" if thought is None else text(thought),
        }
        if self._action is not None:
            attributes[semconv.ACTION] = text(self._action)
        operation = StepOperation(recorder, attributes, [])
        observed = self._observations
        for item in [observed] if isinstance(observed, str) else observed or ():
            operation.observe(item)
        return operation

    def _handle(self, operation: Operation | None) -> Step:
        return Step(cast("StepOperation | None", operation))
