"""Export the same spans to an OTLP collector, through the stock exporter."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace.export import BatchSpanProcessor

from autotrace import semconv
from autotrace.base.health_counters import HealthCounters
from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.spool.span_records import is_agent_span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""The stock variables that name a collector."""
PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
"""The stock variables that name the protocol; the first that is set counts."""
_TRACES_PATH: Final = "/v1/traces"
_HOST: Final = re.compile(r"(?:\w+://)?(?:[^/@]*@)?([^/@?#]+)")


class AgentSpanProcessor(BatchSpanProcessor):
    """A batch processor that exports spans of agents, within its timeouts."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span if it is about agents."""
        scope = span.instrumentation_scope
        if (scope is not None and scope.name == semconv.SCOPE) or is_agent_span(span.attributes):
            super().on_end(span)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Export the queued spans; return whether that ended in time.

        The SDK's method ignores its timeout.
        """
        return _within(timeout_millis, super().force_flush)

    def shutdown(self, timeout_millis: int | None = None) -> None:
        """Export the queued spans, as far as time allows, and stop."""
        if not _within(timeout_millis, super().shutdown):
            self.span_exporter.shutdown()  # which ends its retries


class Collector:
    """The collector of one configuration, if it names one.

    Args:
        endpoint: Base URL of a collector that takes OTLP over HTTP; None: the stock variables.
        counters: Count spans that were not sent.
    """

    def __init__(self, endpoint: str | None, counters: HealthCounters) -> None:
        self._endpoint = endpoint
        self._counters = counters
        self._stopped = False
        self.processor: AgentSpanProcessor | None = None
        """Processor that exports; None before `open`, and without a collector."""

    def open(self) -> AgentSpanProcessor | None:
        """Begin to export; return None if no collector is named."""
        is_named = self._endpoint is not None or any(map(os.environ.get, ENDPOINT_VARIABLES))
        if self.processor is None and is_named:
            self.processor = AgentSpanProcessor(_stock_exporter(self._endpoint))
        return self.processor

    def send(self, readable: Callable[[], ReadableSpan]) -> None:
        """Queue an ended span; `readable` makes it as the SDK's type.

        Never raises: it is called where spans of user code end.
        """
        if self.processor is None:
            return
        if self._stopped:
            self._counters.add("dropped_otlp_spans")
            return
        try:
            self.processor.on_end(readable())
        except Exception as error:  # noqa: BLE001 - see above
            reraise_if_from_signal_handler(error)
            self._counters.add("dropped_otlp_spans")
            self._counters.record_failure(
                "otlp", f"a span was not sent to the collector: {error!r}", error
            )

    def flush(self, timeout_ms: int) -> bool:
        """Export the queued spans; return whether that ended in time."""
        return self.processor is None or self.processor.force_flush(timeout_ms)

    def stop(self, timeout_ms: int) -> None:
        """Export the queued spans, as far as time allows, and stop."""
        self._stopped = True
        if self.processor is not None:
            self.processor.shutdown(timeout_ms)


def exports_otlp(provider: TracerProvider) -> bool:
    """Return whether a provider has an OTLP exporter.

    Exporters are known by their bases, since others derive theirs from the stock ones.
    """
    return any(
        "otlp" in base.__module__
        for exporter in _exporters(provider)
        for base in type(exporter).__mro__
    )


def _exporters(provider: TracerProvider) -> list[Any]:
    processors: Any = getattr(
        getattr(provider, "_active_span_processor", None), "_span_processors", ()
    )
    found = [
        getattr(processor, "span_exporter", None)
        for processor in processors
        if not isinstance(processor, AgentSpanProcessor)  # ours, of an earlier configure()
    ]
    return [exporter for exporter in found if exporter is not None]


def described_provider(provider: TracerProvider) -> str:
    """Describe a provider by its service, its exporters and their hosts."""
    resource = getattr(provider, "resource", None)
    service = getattr(resource, "attributes", {}).get("service.name")
    exporters: list[str] = []
    for exporter in _exporters(provider):
        name, endpoint = type(exporter).__name__, getattr(exporter, "_endpoint", None)
        # The host alone: the rest of a URL may hold a key.
        host = _HOST.match(endpoint) if isinstance(endpoint, str) else None
        exporters.append(name if host is None else f"{name} to {host[1]}")
    return f"tracer provider of service {service!r} ({', '.join(exporters) or 'no exporter'})"


def add_processor(provider: Any, processor: SpanProcessor) -> None:
    """Add a processor to those that a provider has.

    Some providers derived from the SDK's drop their own exporter when they are given a processor
    (`phoenix.otel.register()` makes one); the SDK's own method does not.
    """
    from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider

    if isinstance(provider, SdkTracerProvider):
        SdkTracerProvider.add_span_processor(provider, processor)
    else:
        provider.add_span_processor(processor)


def _stock_exporter(endpoint: str | None) -> SpanExporter:
    protocol = next(filter(None, map(os.environ.get, PROTOCOL_VARIABLES)), None)
    if endpoint is None and protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    if endpoint is None:
        return Http()
    return Http(endpoint=endpoint.rstrip("/").removesuffix(_TRACES_PATH) + _TRACES_PATH)


def _within(timeout_ms: int | None, call: Callable[[], object]) -> bool:
    """Call a function in a daemon thread; return whether it ended in time."""
    returned = threading.Event()

    def run() -> None:
        call()
        returned.set()

    try:
        threading.Thread(target=run, name="autotrace-otlp", daemon=True).start()
    except RuntimeError:
        return False  # the interpreter is shutting down
    return returned.wait(None if timeout_ms is None else timeout_ms / 1000)
