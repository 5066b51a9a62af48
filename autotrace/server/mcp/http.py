"""MCP over HTTP: one endpoint, for MCP clients and plain JSON-RPC.

The official SDK serves it without sessions, each POST by itself, so any worker on any machine can
answer. The endpoint authenticates before, and gives one JSON object to plain clients. A status of
4xx or 5xx ends the session of an MCP client and loses the message, so such a client gets HTTP 200
with the error under the id of its request; except 401 (no key) and 403 (a page of a foreign site).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlsplit

import anyio
import orjson
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autotrace.errors import NotPermittedError
from autotrace.server.app_state import AppState
from autotrace.server.auth.authenticate import recognise
from autotrace.server.auth.principal import Principal
from autotrace.server.content import JSON, kind_of
from autotrace.server.http_errors import problem_response
from autotrace.server.mcp.json_rpc import (
    END_BYTES,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    Incoming,
    JsonRpcError,
    RequestId,
    answerable_ids,
    id_between,
    is_notification,
    is_response,
    members_of,
    read_message,
)
from autotrace.server.mcp.server import Context, make_server
from autotrace.server.otlp import PROTOBUF, problem
from autotrace.server.request_body import BATCH_PATH, MCP_PATHS, receive_again
from autotrace.settings import ServerSettings

CORS_HEADERS: Final = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
"""Headers that MCP clients in pages send."""

_EVENTS: Final = "text/event-stream"
_CODES: Final[Mapping[int, int]] = {
    408: INVALID_REQUEST,
    413: INVALID_REQUEST,
    422: INVALID_REQUEST,
    429: INTERNAL_ERROR,
    500: INTERNAL_ERROR,
    503: INTERNAL_ERROR,
}
"""The statuses that become errors of JSON-RPC, with their codes."""
_VERSION_HEADER: Final = "MCP-Protocol-Version"
_OTLP_MEMBERS: Final = frozenset({"resourceSpans", "resourceLogs", "resourceMetrics"})
"""Members that only batches of OTLP have."""
_PRINCIPAL: Final = "autotrace.principal"
_REFUSAL: Final = "autotrace.refusal"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class McpEndpoint:
    """The ASGI application at each of `MCP_PATHS`, for POST alone."""

    def __init__(self, served: AppState) -> None:
        self._served = served
        self._manager = StreamableHTTPSessionManager(
            make_server(_principal_of, served.lease, _keep_refusal),
            json_response=True,
            stateless=True,
            max_request_body_size=served.server.max_body_bytes,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Answer requests until this context ends; once in the endpoint's life."""
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST."""
        request = Request(scope, receive)
        self._check_origin(request)
        principal = await recognise(request)
        kind = kind_of(request.headers.get("Content-Type", ""))
        incoming = read_message(await request.body()) if kind == JSON else None
        if incoming is None or incoming.refusal is not None:
            await _refused(kind, incoming, speaks_mcp(request.headers))(scope, receive, send)
            return
        inner = _as_mcp_request(scope, incoming.message)
        inner[_PRINCIPAL] = principal
        await self._manager.handle_request(
            inner,
            receive_again(incoming.body, receive),
            send if speaks_mcp(request.headers) else _with_status(inner, send),
        )

    def _check_origin(self, request: Request) -> None:
        """Raise NotPermittedError for a page of a foreign site."""
        origin = request.headers.get("Origin")
        if origin is None or origin in self._served.server.cors_origins:
            return
        try:
            host = urlsplit(origin).hostname
        except ValueError:  # such as brackets that hold no address
            host = None
        if host not in _LOOPBACK:
            msg = "pages of this origin may not call: the setting cors_origins names those that may"
            raise NotPermittedError(msg)


def speaks_mcp(headers: Mapping[str, str]) -> bool:
    """Return whether a request comes from an MCP client.

    Since revision 2025-06-18 clients name the revision that they have agreed on; earlier ones
    accept both types, as every client must. Clients of plain POSTs accept anything, or JSON.
    """
    if _VERSION_HEADER in headers or "Mcp-Session-Id" in headers:
        return True
    accepted = headers.get("Accept", "").lower().split(",")
    return {JSON, _EVENTS} <= {kind.partition(";")[0].strip() for kind in accepted}


def _refused(kind: str, incoming: Incoming | None, is_mcp: bool) -> Response:
    """Return the response to a body that is not a message of JSON-RPC."""
    is_batch = incoming is not None and not _OTLP_MEMBERS.isdisjoint(members_of(incoming.message))
    if kind == PROTOBUF or is_batch:
        # Exporters take 200 as the sign that a batch is stored.
        text = (
            f"spans are not taken at this path, but at {BATCH_PATH}: set the exporter's URL to it"
        )
        return problem(kind, HTTPStatus.NOT_FOUND, text)
    if incoming is None or incoming.refusal is None:
        text = f"the Content-Type must be {JSON}; batches of spans are taken at {BATCH_PATH}"
        return problem_response(415, "unsupported_media_type", text)
    answer: Any = incoming.refusal.body(incoming.request_id)
    if is_mcp and isinstance(incoming.message, list):
        # Clients of revision 2025-03-26 may send batches, and wait for one answer to each request.
        answer = [incoming.refusal.body(each) for each in answerable_ids(incoming)] or answer
    return Response(json.dumps(answer).encode("ascii"), media_type=JSON)


def _as_mcp_request(scope: Scope, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scope of a request with the headers of an MCP client."""
    inner = dict(scope)
    inner["headers"] = list(scope["headers"])
    headers = MutableHeaders(scope=inner)
    headers["Accept"] = f"{JSON}, {_EVENTS}"
    headers["Content-Type"] = JSON
    if message.get("method") == "initialize":
        # The message asks for a revision; none is agreed on yet.
        del headers[_VERSION_HEADER]
    return inner


