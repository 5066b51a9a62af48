"""What is inside an object of a rarer type, without running its code where that can be avoided.

`unfold` opens one object, one level deep, into one of a few shapes; the walk goes on from there.
An object is opened by the nearest of its classes that is known here, or that carries the mark of
a dataclass, an attrs class, a pydantic model or an enum. No third-party package is imported: numpy
is asked only when the program has imported it.
"""

from __future__ import annotations

import array
import dataclasses
import sys
import types
import uuid
from collections import UserDict, UserList, UserString, deque
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, cast

from autotrace.capture._containers import (
    open_array,
    open_data,
    open_deque,
    open_dict,
    open_mapping,
    open_ndarray,
    open_sequence,
    open_set,
    open_view,
)
from autotrace.capture._introspect import (
    MISSING,
    attribute,
    attributes,
    class_attribute,
    instance_dict,
    kind_of,
    mro,
    namespace,
    own_text,
    type_name,
)
from autotrace.capture._shapes import (
    Again,
    Binary,
    Hidden,
    Members,
    Opaque,
    Opener,
    Prose,
    Shape,
    Take,
)

_NO_ITEMS: Final[dict[str, str]] = {}
_PLAIN_REPR: Final = object.__dict__["__repr__"]


def unfold(value: Any, kind: type[Any], take: Take) -> Shape:
    """Opens an object.

    Args:
        value: The object.
        kind: Its type.
        take: How much of it is taken.

    Returns:
        What is inside.

    Raises:
        Exception: Whatever the object's own code raised, where some had to run.
    """
    for klass in mro(kind):
        opener = _OPENERS.get(klass)
        if opener is not None:
            return opener(value, kind, take)
        inside = namespace(klass)
        for mark, opener in _MARKS:
            if mark in inside:
                return opener(value, kind, take)
    if class_attribute(kind, "__next__") is not MISSING:
        return Prose(f"<{type_name(kind)}>")  # an iterator: reading it would use it up
    return _numpy(value, kind, take) or _foreign(value, kind, take)


# --- numbers, texts, times


