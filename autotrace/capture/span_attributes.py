"""What the spans of tasks, steps and tool calls say when they start: bounded and redacted.

The same for what a program records and for what a server is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autotrace import semconv
from autotrace.capture.recorder import Recorder

MAX_NAME_CHARS: Final = 256
"""How much of a tool's name is kept; where it is cut, it is counted as truncated."""
_MAX_OBSERVATIONS: Final = 1000
_MAX_OBSERVED_CHARS: Final = 4 * 1024 * 1024
"""How much text one step may observe in all; each observation is bounded by itself too."""
_NO_NAMES: Final[frozenset[str]] = frozenset()


def task_attributes(
    recorder: Recorder,
    text: Any,
    *,
    session_id: str | None,
    agent: str | None,
    triggered_by_memory_id: str | None,
) -> dict[str, Any]:
    """Return what the span of a task says; names and ids must be fit to be kept."""
    attributes: dict[str, Any] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.INVOKE_AGENT,
        semconv.KIND: semconv.KIND_TASK,
        semconv.TASK: recorder.encoder.text(text, path="task"),
    }
    optional = {
        semconv.GEN_AI_AGENT_NAME: agent,
        semconv.GEN_AI_CONVERSATION_ID: session_id,
        semconv.TRIGGERED_BY_MEMORY_ID: triggered_by_memory_id,
    }
    return attributes | {key: value for key, value in optional.items() if value}


def task_span_name(agent: str | None) -> str:
    """Return the name of the span of a task."""
    return f"{semconv.INVOKE_AGENT} {agent}" if agent else semconv.INVOKE_AGENT


def step_attributes(recorder: Recorder, thought: Any, action: Any) -> dict[str, Any]:
    """Return what the span of a step says."""
    text = recorder.encoder.text
    attributes: dict[str, Any] = {
        semconv.KIND: semconv.KIND_STEP,
        semconv.THOUGHT: "" if thought is None else text(thought, path="thought"),
    }
    if action is not None:
        attributes[semconv.ACTION] = text(action, path="action")
    return attributes


class Observations:
    """What a step has observed, within bounds."""

    __slots__ = ("_chars_left", "_recorder", "texts")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._chars_left = _MAX_OBSERVED_CHARS
        self.texts: list[str] = []

    def add(self, text: Any) -> None:
        """Add an observation, or count that it was left out."""
        observed = self._recorder.encoder.text(text, path="observation")
        self._chars_left -= len(observed)
        if len(self.texts) < _MAX_OBSERVATIONS and self._chars_left >= 0:
            self.texts.append(observed)
        else:
            self._recorder.count("truncated")


def tool_attributes(
    recorder: Recorder,
    name: str,
    arguments: Mapping[str, Any] | None,
    *,
    memory_id: str | None,
    secret_keys: frozenset[str] = _NO_NAMES,
    found: list[str],
) -> dict[str, Any]:
    """Return what the span of a tool call says before there is a result.

    Args:
        recorder: Knows the bounds.
        name: Name of the tool.
        arguments: By name; None for a call without.
        memory_id: Id of a memory that the call used or made.
        secret_keys: Further keys whose values are not to be recorded.
        found: Collects the values that were redacted.
    """
    if len(name) > MAX_NAME_CHARS:
        name = name[:MAX_NAME_CHARS]
        recorder.count("truncated")
    attributes: dict[str, Any] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: name,
    }
    if memory_id is not None:
        attributes[semconv.TOOL_MEMORY_ID] = memory_id
    if recorder.capture_arguments and arguments is not None:
        attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = recorder.encoder.json(
            arguments, secret_keys=secret_keys, found=found, path="arguments"
        )
    return attributes