def _scope_of(context: Context) -> dict[str, Any]:
    """Return the scope that the endpoint has passed to the SDK."""
    request: Any = context.request
    return request.scope


def _principal_of(context: Context) -> Principal:
    return _scope_of(context)[_PRINCIPAL]


def _keep_refusal(context: Context, refusal: JsonRpcError) -> None:
    _scope_of(context)[_REFUSAL] = refusal


def _with_status(inner: Mapping[str, Any], send: Send) -> Send:
    """Return a `send` that sets the status and headers of an error."""

    async def sending(message: Message) -> None:
        refusal: JsonRpcError | None = inner.get(_REFUSAL)
        if refusal is not None and message["type"] == "http.response.start":
            if refusal.status is not HTTPStatus.OK:
                message["status"] = int(refusal.status)
            MutableHeaders(scope=message).update(refusal.headers)
        await send(message)

    return sending


class McpRefusals:
    """ASGI middleware that turns refusals into errors of JSON-RPC."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or scope["path"] not in MCP_PATHS
            or not speaks_mcp(Headers(scope=scope))
        ):
            await self._app(scope, receive, send)
            return
        arrived = _Arrived(receive)
        refused: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _CODES:
                refused.append(message)
            elif not refused:
                await send(message)
            else:
                refused.append(message)
                if not message.get("more_body", False):
                    response = await self._response(refused, arrived)
                    await response(scope, receive, send)

        await self._app(scope, arrived.receive, sending)

    async def _response(self, refused: list[Message], arrived: _Arrived) -> Response:
        """Return the JSON-RPC response; without an id, the refusal itself."""
        start, *parts = refused
        status: int = start["status"]
        body = b"".join(part.get("body", b"") for part in parts)
        headers = Headers(raw=start["headers"]).mutablecopy()
        del headers["Content-Length"]
        with anyio.move_on_after(self._settings.request_timeout_ms / 1000):
            await arrived.finish(self._settings.max_batch_bytes)
        if arrived.needs_no_answer():
            return Response(b"", HTTPStatus.ACCEPTED)
        request_id = arrived.request_id()
        if request_id is None:
            return Response(body, status, headers)
        detail: Any = cast("dict[str, Any]", orjson.loads(body))["detail"]
        refusal = JsonRpcError(_CODES[status], "; ".join(problem["msg"] for problem in detail))
        answer = json.dumps(refusal.body(request_id)).encode("ascii")
        return Response(answer, HTTPStatus.OK, headers, media_type=JSON)


class _Arrived:
    """The beginning and the end of a body, as far as it has arrived."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._head = self._tail = b""
        self._size_bytes = 0
        self._has_ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            part: bytes = message.get("body", b"")
            self._head += part[: END_BYTES - len(self._head)]
            self._tail = (self._tail + part[-END_BYTES:])[-END_BYTES:]
            self._size_bytes += len(part)
            self._has_ended = not message.get("more_body", False)
        else:
            self._has_ended = True
        return message

    async def finish(self, max_bytes: int) -> None:
        """Read on until the id is known, or the body has ended or is too large."""
        while not self._has_ended and self._size_bytes < max_bytes and self.request_id() is None:
            await self.receive()

    def request_id(self) -> RequestId | None:
        return id_between(self._head, self._tail if self._has_ended else None)

    def needs_no_answer(self) -> bool:
        """Return whether the whole body is known, and is not a request."""
        if not self._has_ended or self._size_bytes > len(self._head):
            return False
        message = read_message(self._head).message
        return is_notification(message) or is_response(message)
