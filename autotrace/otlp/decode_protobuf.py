"""Read spans in protobuf's encoding, level by level. Pure.

OpenTelemetry's own classes make an object of every message in a body before anything can count
them: 8 MiB may hold four million spans. The classes made here have the same fields and numbers, but
each nested message is a field of bytes, so a list is counted before its items are read. Texts are
bytes too, so that bytes that are not UTF-8 cost a character, and not the message.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from autotrace.base.grants import grant_in
from autotrace.base.json_text import decode_text
from autotrace.otlp.span import (
    CUT,
    MAX_DEPTH,
    SPAN_BYTES,
    TRACE_BYTES,
    Allowance,
    MalformedBatchError,
    OtlpSpan,
    Reading,
    SpanError,
    bytes_text,
    clamped,
    id_of,
)

_PACKAGE: Final = "autotrace.otlp"
_MESSAGES: Final = {
    "Request": "resource_spans:1:bytes*",
    "ResourceSpans": "resource:1:bytes scope_spans:2:bytes* schema_url:3:bytes",
    "ScopeSpans": "scope:1:bytes spans:2:bytes* schema_url:3:bytes",
    "Scope": "name:1:bytes",
    "Span": (
        "trace_id:1:bytes span_id:2:bytes trace_state:3:bytes parent_span_id:4:bytes"
        " name:5:bytes start_time_unix_nano:7:fixed64 end_time_unix_nano:8:fixed64"
        " attributes:9:bytes* events:11:bytes* status:15:bytes flags:16:fixed32"
    ),
    "Status": "message:2:bytes code:3:int32",
    "Event": "time_unix_nano:1:fixed64 name:2:bytes attributes:3:bytes*",
    "KeyValue": "key:1:bytes value:2:bytes",
    "AnyValue": (
        "string_value:1:bytes? bool_value:2:bool? int_value:3:int64? double_value:4:double?"
        " array_value:5:bytes? kvlist_value:6:bytes? bytes_value:7:bytes?"
    ),
    "Values": "values:1:bytes*",
}
"""The fields of each message as name:number:type, `*` for a list and `?` for one of a choice."""


@cache
def _classes() -> dict[str, Any]:
    """Return the classes of the messages, by name."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="autotrace/otlp.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if "?" in fields:
            message.oneof_decl.add(name="value")
        for field in fields.split():
            field_name, number, kind = field.split(":")
            made = message.field.add(name=field_name, number=int(number))
            made.type = types.Type.Value(f"TYPE_{kind.rstrip('*?').upper()}")
            made.label = types.LABEL_REPEATED if "*" in kind else types.LABEL_OPTIONAL
            if "?" in kind:
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def scopes(body: bytes, allowance: Allowance) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name of each scope of a request, and its spans, not read yet.

    Raises:
        MalformedBatchError: The body is not a request, or has too many parts.
    """
    from google.protobuf.message import DecodeError

    classes = _classes()
    try:
        for resource in _grouped(classes["Request"].FromString(body).resource_spans, allowance):
            scope_spans = classes["ResourceSpans"].FromString(resource).scope_spans
            for scope in _grouped(scope_spans, allowance):
                read = classes["ScopeSpans"].FromString(scope)
                name, _ = decode_text(classes["Scope"].FromString(read.scope).name)
                yield name, read.spans
    except DecodeError:
        msg = "the body is not an ExportTraceServiceRequest in protobuf's encoding"
        raise MalformedBatchError(msg) from None


def _grouped(groups: Any, allowance: Allowance) -> Any:
    allowance.take_groups(len(groups))
    return groups


def has_unknown_fields(body: bytes) -> bool:
    """Return whether a request that `scopes` has read holds unknown fields."""
    classes = _classes()
    request = classes["Request"].FromString(body)
    resources = [classes["ResourceSpans"].FromString(item) for item in request.resource_spans]
    items = [item for resource in resources for item in resource.scope_spans]
    return any(map(_has_unknown, (request, *resources))) or any(
        _has_unknown(classes["ScopeSpans"].FromString(item)) for item in items
    )


def _has_unknown(message: Any) -> bool:
    size_bytes = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() != size_bytes


def protobuf_span(span: bytes, allowance: Allowance) -> OtlpSpan:
    """Read a span; raise SpanError if it cannot be kept."""
    from google.protobuf.message import DecodeError

    try:
        return _span(span, Reading(allowance))
    except DecodeError:
        raise SpanError("that cannot be decoded") from None


def _span(body: bytes, reading: Reading) -> OtlpSpan:
    classes = _classes()
    span = classes["Span"].FromString(body)
    status = classes["Status"].FromString(span.status)
    parent = span.parent_span_id
    return OtlpSpan(
        trace=id_of(span.trace_id, TRACE_BYTES, "trace id"),
        span=id_of(span.span_id, SPAN_BYTES, "span id"),
        parent=id_of(parent, SPAN_BYTES, "parent span id") if any(parent) else "",
        name=reading.name(reading.decoded(span.name)),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        flags=span.flags,
        status=status.code,
        message=reading.text(reading.decoded(status.message)),
        attributes=_attributes(reading.attributes(span.attributes), reading, 0),
        events=[
            {
                "name": reading.name(reading.decoded(event.name)),
                "time_ns": clamped(event.time_unix_nano),
                "attributes": _attributes(reading.attributes(event.attributes), reading, 0),
            }
            for event in map(classes["Event"].FromString, reading.events(span.events))
        ],
        chars=reading.chars,
        grant=grant_in(reading.decoded(span.trace_state)),
        cut=reading.cut,
    )


def _attributes(pairs: Any, reading: Reading, depth: int) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for pair in map(_classes()["KeyValue"].FromString, pairs):
        value = _value(pair.value, reading, depth)
        if value is not None:
            read[reading.text(reading.decoded(pair.key))] = value
    return read


def _value(body: bytes, reading: Reading, depth: int) -> Any:
    value = _classes()["AnyValue"].FromString(body)
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return reading.text(reading.decoded(value.string_value))
        case "bytes_value":
            return reading.text(bytes_text(value.bytes_value))
        case "array_value" | "kvlist_value" if depth >= MAX_DEPTH:
            return CUT
        case "array_value":
            return [_value(item, reading, depth + 1) for item in _items(value.array_value, reading)]
        case "kvlist_value":
            return _attributes(_items(value.kvlist_value, reading), reading, depth + 1)
        case None:
            return None
        case _:
            return getattr(value, kind)


def _items(body: bytes, reading: Reading) -> Any:
    return reading.items(_classes()["Values"].FromString(body).values)
