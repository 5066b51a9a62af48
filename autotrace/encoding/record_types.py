"""Open objects whose classes declare their fields: dataclasses, attrs classes, pydantic models.

The value of a field that its class leaves out of its repr or its serialisation is hidden.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from autotrace.encoding.introspect import (
    MISSING,
    attribute,
    attributes,
    class_attribute,
    instance_dict,
    kind_of,
)
from autotrace.encoding.opened_shapes import (
    Again,
    Hidden,
    Members,
    ReadLimits,
    ValueShape,
    open_dict,
)

_ALL_FIELDS: Final = frozenset(
    ("super", "__dict__", "vars", "model_fields", "__fields__", "model_dump", "dict", "items")
)
"""What a function uses that reads fields without naming them."""


def open_dataclass(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a dataclass, also one of pydantic."""
    hidden = _hidden_in(class_attribute(kind, "__pydantic_fields__"))
    return _fields(
        value,
        kind,
        (
            (field.name, not field.repr or field.name in hidden)
            for field in dataclasses.fields(kind)
        ),
    )


def open_attrs(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open an attrs class; a function in place of `repr` hides, too: it shows something else."""
    declared = cast("Iterable[Any]", class_attribute(kind, "__attrs_attrs__"))
    return _fields(value, kind, ((field.name, field.repr is not True) for field in declared))


def open_pydantic(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a model of pydantic 2."""
    held = dict(instance_dict(value, kind) or {})
    declared = class_attribute(kind, "__pydantic_fields__")
    hidden = _hidden_in(declared) | _left_out(kind, held)
    if class_attribute(kind, "__pydantic_root_model__") is True and "root" in held:
        return Hidden(held["root"]) if "root" in hidden else Again(held["root"])
    if type(declared) is dict:  # else an older pydantic: everything it holds is a field
        held = {name: held[name] for name in cast("dict[str, Any]", declared) if name in held}
    extra = attribute(value, kind, "__pydantic_extra__")
    if type(extra) is dict:
        held.update(cast("dict[str, Any]", extra))
    return open_dict(_without(held, hidden), dict, take)


def open_pydantic_1(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a model of pydantic 1."""
    declared = class_attribute(kind, "__fields__")
    fields: Mapping[str, Any] = cast("dict[str, Any]", declared) if type(declared) is dict else {}
    infos = {name: attribute(field, kind_of(field), "field_info") for name, field in fields.items()}
    held = instance_dict(value, kind) or {}
    return open_dict(_without(held, _hidden_in(infos) | _left_out(kind, held)), dict, take)


def _hidden_in(fields: object) -> frozenset[str]:
    """Return the names of the fields that a model keeps to itself, from pydantic's description."""
    if type(fields) is not dict:
        return frozenset()
    infos = cast("dict[str, Any]", fields)
    return frozenset(
        name
        for name, info in infos.items()
        if attribute(info, kind_of(info), "repr") is False
        or attribute(info, kind_of(info), "exclude") is True
    )


def _left_out(kind: type[Any], names: Iterable[str]) -> frozenset[str]:
    """Return the fields that a model's own `__repr_args__` leaves out; it is read, and not run."""
    function = class_attribute(kind, "__repr_args__")
    if type(function) is not types.FunctionType or function.__globals__.get("__name__", "").split(
        "."
    )[0] in {"pydantic", "sqlmodel"}:
        return frozenset()
    read, constants = _words_of(function.__code__)
    if read & _ALL_FIELDS:  # all but those that it names
        return frozenset(names) & constants
    return frozenset(names) - read - constants


def _words_of(code: types.CodeType) -> tuple[set[str], set[Any]]:
    """Return the attributes and the texts that a function uses, those inside it included."""
    read, constants = set(code.co_names), set[Any]()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inside = _words_of(constant)
            read |= inside[0]
            constants |= inside[1]
        elif isinstance(constant, tuple | frozenset):
            constants.update(cast("tuple[Any, ...] | frozenset[Any]", constant))
        elif type(constant) is str:
            constants.add(constant)
    return read, constants


def _without(held: dict[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    if not hidden:
        return held
    return {name: Hidden(item) if name in hidden else item for name, item in held.items()}


def _fields(value: Any, kind: type[Any], declared: Iterable[tuple[Any, bool]]) -> Members:
    """Return the fields of an object; `declared` has each name, and whether it is hidden."""
    head: list[tuple[Any, Any]] = []
    inside = attributes(value, kind)
    for name, is_hidden in declared:
        held = inside.get(name, MISSING)
        if held is MISSING:
            held = class_attribute(kind, name)
            if class_attribute(type(held), "__get__") is not MISSING:
                continue  # a slot or a property: the value of the class is not a default
        if held is not MISSING:
            head.append((name, Hidden(held) if is_hidden else held))
    return Members(head, len(head))
