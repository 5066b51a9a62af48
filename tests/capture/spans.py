"""Spans in memory, and what they say, without the store."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from autotrace import semconv

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span


class Spans(SpanProcessor):
    """The spans of a tracer provider, in the order in which they ended."""

    def __init__(self, provider: TracerProvider) -> None:
        self.ended: list[ReadableSpan] = []
        self._started: Counter[int] = Counter()
        provider.add_span_processor(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._started[id_of(span)] += 1

    def on_end(self, span: ReadableSpan) -> None:
        if id_of(span) in self._started:  # else it is one of an earlier test, collected late
            self.ended.append(span)

    def clear(self) -> None:
        self.ended.clear()
        self._started.clear()

    def open_or_ended_twice(self) -> dict[int, int]:
        """How often each span has started more often than it has ended."""
        balance = Counter(self._started)
        balance.subtract(Counter(id_of(span) for span in self.ended))
        return {span_id: count for span_id, count in balance.items() if count}

    @property
    def tools(self) -> list[ReadableSpan]:
        return [span for span in self.ended if kind_of(span) == "tool"]

    @property
    def tool(self) -> ReadableSpan:
        """The only tool call."""
        (span,) = self.tools
        return span

    @property
    def steps(self) -> list[ReadableSpan]:
        return [span for span in self.ended if kind_of(span) == "step"]

    @property
    def tasks(self) -> list[ReadableSpan]:
        return [span for span in self.ended if kind_of(span) == "task"]

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        """The span that a span is a child of; None for a root, or where it has not ended."""
        if span.parent is None:
            return None
        return next((s for s in self.ended if id_of(s) == span.parent.span_id), None)

    def path_to(self, span: ReadableSpan) -> list[str]:
        """The kinds of the spans from the root down to this one."""
        path: list[str] = []
        current: ReadableSpan | None = span
        while current is not None:
            path.insert(0, kind_of(current))
            current = self.parent_of(current)
        return path


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def kind_of(span: ReadableSpan) -> str:
    said = attribute(span, semconv.KIND)
    if said is not None:
        return str(said)
    is_tool = attribute(span, semconv.GEN_AI_OPERATION_NAME) == semconv.EXECUTE_TOOL
    return "tool" if is_tool else span.name


def attribute(span: ReadableSpan, key: str) -> Any:
    return (span.attributes or {}).get(key)


def arguments_of(span: ReadableSpan) -> Any:
    return _json(attribute(span, semconv.GEN_AI_TOOL_CALL_ARGUMENTS))


def result_of(span: ReadableSpan) -> Any:
    return _json(attribute(span, semconv.GEN_AI_TOOL_CALL_RESULT))


def _json(text: Any) -> Any:
    return None if text is None else json.loads(text)


def exception_of(span: ReadableSpan) -> dict[str, Any]:
    """What the only exception event of a span says."""
    (event,) = [e for e in span.events if e.name == semconv.EXCEPTION_EVENT]
    return dict(event.attributes or {})
