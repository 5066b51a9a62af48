"""OTLP in: from an `ExportTraceServiceRequest`, as protobuf or JSON, to span records. Pure.

The same spans give the same records as in the process that made them (records.py), so that a trace
is the same whichever way it came. What one span has wrong costs that span alone: the batch's answer
counts it and says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from autotrace import semconv
from autotrace.export.otlp_json import json_span
from autotrace.export.otlp_span import (
    CUT,
    MAX_DEPTH,
    MAX_NAME_CHARS,
    MAX_SPAN_CHARS,
    MAX_TEXT_CHARS,
    MAX_TIME_NS,
    SPAN_BYTES,
    TRACE_BYTES,
    OtlpSpan,
    Reading,
    SpanError,
    bytes_text,
    clamped,
    id_of,
)
from autotrace.export.records import SpanRecord, as_root, is_agent_span

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_HAS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
"""Flags of a span: whether it says where its parent is, and that it is in another process."""
_STATUS_CODES: Final = frozenset({0, 1, 2})


class MalformedBatchError(ValueError):
    """The body is no `ExportTraceServiceRequest` at all."""


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
        if len(kept) < len(self.records):
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
                _take(batch, name if isinstance(name, str) else "", json_span, span)
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
        taken: OtlpSpan = read(span)
        batch.records.append(_record(taken, scope))
        batch.cut += taken.cut
    except SpanError as error:
        batch.rejections[str(error)] += 1


def _record(span: OtlpSpan, scope: str) -> SpanRecord:
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


def _check(span: OtlpSpan) -> None:
    if span.start_ns <= 0:
        raise SpanError("without a start time")
    if span.end_ns <= 0:
        raise SpanError("without an end time")
    if max(span.start_ns, span.end_ns) > MAX_TIME_NS:
        raise SpanError("with a time beyond the year 2262")
    if span.status not in _STATUS_CODES:
        raise SpanError("with a status code that does not exist")
    if span.chars > MAX_SPAN_CHARS:
        raise SpanError(f"with more than {MAX_SPAN_CHARS} characters")


def _protobuf_span(span: Span) -> OtlpSpan:
    reading = Reading()
    parent = span.parent_span_id
    return OtlpSpan(
        trace=id_of(span.trace_id, TRACE_BYTES, "trace id"),
        span=id_of(span.span_id, SPAN_BYTES, "span id"),
        parent=id_of(parent, SPAN_BYTES, "parent span id") if any(parent) else "",
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
                "time_ns": clamped(event.time_unix_nano),
                "attributes": _protobuf_attributes(event.attributes, reading, 0),
            }
            for event in span.events
        ],
        chars=reading.chars,
        cut=reading.cut,
    )


def _protobuf_attributes(pairs: Iterable[KeyValue], reading: Reading, depth: int) -> dict[str, Any]:
    return {
        reading.text(pair.key): value
        for pair in pairs
        if (value := _protobuf_value(pair.value, reading, depth)) is not None
    }


def _protobuf_value(value: AnyValue, reading: Reading, depth: int) -> Any:
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return reading.text(value.string_value)
        case "bytes_value":
            return reading.text(bytes_text(value.bytes_value))
        case "array_value" | "kvlist_value" if depth >= MAX_DEPTH:
            return CUT
        case "array_value":
            return [_protobuf_value(v, reading, depth + 1) for v in value.array_value.values]
        case "kvlist_value":
            return _protobuf_attributes(value.kvlist_value.values, reading, depth + 1)
        case None:
            return None
        case _:
            return getattr(value, kind)
