"""What goes wrong, as JSON-RPC says it: the code, the message and the data of each error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from pydantic import ValidationError

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
"""Errors travel in HTTP 200, but for these."""


@dataclass(frozen=True)
class JsonRpcError:
    """An error as JSON-RPC and HTTP say it.

    Args:
        code: Of the error.
        data: What is wrong, in words.
        status: Of the HTTP response that carries it.
        headers: Of that response.
    """

    code: int
    data: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def message(self) -> str:
        """The words that belong to the code."""
        return MESSAGES[self.code]

    @property
    def is_ok(self) -> bool:
        """Whether it travels in HTTP 200."""
        return self.status is HTTPStatus.OK

    def body(self, request_id: Any) -> dict[str, Any]:
        """Return the JSON-RPC response to a request."""
        error = {"code": self.code, "message": self.message, "data": self.data}
        return {"jsonrpc": "2.0", "id": request_id, "error": error}


def refusal_of(error: Exception) -> JsonRpcError:
    """Return how an error is told to a client; what is no fault of the client's is logged."""
    if isinstance(error, ValidationError):  # of the SDK's models
        names = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
        return JsonRpcError(INVALID_PARAMS, "; ".join(f"{k}: {v}" for k, v in names.items()))
    if not isinstance(error, AutotraceError):
        _log.error("%s", type(error).__name__, exc_info=error)
        return JsonRpcError(INTERNAL_ERROR, "the server failed; its log says why")
    kind = type(error)
    code = _CODES.get(kind, INTERNAL_ERROR)
    if kind in _DATA:
        data = _DATA[kind]
    else:
        data = str(error)[:_MAX_DATA_CHARS] if kind in _CODES else message_of(error)
    return JsonRpcError(code, data, _STATUSES.get(kind, HTTPStatus.OK), headers_of(error))
