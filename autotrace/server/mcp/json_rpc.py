"""Read messages of JSON-RPC over any transport, and make its errors.

A client waits until its own timeout unless it is answered under the id of its request. So the id is
found in a message that cannot be parsed, too.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeGuard, cast

import orjson
from pydantic import ValidationError
from pydantic_core import from_json

from autotrace.base import json_text
from autotrace.errors import (
    AutotraceError,
    DecisionNotFoundError,
    InvalidArgumentError,
    LimitExceededError,
    NotPermittedError,
    PolicyNotFoundError,
    ToolNotFoundError,
    TraceNotFoundError,
)
from autotrace.server.http_errors import headers_of, message_of
from autotrace.server.mcp.tool import InvalidParameterError, MissingParameterError, UnknownToolError

_log = logging.getLogger("autotrace.server")

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

MESSAGES: Final[Mapping[int, str]] = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL_ERROR: "Internal error",
}

_MAX_DATA_CHARS: Final = 1000
_CODES: Final[Mapping[type[AutotraceError], int]] = {
    UnknownToolError: METHOD_NOT_FOUND,
    MissingParameterError: INVALID_REQUEST,
    InvalidParameterError: INVALID_PARAMS,
    InvalidArgumentError: INVALID_PARAMS,
    PolicyNotFoundError: INVALID_PARAMS,
    ToolNotFoundError: INVALID_PARAMS,
}
_DATA: Final[Mapping[type[AutotraceError], str]] = {
    DecisionNotFoundError: "Decision not found",
    TraceNotFoundError: "Trace not found",
}
_STATUSES: Final[Mapping[type[AutotraceError], HTTPStatus]] = {
    NotPermittedError: HTTPStatus.FORBIDDEN,
    LimitExceededError: HTTPStatus.TOO_MANY_REQUESTS,
}
"""Statuses of errors that do not travel in HTTP 200."""


@dataclass(frozen=True)
class JsonRpcError:
    """An error of JSON-RPC.

    Args:
        code: Code of the error.
        data: Description of the fault.
        status: Status of the HTTP response that carries it.
        headers: Headers of that response.
    """

    code: int
    data: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def message(self) -> str:
        """The message of the code."""
        return MESSAGES[self.code]

    def body(self, request_id: Any) -> dict[str, Any]:
        """Return the JSON-RPC response to a request."""
        error = {"code": self.code, "message": self.message, "data": self.data}
        return {"jsonrpc": "2.0", "id": request_id, "error": error}


def refusal_of(error: Exception) -> JsonRpcError:
    """Return the JSON-RPC error of an exception; log a fault of the server."""
    if isinstance(error, ValidationError):  # of the SDK's models
        names = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
        return JsonRpcError(INVALID_PARAMS, "; ".join(f"{k}: {v}" for k, v in names.items()))
    if not isinstance(error, AutotraceError):
        _log.error("%s", type(error).__name__, exc_info=error)
        return JsonRpcError(INTERNAL_ERROR, "the server failed; its log says why")
    kind = type(error)
    code = _CODES.get(kind, INTERNAL_ERROR)
    data = str(error)[:_MAX_DATA_CHARS] if kind in _CODES else message_of(error)
    data = _DATA.get(kind, data)
    return JsonRpcError(code, data, _STATUSES.get(kind, HTTPStatus.OK), headers_of(error))


_MEMBER: Final = rb'"(?:jsonrpc|method)"\s*+:\s*+"[^"\\]*+"\s*+'
_ID: Final = rb'"id"\s*+:\s*+("(?:[^"\\]|\\.)*+"|-?[0-9]{1,19})\s*+'
_ID_BEFORE: Final = re.compile(rb"\s*+\{\s*+(?:%b,\s*+)*+%b[,}]" % (_MEMBER, _ID), re.DOTALL)
_ID_BEHIND: Final = re.compile(rb"[,{]\s*+%b(?:,\s*+%b)*+\}\s*+\Z" % (_ID, _MEMBER), re.DOTALL)
"""Only `params` of a message has members of its own: the id comes before or after it."""
END_BYTES: Final = 4096
"""Bytes of each end of a message that are searched for its id."""

RequestId = str | int | float


class Incoming(NamedTuple):
    """One message."""

    body: bytes
    """JSON that every parser accepts, unless the message is refused."""
    message: Any
    request_id: RequestId | None
    """Id of a request if a response can name it; of a refused request also a fraction."""
    refusal: JsonRpcError | None
    """Fault of the message, if it has one."""


def read_message(body: bytes) -> Incoming:
    """Read one message.

    Half characters, which JavaScript's `slice` makes, become U+FFFD; NaN and the infinities, which
    Python's `json` writes, are read as such.
    """
    try:
        message: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        body, _ = json_text.repaired(body)
        try:
            message = from_json(body)
        except ValueError:
            refusal = JsonRpcError(PARSE_ERROR, f"the message is not JSON: {error}")
            return Incoming(body, None, id_between(body[:END_BYTES], body[-END_BYTES:]), refusal)
    request_id = id_of(message)
    refusal = _problem_of(message, request_id)
    return Incoming(body, message, _answerable_id(message) if refusal else request_id, refusal)


def id_of(message: Any) -> str | int | None:
    """Return the id of a request, if a response can name it."""
    request_id = members_of(message).get("id")
    return request_id if _is_id(request_id) else None


def answerable_ids(incoming: Incoming) -> list[RequestId]:
    """Return the ids under which a refused message or batch is answered."""
    ids = [incoming.request_id]
    message: Any = incoming.message
    if isinstance(message, list):
        ids += map(_answerable_id, cast("list[Any]", message))
    return [each for each in ids if each is not None]


def _answerable_id(message: Any) -> RequestId | None:
    """Return the id of a message, even a fraction: its sender waits."""
    request_id = members_of(message).get("id")
    is_number = isinstance(request_id, float) and math.isfinite(request_id)
    return request_id if is_number or _is_id(request_id) else None


def members_of(message: Any) -> Mapping[str, Any]:
    """Return the members of a message; none if it is not an object."""
    return cast("dict[str, Any]", message) if isinstance(message, dict) else {}


def id_between(head: bytes, tail: bytes | None) -> RequestId | None:
    """Find the id of a message in its beginning, or its end if it is there."""
    found = _ID_BEFORE.match(head)
    if found is None and tail is not None:
        found = _ID_BEHIND.search(tail)
    if found is None:
        return None
    try:
        request_id, _ = json_text.loads(found[1])
    except orjson.JSONDecodeError:
        return None
    return request_id if _is_id(request_id) else None


def is_notification(message: Any) -> bool:
    """Return whether a message expects no response."""
    return isinstance(message, dict) and "method" in message and "id" not in message


def is_response(message: Any) -> bool:
    """Return whether a message answers a request of the server."""
    return (
        isinstance(message, dict)
        and "method" not in message
        and ("result" in message or "error" in message)
    )


def _is_id(value: Any) -> TypeGuard[str | int]:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _problem_of(parsed: Any, request_id: RequestId | None) -> JsonRpcError | None:
    if not isinstance(parsed, dict):
        text = "the message must be one JSON object: one request at a time, and not a batch"
        return JsonRpcError(INVALID_REQUEST, text)
    message = cast("Mapping[str, Any]", parsed)
    if is_response(message):
        return None
    for name in ("jsonrpc", "method"):
        if name not in message:
            return JsonRpcError(INVALID_REQUEST, f"{name} is required")
    if message["jsonrpc"] != "2.0":
        return JsonRpcError(INVALID_REQUEST, 'jsonrpc must be "2.0"')
    if not isinstance(message["method"], str):
        return JsonRpcError(INVALID_REQUEST, "method must be a string")
    if "id" in message and request_id is None:
        return JsonRpcError(INVALID_REQUEST, "id must be a string or a whole number")
    if not isinstance(message.get("params"), dict | None):
        return JsonRpcError(INVALID_PARAMS, "params must be an object")
    return None
