"""Metrics in Prometheus' format: of this worker, or of all of them."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Of the Prometheus client: the folder where workers keep what they count, for all to read."""
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """What a worker counts. Nothing of it names an agent, a tenant or a key."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "autotrace_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.durations = Histogram(
            "autotrace_request_duration_seconds",
            "How long answering took.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.under_way = Gauge(
            "autotrace_requests_under_way",
            "Requests that are being answered.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

        self.spans = Counter(
            "autotrace_spans",
            "Spans that arrived over OTLP, by whether they were recorded or rejected.",
            ("outcome",),
            registry=self._registry,
        )
        self.left_out = Counter(
            "autotrace_span_parts_left_out",
            "Attributes, events, items and ends of texts that recorded spans lack.",
            registry=self._registry,
        )

    def took(self, recorded: int, rejected: int, left_out: int) -> None:
        """Count what became of a batch of spans."""
        self.spans.labels("recorded").inc(recorded)
        self.spans.labels("rejected").inc(rejected)
        self.left_out.inc(left_out)

    def saw(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count a request."""
        # Clients can make methods up, and each name would stay for ever.
        method = method if method in _METHODS else "other"
        self.requests.labels(method, route, str(status)).inc()
        self.durations.labels(route).observe(took_s)

    def render(self) -> bytes:
        """Return everything as text: of all workers, where there are several."""
        if METRICS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
