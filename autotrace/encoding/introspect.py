"""Read types and attributes of objects without running their code.

`getattr`, `isinstance` and `vars` run properties, `__getattr__` and a replaced `__class__`. The
functions here read the resolution order, the namespaces of the classes and CPython's descriptors.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

_MAX_NAME_CHARS: Final = 200

_mro: Any = type.__dict__["__mro__"].__get__
_namespace: Any = type.__dict__["__dict__"].__get__
_name: Any = type.__dict__["__name__"].__get__
_module: Any = type.__dict__["__module__"].__get__
_qualname: Any = type.__dict__["__qualname__"].__get__
_dict: Any = dict
_DESCRIPTORS: Final = (types.GetSetDescriptorType, types.MemberDescriptorType)

kind_of = cast("Callable[[object], type[Any]]", type)
"""`type`, with a result that the type checker lets us compare."""

MISSING: Final = object()
"""What `class_attribute` and `attribute` return for a name that is not there."""


def mro(kind: type[Any]) -> tuple[type[Any], ...]:
    """Return the resolution order of a class, without asking its metaclass."""
    return cast("tuple[type[Any], ...]", _mro(kind))


def namespace(kind: type[Any]) -> types.MappingProxyType[str, object]:
    """Return the namespace of a class itself, without those of its bases."""
    return cast("types.MappingProxyType[str, object]", _namespace(kind))


def class_attribute(kind: type[Any], name: str) -> object:
    """Return the unbound object of a name in a class or its nearest base, or `MISSING`."""
    for klass in mro(kind):
        found = namespace(klass).get(name, MISSING)
        if found is not MISSING:
            return found
    return MISSING


def class_name(kind: type[Any]) -> str:
    """Return the name of a class without its module, without asking its metaclass."""
    return cast("str", _name(kind))


def root_of(kind: type[Any]) -> str:
    """Return the first part of the name of a class's module; empty when it has none."""
    try:
        module = _module(kind)
    except AttributeError:  # its namespace holds none
        return ""
    return module.partition(".")[0] if type(module) is str else ""


def type_name(kind: type[Any]) -> str:
    """Return the name of a class: bare for builtins, else with its module, at most 200 chars."""
    name = cast("str", _qualname(kind))
    module = class_attribute(kind, "__module__")
    if type(module) is str and module != "builtins":
        name = f"{module}.{name}"
    return name[:_MAX_NAME_CHARS]


def instance_dict(value: object, kind: type[Any]) -> dict[str, object] | None:
    """Return the `__dict__` of an object as a plain dict, or None when it has none."""
    for klass in mro(kind):
        descriptor = namespace(klass).get("__dict__")
        if type(descriptor) in _DESCRIPTORS:
            found = cast("Any", descriptor).__get__(value)
            if type(found) is dict:
                return cast("dict[str, object]", found)
            # a subclass of dict may be put there: its own methods are not asked
            return _dict.copy(found) if issubclass(type(found), dict) else None
    return None


def attribute(value: object, kind: type[Any], name: str) -> object:
    """Return an attribute from the `__dict__` or a slot of an object, or `MISSING`."""
    held = instance_dict(value, kind)
    if held is not None:
        found = held.get(name, MISSING)
        if found is not MISSING:
            return found
    for klass in mro(kind):
        descriptor = namespace(klass).get(name)
        if type(descriptor) is types.MemberDescriptorType:
            try:
                return descriptor.__get__(value)
            except AttributeError:  # a slot that was never set
                return MISSING
    return MISSING


def slots(kind: type[Any]) -> Iterator[tuple[str, types.MemberDescriptorType]]:
    """Yield the slots of a class and its bases, those of the bases first."""
    for klass in reversed(mro(kind)):
        inside = namespace(klass)
        if "__slots__" in inside:
            for name, descriptor in list(inside.items()):
                if type(descriptor) is types.MemberDescriptorType:
                    yield name, descriptor


def attributes(value: object, kind: type[Any]) -> dict[str, object]:
    """Return every attribute that an object holds itself, slots first."""
    found: dict[str, object] = {}
    for name, _ in slots(kind):
        held = attribute(value, kind, name)
        if held is not MISSING:
            found[name] = held
    found.update(instance_dict(value, kind) or {})
    return found


def own_text(value: object, convert: type[str] | Any) -> str:
    """Return the result of an object's `__str__` or `__repr__` as a plain `str`."""
    return str.__str__(convert(value))
