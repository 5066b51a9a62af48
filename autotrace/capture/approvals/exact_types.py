"""The types whose content can be read whole, and how an approver is shown each of them.

An approval is bound to content, so each function reads all of it without running code of the
value's class. Other types are refused: see `faithful_json.py`.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import fractions
import ipaddress
import math
import pathlib
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from autotrace.encoding.introspect import (
    MISSING,
    attributes,
    class_attribute,
    instance_dict,
    kind_of,
    mro,
    namespace,
    slots,
    type_name,
)

if TYPE_CHECKING:
    from autotrace.capture.approvals.faithful_json import Speller

_HEAP_TYPE: Final = 1 << 9
"""Flag of classes made by a `class` statement; an extension's type may hold more than Python sees.
"""
_IN_C: Final = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_MAX_NAME_CHARS: Final = 199
_TZ_INFO: Final = ("pydantic_core._pydantic_core", "TzInfo")
_FORMATS: Final = tuple("?cbBhHiIlLqQfdnN")
"""Formats of memoryviews with one native item."""
_BOUNDS: Final = (int, bool, str, float, type(None))
_FACTORIES: Final = (bool, int, float, str, bytes, list, tuple, dict, set, frozenset)

# Their methods are those of the interpreter, even for classes that override them.
STR, INT, FLOAT, BYTES, TUPLE, LIST, SET, FROZENSET, DICT = cast(
    "tuple[Any, ...]", (str, int, float, bytes, tuple, list, set, frozenset, dict)
)


CONTENT: Final[dict[type[Any], Callable[[Any], Any]]] = {
    str: STR.__str__,
    int: INT.__int__,
    float: FLOAT.__float__,
    bytes: lambda value: BYTES.__getitem__(value, slice(None)),
    tuple: lambda value: TUPLE(TUPLE.__iter__(value)),
    frozenset: lambda value: FROZENSET(FROZENSET.__iter__(value)),
    list: LIST.copy,
    dict: DICT.copy,
    set: lambda value: SET(SET.__iter__(value)),
}
"""The builtin types that a class may extend, and functions that read their content."""
_EXTENDED: Final = tuple(CONTENT)


class UnshowableError(Exception):
    """A value cannot be shown whole; the message has the reason."""


class NonFiniteError(UnshowableError):
    """A number is NaN or infinite."""


def check_finite(value: Any) -> None:
    """Raise NonFiniteError unless a float or Decimal is finite."""
    finite = value.is_finite() if isinstance(value, decimal.Decimal) else math.isfinite(value)
    if not finite:
        msg = f"the number {value!r} is not finite, and cannot be compared: pass a finite one"
        raise NonFiniteError(msg)


def name_of_class(kind: type[Any]) -> str:
    """Return the module and qualified name of a class.

    Raises:
        UnshowableError: The name does not lead to the class, or is too long.
    """
    name = type_name(kind)
    module = class_attribute(kind, "__module__")
    found: Any = sys.modules.get(module) if type(module) is str else None
    for part in kind.__qualname__.split("."):
        inside: Any = getattr(found, "__dict__", {})
        found = inside.get(part)
    if found is not kind or len(name) > _MAX_NAME_CHARS:
        msg = f"the class {name[:80]} cannot be found by its name: define it in a module"
        raise UnshowableError(msg)
    return name


def is_python_class(kind: type[Any]) -> bool:
    """Return whether a class and its bases, except object, were made by `class` statements."""
    return all(_is_stated(base) for base in mro(kind)[:-1])


def extended_builtin(kind: type[Any]) -> type[Any] | None:
    """Return the builtin type that a Python class extends; None if it extends none, or several."""
    bases = mro(kind)
    if len(bases) < 3 or bases[-2] not in _EXTENDED:
        return None
    return bases[-2] if all(_is_stated(base) for base in bases[:-2]) else None


def is_record(kind: type[Any]) -> bool:
    """Return whether instances of a class are their fields: a dataclass, attrs or pydantic."""
    declares = (
        dataclasses.is_dataclass(kind)
        or class_attribute(kind, "__attrs_attrs__") is not MISSING
        or class_attribute(kind, "__pydantic_fields_set__") is not MISSING
    )
    return declares and is_python_class(kind)


def is_secret(kind: type[Any]) -> bool:
    """Return whether a class declares its content a secret, as pydantic's SecretStr does."""
    return class_attribute(kind, "get_secret_value") is not MISSING and is_python_class(kind)


def slots_of(kind: type[Any]) -> dict[str, Any]:
    """Return the slots of a class and its bases by name.

    Raises:
        UnshowableError: Two slots have one name, so that one cannot be read.
    """
    found: dict[str, Any] = {}
    for name, descriptor in slots(kind):
        if name in found:
            msg = f"the class {type_name(kind)} has two slots named {name!r}"
            raise UnshowableError(msg)
        found[name] = descriptor
    return found


