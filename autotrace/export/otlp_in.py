"""OTLP in: from an `ExportTraceServiceRequest`, as protobuf or JSON, to span records. Pure.

The same spans give the same records as in the process that made them (records.py), so that a trace
is the same whichever way it came. What one span has wrong costs that span alone: the batch's answer
counts it and says why.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from autotrace import semconv
from autotrace.export.records import (
    EventRecord,
    SpanRecord,
    as_root,
    is_agent_span,
)

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_TEXT_CHARS: Final = 1024 * 1024
"""A longer text in an attribute is cut."""
MAX_SPAN_CHARS: Final = 8 * 1024 * 1024
"""A span with more text is rejected."""
MAX_DEPTH: Final = 32
"""A value that is nested deeper is cut off there."""
MAX_NAME_CHARS: Final = 1024
_MAX_TIME_NS: Final = 2**63 - 1
_TRACE_BYTES: Final = 16
_SPAN_BYTES: Final = 8
_HAS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_CUT: Final = "...[cut]"
_STATUS_CODES: Final = frozenset({0, 1, 2})


class MalformedBatchError(ValueError):
    """The body is no `ExportTraceServiceRequest` at all."""


class _SpanError(ValueError):
    """What is wrong with one span, in words that can be counted."""


@dataclass
class Batch:
    """What a request held."""

    records: list[SpanRecord] = field(default_factory=list[SpanRecord])
    rejections: Counter[str] = field(default_factory=Counter[str])
    """How many spans were rejected, by reason."""
    cut: int = 0
    """How many texts were cut, in spans that were not rejected."""

    @property
    def rejected(self) -> int:
        """How many spans were rejected."""
        return sum(self.rejections.values())

    def reject(self, reason: str, is_meant: Callable[[SpanRecord], bool]) -> None:
        """Leave out records, and count why."""
        kept = [record for record in self.records if not is_meant(record)]
        self.rejections[reason] += len(self.records) - len(kept)
        self.records = kept

    def message(self) -> str:
        """Say what is wrong with the batch, in a sentence; nothing if nothing is."""
        said: list[str] = []
        if self.rejected:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.rejections.most_common())
            said.append(f"rejected: {reasons}")
        if self.cut:
            said.append(f"texts cut at {MAX_TEXT_CHARS} characters: {self.cut}")
        return "; ".join(said)


@dataclass
class _Span:
    """A span as either encoding has it."""

    trace: str
    span: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    flags: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: list[EventRecord]
    chars: int
    cut: int


class _Reading:
    """Counts what the texts of one span come to."""

    def __init__(self) -> None:
        self.chars = 0
        self.cut = 0

    def text(self, text: str) -> str:
        if len(text) > MAX_TEXT_CHARS:
            self.cut += 1
            text = text[:MAX_TEXT_CHARS] + _CUT
        self.chars += len(text)
        return text


def read_protobuf(body: bytes) -> Batch:
    """Read a request in protobuf's encoding.

    Raises:
        MalformedBatchError: It is none.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError:
        msg = "the body is no ExportTraceServiceRequest in protobuf's encoding"
        raise MalformedBatchError(msg) from None
    batch = Batch()
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                _take(batch, scope.scope.name, _protobuf_span, span)
    return batch


