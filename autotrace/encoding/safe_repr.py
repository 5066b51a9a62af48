"""Decide whether an object's own `__repr__` may be run.

A `__repr__` is user code: it may query a database, wait, or never return. It is run only if its
bytecode is straight code that formats fields of the object, and these fields are plain builtins.
"""

from __future__ import annotations

import abc
import dis
import inspect
import re
import types
from typing import Any, Final
from weakref import WeakKeyDictionary

from autotrace.encoding.introspect import MISSING, attribute, class_attribute

_SAFE: Final = frozenset(
    (
        *("RESUME", "NOP", "CACHE", "COPY_FREE_VARS", "LOAD_FAST", "LOAD_FAST_BORROW"),
        *("LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST", "LOAD_CONST"),
        *("LOAD_SMALL_INT", "LOAD_ATTR", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC"),
        *("CONVERT_VALUE", "BUILD_STRING", "RETURN_VALUE", "RETURN_CONST", "BUILD_SLICE"),
        *("BINARY_SLICE", "BINARY_SUBSCR", "LOAD_GLOBAL", "PUSH_NULL", "PRECALL", "CALL"),
    )
)
"""Operations without a loop and without a choice. Names differ between versions of Python; one that
is missing here costs a repr, and one too many must not be here."""
_OF_CLASS: Final = frozenset(("__class__", "__name__", "__qualname__"))
_SCALARS: Final = (str, int, float, bool, type(None))
_MAX_CHARS: Final = 10_000
_MAX_INT: Final = 1 << 64
_WITH_SPEC: Final = 0x4
"""Flag of FORMAT_VALUE, up to Python 3.12."""
_UNUSUAL: Final = (
    inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE
    | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
)  # fmt: skip
_WIDE: Final = re.compile(r"[0-9]{4}")
_METACLASSES: Final = (type, abc.ABCMeta)
_SUBSCRIPT: Final = "[]"

_fields: WeakKeyDictionary[types.CodeType, frozenset[str] | None] = WeakKeyDictionary()


def is_cheap(value: Any, kind: type[Any]) -> bool:
    """Return whether `repr(value)` runs in little time and without side effects."""
    function = class_attribute(kind, "__repr__")
    if type(function) is not types.FunctionType or type(kind) not in _METACLASSES:
        return False
    if class_attribute(kind, "__getattribute__") is not object.__getattribute__:
        return False
    if class_attribute(kind, "__class__") is not object.__dict__["__class__"]:
        return False
    code = function.__code__
    if code not in _fields:
        _fields[code] = _fields_of(code)
    fields = _fields[code]
    if fields is None or "type" in function.__globals__:
        return False
    return all(_is_plain(value, kind, name) for name in fields)


def _fields_of(code: types.CodeType) -> frozenset[str] | None:
    """Return which fields a function of one object formats; None if it does anything else."""
    if code.co_argcount != 1 or code.co_freevars or code.co_cellvars or code.co_flags & _UNUSUAL:
        return None
    names: set[str] = set()
    calls = types_asked = 0
    before: dis.Instruction | None = None
    for step in dis.get_instructions(code):
        if step.opname not in _SAFE and not (
            step.opname == "BINARY_OP" and step.argrepr == _SUBSCRIPT
        ):
            return None
        if step.opname == "LOAD_ATTR":
            names.add(step.argval)
        elif step.opname == "LOAD_GLOBAL":
            types_asked += step.argval == "type" or 1_000
        elif step.opname == "CALL":
            calls += 1
        elif _has_spec(step) and (before is None or not _is_narrow(before)):
            return None
        before = step
    if calls != types_asked:  # nothing is called but `type(self)`
        return None
    return frozenset(names - _OF_CLASS)


def _has_spec(step: dis.Instruction) -> bool:
    """Return whether an operation formats with a specification, such as `.2f`."""
    with_flag = step.opname == "FORMAT_VALUE" and bool((step.arg or 0) & _WITH_SPEC)
    return with_flag or step.opname == "FORMAT_WITH_SPEC"


def _is_narrow(step: dis.Instruction) -> bool:
    """Return whether an operation loads a specification that asks for no great width."""
    spec = step.argval
    return step.opname == "LOAD_CONST" and type(spec) is str and _WIDE.search(spec) is None


def _is_plain(value: Any, kind: type[Any], name: str) -> bool:
    """Return whether an attribute is a plain builtin that the object or its class holds."""
    of_class = class_attribute(kind, name)
    held = attribute(value, kind, name)
    if held is MISSING:
        held = of_class
    elif (
        type(of_class) is not types.MemberDescriptorType
        and class_attribute(type(of_class), "__get__") is not MISSING
    ):
        return False
    if type(held) is str:
        return len(held) <= _MAX_CHARS
    return type(held) in _SCALARS and (type(held) is not int or -_MAX_INT < held < _MAX_INT)
