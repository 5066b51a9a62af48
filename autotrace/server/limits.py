"""Bounds on what a client sends: how large, how deep, how slowly.

Whoever sends a body must have a key, and the body is read whole before anything looks at it. So
strangers fill no memory, and a slow client holds up one coroutine, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
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
from autotrace.server.mcp.refusals import PATHS
from autotrace.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH_PATH: Final = "/v1/traces"
"""Where batches of spans arrive, which may be larger than other bodies."""
_DRAIN_S: Final = 1.0
"""How long what is too large is still read: a client that is not heard out does not listen."""
_BATCHES_HELD: Final = 4
"""How many batches of the largest size the requests of one key may hold in memory."""
_RETRY_AFTER_S: Final = 1.0
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
        self._held = Held(_BATCHES_HELD * settings.max_batch_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
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
                return  # what has arrived is not what was to be sent
            if isinstance(body, Response):
                await body(scope, receive, send)
                return
            served = served_by(HTTPConnection(scope))
            served.spend(caller, len(body))
            if scope["path"] != BATCH_PATH:  # batches take turns before they are unpacked
                try:
                    body = await self._content(scope, body, lambda more: served.spend(caller, more))
                except ContentError as error:
                    kind = error.status.phrase.lower().replace(" ", "_")
                    refused = problem_response(
                        error.status, kind, str(error), loc=["body"], headers=error.headers
                    )
                    await refused(scope, receive, send)
                    return
                if is_too_deep(body, self._settings.max_json_depth):
                    text = f"the JSON is nested deeper than {self._settings.max_json_depth}"
                    response = problem_response(422, "json_too_deep", text, loc=["body"])
                    await response(scope, receive, send)
                    return
            await self._app(scope, _again(body, receive), send)

    async def _content(self, scope: Scope, body: bytes, spend: Callable[[int], None]) -> bytes:
        """Return a body without its compression, and in UTF-8 if it is JSON.

        Raises:
            ContentError: It cannot be read.
        """
        headers = MutableHeaders(scope=scope)
        encoding = encoding_of(headers.get("Content-Encoding", IDENTITY))
        del headers["Content-Encoding"]
        if encoding != IDENTITY:
            max_bytes = self._settings.max_body_bytes
            body = await anyio.to_thread.run_sync(unpacked, body, encoding, max_bytes, spend)
        content_type = headers.get("Content-Type", "")
        if not is_json(content_type):
            return body
        body = checked_json(body, content_type)
        # A message of MCP is repaired where it is read: it is answered under its id.
        return body if scope["path"] in PATHS else checked_text(body)

    async def _body(
        self, scope: Scope, receive: Receive, hold: Callable[[int], None]
    ) -> bytes | Response:
        """Return the body of a request, or the answer to one that breaks a limit.

        Raises:
            ClientDisconnect: The client has left amid it.
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


class Held:
    """Counts the bytes of bodies that requests of each key hold at once. For one event loop.

    Args:
        max_bytes: How many the requests of one key may hold.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def by(self, key_id: str) -> Generator[Callable[[int], None]]:
        """Count what one request holds, as long as this context lasts.

        Returns:
            What counts so many bytes more, and raises LimitExceededError if they are too many.
        """
        mine = 0

        def hold(size_bytes: int) -> None:
            nonlocal mine
            if self._bytes[key_id] + size_bytes > self._max_bytes:
                msg = f"the requests of this key hold {self._max_bytes} bytes already"
                raise LimitExceededError(msg, _RETRY_AFTER_S)
            mine += size_bytes
            self._bytes[key_id] += size_bytes

        try:
            yield hold
        finally:
            self._bytes[key_id] -= mine
            if not self._bytes[key_id]:
                del self._bytes[key_id]


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("Content-Length", "0")
    return int(declared) if declared.isdecimal() else 0


async def _read(receive: Receive, max_bytes: int, hold: Callable[[int], None]) -> bytes | None:
    """Return the body; None if it is too large.

    Raises:
        ClientDisconnect: The client has left amid it.
        LimitExceededError: The key's requests hold too much already.
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
        hold(len(part))
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
