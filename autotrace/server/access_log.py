"""What is seen of each request: a log line, metrics, an id; and headers that every response has."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection

from autotrace.server.app_state import served_by
from autotrace.server.auth.principal import Principal
from autotrace.server.http_errors import failure_response
from autotrace.server.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("autotrace.access")
_errors = logging.getLogger("autotrace.server")

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
_UNMATCHED: Final = "unmatched"
_GONE: Final = 499
"""The status of a request whose client did not wait for the response."""


@dataclass
class RequestInfo:
    """What is known of a request, for its log line."""

    request_id: str
    principal: Principal | None = None
    """Who asks, once that is known."""
    status: int | None = None
    """Of the response; None before there is one."""


def seen_by(connection: HTTPConnection) -> RequestInfo:
    """Return what is known of a request."""
    return connection.scope.setdefault(_SCOPE_KEY, RequestInfo(""))


class AccessLogMiddleware:
    """ASGI middleware: the outermost of ours.

    Args:
        app: What answers.
        metrics: Counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and say what became of it."""
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

        self._metrics.under_way.inc()
        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if seen.status is not None:
                raise
            _errors.error("%s", type(error).__name__, exc_info=error)
            await failure_response()(scope, receive, sending)
        finally:
            took_s = time.perf_counter() - began_s
            self._metrics.under_way.dec()
            if seen.principal is not None:
                served_by(HTTPConnection(scope)).spend(seen.principal, sent_bytes)
            status = seen.status or _GONE
            self._metrics.saw(scope["method"], _route_of(scope), status, took_s)
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


def _route_of(scope: MutableMapping[str, Any]) -> str:
    """Return the route with its placeholders, since the number of paths has no bound."""
    return getattr(scope.get("route"), "path", _UNMATCHED)
