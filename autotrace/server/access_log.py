"""Log and count requests; set the headers that every response has."""

from __future__ import annotations

import logging
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection

from autotrace.server.auth.principal import Principal
from autotrace.server.http_errors import failure_response
from autotrace.server.run import METRICS_VARIABLE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from autotrace.server.app_state import AppState

_log = logging.getLogger("autotrace.access")
_errors = logging.getLogger("autotrace.server")

_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SCOPE_KEY: Final = "autotrace.seen"
REQUEST_ID_HEADER: Final = "X-Request-Id"
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CLIENT_GONE: Final = 499
"""Logged as status when the client did not wait for the response."""


@dataclass
class RequestInfo:
    """Facts about a request for its log line."""

    request_id: str
    principal: Principal | None = None
    """Principal of the key, once it is recognised."""
    status: int | None = None
    """Status of the response, once it has begun."""


def seen_by(connection: HTTPConnection) -> RequestInfo:
    """Return the facts about a request."""
    return connection.scope.setdefault(_SCOPE_KEY, RequestInfo(""))


class AccessLogMiddleware:
    """The outermost ASGI middleware."""

    def __init__(self, app: ASGIApp, served: AppState) -> None:
        self._app = app
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, then log and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = scope[_SCOPE_KEY] = RequestInfo(secrets.token_hex(8))
        began_s = time.perf_counter()
        sent_bytes = 0

        async def sending(message: Message) -> None:
            nonlocal sent_bytes
            sent_bytes += len(message.get("body", b""))
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = seen.request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        metrics = self._served.metrics
        metrics.under_way.inc()
        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if seen.status is not None:
                raise
            _errors.error("%s", type(error).__name__, exc_info=error)
            await failure_response()(scope, receive, sending)
        finally:
            took_s = time.perf_counter() - began_s
            metrics.under_way.dec()
            if seen.principal is not None:
                self._served.spend(seen.principal, sent_bytes)
            status = seen.status or _CLIENT_GONE
            # The template of the path, as the number of paths is unlimited.
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.count_request(scope["method"], route, status, took_s)
            _log.info(
                "request",
                extra={
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "duration_ms": round(took_s * 1000, 3),
                    "key_id": None if seen.principal is None else seen.principal.key_id,
                    "request_id": seen.request_id,
                },
            )


class Metrics:
    """Prometheus metrics of a worker, without agents, tenants and keys."""

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

    def count_batch(self, recorded: int, rejected: int, left_out: int) -> None:
        """Count the spans of a batch."""
        self.spans.labels("recorded").inc(recorded)
        self.spans.labels("rejected").inc(rejected)
        self.left_out.inc(left_out)

    def count_request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count a request."""
        # Clients can invent methods, and each name would stay indefinitely.
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
