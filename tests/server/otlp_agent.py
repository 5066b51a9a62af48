"""A program with a stock OpenTelemetry SDK, whose spans go two ways at once.

Into a store by this library, in this process; and to wherever the stock variables say, by the
SDK's own exporter. It is configured by nothing else.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import autotrace
from autotrace import step, task, tool, tool_call
from tests.embedders import HashEmbedder


@tool
def find_place(query: str, limit: int = 3) -> list[dict[str, Any]]:
    with otel.get_tracer("http.client").start_as_current_span("GET"):
        return [{"name": f"{query} {n}", "naïve": "Zoë 🎉"} for n in range(limit)]


@tool
def too_slow(reason: str) -> None:
    raise TimeoutError(reason)


def ours() -> None:
    web = otel.get_tracer("web.framework")
    with (
        web.start_as_current_span("POST /ask"),
        task("Find a place", session_id="s1", agent="guide") as t,
    ):
        with step("I should search", action="call search") as s:
            find_place("place")
            s.observe("found")
        with contextlib.suppress(TimeoutError):
            too_slow("too slow")
        with (
            task("A part of it", agent="helper") as inner,
            tool_call("look_closer", {"a": [1, None]}),
        ):
            inner.complete("done")
        t.complete("Found", success=True)
    with contextlib.suppress(ValueError), task("Fail"):
        raise ValueError("no")


def others() -> None:
    tracer = otel.get_tracer("openinference.instrumentation.any")
    kind = "openinference.span.kind"
    with tracer.start_as_current_span("guide", attributes={kind: "AGENT", "input.value": "Ask"}):
        with tracer.start_as_current_span("model") as model:
            model.set_attributes({kind: "LLM", "llm.token_count.total": 7, "x.ratio": 0.5})
            model.set_attribute("tags", ["a", "b"])
            model.add_event("noted", {"gen_ai.n": 1})
        with contextlib.suppress(ValueError):
            attributes: dict[str, Any] = {kind: "TOOL", "tool.name": "other_t", "raw": b"\x00\xff"}
            with tracer.start_as_current_span("t", attributes=attributes):
                raise ValueError("broken")
    by_hand = otel.get_tracer("my.app")
    with by_hand.start_as_current_span("loop"), tracer.start_as_current_span("m") as model:
        model.set_attribute("gen_ai.operation.name", "chat")
        with tracer.start_as_current_span("t", attributes={kind: "TOOL", "tool.name": "other_u"}):
            pass
        with tracer.start_as_current_span("t", attributes={kind: "TOOL", "tool.name": "other_v"}):
            pass


def main(store: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    otel.set_tracer_provider(provider)
    autotrace.configure(
        store, embedder=HashEmbedder(), flush_interval_ms=0, tracer_provider=provider
    )
    ours()
    others()
    assert provider.force_flush()
    assert autotrace.flush()
    autotrace.shutdown()
    provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
