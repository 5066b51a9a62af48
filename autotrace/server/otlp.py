"""Receive batches of spans over OTLP/HTTP, at `POST /v1/traces`.

The response is sent when the batch is on disk. Rejected spans are counted in its `partialSuccess`,
and must not be sent again; a batch that is sent again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from autotrace.errors import AutotraceError
from autotrace.otlp.decode import Batch, MalformedBatchError, read_json, read_protobuf
from autotrace.server.app_state import AppState, served_by
from autotrace.server.auth.authenticate import recognise
from autotrace.server.auth.principal import Principal
from autotrace.server.content import (
    IDENTITY,
    JSON,
    ContentError,
    checked_json,
    encoding_of,
    kind_of,
    unpacked,
)
from autotrace.server.http_errors import answer_of, headers_of, message_of, responses
from autotrace.server.request_body import BATCH_PATH
from autotrace.worker.batch_selection import opens_trace

PROTOBUF: Final = "application/x-protobuf"
_GRPC_CODES: Final[Mapping[int, int]] = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    413: 3,
    415: 3,
    429: 8,  # RESOURCE_EXHAUSTED
    503: 14,  # UNAVAILABLE
}
_INTERNAL: Final = 13

router = APIRouter(tags=["otlp"])


def _list_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an array, which may be null in JSON of protobuf."""
    return {"type": ["array", "null"], "items": item}


# Any item is accepted: one that is not a span is counted in `partialSuccess`.
_SPANS: Final = _list_of({"description": "A `Span`."})
_SCOPE_SPANS: Final = _list_of({"type": "object", "properties": {"spans": _SPANS}})
_RESOURCE_SPANS: Final = _list_of({"type": "object", "properties": {"scopeSpans": _SCOPE_SPANS}})
_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An `ExportTraceServiceRequest`, with ids in hexadecimal.",
    "properties": {"resourceSpans": _RESOURCE_SPANS},
}
_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An `ExportTraceServiceResponse`.",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedSpans": {"type": "string", "description": "How many, as OTLP's int64."},
                "errorMessage": {"type": "string"},
            },
        }
    },
}
_STATUS: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A `google.rpc.Status`.",
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}


@router.post(
    BATCH_PATH,
    summary="Take in spans",
    responses={
        200: {"description": "On disk.", "content": {JSON: {"schema": _ANSWER}}},
        **{status: each for status, each in responses().items() if status != 422},
        **{
            status: {
                "description": HTTPStatus(status).phrase,
                "content": {JSON: {"schema": _STATUS}},
            }
            for status in (400, 415, 503)
        },
    },
    openapi_extra={
        "security": [{"Bearer": []}, {"Agent": []}],
        "requestBody": {"required": True, "content": {JSON: {"schema": _BODY}}},
    },
)
async def take_spans(request: Request) -> Response:
    """Take in a batch of OpenTelemetry spans, in JSON or as `application/x-protobuf`.

    Point any SDK here with `OTEL_EXPORTER_OTLP_ENDPOINT` and
    `OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20<key>`.
    """
    content_type = request.headers.get("Content-Type", "")
    kind = kind_of(content_type)
    try:
        caller = await recognise(request)
        if kind not in (PROTOBUF, JSON):
            text = f"the body must be {PROTOBUF} or {JSON}"
            raise ContentError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        encoding = encoding_of(request.headers.get("Content-Encoding", IDENTITY))
        body = await request.body()
        served = served_by(request)
        async with served.turns.turn(caller.tenant, caller.key_id):
            batch = await anyio.to_thread.run_sync(
                _take, served, caller, content_type, encoding, body, limiter=served.batch_threads
            )
    except AutotraceError as error:
        status, _ = answer_of(error)
        return problem(kind, status, message_of(error), headers_of(error))
    except ContentError as error:
        return problem(kind, error.status, str(error), error.headers)
    except ClientDisconnect:
        return problem(kind, HTTPStatus.BAD_REQUEST, "the body did not arrive")
    served.metrics.count_batch(len(batch.records), batch.rejected, batch.cut.total())
    return _success(kind, batch)


def _take(
    served: AppState, caller: Principal, content_type: str, encoding: str, body: bytes
) -> Batch:
    # Batches that were read while this one waited may have cost too much.
    served.rates.check(caller.key_id)
    body = unpacked(
        body, encoding, served.server.max_batch_bytes, lambda more: served.spend(caller, more)
    )
    try:
        if kind_of(content_type) == PROTOBUF:
            batch = read_protobuf(body)
        else:
            batch = read_json(checked_json(body, content_type))
    except MalformedBatchError as error:
        raise ContentError(HTTPStatus.BAD_REQUEST, str(error)) from None
    served.spend(caller, 0, batch.read, sum(map(opens_trace, batch.records)))
    with served.lease(caller) as tenant:
        tenant.traces.take_spans(batch, by=caller)
    return batch


def _success(kind: str, batch: Batch) -> Response:
    message = batch.message()
    if kind == JSON:
        partial = {"rejectedSpans": str(batch.rejected), "errorMessage": message}
        return _json(HTTPStatus.OK, {"partialSuccess": partial} if message else {})
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    if message:
        answer.partial_success.rejected_spans = batch.rejected
        answer.partial_success.error_message = message
    return Response(answer.SerializeToString(), HTTPStatus.OK, media_type=PROTOBUF)


def problem(
    kind: str, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as a `google.rpc.Status` in the encoding of the request."""
    code = _GRPC_CODES.get(status, _INTERNAL)
    if kind != PROTOBUF:
        return _json(status, {"code": code, "message": message}, headers)
    from google.rpc.status_pb2 import Status

    body = Status(code=code, message=message).SerializeToString()
    return Response(body, status, headers, media_type=PROTOBUF)


def _json(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    return Response(json.dumps(body), status, headers, media_type=JSON)