def _int(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(int.__int__(value))


def _float(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(float.__float__(value))


def _str(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(str.__str__(value))


def _isoformat(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(own_text(value, kind.isoformat))  # its own: the NaT of pandas says NaT


def _timedelta(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(duration(timedelta.__add__(value, timedelta())))


def duration(value: timedelta) -> str:
    """Returns the ISO 8601 form of a duration, such as `P1DT2H0.5S`."""
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


def _uuid(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(uuid.UUID.__str__(value))


def _decimal(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(Decimal.__str__(value))


def _path(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(own_text(value, PurePath.__str__))


# --- bytes


def _bytes(value: Any, kind: type[Any], take: Take) -> Shape:
    base: Any = bytes if issubclass(kind, bytes) else bytearray
    head = bytes(base.__getitem__(value, slice(take.size_bytes)))
    return Binary(head, base.__len__(value), value)


def _memoryview(value: memoryview, kind: type[Any], take: Take) -> Shape:
    if value.c_contiguous:
        view = value.cast("B")
        return Binary(bytes(view[: take.size_bytes]), view.nbytes, view)
    if value.nbytes > take.size_bytes:
        return Prose(f"<memoryview of {value.nbytes} bytes>")  # its bytes would have to be copied
    copy = value.tobytes()
    return Binary(copy, len(copy), copy)


# --- objects with fields


def _fields(value: Any, kind: type[Any], names: Iterable[Any]) -> Members:
    head: list[tuple[Any, Any]] = []
    inside = attributes(value, kind)
    for name in names:
        held = inside.get(name, MISSING)
        if held is MISSING:
            held = class_attribute(kind, name)
            if class_attribute(type(held), "__get__") is not MISSING:
                continue  # a slot or a property: what the class holds is no default
        if held is not MISSING:
            head.append((name, held))
    return Members(head, len(head))


def _dataclass(value: Any, kind: type[Any], take: Take) -> Shape:
    return _fields(value, kind, [field.name for field in dataclasses.fields(kind)])


def _attrs(value: Any, kind: type[Any], take: Take) -> Shape:
    declared = cast("Iterable[Any]", class_attribute(kind, "__attrs_attrs__"))
    return _fields(value, kind, [field.name for field in declared])


def _pydantic(value: Any, kind: type[Any], take: Take) -> Shape:
    held = dict(instance_dict(value, kind) or {})
    if class_attribute(kind, "__pydantic_root_model__") is True and "root" in held:
        return Again(held["root"])
    declared = class_attribute(kind, "__pydantic_fields__")
    if type(declared) is dict:  # else an older pydantic: everything it holds is a field
        held = {name: held[name] for name in cast("dict[str, Any]", declared) if name in held}
    extra = attribute(value, kind, "__pydantic_extra__")
    if type(extra) is dict:
        held.update(cast("dict[str, Any]", extra))
    return open_dict(held, dict, take)


def _in_dict(value: Any, kind: type[Any], take: Take) -> Shape:
    return open_dict(instance_dict(value, kind) or {}, dict, take)


def _enum(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(attribute(value, kind, "_value_"))


def _exception(value: Any, kind: type[Any], take: Take) -> Shape:
    return Members([("type", type_name(kind)), ("message", Prose(own_text(value, str)))], 2)


# --- what is shown by its name


def _class(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again(type_name(value))


def _function(value: Any, kind: type[Any], take: Take) -> Shape:
    module, name = value.__module__, value.__qualname__
    named = type(module) is str and module != "builtins"
    return Again(f"{module}.{name}" if named else f"{name}")


def _method(value: types.MethodType, kind: type[Any], take: Take) -> Shape:
    function: Any = value.__func__
    functions = (types.FunctionType, types.BuiltinFunctionType)
    if type(function) in functions:
        return _function(function, kind, take)
    return Again(type_name(kind_of(function)))


def _module(value: Any, kind: type[Any], take: Take) -> Shape:
    return Again((instance_dict(value, kind) or {}).get("__name__"))


def _running(value: Any, kind: type[Any], take: Take) -> Shape:
    return Prose(f"<{type_name(kind)} {value.__qualname__}>")


# --- numpy, and everything else


def _numpy(value: Any, kind: type[Any], take: Take) -> Shape | None:
    numpy: Any = sys.modules.get("numpy")
    ndarray, generic = getattr(numpy, "ndarray", None), getattr(numpy, "generic", None)
    if ndarray is None or generic is None:
        return None
    if issubclass(kind, ndarray):
        return open_ndarray(ndarray, value, take)
    if not issubclass(kind, generic):
        return None
    if value.dtype.kind in "mM":  # nanoseconds would come out as integers
        return Again(str(value))
    item = generic.item(value)
    return Prose(repr(value)) if type(item) is kind else Again(item)


def _foreign(value: Any, kind: type[Any], take: Take) -> Shape:
    if class_attribute(kind, "get_secret_value") is not MISSING:
        held = attribute(value, kind, "_secret_value")
        if held is not MISSING:
            return Hidden(held)
    if issubclass(kind, Mapping):
        return open_mapping(value, cast("type[Any]", kind), take)
    if class_attribute(kind, "__repr__") is not _PLAIN_REPR:
        return Prose(own_text(value, repr))
    return Opaque(type_name(kind), attributes(value, kind))


_OPENERS: Final[dict[type[Any], Opener]] = {
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
    types.MappingProxyType: open_mapping,
    UserDict: open_data,
    UserList: open_data,
    UserString: open_data,
    str: _str,
    int: _int,
    float: _float,
    datetime: _isoformat,
    date: _isoformat,
    time: _isoformat,
    timedelta: _timedelta,
    uuid.UUID: _uuid,
    Decimal: _decimal,
    PurePath: _path,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _memoryview,
    BaseException: _exception,
    types.SimpleNamespace: _in_dict,
    type: _class,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _function,
    types.MethodType: _method,
    types.ModuleType: _module,
    types.GeneratorType: _running,
    types.CoroutineType: _running,
    types.AsyncGeneratorType: _running,
}

_MARKS: Final[tuple[tuple[str, Opener], ...]] = (
    ("_member_map_", _enum),
    ("__dataclass_fields__", _dataclass),
    ("__attrs_attrs__", _attrs),
    ("__pydantic_validator__", _pydantic),
    ("__validators__", _in_dict),  # pydantic 1
)
"""Names in the namespace of a class that tell how its instances are opened."""
