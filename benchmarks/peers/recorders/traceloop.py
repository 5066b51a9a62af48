"""Traceloop: `@tool` inside `@workflow`, telemetry and metrics off."""

from __future__ import annotations

import os

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "traceloop-sdk"
REQUIREMENTS = ("traceloop-sdk", "httpx")  # it imports httpx without asking for it


def start(place: Place) -> Recorder:
    """Set it up; without the instrumentations of other libraries, which are not called here."""
    os.environ.update(TRACELOOP_TELEMETRY="false", TRACELOOP_METRICS_ENABLED="false")
    from opentelemetry import trace
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import tool, workflow

    Traceloop.init(
        app_name="bench",
        api_endpoint=place.sink,
        api_key="none",
        telemetry_enabled=False,
        instruments=set(),
    )
    provider = trace.get_tracer_provider()
    return Recorder(
        tool=tool(), task=workflow(), flush=provider.force_flush, close=provider.shutdown
    )