def read_json(body: bytes) -> Batch:
    """Read a request in OTLP's JSON encoding.

    Raises:
        MalformedBatchError: It is none.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        msg = f"the body is no JSON: {error}"
        raise MalformedBatchError(msg) from None
    batch = Batch()
    for resource in _objects(_object(request, "the body"), "resourceSpans"):
        for scope in _objects(resource, "scopeSpans"):
            name = _object(scope.get("scope") or {}, "scope").get("name")
            for span in _objects(scope, "spans"):
                _take(batch, name if isinstance(name, str) else "", _json_span, span)
    return batch


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{what} is no object"
        raise MalformedBatchError(msg)
    return cast("dict[str, Any]", value)


def _objects(holder: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    values = holder.get(name)
    if values is None:
        return
    if not isinstance(values, list):
        msg = f"{name} is no array"
        raise MalformedBatchError(msg)
    for value in cast("list[Any]", values):
        yield _object(value, f"an item of {name}")


def _take(batch: Batch, scope: str, read: Any, span: Any) -> None:
    try:
        taken: _Span = read(span)
        batch.records.append(_record(taken, scope))
        batch.cut += taken.cut
    except _SpanError as error:
        batch.rejections[str(error)] += 1


def _record(span: _Span, scope: str) -> SpanRecord:
    """Make the record: the same as `ended_record` and `skeleton_record` make of the SDK's span."""
    _check(span)
    parent = span.parent or None
    remote = bool(parent) and bool(span.flags & _HAS_REMOTE) and bool(span.flags & _IS_REMOTE)
    record: SpanRecord = {
        "trace": span.trace,
        "id": span.span,
        "parent": parent,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
    }
    ours = scope == semconv.SCOPE
    if not ours and not is_agent_span(span.attributes, scope):
        record["skeleton"] = True
        if parent is None or remote:
            as_root(record, span.name, span.status, remote=remote)
        return record
    record["name"] = span.name
    record["attributes"] = span.attributes
    if not ours:
        record["scope"] = scope
        if remote:
            record["remote"] = True
    if span.status:
        record["status"] = span.status
        if span.message:
            record["message"] = span.message
    if (span.status or not ours) and span.events:
        record["events"] = span.events
    return record


def _check(span: _Span) -> None:
    if span.start_ns <= 0:
        raise _SpanError("without a start time")
    if span.end_ns <= 0:
        raise _SpanError("without an end time")
    if max(span.start_ns, span.end_ns) > _MAX_TIME_NS:
        raise _SpanError("with a time beyond the year 2262")
    if span.status not in _STATUS_CODES:
        raise _SpanError("with a status code that does not exist")
    if span.chars > MAX_SPAN_CHARS:
        raise _SpanError(f"with more than {MAX_SPAN_CHARS} characters")


def _clamped(time_ns: int) -> int:
    return min(max(time_ns, 0), _MAX_TIME_NS)


def _id(value: bytes, size: int, what: str) -> str:
    if len(value) != size:
        raise _SpanError(f"with a {what} that is not of {size} bytes")
    if not any(value):
        raise _SpanError(f"with a {what} of zeros")
    return value.hex()


# --- protobuf


def _protobuf_span(span: Span) -> _Span:
    reading = _Reading()
    parent = span.parent_span_id
    return _Span(
        trace=_id(span.trace_id, _TRACE_BYTES, "trace id"),
        span=_id(span.span_id, _SPAN_BYTES, "span id"),
        parent=_id(parent, _SPAN_BYTES, "parent span id") if any(parent) else "",
        name=span.name[:MAX_NAME_CHARS],
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        flags=span.flags,
        status=span.status.code,
        message=reading.text(span.status.message),
        attributes=_protobuf_attributes(span.attributes, reading, 0),
        events=[
            {
                "name": event.name[:MAX_NAME_CHARS],
                "time_ns": _clamped(event.time_unix_nano),
                "attributes": _protobuf_attributes(event.attributes, reading, 0),
            }
            for event in span.events
        ],
        chars=reading.chars,
        cut=reading.cut,
    )


def _protobuf_attributes(
    pairs: Iterable[KeyValue], reading: _Reading, depth: int
) -> dict[str, Any]:
    return {
        reading.text(pair.key): value
        for pair in pairs
        if (value := _protobuf_value(pair.value, reading, depth)) is not None
    }


def _protobuf_value(value: AnyValue, reading: _Reading, depth: int) -> Any:
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return reading.text(value.string_value)
        case "bytes_value":
            return reading.text(_bytes_text(value.bytes_value))
        case "array_value" | "kvlist_value" if depth >= MAX_DEPTH:
            return _CUT
        case "array_value":
            return [_protobuf_value(v, reading, depth + 1) for v in value.array_value.values]
        case "kvlist_value":
            return _protobuf_attributes(value.kvlist_value.values, reading, depth + 1)
        case None:
            return None
        case _:
            return getattr(value, kind)


