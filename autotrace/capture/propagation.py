"""Context across processes: W3C trace context headers."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, MutableMapping

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = TraceContextTextMapPropagator()


def inject(carrier: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """Return headers that let another process add to the current trace.

    Args:
        carrier: Headers (of a request, or environment variables) to add to; it is changed too.

    Returns:
        The headers: `traceparent`, and `tracestate` where there is one. Empty outside any span.
    """
    headers: dict[str, str] = {}
    _W3C.inject(headers)
    if carrier is not None:
        carrier.update(headers)
    return headers


@contextlib.contextmanager
def attach(carrier: Mapping[str, str]) -> Generator[None]:
    """Let what is recorded inside the block belong to the trace that headers name.

    A tool or step belongs to the task it was sent from; a task opened inside has that one as
    parent. Headers that name no trace change nothing.

    Args:
        carrier: Headers as `inject` made them; upper and lower case are the same.
    """
    lowered = {key.lower(): value for key, value in carrier.items() if isinstance(key, str)}
    token = otel_context.attach(_W3C.extract(lowered))
    try:
        yield
    finally:
        otel_context.detach(token)
