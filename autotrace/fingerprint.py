"""What a function is, as one hash: the same in every process, another for another source."""

from __future__ import annotations

import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType
from typing import Any, Final, cast

import wrapt

from autotrace.canonical import sha256_of
from autotrace.plain import plain_object

_MAX_DEPTH: Final = 20
"""How far functions that hold functions are followed."""


_wrapt: Any = wrapt  # version 1 has no types
_kind_of = cast("Callable[[object], type[Any]]", type)
"""`type`, with a result that the type checker knows."""
_PROXIES: Final[tuple[type[Any], ...]] = tuple(
    cast("type[Any]", vars(_wrapt)[name])
    for name in ("BaseObjectProxy", "ObjectProxy")
    if name in vars(_wrapt)
)
_WITHOUT_STATE: Final = (
    *_PROXIES,
    *(classmethod, staticmethod, functools.partial, BuiltinFunctionType, type, type(None)),
    type(type.__call__),
)
"""What only leads to what it wraps, or has no code that Python can see."""


def fingerprint(function: FunctionType) -> str:
    """Return the SHA-256 of a function's source, without its indentation.

    A function that was made with values (defaults, variables of an enclosing function, and so also
    a function that a decorator wraps) is hashed together with them. Where there is no source, its
    code is hashed in its place, which other versions of Python spell otherwise. What the function
    merely calls or reads from its module is not part of it.
    """
    return _fingerprint(function, ())


def identity_of(function: Any) -> dict[str, Any]:
    """Return what identifies a function: module, qualified name and source hash.

    The hash is of every function that the call runs through: a decorated function and its
    wrappers, the function of a partial (whose arguments are those of the call), the `__call__` of
    an object. What Python holds no code of has None as its hash.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
    """
    named: Any = None
    hashes: list[str] = []
    for each in _layers(function):
        kind = _kind_of(each)
        if kind is FunctionType:
            hashes.append(fingerprint(each))
        elif kind is MethodType:
            hashes.append(_state_hash(each.__self__))
        elif not issubclass(kind, _WITHOUT_STATE):
            hashes.append(_state_hash(each))
        named = each if kind in (FunctionType, BuiltinFunctionType) else named
    named = _kind_of(function) if named is None else named
    return {
        "module": str(named.__module__),
        "qualname": str(named.__qualname__),
        "source_sha256": hashes[0] if len(hashes) == 1 else sha256_of(hashes) if hashes else None,
    }


def _layers(function: Any) -> Iterator[Any]:
    for _ in range(_MAX_DEPTH):
        yield function
        kind = _kind_of(function)  # proxies answer for what they wrap when they are asked
        if issubclass(kind, functools.partial):
            function = function.func
        elif issubclass(kind, classmethod | staticmethod | MethodType):
            function = function.__func__
        elif issubclass(kind, _PROXIES) or "__wrapped__" in getattr(function, "__dict__", {}):
            function = function.__wrapped__
        elif kind is FunctionType or issubclass(kind, BuiltinFunctionType | type):
            return
        else:
            function = inspect.getattr_static(kind, "__call__", None)


def _state_hash(holder: Any) -> str:
    """Hash what an object holds, as far as it means the same in every process."""
    kind = _kind_of(holder)
    held = cast("dict[Any, Any]", getattr(holder, "__dict__", {}))
    spelled = {str(name): _noted(item, (), fingerprint) for name, item in held.items()}
    call = inspect.getattr_static(kind, "__call__", None)
    return sha256_of(
        {
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "state": spelled,
            "call": fingerprint(call) if type(call) is FunctionType else None,
        }
    )


def _fingerprint(function: FunctionType, within: tuple[int, ...]) -> str:
    own = _source_hash(function.__code__) or sha256_of(_code(function.__code__))
    made_with = {
        "defaults": [_noted(value, within, function) for value in function.__defaults__ or ()],
        "keyword_defaults": {
            name: _noted(value, within, function)
            for name, value in (function.__kwdefaults__ or {}).items()
        },
        "closure": {
            name: _noted(_content(cell), within, function)
            for name, cell in zip(
                function.__code__.co_freevars, function.__closure__ or (), strict=True
            )
        },
    }
    return sha256_of({"source": own, **made_with}) if any(made_with.values()) else own


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


def _noted(value: Any, within: tuple[int, ...], holder: Any) -> Any:
    """Spell a value that a function holds, as far as it means the same in every process."""
    chain = (*within, id(holder))
    if isinstance(value, FunctionType) and id(value) not in chain and len(chain) < _MAX_DEPTH:
        return {"function": _fingerprint(value, chain)}
    try:
        return {"value": plain_object({"": value}, "")[""]}
    except ValueError:
        return {"type": f"{type(value).__module__}.{type(value).__qualname__}"}


def _code(code: CodeType) -> dict[str, Any]:
    """Spell code without the places where it stood."""
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