def _bytes_text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")  # as the spool writes bytes of this process


# --- JSON


def _json_span(span: Mapping[str, Any]) -> _Span:
    reading = _Reading()
    status = _json_object(span.get("status") or {})
    return _Span(
        trace=_json_id(span.get("traceId"), _TRACE_BYTES, "trace id"),
        span=_json_id(span.get("spanId"), _SPAN_BYTES, "span id"),
        parent=_json_parent(span.get("parentSpanId")),
        name=_json_text(span.get("name"))[:MAX_NAME_CHARS],
        start_ns=_json_int(span.get("startTimeUnixNano"), "start time"),
        end_ns=_json_int(span.get("endTimeUnixNano"), "end time"),
        flags=_json_int(span.get("flags"), "flags"),
        status=_json_int(status.get("code"), "status code"),
        message=reading.text(_json_text(status.get("message"))),
        attributes=_json_attributes(span.get("attributes"), reading, 0),
        events=[
            {
                "name": _json_text(event.get("name"))[:MAX_NAME_CHARS],
                "time_ns": _clamped(_json_int(event.get("timeUnixNano"), "event time")),
                "attributes": _json_attributes(event.get("attributes"), reading, 0),
            }
            for event in map(_json_object, _json_list(span.get("events")))
        ],
        chars=reading.chars,
        cut=reading.cut,
    )


def _json_id(value: Any, size: int, what: str) -> str:
    try:
        return _id(bytes.fromhex(value) if isinstance(value, str) else b"", size, what)
    except ValueError as error:
        if isinstance(error, _SpanError):
            raise
        raise _SpanError(f"with a {what} that is not hexadecimal") from None


def _json_parent(value: Any) -> str:
    if not value or (isinstance(value, str) and not value.strip("0")):
        return ""
    return _json_id(value, _SPAN_BYTES, "parent span id")


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _json_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _SpanError("with a field that should be an object")
    return cast("dict[str, Any]", value)


def _json_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _json_int(value: Any, what: str) -> int:
    """Read an integer, which JSON has as a number, or as a string if it may be large."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _SpanError(f"with a {what} that is no whole number")
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise _SpanError(f"with a {what} that is no whole number")
    if isinstance(value, str) and len(value) > len(str(2**64)):
        raise _SpanError(f"with a {what} of more than 64 bits")
    number = int(value)
    if not -(2**63) <= number < 2**64:
        raise _SpanError(f"with a {what} of more than 64 bits")
    return number


def _json_attributes(pairs: Any, reading: _Reading, depth: int) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for pair in _json_list(pairs):
        held = _json_object(pair)
        value = _json_value(held.get("value"), reading, depth)
        if value is not None:
            read[reading.text(_json_text(held.get("key")))] = value
    return read


def _json_value(value: Any, reading: _Reading, depth: int) -> Any:
    if not isinstance(value, dict) or not value:
        return None
    held = cast("dict[str, Any]", value)
    match held:
        case {"stringValue": str(text)}:
            return reading.text(text)
        case {"boolValue": bool(flag)}:
            return flag
        case {"intValue": number}:
            return _json_int(number, "value")
        case {"doubleValue": number}:
            return _json_float(number)
        case {"bytesValue": str(text)}:
            return reading.text(_json_bytes(text))
        case {"arrayValue": _} | {"kvlistValue": _} if depth >= MAX_DEPTH:
            return _CUT
        case {"arrayValue": array}:
            values = _json_list(_json_object(array).get("values"))
            return [_json_value(item, reading, depth + 1) for item in values]
        case {"kvlistValue": pairs}:
            return _json_attributes(_json_object(pairs).get("values"), reading, depth + 1)
        case _:
            raise _SpanError("with a value of no known type")


def _json_float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1023 else math.inf
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    raise _SpanError("with a value of no known type")


def _json_bytes(text: str) -> str:
    try:
        return _bytes_text(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise _SpanError("with bytes that are not base64") from None
