"""What a function is, as one hash: the same in every process, another for another source."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from types import CellType, CodeType, FunctionType
from typing import Any, Final, cast

from autotrace.canonical import sha256_of
from autotrace.decisions.plain import plain_object

_MAX_DEPTH: Final = 20
"""How far functions that hold functions are followed."""


def fingerprint(function: FunctionType) -> str:
    """Return the SHA-256 of a function's source, without its indentation.

    A function that was made with values (defaults, variables of an enclosing function, and so also
    a function that a decorator wraps) is hashed together with them. Where there is no source, its
    code is hashed in its place, which other versions of Python spell otherwise. What the function
    merely calls or reads from its module is not part of it.
    """
    return _fingerprint(function, ())


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


def _noted(value: Any, within: tuple[int, ...], holder: FunctionType) -> Any:
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
