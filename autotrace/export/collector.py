"""The same spans to an OTLP collector, through the stock exporter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace.export import BatchSpanProcessor

from autotrace import semconv
from autotrace.export.records import is_agent_span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""The stock variables that name a collector."""
_TRACES_PATH: Final = "/v1/traces"


class AgentSpanProcessor(BatchSpanProcessor):
    """A batch processor that exports only what is about agents.

    An application's other spans are its own affair: they go where it sends them.
    """

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span if it is about agents."""
        scope = span.instrumentation_scope
        if (scope is not None and scope.name == semconv.SCOPE) or is_agent_span(span.attributes):
            super().on_end(span)


def otlp_processor(
    endpoint: str | None, provider: TracerProvider | None
) -> BatchSpanProcessor | None:
    """Make the processor that exports to the collector that an endpoint or the environment names.

    Args:
        endpoint: Base URL of the collector, or None: what the stock variables say.
        provider: The application's provider that it is for, or None. Where the stock variables
            name the collector and the provider already exports over OTLP, it does so by itself:
            spans must not arrive twice.

    Returns:
        The processor, or None when there is nothing to export to.
    """
    if endpoint is None and (
        not any(os.environ.get(name) for name in ENDPOINT_VARIABLES) or _exports_otlp(provider)
    ):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    url = None if endpoint is None else endpoint.rstrip("/").removesuffix(_TRACES_PATH)
    return AgentSpanProcessor(
        OTLPSpanExporter(endpoint=None if url is None else url + _TRACES_PATH)
    )


def _exports_otlp(provider: TracerProvider | None) -> bool:
    """Tell whether a provider has an OTLP exporter; the SDK has no public way to ask."""
    processors: Any = getattr(
        getattr(provider, "_active_span_processor", None), "_span_processors", ()
    )
    return any(
        "otlp" in type(getattr(processor, "span_exporter", None)).__module__
        for processor in processors
    )
