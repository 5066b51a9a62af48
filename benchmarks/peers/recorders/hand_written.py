"""The span somebody would write by hand around a tool call, with the stock SDK: the baseline."""

from __future__ import annotations

import functools
import json
from typing import Any

from benchmarks.peers.contract import Function, Place, Recorder

DISTRIBUTION = "opentelemetry-sdk"
REQUIREMENTS = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
NOTE = "hand-written span"


def start(place: Place) -> Recorder:
    """Set up the stock provider, batch processor and OTLP exporter, every default."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{place.sink}/v1/traces")))
    tracer = provider.get_tracer("hand-written")

    def tool(function: Function) -> Function:
        # Written for the one tool it wraps, as by hand: attributes that are known go in at the
        # start, which is the fastest way.
        @functools.wraps(function)
        def recorded(query: str, limit: int = 10) -> Any:
            with tracer.start_as_current_span(
                "execute_tool web_search",
                attributes={
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": "web_search",
                    "gen_ai.tool.call.arguments": json.dumps({"query": query, "limit": limit}),
                },
            ) as span:
                result = function(query, limit)
                span.set_attribute("gen_ai.tool.call.result", json.dumps(result))
                return result

        return recorded

    return Recorder(
        tool=tool,
        task=tracer.start_as_current_span("invoke_agent"),
        flush=provider.force_flush,
        close=provider.shutdown,
    )
