"""Openers of objects of rarer types, which avoid running the code of the object.

`unfold` opens one object, one level deep, by the nearest of its classes that is in a table here or
is a dataclass, attrs class, pydantic model or enum. No third-party package is imported. Of an
object of another class only the type is shown, unless it has no `__repr__` of its own or a cheap
one: see `safe_repr.py`.
"""

from __future__ import annotations

import array
import functools
import gc
import re
import types
import uuid
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, cast

from autotrace.encoding import library_types
from autotrace.encoding.exception_text import read_message
from autotrace.encoding.injected_types import ROOTS
from autotrace.encoding.introspect import (
    MISSING,
    attribute,
    attributes,
    class_attribute,
    class_name,
    instance_dict,
    kind_of,
    mro,
    namespace,
    own_text,
    root_of,
    type_name,
)
from autotrace.encoding.opened_shapes import (
    Again,
    Binary,
    Hidden,
    Members,
    Opaque,
    Prose,
    ReadLimits,
    TypeOpener,
    ValueShape,
    only_of,
    open_array,
    open_by_name,
    open_data,
    open_deque,
    open_dict,
    open_mapping,
    open_sequence,
    open_set,
    open_view,
)
from autotrace.encoding.record_types import (
    open_attrs,
    open_dataclass,
    open_pydantic,
    open_pydantic_1,
)
from autotrace.encoding.safe_repr import is_cheap

_MOMENTS: Final[tuple[Any, ...]] = (datetime, date, time)
_PARTS: Final = "year month day hour minute second microsecond"
_ZONES: Final = frozenset(("datetime", "zoneinfo", "pytz", "dateutil", "pydantic_core", "pandas"))
"""Libraries whose time zones compute an offset, and do nothing else."""
_BUILTIN: Final = frozenset(("builtins", "re", "fractions", "zoneinfo", "ipaddress"))
_NO_ITEMS: Final[dict[str, str]] = {}
_PLAIN_REPR: Final = object.__dict__["__repr__"]


