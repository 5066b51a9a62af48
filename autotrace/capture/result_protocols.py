"""Classify bodies that run after the call: by flags of code before it, or by its result.

`inspect` is not used: adapters answer for the function below them, compiled functions do not
answer, and any function can be marked. The flags of a plain function's code are reliable; for
everything else the protocol of the returned object decides.
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
    """How the result of a call is run to its end."""

    COROUTINE = "coroutine"
    ITERABLE_COROUTINE = "iterable coroutine"
    """A generator that `types.coroutine` lets others await."""
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"
    FUTURE = "future"
    """Runs by itself, such as an asyncio task."""


STREAMS: Final = (Body.GENERATOR, Body.ASYNC_GENERATOR)
_MAX_LAYERS: Final = 100
"""How many partials, methods and decorators of ours are looked through."""
_PROTOCOLS: Final = (
    (frozenset({"__await__", "__next__", "send", "throw", "close"}), Body.ITERABLE_COROUTINE),
    (frozenset({"__anext__", "asend", "athrow", "aclose"}), Body.ASYNC_GENERATOR),
    (frozenset({"__await__", "send", "throw", "close"}), Body.COROUTINE),
    (frozenset({"__next__", "send", "throw", "close"}), Body.GENERATOR),
)
_PREFIXES: Final = ("cr_", "gi_", "ag_")
"""Of attributes that show the state of coroutines and generators."""
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
"""Names that are not features of an object."""


def declared_body(function: Any) -> Body | None:
    """Return the kind of body that a call returns before any code of the function runs.

    None if the call runs the function, or only its result can show.
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
    """Return whether a function, or one below its decorators, is to be awaited."""
    try:
        return claims_coroutine(function) or claims_coroutine(unwrap(target_of(function)))
    except ValueError:  # they wrap each other
        return False


def returned_body(value: Any) -> Body | None:
    """Return how a result is run to its end; None for a plain value.

    Objects with more than their protocol (a client library's stream with attributes, a request that
    is awaited or entered) are values, since a driver would lack the rest.
    """
    kind = kind_of(value)
    body: Any = _BUILTIN.get(id(kind), _UNKNOWN)
    if body is _UNKNOWN:
        return _body_of_class(kind)
    if body is Body.GENERATOR and value.gi_code.co_flags & CO_ITERABLE_COROUTINE:
        return Body.ITERABLE_COROUTINE
    return body


def is_held_once(value: Any) -> bool:
    """Return whether the only reference to a value is one variable of the caller."""
    return sys.getrefcount(value) <= _REFERENCES


def _reference_count(value: Any) -> int:
    return sys.getrefcount(value)


def _references() -> int:
    value = object()
    return _reference_count(value)


_REFERENCES: Final = _references()
"""Measured, since versions of Python count differently."""
_UNKNOWN: Final = object()
_BUILTIN: Final[dict[int, Any]] = {
    **{id(kind): None for kind in (type(None), bool, int, float, str, bytes)},
    **{id(kind): None for kind in (dict, list, tuple, set, frozenset)},
    id(CoroutineType): Body.COROUTINE,
    id(GeneratorType): Body.GENERATOR,
    id(AsyncGeneratorType): Body.ASYNC_GENERATOR,
}
"""By the id of a type that lives as long as Python: its metaclass is not asked for a hash."""
_classes: dict[int, tuple[weakref.ref[type[Any]], Body | None]] = {}
"""Classes that have been looked at."""


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
    # A class that has gone gives its id to another one.
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
