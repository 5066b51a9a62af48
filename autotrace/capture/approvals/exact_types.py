"""How a value of each exactly known type is shown to an approver: see `faithful_json.py`."""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import fractions
import ipaddress
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from autotrace.encoding import known_types as known
from autotrace.encoding.introspect import attributes, kind_of, type_name
from autotrace.encoding.known_types import UnshowableError

if TYPE_CHECKING:
    from autotrace.capture.approvals.faithful_json import Speller

_FORMATS: Final = tuple("?cbBhHiIlLqQfdnN")
"""Of memoryviews: those of one native item."""
_BOUNDS: Final = (int, bool, str, float, type(None))
_FACTORIES: Final = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset)


def _complex(speller: Speller, value: complex, path: str) -> Any:
    speller.check(value.real)
    speller.check(value.imag)
    if not speller.tagged:
        return repr(value)
    return speller.tag("complex", repr(value.real), imaginary=repr(value.imag))


def _bytes(speller: Speller, value: Any, path: str) -> Any:
    content = bytes(value)
    if not speller.tagged:
        return base64.b64encode(content).decode()
    # As Python writes it, so that a command in it can be read.
    return speller.tag(type(value).__name__, speller.text(repr(content), path))


def _memoryview(speller: Speller, value: memoryview, path: str) -> Any:
    if not value.c_contiguous or value.format not in _FORMATS:
        msg = f"{path} is a memoryview with the format {value.format!r}: pass bytes"
        raise UnshowableError(msg)
    content = value.tobytes()
    if not speller.tagged:
        return base64.b64encode(content).decode()
    shown = speller.text(repr(content), path)
    shape, readonly = list(value.shape or ()), value.readonly
    return speller.tag("memoryview", shown, format=value.format, shape=shape, readonly=readonly)


def _bounds(speller: Speller, value: Any, path: str) -> Any:
    bounds = (value.start, value.stop, value.step)
    if not all(kind_of(part) in _BOUNDS for part in bounds):
        msg = f"{path} is a slice of other bounds than numbers and texts"
        raise UnshowableError(msg)
    parts = [speller.spell(part, path) for part in bounds]
    return speller.tag(type(value).__name__, parts)


def _moment(speller: Speller, value: Any, path: str) -> Any:
    shown = {"zone": None} | known.moment(value)
    zone = shown.pop("zone")
    if zone is not None:
        shown["zone"] = {name: speller.spell(part, path) for name, part in zone.items()}
    if not speller.tagged:
        return (
            [shown["value"], value.fold, zone["key"]]
            if zone and "key" in zone
            else ([shown["value"], value.fold, None] if value.fold else shown["value"])
        )
    return speller.tag(type_name(kind_of(value)), shown.pop("value"), **shown)


def _zone(speller: Speller, value: Any, path: str) -> Any:
    if not speller.tagged:
        return str(value)
    zone = known.zone_of(value) or {}
    shown = {name: speller.spell(part, path) for name, part in zone.items()}
    return speller.tag(type_name(kind_of(value)), shown)


def _duration(speller: Speller, value: datetime.timedelta, path: str) -> Any:
    parts = [value.days, value.seconds, value.microseconds]
    return speller.tag("datetime.timedelta", str(value) if speller.tagged else parts)


def _decimal(speller: Speller, value: decimal.Decimal, path: str) -> Any:
    speller.check(value)
    return speller.tag("decimal.Decimal", speller.text(str(value), path))


def _written(speller: Speller, value: Any, path: str) -> Any:
    return speller.tag(type_name(kind_of(value)), speller.text(str(value), path))


def _fraction(speller: Speller, value: fractions.Fraction, path: str) -> Any:
    parts = [speller.spell(part, path) for part in (value.numerator, value.denominator)]
    return speller.tag("fractions.Fraction", parts if speller.tagged else str(value))


def _uuid(speller: Speller, value: uuid.UUID, path: str) -> Any:
    safe = value.is_safe
    more = {} if safe is uuid.SafeUUID.unknown else {"is_safe": safe.name}
    return speller.tag("uuid.UUID", str(value), **more)


def _deque(speller: Speller, value: Any, path: str) -> Any:
    return speller.tag("collections.deque", speller.items(list(value), path), maxlen=value.maxlen)


def _ordered(speller: Speller, value: Any, path: str) -> Any:
    pairs = speller.pairs(list(value.items()), path, ordered=True)
    held = attributes(value, kind_of(value))
    more = {"attributes": speller.mapping(held, path)} if held else {}
    return speller.tag("collections.OrderedDict", pairs, **more)


def _defaulting(speller: Speller, value: Any, path: str) -> Any:
    factory = value.default_factory
    if factory is not None and factory not in _FACTORIES:
        msg = f"{path} is a defaultdict whose default_factory cannot be shown: pass a dict"
        raise UnshowableError(msg)
    name = None if factory is None else factory.__name__
    return speller.tag("collections.defaultdict", speller.mapping(value, path), factory=name)


def _proxy(speller: Speller, value: Any, path: str) -> Any:
    return speller.tag("types.MappingProxyType", speller.spell(value.copy(), path))


EXACT: Final[dict[type[Any], Callable[[Speller, Any, str], Any]]] = {
    complex: _complex,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _memoryview,
    range: _bounds,
    slice: _bounds,
    type(Ellipsis): lambda speller, value, path: speller.tag("ellipsis", None),
    tuple: lambda speller, value, path: speller.tag("tuple", speller.items(value, path)),
    set: lambda speller, value, path: speller.tag("set", speller.unordered(list(value), path)),
    frozenset: lambda speller, value, path: speller.tag(
        "frozenset", speller.unordered(value, path)
    ),
    collections.deque: _deque,
    collections.OrderedDict: _ordered,
    collections.defaultdict: _defaulting,
    types.MappingProxyType: _proxy,
    datetime.datetime: _moment,
    datetime.time: _moment,
    datetime.date: lambda speller, value, path: speller.tag("datetime.date", value.isoformat()),
    datetime.timedelta: _duration,
    datetime.timezone: _zone,
    zoneinfo.ZoneInfo: _zone,
    decimal.Decimal: _decimal,
    fractions.Fraction: _fraction,
    uuid.UUID: _uuid,
    ipaddress.IPv4Address: _written,
    ipaddress.IPv6Address: _written,
    ipaddress.IPv4Network: _written,
    ipaddress.IPv6Network: _written,
    ipaddress.IPv4Interface: _written,
    ipaddress.IPv6Interface: _written,
}
"""Exactly these types, and not those derived from them."""
