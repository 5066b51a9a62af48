"""Refusals of requests of MCP clients, before the endpoint sees them: limits, and failures.

A status of 4xx or 5xx ends the session of a client that has shaken hands, and its words are lost.
So such a client gets HTTP 200 with the error under the id of its request; a plain POST gets the
status. A missing key (401) and a page of a foreign site (403) are answered with their status
alone, as the specification has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from autotrace.server.content import JSON
from autotrace.server.mcp.errors import INTERNAL_ERROR, INVALID_REQUEST, JsonRpcError
from autotrace.server.mcp.json_rpc import (
    END_BYTES,
    RequestId,
    id_between,
    is_notification,
    is_response,
    read_message,
)
from autotrace.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS: Final = ("/mcp", "/mcp/", "/")
EVENTS: Final = "text/event-stream"
_CODES: Final[Mapping[int, int]] = {
    408: INVALID_REQUEST,
    413: INVALID_REQUEST,
    422: INVALID_REQUEST,
    429: INTERNAL_ERROR,
    500: INTERNAL_ERROR,
    503: INTERNAL_ERROR,
}
"""The statuses that become errors of JSON-RPC, with their codes."""


def speaks_mcp(headers: Mapping[str, str]) -> bool:
    """Return whether a request is of an MCP client, and not a plain POST.

    Since revision 2025-06-18 clients name the revision they have agreed on; those before it accept
    both types, as every client must. The clients of plain POSTs accept anything, or JSON.
    """
    if "MCP-Protocol-Version" in headers or "Mcp-Session-Id" in headers:
        return True
    accepted = headers.get("Accept", "").lower().split(",")
    return {JSON, EVENTS} <= {kind.partition(";")[0].strip() for kind in accepted}


class McpRefusals:
    """ASGI middleware outside of what refuses requests.

    Args:
        app: What answers.
        settings: Name the limits.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or scope["path"] not in PATHS
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
        """Return the response of JSON-RPC; what was refused with, if that cannot be."""
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
        refusal = JsonRpcError(_CODES[status], _words_of(body))
        answer = json.dumps(refusal.body(request_id)).encode("ascii")
        return Response(answer, HTTPStatus.OK, headers, media_type=JSON)


class _Arrived:
    """What has arrived of a body: how it begins and ends, however large it is."""

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
        """Read on until the id of the request is known, or the body has ended or is too large."""
        while not self._has_ended and self._size_bytes < max_bytes and self.request_id() is None:
            await self.receive()

    def request_id(self) -> RequestId | None:
        return id_between(self._head, self._tail if self._has_ended else None)

    def needs_no_answer(self) -> bool:
        """Return whether all of it is known, and is no request."""
        if not self._has_ended or self._size_bytes > len(self._head):
            return False
        message = read_message(self._head).message
        return is_notification(message) or is_response(message)


def _words_of(body: bytes) -> str:
    """Return what the body of a refusal says."""
    detail: Any = cast("dict[str, Any]", orjson.loads(body))["detail"]
    return "; ".join(problem["msg"] for problem in detail)
