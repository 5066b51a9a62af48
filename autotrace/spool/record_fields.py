"""Read the fields of span records, which a sender chose. Pure.

A record comes over OTLP, from another instrumentation or from an older spool: no key is sure to be
there, and no value to be of a type. So attributes are read through the functions of this module
alone; each of them takes any value. `conformed` does the same for the fields of a record itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import orjson

from autotrace.base import json_text
from autotrace.base.json_text import well_formed
from autotrace.spool.span_records import EventRecord, SpanRecord

MAX_TIME_NS: Final = 2**63 - 1
"""The year 2262: the last time that a record holds."""
MAX_JSON_DEPTH: Final = 100
"""JSON that is nested deeper stays text: pydantic serialises 254 levels, Python calls 1,000."""
_UNREADABLE: Final = "[unreadable]"
_FLAGS: Final = {"true": True, "false": False}


def attributes(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes of a record or of an event; none where they are not an object."""
    found = holder.get("attributes")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def value(holder: Mapping[str, Any], key: str) -> Any:
    """Return an attribute of a record or of an event as it was sent; None if it is not there."""
    return attributes(holder).get(key)


def text(holder: Mapping[str, Any], key: str) -> str | None:
    """Return an attribute as text; other values as JSON."""
    return as_text(value(holder, key))


def number(holder: Mapping[str, Any], key: str) -> int | None:
    """Return an attribute if it is a whole number."""
    found = value(holder, key)
    return found if type(found) is int else None


def flag(holder: Mapping[str, Any], key: str) -> bool | None:
    """Return an attribute if it is true or false, or the word for it."""
    found = value(holder, key)
    if isinstance(found, bool):
        return found
    return _FLAGS.get(found.strip().lower()) if isinstance(found, str) else None


def texts(holder: Mapping[str, Any], key: str) -> list[str]:
    """Return an attribute as texts: the items of an array, or the one value."""
    found = value(holder, key)
    items = cast("list[Any]", found) if isinstance(found, list | tuple) else [found]
    return [said for item in items if (said := as_text(item)) is not None]


def json_value(holder: Mapping[str, Any], key: str) -> Any:
    """Return the value of an attribute that holds JSON; text that is not JSON stays text."""
    found = value(holder, key)
    if not isinstance(found, str):
        return found
    try:
        read, _ = json_text.loads(found)
    except ValueError:  # not JSON, or cut by another limit
        return well_formed(found)
    return found if is_too_deep(found, read) else read


def as_text(found: Any) -> str | None:
    """Return any value as text that every store and encoder takes."""
    if found is None:
        return None
    if isinstance(found, str):
        return found if found.isascii() else well_formed(found)
    try:
        return orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS).decode()
    except (
        TypeError,
        ValueError,
    ):  # a number of more than 64 bits, too many levels, a type of another library
        pass
    try:
        return well_formed(str(found))
    except (ValueError, RecursionError):
        return _UNREADABLE


def is_too_deep(source: str, read: Any) -> bool:
    """Return whether parsed JSON (`read`) is nested deeper than its readers can follow."""
    if source.count("[") + source.count("{") <= MAX_JSON_DEPTH:
        return False
    level: list[Any] = [read]
    for _ in range(MAX_JSON_DEPTH):
        level = [item for holder in level for item in _items(holder)]
        if not level:
            return False
    return True


def _items(holder: Any) -> Iterator[Any]:
    """Yield what a value holds that may hold more."""
    held: Any = cast("dict[Any, Any]", holder).values() if isinstance(holder, dict) else holder
    if isinstance(holder, dict | list | tuple):
        for item in held:
            if isinstance(item, dict | list | tuple):
                yield item


def conformed(record: Mapping[str, Any]) -> SpanRecord:
    """Return a record whose fields have the types of `SpanRecord`; mostly the record itself.

    A field of another type is read as far as it goes, or left out.

    Raises:
        ValueError: It has no ids or no start, or a sender that is not one: it is not a record.
    """
    ids = record.get("trace"), record.get("id")
    if not all(isinstance(found, str) and found for found in ids) or "start_ns" not in record:
        msg = f"this is not a record of a span: it has the ids {ids!r}"
        raise ValueError(msg)
    if ("sender" in record or "owner" in record) and not _has_senders(record):
        msg = "this is not a record of a span: it does not say which key it came with"
        raise ValueError(msg)
    wrong = [key for key, found in record.items() if not _has_its_type(key, found)]
    if not wrong:
        return cast("SpanRecord", record)
    made = {key: found for key, found in record.items() if key not in wrong}
    for key in wrong:
        mended = _mended(key, record[key])
        if mended is not None:
            made[key] = mended
    made.setdefault("start_ns", 0)
    return cast("SpanRecord", made)


def _has_senders(record: Mapping[str, Any]) -> bool:
    sender = record.get("sender", {"agent": "", "key": ""})
    named = isinstance(sender, dict) and isinstance(
        cast("dict[str, Any]", sender).get("agent"), str
    )
    return named and isinstance(record.get("owner", ""), str)


_TIMES: Final = frozenset({"start_ns", "end_ns"})
_TEXTS: Final = frozenset({"parent", "name", "message", "scope", "owner", "sent_id"})


def _has_its_type(key: str, found: Any) -> bool:
    if key in _TIMES:
        return type(found) is int and 0 <= found <= MAX_TIME_NS
    if key in _TEXTS:
        return isinstance(found, str) or (found is None and key == "parent")
    if key == "attributes":
        return isinstance(found, dict)
    if key == "sender":
        return isinstance(found, dict) and isinstance(cast("Any", found).get("agent"), str)
    if key == "status":
        return type(found) is int and 0 <= found <= 2
    return key != "events" or (
        isinstance(found, list) and all(map(_is_event, cast("list[Any]", found)))
    )


def _is_event(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    event = cast("dict[str, Any]", found)
    return (
        isinstance(event.get("name"), str)
        and type(event.get("time_ns")) is int
        and isinstance(event.get("attributes"), dict)
    )


def _mended(key: str, found: Any) -> Any:
    if key in _TIMES:
        return time_of(found)
    if key in _TEXTS:
        return as_text(found)
    if key != "events" or not isinstance(found, list):
        return None
    return [
        _event(cast("dict[str, Any]", event))
        for event in cast("list[Any]", found)
        if isinstance(event, dict)
    ]


def _event(event: Mapping[str, Any]) -> EventRecord:
    return {
        "name": as_text(event.get("name")) or "",
        "time_ns": time_of(event.get("time_ns")),
        "attributes": dict(attributes(event)),
    }


def time_of(found: Any) -> int:
    """Return the nearest time that a record can hold; 0 for anything but a number."""
    try:
        return min(max(int(found), 0), MAX_TIME_NS)
    except (TypeError, ValueError, OverflowError):
        return 0
