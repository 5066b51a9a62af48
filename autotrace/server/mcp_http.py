"""MCP over HTTP: one endpoint, for MCP clients and for plain JSON-RPC POSTs.

The official SDK serves it without sessions, each POST by itself, so that any worker on any machine
can answer. What comes before it is settled here: who calls, that a body is one JSON-RPC message,
and that a client that shook no hands, and accepts anything, gets one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from autotrace.access.principal import Principal
from autotrace.errors import NotPermittedError
from autotrace.server.auth import recognise
from autotrace.server.context import Served
from autotrace.server.errors import problem_response
from autotrace.server.mcp_errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, Refusal
from autotrace.server.mcp_server import Context, make_server
from autotrace.server.mcp_tool import Desk

PATHS: Final = ("/mcp", "/")
CORS_HEADERS: Final = ("MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
"""What MCP clients in pages send."""

_JSON: Final = "application/json"
_PRINCIPAL: Final = "autotrace.principal"
_REFUSAL: Final = "autotrace.refusal"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class McpEndpoint:
    """The ASGI application at each of `PATHS`, for POST alone.

    Args:
        served: Who may call, and what is served.
    """

    def __init__(self, served: Served) -> None:
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
    def _desk(self, by: Principal) -> Generator[Desk]:
        with self._served.using(by) as tenant:
            yield Desk(tenant.traces, tenant.decisions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST."""
        request = Request(scope, receive)
        self._check_origin(request)
        principal = await recognise(request)
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON:
            text = f"the Content-Type must be {_JSON}"
            await problem_response(415, "unsupported_media_type", text)(scope, receive, send)
            return
        body = await request.body()
        request_id, refusal = check_message(body)
        if refusal is not None:
            answer = json.dumps(refusal.body(request_id)).encode("ascii")
            await Response(answer, media_type=_JSON)(scope, receive, send)
            return
        inner = _accepting_json(scope)
        inner[_PRINCIPAL] = principal
        await self._manager.handle_request(inner, _again(body, receive), _told(inner, send))

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


def check_message(body: bytes) -> tuple[str | int | None, Refusal | None]:
    """Look whether a body is one message of JSON-RPC.

    Args:
        body: Of a POST.

    Returns:
        The id of the request, if it has one that can be answered to; and what is wrong, if
        anything is.
    """
    try:
        # Stricter than the SDK's parser: no NaN, and no halves of characters.
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return None, Refusal(PARSE_ERROR, f"the body is no JSON: {error}")
    if not isinstance(parsed, dict):
        text = "the body must be one JSON object: a request each POST, and no batch"
        return None, Refusal(INVALID_REQUEST, text)
    message = cast("dict[str, Any]", parsed)
    request_id: Any = message.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int):
        request_id = None
    return request_id, _problem_of(message, request_id)


def _problem_of(message: Mapping[str, Any], request_id: str | int | None) -> Refusal | None:
    for name in ("jsonrpc", "method"):
        if name not in message:
            return Refusal(INVALID_REQUEST, f"{name} is required")
    if message["jsonrpc"] != "2.0":
        return Refusal(INVALID_REQUEST, 'jsonrpc must be "2.0"')
    if not isinstance(message["method"], str):
        return Refusal(INVALID_REQUEST, "method must be a string")
    if "id" in message and request_id is None:
        return Refusal(INVALID_REQUEST, "id must be a string or a whole number")
    if not isinstance(message.get("params", {}), dict):
        return Refusal(INVALID_PARAMS, "params must be an object")
    return None


def _accepting_json(scope: Scope) -> dict[str, Any]:
    """Return the scope of a request that accepts what MCP clients do: others may not say so."""
    inner = dict(scope)
    inner["headers"] = list(scope["headers"])
    MutableHeaders(scope=inner)["Accept"] = f"{_JSON}, text/event-stream"
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


def _keep_refusal(context: Context, refusal: Refusal) -> None:
    _scope_of(context)[_REFUSAL] = refusal


def _told(inner: Mapping[str, Any], send: Send) -> Send:
    """Return what sends a response with the status of the error that it carries, if any."""

    async def sending(message: Message) -> None:
        refusal: Refusal | None = inner.get(_REFUSAL)
        if refusal is not None and message["type"] == "http.response.start":
            if not refusal.is_ok:
                message["status"] = int(refusal.status)
            MutableHeaders(scope=message).update(refusal.headers)
        await send(message)

    return sending
