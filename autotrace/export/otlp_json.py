"""Spans in OTLP's JSON encoding. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, cast

from autotrace.export.otlp_span import (
    CUT,
    MAX_DEPTH,
    SPAN_BYTES,
    TRACE_BYTES,
    Allowance,
    OtlpSpan,
    Reading,
    SpanError,
    bytes_text,
    clamped,
    id_of,
)
from autotrace.grants import grant_in


def json_span(span: Mapping[str, Any], allowance: Allowance) -> OtlpSpan:
    """Read a span.

    Raises:
        SpanError: It cannot be kept.
    """
    reading = Reading(allowance)
    status = _object(span.get("status") or {})
    return OtlpSpan(
        trace=_id(span.get("traceId"), TRACE_BYTES, "trace id"),
        span=_id(span.get("spanId"), SPAN_BYTES, "span id"),
        parent=_parent(span.get("parentSpanId")),
        name=reading.name(_text(span.get("name"))),
        start_ns=_int(span.get("startTimeUnixNano"), "start time"),
        end_ns=_int(span.get("endTimeUnixNano"), "end time"),
        flags=_int(span.get("flags"), "flags"),
        status=_int(status.get("code"), "status code"),
        message=reading.text(_text(status.get("message"))),
        attributes=_attributes(reading.attributes(_list(span.get("attributes"))), reading, 0),
        events=[
            {
                "name": reading.name(_text(event.get("name"))),
                "time_ns": clamped(_int(event.get("timeUnixNano"), "event time")),
                "attributes": _attributes(
                    reading.attributes(_list(event.get("attributes"))), reading, 0
                ),
            }
            for event in map(_object, reading.events(_list(span.get("events"))))
        ],
        chars=reading.chars,
        grant=grant_in(_text(span.get("traceState"))),
        cut=reading.cut,
    )


def _id(value: Any, size: int, what: str) -> str:
    try:
        return id_of(bytes.fromhex(value) if isinstance(value, str) else b"", size, what)
    except ValueError as error:
        if isinstance(error, SpanError):
            raise
        raise SpanError(f"with a {what} that is not hexadecimal") from None


def _parent(value: Any) -> str:
    if not value or (isinstance(value, str) and not value.strip("0")):
        return ""
    return _id(value, SPAN_BYTES, "parent span id")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpanError("with a field that should be an object")
    return cast("dict[str, Any]", value)


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _int(value: Any, what: str) -> int:
    """Read an integer, which JSON has as a number, or as a string if it may be large."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise SpanError(f"with a {what} that is no whole number")
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise SpanError(f"with a {what} that is no whole number")
    if isinstance(value, str) and len(value) > len(str(2**64)):
        raise SpanError(f"with a {what} of more than 64 bits")
    number = int(value)
    if not -(2**63) <= number < 2**64:
        raise SpanError(f"with a {what} of more than 64 bits")
    return number


def _attributes(pairs: Sequence[Any], reading: Reading, depth: int) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for pair in pairs:
        held = _object(pair)
        value = _value(held.get("value"), reading, depth)
        if value is not None:
            read[reading.text(_text(held.get("key")))] = value
    return read


def _value(value: Any, reading: Reading, depth: int) -> Any:
    if not isinstance(value, dict) or not value:
        return None
    held = cast("dict[str, Any]", value)
    match held:
        case {"stringValue": str(text)}:
            return reading.text(text)
        case {"boolValue": bool(flag)}:
            return flag
        case {"intValue": number}:
            return _int(number, "value")
        case {"doubleValue": number}:
            return _float(number)
        case {"bytesValue": str(text)}:
            return reading.text(_bytes(text))
        case {"arrayValue": _} | {"kvlistValue": _} if depth >= MAX_DEPTH:
            return CUT
        case {"arrayValue": array}:
            return [_value(item, reading, depth + 1) for item in _items(array, reading)]
        case {"kvlistValue": pairs}:
            return _attributes(_items(pairs, reading), reading, depth + 1)
        case _:
            raise SpanError("with a value of no known type")


def _items(holder: Any, reading: Reading) -> Sequence[Any]:
    return reading.items(_list(_object(holder).get("values")))


def _float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    raise SpanError("with a value of no known type")


def _bytes(text: str) -> str:
    try:
        return bytes_text(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise SpanError("with bytes that are not base64") from None
