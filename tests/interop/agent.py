"""An agent as a user writes one: run as a program of its own, through the public API only.

It prints one JSON object: per task what the agent answered and the trace as autotrace reads it
from its own store, the ids of the spans that the application made itself, and the card number
that must stay between the agent and its tool.
"""

from __future__ import annotations

import argparse
import importlib
import json
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

import autotrace
from autotrace import step, task, tool

CARD_NUMBER = "4111-1111-1111-1111"


class NoTableError(Exception):
    """The restaurant is full."""


@tool
def fetch(url: str, headers: dict[str, str]) -> str:
    return "Osteria da Zoë, Caffè Uno; " * 20_000  # more than one recorded value may hold


@tool
def web_search(query: str, limit: int = 10) -> dict[str, Any]:
    page = fetch("https://search.example/?q=italian", headers={"accept": "text/html"})
    names = ["Osteria da Zoë", "Caffè Uno"]
    return {"query": query, "results": names[:limit], "page_length": len(page)}


@tool
def opening_hours(restaurant: str) -> str:
    raise TimeoutError("no answer within 5 s")


@tool(name="book_table", redact=["card_number"])
def book(restaurant: str, guests: int, card_number: str) -> str:
    if guests > 8:
        raise NoTableError(f"no table for {guests} at {restaurant}")
    return f"booked {restaurant} for {guests}"


def find_dinner() -> dict[str, Any]:
    """Search, fail twice, book in the end."""
    tried: list[str] = []
    with task(
        "Find an Italian restaurant near the venue, für 12 Gäste",
        session_id="s1",
        agent="concierge",
    ) as t:
        with step("I need to search first", action="call web_search") as s:
            hits = web_search("italian near Moscone", limit=2)
            s.observe(f"Found {len(hits['results'])} results")
            s.observe("Both are open on Friday")
        with step("Is the first one open?") as s:
            try:
                opening_hours(hits["results"][0])
            except TimeoutError as error:
                s.observe(f"Unknown: {error}")
        with step("Book it, or split the party", action="call book_table") as s:
            try:
                tried.append(book(hits["results"][0], 12, CARD_NUMBER))
            except NoTableError as error:
                tried.append(str(error))
                s.observe(f"Refused: {error}")
            tried.append(book(hits["results"][0], 6, card_number=CARD_NUMBER))
        t.complete("Booked for six", success=True)
    return {"trace_id": t.trace_id, "answer": tried, "raised": None}


def cancel_dinner() -> dict[str, Any]:
    """End with an exception that leaves the task."""
    trace_id, answer, raised = "", "", ""
    try:
        with task("Cancel the booking", session_id="s1", agent="concierge") as t:
            trace_id = t.trace_id
            with step("The booking must be somewhere"):
                raise LookupError("no booking under this name")
    except LookupError as error:
        answer, raised = str(error), type(error).__name__
    return {"trace_id": trace_id, "answer": [answer], "raised": raised}


def own_provider(kind: str, endpoint: str | None) -> TracerProvider:
    """Set OpenTelemetry up as an application does that knows nothing of autotrace.

    Args:
        kind: A stock exporter (`http`, `grpc`), or `phoenix` for Phoenix's own helper.
        endpoint: Base URL; without one the stock exporters read OTEL_EXPORTER_OTLP_*.
    """
    traces_endpoint = None if endpoint is None else f"{endpoint}/v1/traces"
    if kind == "phoenix":
        helper: Any = importlib.import_module("phoenix.otel")  # not in the project's environment
        return helper.register(endpoint=traces_endpoint, protocol="http/protobuf", verbose=False)
    exporter: SpanExporter
    if kind == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        exporter = Grpc(endpoint=endpoint, insecure=True)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

        exporter = Http(endpoint=traces_endpoint)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def run_in_own_provider(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the agent in an application that sets OpenTelemetry up by itself."""

    def configure(tracer_provider: TracerProvider | None = None) -> None:
        autotrace.configure(
            store=arguments.store,
            otlp_endpoint=arguments.otlp_endpoint,
            tracer_provider=tracer_provider,
        )

    if arguments.configure_first:
        configure()
    provider = own_provider(arguments.own_exporter, arguments.own_endpoint)
    configure(provider)  # the second time where it was first: it must not export twice
    tracer = provider.get_tracer("dinner.web")
    with tracer.start_as_current_span("POST /dinner") as request:
        runs = [find_dinner(), cancel_dinner()]
    report = finish(runs, arguments.timeout_s)
    with tracer.start_as_current_span("after autotrace.shutdown") as afterwards:
        pass
    provider.shutdown()
    spans = {"request": request, "afterwards": afterwards}
    report["own_spans"] = {
        name: {
            "trace_id": trace.format_trace_id(span.get_span_context().trace_id),
            "span_id": trace.format_span_id(span.get_span_context().span_id),
        }
        for name, span in spans.items()
    }
    return report


def run_alone(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the agent in a program that has no OpenTelemetry of its own."""
    autotrace.configure(store=arguments.store, otlp_endpoint=arguments.otlp_endpoint)
    return finish([find_dinner(), cancel_dinner()], arguments.timeout_s)


def finish(runs: list[dict[str, Any]], timeout_s: float) -> dict[str, Any]:
    """Read the runs back from autotrace's own store and close it."""
    autotrace.flush(timeout_s)
    for run in runs:
        run["trace"] = autotrace.get_trace(run["trace_id"]).model_dump(mode="json")
    autotrace.shutdown(timeout_s)
    return {"runs": runs, "card_number": CARD_NUMBER}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--otlp-endpoint")
    parser.add_argument("--timeout-s", type=float, default=30.0)
    parser.add_argument("--own-exporter", choices=["http", "grpc", "phoenix"])
    parser.add_argument("--own-endpoint")
    parser.add_argument("--configure-first", action="store_true")
    arguments = parser.parse_args()
    run = run_in_own_provider if arguments.own_exporter else run_alone
    print(json.dumps(run(arguments)))


if __name__ == "__main__":
    main()
