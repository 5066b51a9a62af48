"""Build the first attributes of task, step and tool spans.

Values are bounded and redacted. The server uses the same functions for the traces that clients
report (`server/remote_records.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autotrace import semconv
from autotrace.capture.recorder import Recorder

_MAX_NAME_CHARS: Final = 256
"""Limit of a tool's name; a longer one is cut and counted as truncated."""
_MAX_OBSERVATIONS: Final = 1000
_MAX_OBSERVED_CHARS: Final = 4 * 1024 * 1024
"""Limit of all observations of one step; each one is bounded, too."""
_NO_NAMES: Final[frozenset[str]] = frozenset()


def task_attributes(
    recorder: Recorder,
    text: Any,
    *,
    session_id: str | None,
    agent: str | None,
    triggered_by_memory_id: str | None,
) -> dict[str, Any]:
    """Return the attributes of a task; the caller bounds names and ids."""
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
    """Return the span name of a task."""
    return f"{semconv.INVOKE_AGENT} {agent}" if agent else semconv.INVOKE_AGENT


def step_attributes(recorder: Recorder, thought: Any, action: Any) -> dict[str, Any]:
    """Return the attributes of a step."""
    text = recorder.encoder.text
    attributes: dict[str, Any] = {
        semconv.KIND: semconv.KIND_STEP,
        semconv.THOUGHT: "" if thought is None else text(thought, path="thought"),
    }
    if action is not None:
        attributes[semconv.ACTION] = text(action, path="action")
    return attributes


class Observations:
    """Bounded list of the observations of a step."""

    __slots__ = ("_chars_left", "_recorder", "texts")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._chars_left = _MAX_OBSERVED_CHARS
        self.texts: list[str] = []

    def add(self, text: Any) -> None:
        """Add an observation, or count it as truncated if a limit is reached."""
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
    memory_id: str | None,
    found: list[str],
    secret_keys: frozenset[str] = _NO_NAMES,
) -> dict[str, Any]:
    """Return the attributes of a tool call before it has a result.

    `arguments` is None if they are not recorded; `found` collects their redacted values.
    """
    if len(name) > _MAX_NAME_CHARS:
        name = name[:_MAX_NAME_CHARS]
        recorder.count("truncated")
    attributes: dict[str, Any] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: name,
    }
    if memory_id is not None:
        attributes[semconv.TOOL_MEMORY_ID] = memory_id
    if arguments is not None:
        attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = recorder.encoder.json(
            arguments, secret_keys=secret_keys, found=found, path="arguments"
        )
    return attributes
