"""OpenInference: the tracer's `tool` decorator, over OTLP with the batch processor.

The batch processor is what its documentation has for production; the default exports in every call.
"""

from __future__ import annotations

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "openinference-instrumentation"
REQUIREMENTS = ("openinference-instrumentation", "arize-phoenix-otel")


def start(place: Place) -> Recorder:
    """Set up the provider."""
    from phoenix.otel import register

    provider = register(
        endpoint=f"{place.sink}/v1/traces", protocol="http/protobuf", batch=True, verbose=False
    )
    tracer = provider.get_tracer("bench")
    return Recorder(
        tool=tracer.tool, task=tracer.agent, flush=provider.force_flush, close=provider.shutdown
    )
