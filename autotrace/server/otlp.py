"""OTLP in: `POST /v1/traces`, as the OTLP/HTTP specification has it.

A batch is answered when it is on disk. Spans that cannot be kept are counted in the answer's
`partialSuccess`, and are not to be sent again; a batch that is sent again changes nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from autotrace.access.principal import Principal
from autotrace.errors import AutotraceError
from autotrace.export.costs import opens_trace
from autotrace.export.otlp_in import Batch, MalformedBatchError, read_json, read_protobuf
from autotrace.server.auth import recognise
from autotrace.server.context import Served, served_by
from autotrace.server.errors import answer_of, headers_of, message_of, responses
from autotrace.server.limits import BATCH_PATH

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_WINDOW_BITS: Final[Mapping[str, int]] = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}
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
_MAX_MEMBERS: Final = 1_000
_FIRST_SLICE_BYTES: Final = 1024

router = APIRouter(tags=["otlp"])


def _list_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an array, which JSON of protobuf may have as null."""
    return {"type": ["array", "null"], "items": item}


_SPANS: Final = _list_of({"type": "object"})
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


class _RefusedError(Exception):
    """The request cannot be taken, and sending it again would not help."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@router.post(
    BATCH_PATH,
    summary="Take in spans",
    responses={
        200: {"description": "On disk.", "content": {JSON: {"schema": _ANSWER}}},
        **{status: said for status, said in responses().items() if status != 422},
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
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        caller = await recognise(request)
        if kind not in (PROTOBUF, JSON):
            text = f"the body must be {PROTOBUF} or {JSON}"
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        body = await request.body()
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        served = served_by(request)
        async with served.turns.turn(caller.tenant, caller.key_id):
            batch = await anyio.to_thread.run_sync(
                _take, served, caller, kind, encoding, body, limiter=served.batch_threads
            )
    except AutotraceError as error:
        status, _ = answer_of(error)
        return problem(kind, status, message_of(error), headers_of(error))
    except _RefusedError as error:
        return problem(kind, error.status, str(error))
    except ClientDisconnect:
        return problem(kind, HTTPStatus.BAD_REQUEST, "the body did not arrive")
    served.metrics.took(len(batch.records), batch.rejected, batch.cut.total())
    return _success(kind, batch)


def _take(served: Served, caller: Principal, kind: str, encoding: str, body: bytes) -> Batch:
    # Batches that were read while this one waited may have cost too much.
    served.rates.check(caller.key_id)
    parts: list[bytes] = []
    try:
        unpacked = _unpacked(body, encoding, served.server.max_batch_bytes, parts)
    finally:
        served.spend(caller, max(0, sum(map(len, parts)) - len(body)))
    try:
        batch = read_protobuf(unpacked) if kind == PROTOBUF else read_json(unpacked)
    except MalformedBatchError as error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
    served.spend(caller, 0, batch.read, sum(map(opens_trace, batch.records)))
    with served.using(caller) as tenant:
        tenant.traces.take_spans(batch, by=caller)
    return batch


def _unpacked(body: bytes, encoding: str, max_bytes: int, parts: list[bytes]) -> bytes:
    """Return a body without its compression, and never more of it than allowed.

    Args:
        body: As it was sent.
        encoding: Its `Content-Encoding`.
        max_bytes: How much it may be.
        parts: Takes what was unpacked, also of a body that is refused.

    Raises:
        _RefusedError: It is not what it says, or too large.
    """
    if encoding in ("identity", ""):
        return body
    if encoding not in _WINDOW_BITS:
        text = "the body must be compressed with gzip or deflate, or not at all"
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    window_bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and not _begins_as_zlib(body):
        window_bits = -window_bits  # without a header, as some clients send it
    start = 0
    try:
        for _ in range(_MAX_MEMBERS):  # gzip may come in several
            room = max_bytes + 1 - sum(map(len, parts))
            start = _unpack_member(body, start, window_bits, room, parts)
            if sum(map(len, parts)) > max_bytes:
                text = f"the body is larger than {max_bytes} bytes when it is unpacked"
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
            if start == len(body):
                return b"".join(parts)
    except EOFError:
        text = f"the body is {encoding} that is cut off"
        raise _RefusedError(HTTPStatus.BAD_REQUEST, text) from None
    except zlib.error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the body is no {encoding}") from None
    text = (
        f"the body is {encoding} of more than {_MAX_MEMBERS} members."
        f" At most {_MAX_MEMBERS} are allowed. Compress it as one."
    )
    raise _RefusedError(HTTPStatus.BAD_REQUEST, text)


def _begins_as_zlib(body: bytes) -> bool:
    """Tell whether a body begins with a header of zlib (RFC 1950, section 2.2)."""
    return body[:1] != b"" and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _unpack_member(body: bytes, start: int, window_bits: int, room: int, parts: list[bytes]) -> int:
    """Unpack one member of a body: at most so many bytes of it. Return where the next one begins.

    It is fed in slices that double, as each call copies what its slice holds beyond the member.

    Raises:
        EOFError: The body ends first.
    """
    unpacking = zlib.decompressobj(window_bits)
    size = _FIRST_SLICE_BYTES
    while not unpacking.eof and room > 0:
        piece = body[start : start + size]
        if not piece:
            raise EOFError
        part = unpacking.decompress(piece, room)
        parts.append(part)
        room -= len(part)
        start += len(piece) - len(unpacking.unused_data) - len(unpacking.unconsumed_tail)
        size *= 2
    return start


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
    """Return an error as OTLP has it: a `google.rpc.Status` in the encoding of the request."""
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


__all__: Sequence[str] = ["PROTOBUF", "problem", "router"]
