"""Blocks without a span that the code inside them can find: open decisions."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import context as otel_context

from autotrace.capture.operation import (
    DECISION_KEY,
    OPERATION_KEY,
    Operation,
    clock_in,
    effective_context,
)

if TYPE_CHECKING:
    from autotrace.capture.recorder import Recorder

_MAX_CALLS: Final = 1000
"""Limit of tool calls kept per decision; further ones are counted."""


class ContextScope(Operation):
    """A place in the context without a span.

    Args:
        recorder: Records failures.
        key: Context key under which the scope is found inside.
    """

    __slots__ = ("key",)

    def __init__(self, recorder: Recorder | None, key: str) -> None:
        super().__init__(cast("Recorder", recorder), "", {})
        self.key = key

    def enter(self) -> None:
        """Be found by what runs from now on, until `leave`."""
        outside = effective_context()
        self.clock_ns = clock_in(outside)
        inside = otel_context.set_value(self.key, self, outside)
        inside = otel_context.set_value(OPERATION_KEY, self, inside)
        self.token = otel_context.attach(inside)

    def leave(self) -> None:
        """Be found no longer."""
        self.detach()
        self.ended = True


class DecisionScope(ContextScope):
    """An open decision, for the code inside its block.

    Args:
        recorder: Records failures.
        decision_id: The decision.
        actor: Requester.
    """

    __slots__ = ("_calls", "_lock", "_total", "actor", "decision_id")

    def __init__(self, recorder: Recorder | None, decision_id: str, actor: str) -> None:
        super().__init__(recorder, DECISION_KEY)
        self.decision_id = decision_id
        self.actor = actor
        self._calls: list[Mapping[str, Any]] = []
        self._total = 0
        self._lock = threading.Lock()

    def called(self, call: Mapping[str, Any]) -> None:
        """Record a tool call, from any thread."""
        with self._lock:
            self._total += 1
            if len(self._calls) < _MAX_CALLS:
                self._calls.append(call)

    def calls(self) -> list[Mapping[str, Any]]:
        """Return the tool calls so far; the last entry counts those left out, if any."""
        with self._lock:
            if self._total <= _MAX_CALLS:
                return list(self._calls)
            kept = self._calls[: _MAX_CALLS - 1]
            return [*kept, {"left_out": self._total - len(kept)}]


def current_scope() -> DecisionScope | None:
    """Return the innermost open decision that encloses the caller, or None outside any."""
    found = effective_context().get(DECISION_KEY)
    return found if isinstance(found, DecisionScope) and not found.ended else None
