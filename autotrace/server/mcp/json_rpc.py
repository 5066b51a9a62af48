"""Messages of JSON-RPC as they arrive, over any transport.

A client that is not answered under the id of its request waits until its own timeout. So the id is
found in a message that cannot be parsed, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeGuard, cast

import orjson
from pydantic_core import from_json

from autotrace.base import json_text
from autotrace.server.mcp.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, JsonRpcError

_MEMBER: Final = rb'"(?:jsonrpc|method)"\s*+:\s*+"[^"\\]*+"\s*+'
_ID: Final = rb'"id"\s*+:\s*+("(?:[^"\\]|\\.)*+"|-?[0-9]{1,19})\s*+'
_ID_BEFORE: Final = re.compile(rb"\s*+\{\s*+(?:%b,\s*+)*+%b[,}]" % (_MEMBER, _ID), re.DOTALL)
_ID_BEHIND: Final = re.compile(rb"[,{]\s*+%b(?:,\s*+%b)*+\}\s*+\Z" % (_ID, _MEMBER), re.DOTALL)
"""Of a message only `params` is more than a name and a value: the id is before it or behind it."""
END_BYTES: Final = 4096
"""How much of each end of a message is searched for its id."""

RequestId = str | int | float


class Incoming(NamedTuple):
    """One message."""

    body: bytes
    """JSON that every parser takes, unless it is refused."""
    message: Any
    request_id: RequestId | None
    """Of a request, if it has one that an answer can name; of a refused one also a fraction."""
    refusal: JsonRpcError | None
    """What is wrong, if anything is."""


def read_message(body: bytes) -> Incoming:
    """Read what should be one message.

    Halves of characters, which JavaScript's `slice` makes, become U+FFFD; NaN and the infinities,
    which Python's `json` writes, are read as such.
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
    """Return the id of a request, if it has one that can be answered to."""
    request_id = members_of(message).get("id")
    return request_id if _is_id(request_id) else None


def answerable_ids(incoming: Incoming) -> list[RequestId]:
    """Return the ids under which a refused message is answered: each one's of a batch."""
    ids = [incoming.request_id]
    message: Any = incoming.message
    if isinstance(message, list):
        ids += map(_answerable_id, cast("list[Any]", message))
    return [each for each in ids if each is not None]


def _answerable_id(message: Any) -> RequestId | None:
    """Return the id of a message, also one that is not allowed: its sender waits for it."""
    request_id = members_of(message).get("id")
    is_number = isinstance(request_id, float) and math.isfinite(request_id)
    return request_id if is_number or _is_id(request_id) else None


def members_of(message: Any) -> Mapping[str, Any]:
    """Return the members of a message; none if it is not an object."""
    return cast("dict[str, Any]", message) if isinstance(message, dict) else {}


def id_between(head: bytes, tail: bytes | None) -> RequestId | None:
    """Find the id of a message in its ends.

    Args:
        head: How it begins.
        tail: How it ends; None: it has not arrived.
    """
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
    """Return whether nothing is to be answered to a message."""
    return isinstance(message, dict) and "method" in message and "id" not in message


def is_response(message: Any) -> bool:
    """Return whether a message answers a request of the server's."""
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
