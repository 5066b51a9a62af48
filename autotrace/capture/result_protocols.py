"""Classify bodies that run after the call, by code flags or by the result.

The answers of `inspect` do not decide: adapters answer for the function below them, compiled
functions do not answer, and any function can be marked. The flags of a plain function's code are
reliable; for everything else the protocol of the returned object decides.
"""

from __future__ import annotations

import functools
import sys
import weakref
from enum import Enum
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    CO_ITERABLE_COROUTINE,
    isasyncgenfunction,
    iscoroutinefunction,
    unwrap,
)
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, Final

from autotrace.capture.wrappers import Traced, target_of
from autotrace.encoding.introspect import class_attribute, kind_of, mro, namespace


class Body(Enum):
    """Protocol by which the result of a call runs to its end."""

    COROUTINE = "coroutine"
    ITERABLE_COROUTINE = "iterable coroutine"
    """Generator that `types.coroutine` makes awaitable."""
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"
    FUTURE = "future"
    """Object that runs without being driven, such as an asyncio task."""


STREAMS: Final = (Body.GENERATOR, Body.ASYNC_GENERATOR)
_MAX_LAYERS: Final = 100
"""Limit of nested partials, methods and decorators of ours."""
_PROTOCOLS: Final = (
    (frozenset({"__await__", "__next__", "send", "throw", "close"}), Body.ITERABLE_COROUTINE),
    (frozenset({"__anext__", "asend", "athrow", "aclose"}), Body.ASYNC_GENERATOR),
    (frozenset({"__await__", "send", "throw", "close"}), Body.COROUTINE),
    (frozenset({"__next__", "send", "throw", "close"}), Body.GENERATOR),
)
_PREFIXES: Final = ("cr_", "gi_", "ag_")
"""Prefixes of attributes with the state of coroutines and generators."""
_OF_EVERY_CLASS: Final = frozenset(dir(object)) | {
    "__abstractmethods__",
    "__aiter__",
    "__annotations__",
    "__class_getitem__",
    "__del__",
    "__dict__",
    "__final__",
    "__firstlineno__",
    "__iter__",
    "__module__",
    "__name__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__slots__",
    "__static_attributes__",
    "__weakref__",
}
"""Attributes that do not count as features of an object."""


def declared_body(function: Any) -> Body | None:
    """Return the kind of body that the code flags of a function declare.

    A call then returns the body before any code of the function runs. None if the call runs the
    function, or if only the result can show the kind.
    """
    code = _code_of(function)
    flags = 0 if code is None else code.co_flags
    if flags & CO_COROUTINE:
        return Body.COROUTINE
    if flags & CO_ITERABLE_COROUTINE:
        return Body.ITERABLE_COROUTINE
    if flags & CO_ASYNC_GENERATOR:
        return Body.ASYNC_GENERATOR
    return Body.GENERATOR if flags & CO_GENERATOR else None


def claims_coroutine(function: Any) -> bool:
    """Return whether `inspect` reports a coroutine function."""
    return iscoroutinefunction(target_of(function))


def claimed_body(function: Any) -> Body | None:
    """Return the kind of body that `inspect` reports for a function."""
    if claims_coroutine(function):
        return Body.COROUTINE
    return Body.ASYNC_GENERATOR if isasyncgenfunction(target_of(function)) else None


def covers_coroutine(function: Any) -> bool:
    """Return whether a function or the one it wraps is a coroutine function."""
    try:
        return claims_coroutine(function) or claims_coroutine(unwrap(target_of(function)))
    except ValueError:  # a cycle of `__wrapped__`
        return False


def returned_body(value: Any) -> Body | None:
    """Return the kind of body of a result; None for a plain value.

    Objects with more than their protocol (a client library's stream with attributes, a request that
    is awaited or entered) are values, since a driver would lack the other attributes.
    """
    kind = kind_of(value)
    body: Any = _BUILTIN.get(id(kind), _UNKNOWN)
    if body is _UNKNOWN:
        return _body_of_class(kind)
    if body is Body.GENERATOR and value.gi_code.co_flags & CO_ITERABLE_COROUTINE:
        return Body.ITERABLE_COROUTINE
    return body


def is_held_once(value: Any) -> bool:
    """Return whether a variable of the caller is a value's only reference."""
    return sys.getrefcount(value) <= _REFERENCES


def _reference_count(value: Any) -> int:
    return sys.getrefcount(value)


def _references() -> int:
    value = object()
    return _reference_count(value)


_REFERENCES: Final = _references()
"""Count in that case; measured, since versions of Python differ."""
_UNKNOWN: Final = object()
_BUILTIN: Final[dict[int, Any]] = {
    **{id(kind): None for kind in (type(None), bool, int, float, str, bytes)},
    **{id(kind): None for kind in (dict, list, tuple, set, frozenset)},
    id(CoroutineType): Body.COROUTINE,
    id(GeneratorType): Body.GENERATOR,
    id(AsyncGeneratorType): Body.ASYNC_GENERATOR,
}
"""Bodies by type id, which stays valid; a hash could run metaclass code."""
_classes: dict[int, tuple[weakref.ref[type[Any]], Body | None]] = {}
"""Cache: a reference to each examined class, and its body, by id."""


def _code_of(function: Any) -> Any:
    for _ in range(_MAX_LAYERS):
        kind = kind_of(function)
        if kind is FunctionType:
            return function.__code__
        if kind is MethodType or issubclass(kind, classmethod | staticmethod):
            function = function.__func__
        elif kind is functools.partial:
            function = function.func
        elif issubclass(kind, Traced):
            function = function.__wrapped__
        else:
            call = class_attribute(kind, "__call__")
            return call.__code__ if type(call) is FunctionType else None
    return None


def _body_of_class(kind: type[Any]) -> Body | None:
    key = id(kind)
    found = _classes.get(key)
    if found is not None and found[0]() is kind:
        return found[1]
    body = _look_at(kind)
    # The id of a collected class may go to another one.
    _classes[key] = weakref.ref(kind, lambda _: _classes.pop(key, None)), body
    return body


def _look_at(kind: type[Any]) -> Body | None:
    names = {name for base in mro(kind) if base is not object for name in namespace(base)}
    if {"_asyncio_future_blocking", "add_done_callback"} <= names:
        return Body.FUTURE
    for protocol, body in _PROTOCOLS:
        if protocol <= names:
            more = names - protocol - _OF_EVERY_CLASS
            return None if any(map(_is_feature, more)) else body
    return None


def _is_feature(name: str) -> bool:
    is_private = name.startswith("_") and not name.startswith("__")
    return not is_private and not name.startswith(_PREFIXES)
