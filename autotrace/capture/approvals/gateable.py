"""Validate that a callable runs only by a call, so that a gate can stand before it.

Frameworks make objects of functions, with methods that run the body (`call`, `delay`, `stream`),
and functions may carry others as attributes. A gate over these could be bypassed, so creating it
raises an error.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, cast

from autotrace.capture.wrappers import PROXIES, Traced, name_of, original_of
from autotrace.encoding.introspect import (
    MISSING,
    attributes,
    class_attribute,
    instance_dict,
    kind_of,
    mro,
    namespace,
    type_name,
)
from autotrace.errors import InvalidArgumentError

_MAX_LAYERS: Final = 100
"""Limit of decorators."""
_MAX_OBJECTS: Final = 1000
"""Limit of objects that are searched for a reference to the function."""
_MAX_NAMES: Final = 5
"""Limit of methods that a message names."""
_BUILTINS: Final = (
    BuiltinFunctionType,
    MethodDescriptorType,
    MethodWrapperType,
    ClassMethodDescriptorType,
    WrapperDescriptorType,
)
_cached = kind_of(functools.lru_cache(len))
_MANAGERS: Final = tuple(
    decorate(lambda: None).__code__
    for decorate in cast(
        "tuple[Any, ...]", (contextlib.contextmanager, contextlib.asynccontextmanager)
    )
)
"""The code of functions that return context managers."""


def check_can_be_gated(function: Any) -> None:
    """Raise InvalidArgumentError if a callable can run in another way than by a call.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
    """
    layers = list(_layers(function))
    for layer in layers:
        kind = kind_of(layer)
        reason = _reason_of_function(layer) if kind is FunctionType else _reason_of_class(layer)
        reason = reason or _reason_of_attributes(layer, layers)
        if reason is not None:
            raise InvalidArgumentError("requires_approval", _described(layer), reason)


def _described(layer: Any) -> str:
    kind = kind_of(layer)
    return f"<function {name_of(layer)}>" if kind is FunctionType else f"<{type_name(kind)}>"


def _layers(function: Any) -> Iterator[Any]:
    """Yield a callable and the callables that its decorators wrap, outermost first."""
    for _ in range(_MAX_LAYERS):
        yield function
        kind = kind_of(function)
        if issubclass(kind, Traced):
            function = original_of(function)
        elif kind is MethodType or issubclass(kind, classmethod | staticmethod):
            function = function.__func__
        elif kind is functools.partial:
            function = function.func
        else:
            below = function.__wrapped__ if issubclass(kind, PROXIES) else _wrapped(function)
            if below is MISSING:
                return
            function = below


def _wrapped(function: Any) -> Any:
    return (instance_dict(function, kind_of(function)) or {}).get("__wrapped__", MISSING)


def _reason_of_function(function: FunctionType) -> str | None:
    if function.__code__ in _MANAGERS:
        return (
            "used below @contextmanager: used as a decorator, a context manager runs its function "
            "once more for each call. Put @tool(requires_approval=...) directly on the generator"
        )
    return None


def _reason_of_class(layer: Any) -> str | None:
    """Return why an object that is not a function cannot be gated."""
    kind = kind_of(layer)
    if kind in (MethodType, functools.partial, _cached, *_BUILTINS):
        return None
    if issubclass(kind, (Traced, classmethod, staticmethod)):
        return None
    if issubclass(kind, PROXIES):
        return _reason_of_methods(_methods(kind, above=PROXIES))
    answers = (class_attribute(kind, name) for name in ("__getattr__", "__getattribute__"))
    if any(type(answer) is FunctionType for answer in answers):
        return _reason_of_methods(["those that its __getattr__ gives"])
    return _reason_of_methods(_methods(kind, above=(object,)))


def _methods(kind: type[Any], *, above: tuple[type[Any], ...]) -> list[str]:
    """Return the public methods that a class and its bases below some others have."""
    found: set[str] = set()
    for base in mro(kind):
        if base in above or issubclass(object, base):
            continue
        found.update(
            name
            for name, value in namespace(base).items()
            if not name.startswith("_") and _is_method(value)
        )
    return sorted(found)


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(
        value, classmethod | staticmethod | functools.partialmethod
    )


def _reason_of_methods(methods: list[str]) -> str | None:
    if not methods:
        return None
    more = len(methods) - _MAX_NAMES
    named = ", ".join(methods[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
    return (
        f"used on a function: methods of this object ({named}) may run it without an approval. Put "
        "@tool(requires_approval=...) directly on the function, below the decorator that made "
        "this object of it; of a class of your own, on its __call__"
    )


def _reason_of_attributes(layer: Any, layers: list[Any]) -> str | None:
    """Return why a function cannot be gated that has others as attributes that run it."""
    held = instance_dict(layer, kind_of(layer)) or {}
    bodies = {id(each) for each in layers}
    for name, value in held.items():
        if name != "__wrapped__" and _leads_to(value, bodies):
            return (
                f"used below the decorator that gave this function its attribute {name!r}, by "
                "which it may run without an approval. Put @tool(requires_approval=...) directly "
                "on the function, or on a plain function that calls this one"
            )
    return None


def _leads_to(value: Any, bodies: set[int]) -> bool:
    """Return whether a value may lead to a function; after too many objects, True."""
    seen: dict[int, Any] = {}
    left = [value]
    while left:
        each = left.pop()
        if id(each) in bodies:
            return True
        if id(each) in seen or isinstance(each, type | ModuleType):
            continue
        seen[id(each)] = each
        if len(seen) > _MAX_OBJECTS:
            return True
        left.extend(_held_by(each))
    return False


def _held_by(value: Any) -> Iterable[Any]:
    kind = kind_of(value)
    if kind is CellType:
        try:
            return (value.cell_contents,)
        except ValueError:  # not assigned yet
            return ()
    if kind is FunctionType:
        return (value.__closure__, value.__defaults__, value.__kwdefaults__, value.__dict__)
    if kind is MethodType:
        return (value.__func__, value.__self__)
    if kind is functools.partial:
        return (value.func, value.args, value.keywords)
    if kind in (dict, list, tuple, set, frozenset):
        return _items(value)
    if issubclass(kind, BuiltinFunctionType):
        return () if isinstance(value.__self__, ModuleType) else (value.__self__,)
    return attributes(value, kind).values()


def _items(container: Any) -> Iterable[Any]:
    values: Iterable[Any] = container.values() if kind_of(container) is dict else ()
    return (*container, *values)
