"""Read spans in OTLP's JSON encoding. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, cast

from autotrace.base.grants import grant_in
from autotrace.otlp.span import (
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

_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")
_STATUSES: Final = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
_STANDARD: Final = str.maketrans("-_", "+/")


def json_span(item: Any, allowance: Allowance) -> OtlpSpan:
    """Read a span; raise SpanError if it cannot be kept."""
    span = _object(item)
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
        status=_status(status.get("code")),
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
        raise SpanError(f"with a {what} that is not hexadecimal (base64 is not taken)") from None


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
    if not isinstance(value, list | None):
        raise SpanError("with a field that should be an array")
    return cast("list[Any]", value) or []


def _int(value: Any, what: str) -> int:
    """Read an integer: a number or a string, also with an exponent."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise SpanError(f"with a {what} that is no whole number")
    number = value if isinstance(value, int) else _whole(str(value), what)
    if not -(2**63) <= number < 2**64:
        raise SpanError(f"with a {what} of more than 64 bits")
    return number


def _whole(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise SpanError(f"with a {what} that is no whole number")
    number = Decimal(text)
    if number.adjusted() >= len(str(2**64)):  # before an exponent makes an integer of any size
        raise SpanError(f"with a {what} of more than 64 bits")
    if number != int(number):
        raise SpanError(f"with a {what} that is no whole number")
    return int(number)


def _status(value: Any) -> int:
    # The specification has numbers alone; JSON that protobuf's own libraries write has names.
    if isinstance(value, str) and value in _STATUSES:
        return _STATUSES.index(value)
    return _int(value, "status code")


def _attributes(pairs: Sequence[Any], reading: Reading, depth: int) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for pair in pairs:
        held = _object(pair)
        value = _value(held.get("value"), reading, depth)
        if value is not None:
            read[reading.text(_text(held.get("key")))] = value
    return read


def _value(value: Any, reading: Reading, depth: int) -> Any:
    if value is None or value == {}:
        return None
    held = _object(value)
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
    if isinstance(value, str) and (value in _NOT_FINITE or _NUMBER.fullmatch(value)):
        return float(value)
    raise SpanError("with a value of no known type")


def _bytes(text: str) -> str:
    try:
        # With or without padding, in either alphabet, as JSON of protobuf has it.
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return bytes_text(base64.b64decode(padded.translate(_STANDARD), validate=True))
    except ValueError:
        raise SpanError("with bytes that are not base64") from None
