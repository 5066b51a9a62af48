"""MCP over HTTP: one endpoint, for MCP clients and for plain JSON-RPC POSTs.

The official SDK serves it without sessions, each POST by itself, so that any worker on any machine
can answer. What comes before it is settled here: who calls, that a body is one JSON-RPC message,
and that a client that shook no hands, and accepts anything, gets one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from autotrace.errors import NotPermittedError
from autotrace.server.app_state import AppState
from autotrace.server.auth.authenticate import recognise
from autotrace.server.auth.principal import Principal
from autotrace.server.content import JSON, kind_of
from autotrace.server.http_errors import problem_response
from autotrace.server.limits import BATCH_PATH
from autotrace.server.mcp.errors import JsonRpcError
from autotrace.server.mcp.json_rpc import Incoming, answerable_ids, members_of, read_message
from autotrace.server.mcp.refusals import EVENTS, speaks_mcp
from autotrace.server.mcp.server import Context, make_server
from autotrace.server.mcp.tool import ToolContext
from autotrace.server.otlp import PROTOBUF, problem

CORS_HEADERS: Final = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
"""What MCP clients in pages send."""

_VERSION_HEADER: Final = "MCP-Protocol-Version"
_BATCHES: Final = frozenset({"resourceSpans", "resourceLogs", "resourceMetrics"})
"""What only batches of OTLP have."""
_PRINCIPAL: Final = "autotrace.principal"
_REFUSAL: Final = "autotrace.refusal"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class McpEndpoint:
    """The ASGI application at each of `PATHS`, for POST alone.

    Args:
        served: Who may call, and what is served.
    """

    def __init__(self, served: AppState) -> None:
        self._served = served
        self._manager = StreamableHTTPSessionManager(
            make_server(_principal_of, self._desk, _keep_refusal),
            json_response=True,
            stateless=True,
            max_request_body_size=served.server.max_body_bytes,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Answer as long as this context lasts; once in the endpoint's life."""
        async with self._manager.run():
            yield

    @contextmanager
    def _desk(self, by: Principal) -> Generator[ToolContext]:
        with self._served.lease(by) as tenant:
            yield ToolContext(tenant.traces, tenant.decisions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST."""
        request = Request(scope, receive)
        self._check_origin(request)
        principal = await recognise(request)
        kind = kind_of(request.headers.get("Content-Type", ""))
        if kind == PROTOBUF:
            await _not_here(PROTOBUF)(scope, receive, send)
            return
        if kind != JSON:
            text = f"the Content-Type must be {JSON}; batches of spans are taken at {BATCH_PATH}"
            await problem_response(415, "unsupported_media_type", text)(scope, receive, send)
            return
        incoming = read_message(await request.body())
        if incoming.refusal is not None:
            refused = _refused(incoming, incoming.refusal, speaks_mcp(request.headers))
            await refused(scope, receive, send)
            return
        inner = _as_mcp_has_it(scope, incoming.message)
        inner[_PRINCIPAL] = principal
        await self._manager.handle_request(
            inner,
            _again(incoming.body, receive),
            send if speaks_mcp(request.headers) else _told(inner, send),
        )

    def _check_origin(self, request: Request) -> None:
        """Pass what no page of a foreign site has sent, whatever name it has for this machine.

        Raises:
            NotPermittedError: One has.
        """
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


def _not_here(kind: str) -> Response:
    """Return the response to a batch of OTLP: exporters take 200 for its being stored."""
    text = f"spans are not taken at this path, but at {BATCH_PATH}: set the exporter's URL to it"
    return problem(kind, HTTPStatus.NOT_FOUND, text)


def _refused(incoming: Incoming, refusal: JsonRpcError, is_mcp: bool) -> Response:
    if not _BATCHES.isdisjoint(members_of(incoming.message)):
        return _not_here(JSON)
    answer: Any = refusal.body(incoming.request_id)
    if is_mcp and isinstance(incoming.message, list):
        # Clients of revision 2025-03-26 may send batches, and wait for an answer to each request.
        answer = [refusal.body(each) for each in answerable_ids(incoming)] or answer
    return Response(json.dumps(answer).encode("ascii"), media_type=JSON)


def _as_mcp_has_it(scope: Scope, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scope of a request with the headers of an MCP client, which others have not."""
    inner = dict(scope)
    inner["headers"] = list(scope["headers"])
    headers = MutableHeaders(scope=inner)
    headers["Accept"] = f"{JSON}, {EVENTS}"
    headers["Content-Type"] = JSON
    if message.get("method") == "initialize":
        # The revision is what the message asks for, or the nearest one: not yet agreed on.
        del headers[_VERSION_HEADER]
    return inner


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return messages.pop() if messages else await receive()

    return receiving


def _scope_of(context: Context) -> dict[str, Any]:
    """Return the scope that the endpoint has handed to the SDK."""
    request: Any = context.request
    return request.scope


def _principal_of(context: Context) -> Principal:
    return _scope_of(context)[_PRINCIPAL]


def _keep_refusal(context: Context, refusal: JsonRpcError) -> None:
    _scope_of(context)[_REFUSAL] = refusal


def _told(inner: Mapping[str, Any], send: Send) -> Send:
    """Return what sends a response with the status of the error that it carries, if any."""

    async def sending(message: Message) -> None:
        refusal: JsonRpcError | None = inner.get(_REFUSAL)
        if refusal is not None and message["type"] == "http.response.start":
            if not refusal.is_ok:
                message["status"] = int(refusal.status)
            MutableHeaders(scope=message).update(refusal.headers)
        await send(message)

    return sending
