"""Bounds on what a client sends: how large, how deep, how slowly.

Whoever sends a body must have a key, and the body is read whole before anything looks at it. So
strangers fill no memory, and a slow client holds up one coroutine, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection

from autotrace.errors import AutotraceError
from autotrace.json_text import is_too_deep
from autotrace.server.auth import recognise
from autotrace.server.errors import BODY_TIMEOUT, problem_response, response_of
from autotrace.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH_PATH: Final = "/v1/traces"
"""Where batches of spans arrive, which may be larger than other bodies."""
_DRAIN_S: Final = 1.0
"""How long what is too large is still read: a client that is not heard out does not listen."""
_CLOSE: Final = {"Connection": "close"}


class BodyLimits:
    """ASGI middleware that reads the body of a request, and answers where it breaks a limit.

    Args:
        app: What answers everything else.
        settings: Name the limits.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        try:
            await recognise(HTTPConnection(scope))
        except AutotraceError as error:
            await response_of(error)(scope, receive, send)
            return
        is_batch = scope["path"] == BATCH_PATH
        settings = self._settings
        max_bytes = settings.max_batch_bytes if is_batch else settings.max_body_bytes
        body: bytes | None = None
        try:
            with anyio.move_on_after(settings.request_timeout_ms / 1000) as deadline:
                if _declared_bytes(scope) <= max_bytes:
                    body = await _read(receive, max_bytes)
        except ClientDisconnect:
            return  # what has arrived is not what was to be sent
        if deadline.cancelled_caught:
            text = f"the request took longer than {settings.request_timeout_ms} ms to arrive"
            answer = problem_response(BODY_TIMEOUT, "request_timeout", text, headers=_CLOSE)
        elif body is None:
            text = f"the body is larger than {max_bytes} bytes"
            answer = problem_response(413, "body_too_large", text, loc=["body"], headers=_CLOSE)
            await _drain(receive)
        elif not is_batch and is_too_deep(body, settings.max_json_depth):
            text = f"the JSON is nested deeper than {settings.max_json_depth}"
            answer = problem_response(422, "json_too_deep", text, loc=["body"])
        else:
            await self._app(scope, _again(body, receive), send)
            return
        await answer(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("Content-Length", "0")
    return int(declared) if declared.isdecimal() else 0


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """Return the body; None if it is too large.

    Raises:
        ClientDisconnect: The client has left amid it.
    """
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
        if not message.get("more_body", False):
            return b"".join(parts)


async def _drain(receive: Receive) -> None:
    with anyio.move_on_after(_DRAIN_S):
        while (await receive()).get("more_body", False):
            pass


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in one piece, and then what comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
