"""Hash a function: the same in every process, and different for another source."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import inspect
import pathlib
import textwrap
import uuid
from collections.abc import Callable, Iterable
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, TypeAlias, cast

from autotrace.base.canonical_json import canonical, sha256_of
from autotrace.base.plain_json import plain_object

_MAX_DEPTH: Final = 20
"""How far functions and containers are followed."""
_MAX_NOTES: Final = 10_000
"""How many are followed: functions that hold each other can be reached by many ways."""
_DESCRIPTORS: Final = (MethodDescriptorType, WrapperDescriptorType)

_WRITTEN: Final[tuple[type[Any], ...]] = (
    *(bytes, complex, float, range, decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
)
"""Types that write all of a value, and write it alike in every process."""

ToJson: TypeAlias = Callable[[Any], Any]
"""Returns the JSON of a value, or raises ValueError."""

_kind_of = cast("Callable[[object], type[Any]]", type)
"""`type`, with a result that the type checker knows."""


def _to_plain_json(value: Any) -> Any:
    return plain_object({"": value}, "")[""]


def source_hash(function: FunctionType, to_json: ToJson = _to_plain_json) -> str:
    """Return the SHA-256 of a function's source, without its indentation.

    Values that the function was made with (defaults, variables of an enclosing function, a wrapped
    function) are hashed with it, as JSON by `to_json`. Without a source, the code is hashed, which
    differs between versions of Python. Functions that it calls and globals do not count.
    """
    return _Notes(to_json).fingerprint(function, ())


def noted(value: Any, to_json: ToJson) -> Any:
    """Return a value as JSON that is the same in every process.

    Functions and classes count by their definition, containers by their items, and values without
    JSON by their class.
    """
    return _Notes(to_json).note(value, ())


class _Notes:
    """Values that a function was made with, as JSON."""

    def __init__(self, to_json: ToJson) -> None:
        self._to_json = to_json
        self._room = _MAX_NOTES

    def fingerprint(self, function: FunctionType, within: tuple[int, ...]) -> str:
        own = _source_hash(function.__code__) or sha256_of(_code(function.__code__))
        chain = (*within, id(function))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        made_with = {
            "defaults": [self.note(value, chain) for value in function.__defaults__ or ()],
            "keyword_defaults": {
                name: self.note(value, chain)
                for name, value in (function.__kwdefaults__ or {}).items()
            },
            "closure": {name: self.note(_content(cell), chain) for name, cell in cells},
        }
        return sha256_of({"source": own, **made_with}) if any(made_with.values()) else own

    def note(self, value: Any, within: tuple[int, ...]) -> Any:
        self._room -= 1
        is_open = id(value) not in within and len(within) < _MAX_DEPTH and self._room > 0
        if isinstance(value, FunctionType) and _kind_of(value) is not FunctionType:
            value = getattr(value, "_self_function", value)  # a gated one shows a stand-in
        if isinstance(value, FunctionType) and is_open:
            return {"function": self.fingerprint(value, within)}
        try:
            return {"value": self._to_json(value)}
        except ValueError:
            pass
        found = self._parts(value, (*within, id(value))) if is_open else None
        if found is not None:
            return found
        kind = _kind_of(value)
        return {"type": f"{kind.__module__}.{kind.__qualname__}"}

    def _parts(self, value: Any, chain: tuple[int, ...]) -> Any:
        """Return the parts of a value without JSON; None if they cannot be read."""
        kind = _kind_of(value)
        if issubclass(kind, type):
            return {"class": f"{value.__module__}.{value.__qualname__}"}
        if issubclass(kind, ModuleType):
            return {"module": str(value.__name__)}
        if kind is MethodType:
            return {"method": self._all((value.__func__, value.__self__), chain)}
        if issubclass(kind, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return {"partial": self._all(parts, chain)}
        if issubclass(kind, BuiltinFunctionType):
            name = f"{value.__module__}.{value.__qualname__}"
            return {"builtin": name, "self": self.note(value.__self__, chain)}
        if kind in _WRITTEN:
            return {"type": kind.__qualname__, "written": repr(value)}
        if issubclass(kind, enum.Enum):
            return {"member": [f"{kind.__module__}.{kind.__qualname__}", str(value._name_)]}
        if kind in _DESCRIPTORS:
            return {"builtin": f"{value.__objclass__.__module__}.{value.__qualname__}"}
        if "__wrapped__" in getattr(value, "__dict__", {}):
            return {"wrapped": self.note(value.__wrapped__, chain)}
        return self._items(value, kind, chain)

    def _items(self, value: Any, kind: type[Any], chain: tuple[int, ...]) -> Any:
        if kind in (list, tuple):
            return {kind.__name__: self._all(value, chain)}
        if kind in (set, frozenset):
            return {kind.__name__: sorted(self._all(value, chain), key=canonical)}
        if kind is dict:
            pairs = [self._all(pair, chain) for pair in list(value.items())]
            return {"dict": sorted(pairs, key=canonical)}
        return None

    def _all(self, values: Iterable[Any], chain: tuple[int, ...]) -> list[Any]:
        return [self.note(value, chain) for value in list(values)]


def _source_hash(code: CodeType) -> str | None:
    if code.co_name == "<lambda>":
        return None  # its line may hold another one
    try:
        source = textwrap.dedent(inspect.getsource(code))
    except (OSError, TypeError, SyntaxError, IndexError):  # what inspect raises for lack of source
        return None
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return ...  # not assigned yet


def _code(code: CodeType) -> dict[str, Any]:
    """Return code as JSON, without file names and line numbers."""
    return {
        "name": code.co_name,
        "code": code.co_code.hex(),
        "constants": [_constant(value) for value in code.co_consts],
        "names": [list(code.co_names), list(code.co_varnames), list(code.co_freevars)],
        "arguments": [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
        "flags": code.co_flags,
        "exceptions": code.co_exceptiontable.hex(),
    }


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, tuple):
        return [_constant(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, frozenset):
        # The order of a set of strings differs from process to process.
        spelled = (_constant(item) for item in cast("frozenset[Any]", value))
        return {"set": sorted(spelled, key=repr)}
    return [type(value).__name__, ascii(value)]
