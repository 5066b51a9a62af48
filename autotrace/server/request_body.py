"""Read the body of each request within limits on size, depth and time.

A sender must have a key, and the body is read whole before anything looks at it. So strangers fill
no memory, and a slow client delays one coroutine and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response

from autotrace.base.json_text import is_too_deep
from autotrace.errors import AutotraceError, LimitExceededError
from autotrace.server.app_state import served_by
from autotrace.server.auth.authenticate import recognise
from autotrace.server.content import (
    IDENTITY,
    ContentError,
    checked_json,
    checked_text,
    encoding_of,
    is_json,
    unpacked,
)
from autotrace.server.http_errors import BODY_TIMEOUT, problem_response, response_of
from autotrace.server.limits import Held
from autotrace.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH_PATH: Final = "/v1/traces"
"""Path of batches of spans, which may be larger than other bodies."""
MCP_PATHS: Final = ("/mcp", "/mcp/", "/")
_DRAIN_S: Final = 1.0
"""How long the rest of a refused body is read, as clients send it before they read the response."""
_BATCHES_HELD: Final = 4
"""Number of batches of the largest size that the requests of one key may hold in memory."""
_CLOSE: Final = {"Connection": "close"}


class BodyLimits:
    """ASGI middleware that reads bodies, and refuses those over a limit."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._held = Held(_BATCHES_HELD * settings.max_batch_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body read, or refuse it."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        try:
            caller = await recognise(HTTPConnection(scope))
        except AutotraceError as error:
            if isinstance(error, LimitExceededError):
                await _drain(receive)
            await response_of(error)(scope, receive, send)
            return
        with self._held.by(caller.key_id) as hold:
            try:
                body = await self._body(scope, receive, hold)
            except ClientDisconnect:
                return  # the body is not complete
            if not isinstance(body, Response):
                served = served_by(HTTPConnection(scope))
                served.spend(caller, len(body))
                if scope["path"] != BATCH_PATH:  # batches take turns before they are unpacked
                    body = await self._content(scope, body, lambda n: served.spend(caller, n))
            if isinstance(body, Response):
                await body(scope, receive, send)
            else:
                await self._app(scope, receive_again(body, receive), send)

    async def _content(
        self, scope: Scope, body: bytes, spend: Callable[[int], None]
    ) -> bytes | Response:
        """Return a body unpacked and checked, or the response that refuses it."""
        headers = MutableHeaders(scope=scope)
        content_type = headers.get("Content-Type", "")
        try:
            encoding = encoding_of(headers.get("Content-Encoding", IDENTITY))
            del headers["Content-Encoding"]
            if encoding != IDENTITY:
                max_bytes = self._settings.max_body_bytes
                body = await anyio.to_thread.run_sync(unpacked, body, encoding, max_bytes, spend)
            if is_json(content_type):
                body = checked_json(body, content_type)
                # A message of MCP is repaired where it is read, to be answered under its id.
                body = body if scope["path"] in MCP_PATHS else checked_text(body)
        except ContentError as error:
            kind = error.status.phrase.lower().replace(" ", "_")
            return problem_response(
                error.status, kind, str(error), loc=["body"], headers=error.headers
            )
        if is_too_deep(body, self._settings.max_json_depth):
            text = f"the JSON is nested deeper than {self._settings.max_json_depth}"
            return problem_response(422, "json_too_deep", text, loc=["body"])
        return body

    async def _body(
        self, scope: Scope, receive: Receive, hold: Callable[[int], None]
    ) -> bytes | Response:
        """Return the body of a request, or the response that refuses it.

        Raises:
            ClientDisconnect: The client has left before its end.
        """
        is_batch = scope["path"] == BATCH_PATH
        settings = self._settings
        max_bytes = settings.max_batch_bytes if is_batch else settings.max_body_bytes
        body: bytes | None = None
        try:
            with anyio.move_on_after(settings.request_timeout_ms / 1000) as deadline:
                if _declared_bytes(scope) <= max_bytes:
                    body = await _read(receive, max_bytes, hold)
        except LimitExceededError as error:
            await _drain(receive)
            return response_of(error)
        if deadline.cancelled_caught:
            text = f"the request took longer than {settings.request_timeout_ms} ms to arrive"
            return problem_response(BODY_TIMEOUT, "request_timeout", text, headers=_CLOSE)
        if body is None:
            text = f"the body is larger than {max_bytes} bytes"
            await _drain(receive)
            return problem_response(413, "body_too_large", text, loc=["body"], headers=_CLOSE)
        return body


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("Content-Length", "0")
    return int(declared) if declared.isdecimal() else 0


async def _read(receive: Receive, max_bytes: int, hold: Callable[[int], None]) -> bytes | None:
    """Return the body; None if it is too large."""
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        parts.append(part)
        size_bytes += len(part)
        if size_bytes > max_bytes:
            return None
        hold(len(part))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _drain(receive: Receive) -> None:
    with anyio.move_on_after(_DRAIN_S):
        while (await receive()).get("more_body", False):
            pass


def receive_again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in one piece, then the rest."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return first.pop() if first else await receive()

    return receiving
