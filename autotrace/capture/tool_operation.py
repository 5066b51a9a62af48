"""Record the span of a tool call: arguments, result, items and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from autotrace import semconv
from autotrace.base.clock import elapsed_ns
from autotrace.capture.approvals.decision_scope import DecisionScope
from autotrace.capture.call_outcomes import ending_of
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder
from autotrace.capture.span_attributes import tool_attributes
from autotrace.encoding.truncate import container_marker
from autotrace.ids import format_tool_call_id

if TYPE_CHECKING:
    from autotrace.models import CallStatus

_MAX_ITEMS: Final = 1000
"""Limit of items of a generator that are kept as its result."""
_MARKER_BYTES: Final = 128
"""Space reserved for the marker of omitted items."""


class ToolOperation(Operation):
    """Span of one tool call."""

    __slots__ = (
        "capture_result", "enclosed_ns", "envelope", "items", "redacted", "secret_keys", "status",
    )  # fmt: skip

    enclosed_ns: int
    """Time of the start by `elapsed_ns`; set with the envelope."""

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        arguments: Mapping[str, Any] | None,
        *,
        capture_result: bool,
        secret_keys: frozenset[str],
        memory_id: str | None = None,
    ) -> None:
        redacted: list[str] = []
        attributes = tool_attributes(recorder, name, arguments, memory_id, redacted, secret_keys)
        name = attributes[semconv.GEN_AI_TOOL_NAME]
        super().__init__(recorder, f"{semconv.EXECUTE_TOOL} {name}", attributes)
        self.capture_result = capture_result
        self.secret_keys = secret_keys
        self.redacted = redacted
        """Redacted values of arguments, result and items; see `secrets`."""
        self.items: _Items | None = None
        self.status: CallStatus = "success"
        self.envelope: DecisionScope | None = None

    def enclosed(self, envelope: DecisionScope) -> None:
        """Keep the open decision, and set its id unless the call has one."""
        if not envelope.ended:
            self.envelope, self.enclosed_ns = envelope, elapsed_ns()
            self.attributes.setdefault(semconv.DECISION_ID, envelope.decision_id)

    def end(self, end_ns: int | None = None) -> None:
        """End the span, and report the call to the open decision around it."""
        if self.envelope is None or self.ended:
            super().end(end_ns)
            return
        tool_name = self.attributes.get(semconv.GEN_AI_TOOL_NAME)
        super().end(end_ns)
        ids = self.ids()
        self.envelope.called(
            {
                "tool_name": tool_name,
                "tool_call_id": None if ids is None else format_tool_call_id(ids[1]),
                "status": self.status,
                "duration_ms": (elapsed_ns() - self.enclosed_ns) // 1_000_000,
            }
        )

    def forget(self) -> None:
        """Release arguments, result and items."""
        super().forget()
        self.redacted = []
        self.items = None

    def set_status(self, status: CallStatus) -> None:
        """Set a status other than success."""
        self.status = status
        self.set({semconv.TOOL_STATUS: status})

    def streams(self) -> None:
        """Collect the yielded items as the result."""
        super().streams()
        if self.capture_result:
            self.items = _Items(self.recorder.encoder.max_value_bytes)

    def item(self, value: Any) -> None:
        """Encode a yielded item, as it is at this moment."""
        items = self.items
        if items is None:
            return
        items.total += 1
        if items.limit is not None:
            return
        try:
            items.add(
                self.recorder.encoder.json(
                    value, secret_keys=self.secret_keys, found=self.redacted, path="result"
                )
            )
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def describe_result(self, result: Any) -> None:
        """Record the result; for a generator that returns None, its items."""
        if not self.capture_result or self.span is None:
            return
        if self.items is None:
            text = self.recorder.encoder.json(
                result, secret_keys=self.secret_keys, found=self.redacted, path="result"
            )
        else:
            text = self.items.json()
            if self.items.limit is not None:
                self.recorder.count("truncated")
            if result is not None:
                self.span.set_attribute(semconv.TOOL_YIELDED, text)
                self.items = None
                self.describe_result(result)
                return
        self.span.set_attribute(semconv.GEN_AI_TOOL_CALL_RESULT, text)

    def describe_early_close(self, _: None) -> None:
        """Mark a generator that its consumer closed early, which is not a failure."""
        self.set({semconv.TOOL_EXHAUSTED: False})
        if self.items is not None:
            self.describe_result(None)

    def describe_error(self, error: BaseException) -> None:
        """Record status and exception, and the items that a generator had yielded."""
        ending = ending_of(error)
        self.set_status(ending)
        if ending in ("error", "timeout"):
            super().describe_error(error)
        else:
            self.describe_end(error)
        if self.items is not None:
            self.describe_result(None)

    def secrets(self) -> list[str]:
        """Return the redacted values of arguments, result and items."""
        return self.redacted


class _Items:
    """Items of a generator as JSON, together bounded like one value."""

    __slots__ = ("_room_bytes", "_texts", "limit", "total")

    def __init__(self, max_bytes: int) -> None:
        self._texts: list[str] = []
        self._room_bytes = max_bytes - _MARKER_BYTES
        self.limit: str | None = None
        """Name of the limit that was reached; later items are omitted."""
        self.total = 0

    def add(self, text: str) -> None:
        size_bytes = (len(text) if text.isascii() else len(text.encode())) + 1
        if size_bytes > self._room_bytes:
            self.limit = "max_value_bytes"
        elif len(self._texts) == _MAX_ITEMS:
            self.limit = "max_items"
        else:
            self._room_bytes -= size_bytes
            self._texts.append(text)

    def json(self) -> str:
        texts = self._texts
        if self.limit is not None:
            marker = container_marker(list, self.total, self.limit, None)
            texts = [*texts, orjson.dumps({semconv.TRUNCATED: marker}).decode()]
        return "[" + ",".join(texts) + "]"
