"""The spans somebody would write by hand around a tool call: the floor of what recording costs.

The same four attributes as autotrace records, arguments and result by `json.dumps`, and a batch
processor whose queue is long enough to drop nothing and whose exporter does nothing.
"""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

QUERY = "latest benchmark results for agent tracing overhead in Py 3x"
QUEUE_SPANS = 1_000_000
"""Long enough that the batch processor drops nothing: its default, 2,048, drops most of a burst."""


def web_search(query: str, limit: int = 10) -> dict[str, Any]:
    """The work: a fresh result of some 200 bytes as JSON."""
    return {
        "results": [
            {"title": "Tracing overhead", "url": "https://example.org/a", "score": 0.93},
            {"title": "Span cost study", "url": "https://example.org/b", "score": 0.71},
        ],
        "count": 2,
        "took_ms": 12,
        "ok": True,
    }


async def web_search_async(query: str, limit: int = 10) -> dict[str, Any]:
    """The same work, as a coroutine that never waits."""
    return web_search(query, limit)


class NullExporter(SpanExporter):
    """Counts spans and forgets them."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Any) -> SpanExportResult:
        """Count."""
        self.spans += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""


class HandWritten:
    """The spans somebody would write by hand."""

    def __init__(self) -> None:
        self.exporter = NullExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(
            BatchSpanProcessor(self.exporter, max_queue_size=QUEUE_SPANS)
        )
        self._tracer = self._provider.get_tracer("hand-written")

    def task(self) -> Any:
        """Open the parent span."""
        return self._tracer.start_as_current_span("invoke_agent")

    def given_at_start(self, query: str, limit: int = 10) -> dict[str, Any]:
        """Call the tool in a span that gets what is known at its start as one dict."""
        with self._tracer.start_as_current_span(
            "execute_tool web_search",
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "web_search",
                "gen_ai.tool.call.arguments": json.dumps({"query": query, "limit": limit}),
            },
        ) as span:
            result = web_search(query, limit)
            span.set_attribute("gen_ai.tool.call.result", json.dumps(result))
            return result

    def set_one_by_one(self, query: str, limit: int = 10) -> dict[str, Any]:
        """Call the tool in a span whose four attributes are set one by one."""
        with self._tracer.start_as_current_span("execute_tool web_search") as span:
            span.set_attribute("gen_ai.operation.name", "execute_tool")
            span.set_attribute("gen_ai.tool.name", "web_search")
            span.set_attribute(
                "gen_ai.tool.call.arguments", json.dumps({"query": query, "limit": limit})
            )
            result = web_search(query, limit)
            span.set_attribute("gen_ai.tool.call.result", json.dumps(result))
            return result

    async def given_at_start_async(self, query: str, limit: int = 10) -> dict[str, Any]:
        """Await the tool in a span."""
        with self._tracer.start_as_current_span(
            "execute_tool web_search",
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "web_search",
                "gen_ai.tool.call.arguments": json.dumps({"query": query, "limit": limit}),
            },
        ) as span:
            result = await web_search_async(query, limit)
            span.set_attribute("gen_ai.tool.call.result", json.dumps(result))
            return result

    def flush(self) -> None:
        """Export what is queued."""
        self._provider.force_flush()

    def close(self) -> None:
        """Stop the batch processor's thread."""
        self._provider.shutdown()