def state_of(value: Any, kind: type[Any]) -> dict[str, Any]:
    """Return every attribute that an instance holds itself.

    Raises:
        UnshowableError: A slot hides another, or an attribute hides a slot.
    """
    held: dict[str, Any] = {}
    for name, descriptor in slots_of(kind).items():
        try:
            held[name] = descriptor.__get__(value)
        except AttributeError:  # a slot that was never set
            continue
    for name, item in (instance_dict(value, kind) or {}).items():
        if kind_of(name) is not str or name in held:
            msg = f"a {type_name(kind)} holds an attribute named {name!r} that hides another"
            raise UnshowableError(msg)
        held[name] = item
    return held


def left_to_class(value: Any, kind: type[Any], held: dict[str, Any]) -> dict[str, Any]:
    """Return the declared fields that an instance does not hold, as its class holds them."""
    if not dataclasses.is_dataclass(kind):
        return {}
    names = [field.name for field in dataclasses.fields(value) if field.name not in held]
    found = {name: class_attribute(kind, name) for name in names}
    return {name: item for name, item in found.items() if item is not MISSING}


def zone_of(zone: Any) -> dict[str, Any] | None:
    """Return the identity of a time zone.

    Raises:
        UnshowableError: Its rules cannot be read.
    """
    kind = kind_of(zone)
    if zone is None:
        return None
    if kind is datetime.timezone:
        return {"offset": _seconds(zone.utcoffset(None)), "name": zone.tzname(None)}
    if kind is zoneinfo.ZoneInfo and zone.key is not None and _is_by_key(zone):
        return {"key": zone.key}
    if (kind.__module__, kind.__name__) == _TZ_INFO:
        return {"offset": _seconds(zone.utcoffset(None)), "pydantic": True}
    msg = (
        f"a time zone of type {type_name(kind)} has rules that cannot be shown: use "
        "datetime.timezone or zoneinfo.ZoneInfo"
    )
    raise UnshowableError(msg)


def moment(value: Any) -> dict[str, Any]:
    """Return the identity of a datetime or a time."""
    shown: dict[str, Any] = {"value": value.isoformat()}
    if value.fold:
        shown["fold"] = value.fold
    if (zone := zone_of(value.tzinfo)) is not None:
        shown["zone"] = zone
    return shown


def _seconds(offset: datetime.timedelta) -> str:
    return str(offset.total_seconds()) if offset.microseconds else str(offset // _SECOND)


_SECOND: Final = datetime.timedelta(seconds=1)


def _is_by_key(zone: zoneinfo.ZoneInfo) -> bool:
    """Return whether a zone was made from its key; one read from a file has rules of its own."""
    import pickle

    try:
        zone.__reduce__()
    except pickle.PicklingError:
        return False
    return True


def _is_stated(kind: type[Any]) -> bool:
    """Return whether a `class` statement made a class; a type of an extension may hold more.

    The namespace of an extension's type has functions written in C, and no slot describes its items
    or fields: `array.array`, `time.struct_time`, most types of the standard library.
    """
    if not kind.__flags__ & _HEAP_TYPE:
        return False
    for item in namespace(kind).values():
        if type(item) in _IN_C and cast("Any", item).__objclass__ is kind:
            return False
        if type(item) is types.BuiltinFunctionType and item.__self__ is kind:
            return False
    return True


# --- how each type is shown


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
        msg = f"{path} is a slice whose bounds are not numbers or texts"
        raise UnshowableError(msg)
    parts = [speller.spell(part, path) for part in bounds]
    return speller.tag(type(value).__name__, parts)


def _moment(speller: Speller, value: Any, path: str) -> Any:
    shown = {"zone": None} | moment(value)
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
    zone = zone_of(value) or {}
    shown = {name: speller.spell(part, path) for name, part in zone.items()}
    return speller.tag(type_name(kind_of(value)), shown)


def _duration(speller: Speller, value: datetime.timedelta, path: str) -> Any:
    parts = [value.days, value.seconds, value.microseconds]
    return speller.tag("datetime.timedelta", str(value) if speller.tagged else parts)


def _decimal(speller: Speller, value: decimal.Decimal, path: str) -> Any:
    speller.check(value)
    return _written(speller, value, path)


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


_WRITTEN: Final[tuple[type[Any], ...]] = (
    *(ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface),
    *(ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface),
    *(pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
)
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
    **dict.fromkeys(_WRITTEN, _written),
}
"""Exactly these types, without their subclasses."""