def unfold(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Return the shape of an object; raises any error of the object's own code."""
    for klass in mro(kind):
        opener = _BY_ID.get(id(klass)) or _named(klass)
        if opener is not None:
            return opener(value, kind, take)
        inside = namespace(klass)
        for mark, opener in _MARKS:
            if mark in inside:
                return opener(value, kind, take)
    if class_attribute(kind, "__next__") is not MISSING:
        return open_by_name(value, kind, take)  # reading an iterator would use it up
    return _foreign(value, kind, take)


def _named(klass: type[Any]) -> TypeOpener | None:
    """Return what opens a class of a library that is not imported here."""
    by_root = _BY_NAME.get(class_name(klass))
    return None if by_root is None else by_root.get(root_of(klass))


# --- numbers, texts, times


def _as(read: Callable[[Any], Any]) -> TypeOpener:
    """Return an opener that shows another value in place of the object."""
    return lambda value, kind, take: Again(read(value))


def _isoformat(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    of_builtin: Any = next(base for base in _MOMENTS if any(base is klass for klass in mro(kind)))
    # The isoformat of pandas writes nanoseconds, and NaT.
    isoformat = cast("Any", kind if root_of(kind) == "pandas" else of_builtin).isoformat
    zone = None if of_builtin is date else of_builtin.tzinfo.__get__(value)
    if zone is None or root_of(kind_of(zone)) in _ZONES:
        return Again(own_text(value, isoformat))
    parts = "hour minute second microsecond" if of_builtin is time else _PARTS
    naive: Any = of_builtin(*(getattr(of_builtin, part).__get__(value) for part in parts.split()))
    return Again(f"{naive.isoformat()}[{type_name(kind_of(zone))}]")


def duration(value: timedelta) -> str:
    """Return the ISO 8601 form of a duration, such as `P1DT2H0.5S`."""
    sign = "-" if value.days < 0 else ""
    value = abs(value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    clock = "".join(
        f"{number}{unit}"
        for number, unit in ((hours, "H"), (minutes, "M"), (f"{seconds}{fraction}", "S"))
        if number not in {0, "0"}
    )
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}{'T' if clock else ''}{clock}" if days or clock else "PT0S"


# --- bytes


def _bytes(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    base: Any = bytes if issubclass(kind, bytes) else bytearray
    head = bytes(base.__getitem__(value, slice(take.size_bytes)))
    return Binary(head, base.__len__(value), value)


def _memoryview(value: memoryview, kind: type[Any], take: ReadLimits) -> ValueShape:
    if value.c_contiguous:
        view = value.cast("B")
        return Binary(bytes(view[: take.size_bytes]), view.nbytes, view)
    if value.nbytes > take.size_bytes:
        return Prose(f"<memoryview of {value.nbytes} bytes>")  # its bytes would have to be copied
    copy = value.tobytes()
    return Binary(copy, len(copy), copy)


# --- objects with fields


def _in_dict(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    return open_dict(instance_dict(value, kind) or {}, dict, take)


def _enum(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    return Again(attribute(value, kind, "_value_"))


def _exception(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    message = read_message(value)
    return Members([("type", type_name(kind)), ("message", Prose(message))], 2)


# --- objects shown by their name


def _function(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    module, name = value.__module__, value.__qualname__
    named = type(module) is str and module != "builtins"
    return Again(f"{module}.{name}" if named else f"{name}")


def _method(value: types.MethodType, kind: type[Any], take: ReadLimits) -> ValueShape:
    function: Any = value.__func__
    functions = (types.FunctionType, types.BuiltinFunctionType)
    if type(function) in functions:
        return _function(function, kind, take)
    return Again(type_name(kind_of(function)))


def _module(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    return Again((instance_dict(value, kind) or {}).get("__name__"))


def _running(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    return Prose(f"<{type_name(kind)} {value.__qualname__}>")


# --- everything else


def _own_repr(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open an object of a builtin class by its repr, which is short and runs no other code."""
    is_own = root_of(kind) in _BUILTIN
    return Prose(own_text(value, repr)) if is_own else open_by_name(value, kind, take)


def _chained(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    maps = attribute(value, kind, "maps")
    merged: dict[Any, Any] = {}
    for each in reversed(cast("list[Any]", maps) if type(maps) is list else []):
        if not issubclass(kind_of(each), dict):
            return open_by_name(value, kind, take)
        merged.update(open_dict(each, dict, take).head)
    return open_dict(merged, dict, take)


@only_of("sqlalchemy")
def _row_of_sqlalchemy(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    return Again(value._mapping)


@only_of("sqlite3")
def _row_of_sqlite(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    return Again(dict(zip(value.keys(), tuple(value), strict=False)))


def _foreign(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    if class_attribute(kind, "get_secret_value") is not MISSING:
        held = attribute(value, kind, "_secret_value")
        if held is not MISSING:
            return Hidden(held)
    if class_attribute(kind, "__repr__") is _PLAIN_REPR:
        return Opaque(type_name(kind), attributes(value, kind))
    if is_cheap(value, kind):
        return Prose(own_text(value, repr))
    return open_by_name(value, kind, take)


_OPENERS: Final[dict[type[Any], TypeOpener]] = {
    dict: open_dict,
    list: open_sequence,
    tuple: open_sequence,
    set: open_set,
    frozenset: open_set,
    deque: open_deque,
    array.array: open_array,
    type(_NO_ITEMS.keys()): open_view,
    type(_NO_ITEMS.values()): open_view,
    type(_NO_ITEMS.items()): open_view,
    # All methods of a proxy ask the mapping that it stands for.
    types.MappingProxyType: _as(lambda value: gc.get_referents(value)[0]),
    ChainMap: _chained,
    functools.partial: _as(functools.partial.func.__get__),  # type: ignore[attr-defined] - a slot
    range: _own_repr,
    complex: _own_repr,
    type(Ellipsis): _own_repr,
    type(NotImplemented): _own_repr,
    re.Pattern: _own_repr,
    UserDict: open_data,
    UserList: open_data,
    UserString: open_data,
    str: _as(str.__str__),
    int: _as(int.__int__),
    float: _as(float.__float__),
    datetime: _isoformat,
    date: _isoformat,
    time: _isoformat,
    timedelta: _as(lambda value: duration(timedelta.__add__(value, timedelta()))),
    uuid.UUID: _as(uuid.UUID.__str__),
    Decimal: _as(Decimal.__str__),
    PurePath: _as(lambda value: own_text(value, PurePath.__str__)),
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _memoryview,
    BaseException: _exception,
    types.SimpleNamespace: _in_dict,
    type: _as(type_name),
    types.FunctionType: _function,
    types.BuiltinFunctionType: _function,
    types.MethodType: _method,
    types.ModuleType: _module,
    types.GeneratorType: _running,
    types.CoroutineType: _running,
    types.AsyncGeneratorType: _running,
}

_BY_ID: Final = {id(klass): opener for klass, opener in _OPENERS.items()}
"""By identity: to look a class up by itself runs the `__hash__` of its metaclass."""

_BY_NAME: Final[dict[str, dict[str, TypeOpener]]] = {
    "ndarray": {"numpy": library_types.ndarray},
    "generic": {"numpy": library_types.numpy_scalar},
    "DataFrame": {"pandas": library_types.data_frame, "polars": library_types.polars_frame},
    "Series": {"pandas": library_types.series, "polars": library_types.polars_series},
    "Index": {"pandas": library_types.index},
    "Table": {"pyarrow": library_types.arrow_table},
    "RecordBatch": {"pyarrow": library_types.arrow_table},
    "Array": {"pyarrow": library_types.arrow_array},
    "ChunkedArray": {"pyarrow": library_types.arrow_array},
    "Tensor": {"torch": library_types.tensor},
    "Image": {"PIL": library_types.image},
    "_Environ": {"os": open_mapping},
    "CaseInsensitiveDict": {"requests": open_mapping},
    "Headers": dict.fromkeys(("httpx", "starlette", "werkzeug"), open_mapping),
    "QueryParams": dict.fromkeys(("httpx", "starlette"), open_mapping),
    "RowMapping": {"sqlalchemy": open_mapping},
    "Row": {"sqlalchemy": _row_of_sqlalchemy, "sqlite3": _row_of_sqlite},
    "Record": {"asyncpg": open_mapping},
    "CompletedProcess": {"subprocess": _in_dict},
    "Namespace": {"argparse": _in_dict},
    "Fraction": {"fractions": _own_repr},
    "ZoneInfo": {"zoneinfo": _own_repr},
    **{
        f"IPv{version}{part}": {"ipaddress": _own_repr}
        for version in (4, 6)
        for part in ("Address", "Network", "Interface")
    },
}
"""Classes of libraries by their name and the first part of their module's, with their openers."""

for _name, _roots in ROOTS.items():
    _BY_NAME.setdefault(_name, {}).update(dict.fromkeys(_roots, open_by_name))

_MARKS: Final[tuple[tuple[str, TypeOpener], ...]] = (
    ("_member_map_", _enum),
    ("__dataclass_fields__", open_dataclass),
    ("__attrs_attrs__", open_attrs),
    ("__pydantic_validator__", open_pydantic),
    ("__validators__", open_pydantic_1),
)
"""Names in the namespace of a class, with the openers of its instances."""
