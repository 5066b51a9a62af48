"""Errors as HTTP responses: one table of statuses, one form of body."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from autotrace.errors import (
    ApprovalRefused,
    AutotraceError,
    DecisionNotFoundError,
    DecisionStateError,
    InvalidArgumentError,
    LimitExceededError,
    NotAuthenticatedError,
    NotPermittedError,
    PolicyNotFoundError,
    StepNotFoundError,
    StoreUnavailableError,
    ToolNotFoundError,
    TraceNotFoundError,
    TraceStateError,
)
from autotrace.server.content import JSON, is_json

_log = logging.getLogger("autotrace.server")

_MAX_MESSAGE_CHARS: Final = 500
_CHALLENGE: Final = 'Bearer realm="autotrace", Agent realm="autotrace"'
_RETRY_STORE_S: Final = 1
_FAILURE: Final = ("internal_error", "the server failed; its log says why")
BODY_TIMEOUT: Final = 408
UNKNOWN: Final = "extra_forbidden"
"""The type that pydantic gives a problem with an unknown field."""


class Problem(BaseModel):
    """One fault of a request."""

    loc: list[str | int] = Field(description="Where: `body`, `query` or `path`, then the field.")
    msg: str = Field(description="The fault, and the allowed values.")
    type: str = Field(description="The kind of fault: a word that does not change.")


class Problems(BaseModel):
    """The faults of a request."""

    detail: list[Problem]


_ANSWERS: Final[Mapping[type[AutotraceError], tuple[int, str]]] = {
    NotAuthenticatedError: (401, "not_authenticated"),
    NotPermittedError: (403, "not_permitted"),
    ApprovalRefused: (403, "approval_refused"),
    TraceNotFoundError: (404, "trace_not_found"),
    StepNotFoundError: (404, "step_not_found"),
    ToolNotFoundError: (404, "tool_not_found"),
    DecisionNotFoundError: (404, "decision_not_found"),
    TraceStateError: (409, "trace_state"),
    DecisionStateError: (409, "decision_state"),
    InvalidArgumentError: (422, "value_not_allowed"),
    PolicyNotFoundError: (422, "policy_not_found"),
    LimitExceededError: (429, "limit_exceeded"),
    StoreUnavailableError: (503, "store_unavailable"),
    AutotraceError: (500, _FAILURE[0]),
}
"""The status and type of each class of errors, and of its subclasses that are not listed."""


def answer_of(error: AutotraceError) -> tuple[int, str]:
    """Return the status and the type of an error."""
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            return _ANSWERS[kind]
    raise AssertionError(error)  # AutotraceError is in the table


def message_of(error: AutotraceError) -> str:
    """Return the message of an error without places of the server."""
    match error:
        case TraceNotFoundError():
            text = f"no trace {error.trace_id!r}"
        case DecisionNotFoundError():
            text = f"no decision {error.decision_id!r}"
        case StoreUnavailableError():
            text = "the store does not answer; ask again"
        case _ if answer_of(error)[0] == HTTPStatus.INTERNAL_SERVER_ERROR:
            text = _FAILURE[1]
        case _:
            text = str(error)
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[: _MAX_MESSAGE_CHARS - 3] + "..."


def problem_response(
    status: int,
    kind: str,
    message: str,
    *,
    loc: Sequence[str | int] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the response that names one problem."""
    return _response(status, [{"loc": list(loc), "msg": message, "type": kind}], headers)


def _response(
    status: int, problems: list[dict[str, Any]], headers: Mapping[str, str] | None
) -> Response:
    # In ASCII: texts of clients may hold half characters, which UTF-8 cannot encode.
    body = json.dumps({"detail": problems}).encode("ascii")
    return Response(body, status, headers, media_type=JSON)


def response_of(error: AutotraceError) -> Response:
    """Return the response to a request that raised an error."""
    status, kind = answer_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s: %s", type(error).__name__, error, exc_info=error)
    loc: Sequence[str | int] = (error.field,) if isinstance(error, InvalidArgumentError) else ()
    return problem_response(status, kind, message_of(error), loc=loc, headers=headers_of(error))


def headers_of(error: AutotraceError) -> dict[str, str]:
    """Return the headers that belong to an error's status."""
    match error:
        case NotAuthenticatedError():
            return {"WWW-Authenticate": _CHALLENGE}
        case LimitExceededError():
            return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        case StoreUnavailableError():
            return {"Retry-After": str(_RETRY_STORE_S)}
        case _:
            return {}


async def _on_autotrace_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AutotraceError)  # noqa: S101 - it is registered for these
    return response_of(error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for these
    # Without the input, which may be large, or secret.
    problems = [
        {
            "loc": list(each["loc"]),
            "msg": _text_of(each, request)[:_MAX_MESSAGE_CHARS],
            "type": each["type"],
        }
        for each in error.errors()
    ]
    return _response(HTTPStatus.UNPROCESSABLE_ENTITY, problems, None)


def _text_of(problem: Mapping[str, Any], request: Request) -> str:
    """Return the message of a problem, in our words where they help more."""
    if problem["type"] == UNKNOWN:
        dependant = request.scope["route"].dependant
        (holder,) = dependant.body_params or dependant.query_params
        fields = holder.field_info.annotation.model_fields
        return f"this is not known here: there are {', '.join(fields)}"
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']}"
    if tuple(problem["loc"]) != ("body",) or problem["type"] != "model_attributes_type":
        return str(problem["msg"])
    # FastAPI reads a body as JSON only if its type is JSON's; else pydantic gets a text.
    if not is_json(request.headers.get("Content-Type", "")):
        return "the Content-Type must be application/json"
    return "the body must be a JSON object"


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    headers = dict(error.headers or {})
    message = str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # A route names its own methods alone, and a path may have several routes. The OpenAPI
        # document leaves out MCP.
        if allowed := _methods_of(request.app, request.scope["path"]):
            headers["Allow"] = ", ".join(allowed)
        message = f"not with {request.method}: this path takes {headers.get('Allow', 'others')}"
    elif error.status_code == HTTPStatus.BAD_REQUEST and isinstance(error.__cause__, ValueError):
        # FastAPI's own message leaves out the reason, such as an integer of 5,000 digits.
        message = f"the body cannot be read as JSON: {error.__cause__}"[:_MAX_MESSAGE_CHARS]
    elif error.status_code == HTTPStatus.NOT_FOUND:
        message = (
            "nothing is at this path: /openapi.json lists what there is;"
            " spans are taken at /v1/traces, and MCP is at /mcp"
        )
    return problem_response(error.status_code, kind, message, headers=headers)


def _methods_of(app: FastAPI, path: str) -> list[str]:
    """Return the methods of a path in the OpenAPI document."""
    paths: Mapping[str, Mapping[str, Any]] = app.openapi()["paths"]
    # Paths in full come before templates that match them.
    for template in sorted(paths, key=lambda template: template.count("{")):
        pattern, _, _ = compile_path(template)
        if pattern.fullmatch(path):
            return [method.upper() for method in paths[template]]
    return []


def failure_response() -> Response:
    """Return the response to a request on which the server failed."""
    return problem_response(500, *_FAILURE)


def handle_errors(app: FastAPI) -> None:
    """Register the handlers of all errors."""
    app.add_exception_handler(AutotraceError, _on_autotrace_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for the OpenAPI document."""
    return {
        status: {"model": Problems, "description": HTTPStatus(status).phrase}
        for status in sorted({400, 401, BODY_TIMEOUT, 413, 415, 422, 429, 500, 503, *statuses})
    }
