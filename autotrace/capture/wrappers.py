"""Wrap functions to record their calls and otherwise look like them."""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import sys
import types
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import wrapt

from autotrace.errors import InvalidArgumentError

F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]")
"""Type of a decorated function, which decoration keeps."""
CallHandler = Callable[[Any, Any, "tuple[Any, ...]", "dict[str, Any]"], Any]
"""Replacement of a function, called with it, its instance, args, kwargs."""


_wrapt: Any = wrapt  # version 1 has no types
PROXIES: Final[tuple[type[Any], ...]] = tuple(
    cast("type[Any]", vars(_wrapt)[name])
    for name in ("BaseObjectProxy", "ObjectProxy")
    if name in vars(_wrapt)
)
"""Object proxy classes of wrapt; version 1 has one."""
# No attribute of the classes below may be annotated: the `__annotations__` of the class would be
# found before those of the wrapped function.


_TypeOfWrappers = cast("Any", type(_wrapt.BoundFunctionWrapper))


class _MethodType(_TypeOfWrappers):
    """Metaclass that makes the type of a method work like `types.MethodType`.

    `weakref.WeakMethod`, and with it the signals of Django, calls it with function and instance.
    """

    def __call__(self, function: Any, instance: Any) -> Any:
        if isinstance(function, Traced):
            return cast("Any", function).__get__(instance, type(instance))
        method = getattr(instance, function.__name__, None)  # a class method
        is_same = getattr(method, "__func__", None) is function
        return method if is_same else types.MethodType(function, instance)


class _TracedMethod(_wrapt.BoundFunctionWrapper, metaclass=_MethodType):
    """Traced function as a method, or a static one, of an instance or class."""

    @property
    def __func__(self) -> Any:
        method: Any = self
        function = method.__wrapped__.__func__
        traced = method._self_parent
        return traced if traced.__wrapped__ is function else function

    def __reduce_ex__(self, protocol: Any) -> Any:
        method = self.__wrapped__
        owner = getattr(method, "__self__", None)
        if owner is not None:
            return getattr, (owner, method.__func__.__name__)
        found = _named(method)
        # Each attribute access makes a new wrapper, so the wrapped objects are compared.
        same = getattr(found, "__wrapped__", None) is method
        return (_find, (method.__module__, method.__qualname__)) if same else method.__qualname__

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        owner = getattr(self.__wrapped__, "__self__", None)
        if owner is None:
            return self
        import copy

        return getattr(copy.deepcopy(owner, memo), self.__wrapped__.__func__.__name__)


class Traced:
    """Base of the wrappers.

    A wrapper pickles by name, as functions do. A wrapper that its name does not lead to, such as
    that of a partial, pickles as the decorated object and the decorator.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any) -> Any:
        proxy: Any = self
        if _named(proxy.__wrapped__) is self:
            return proxy.__wrapped__.__qualname__
        return proxy._self_decorator, (proxy._self_function,)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Traced:
        return self

    def __deepcopy__(self, memo: Any) -> Traced:
        return self


_bind: Any = _wrapt.FunctionWrapper.__get__


class _TracedFunction(Traced, _wrapt.FunctionWrapper):
    """Traced function, class method or static method; it binds like them."""

    # `type.__call__`, since that of the metaclass takes a function and an instance.
    __bound_function_wrapper__ = staticmethod(functools.partial(type.__call__, _TracedMethod))

    def __init__(
        self, function: Any, call: CallHandler, decorator: Callable[[Any], Any], shown: Any
    ) -> None:
        _wrapt.FunctionWrapper.__init__(self, shown, call)
        self._self_function = function
        self._self_decorator = decorator

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        traced: Any = self
        if instance is None and traced.__wrapped__.__get__(None, owner) is traced.__wrapped__:
            return self  # as a plain function in its class: `Base.run is type(self).run`
        return _bind(self, instance, owner)


class _TracedObject(Traced, _wrapt.CallableObjectProxy):
    """Traced object that does not bind: a partial or a callable instance.

    It must not have `__get__`, or `inspect` would take it for a builtin method.
    """

    def __init__(
        self, function: Any, call: CallHandler, decorator: Callable[[Any], Any], shown: Any
    ) -> None:
        _wrapt.CallableObjectProxy.__init__(self, shown)
        self._self_function = function
        self._self_decorator = decorator

        def called(_: Any, __: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return call(shown, None, args, kwargs)

        self._self_method = _wrapt.FunctionWrapper(shown.__call__, called)

    __call__ = property(operator.attrgetter("_self_method"))
    """Frameworks inspect this, not the object, to know whether to await it."""

    @property
    def __signature__(self) -> inspect.Signature:
        try:
            return inspect.signature(cast("Any", self).__wrapped__)
        except (TypeError, ValueError):
            raise AttributeError("__signature__") from None  # `inspect` expects this


def wrap(
    function: Any, call: CallHandler, decorator: Callable[[Any], Any], shown: Any = None
) -> Any:
    """Return a `Traced` that looks like a function and runs `call` instead.

    `decorator` decorates the function again in the process that unpickles it. `shown` is the object
    that the wrapper looks like and that `call` gets, bound, as `wrapped`; by default the function.
    """
    shown = function if shown is None else shown
    binds = hasattr(cast("Any", type(shown)), "__get__")
    return (_TracedFunction if binds else _TracedObject)(function, call, decorator, shown)


def decorator_of(function: Traced) -> Callable[[Any], Any]:
    """Return the decorator of a traced function."""
    proxy: Any = function
    return proxy._self_decorator


def original_of(function: Traced) -> Any:
    """Return the function that was decorated."""
    proxy: Any = function
    return proxy._self_function


def bound_to(function: Any, instance: Any) -> Any:
    """Return a function bound to the instance, or class, of a `CallHandler`."""
    kind = cast("Any", type(function))
    if instance is None:
        is_static = issubclass(kind, staticmethod) or _is_class_method(function)
        return function.__get__(None, object) if is_static else function
    if _is_class_method(function):
        return function.__get__(None, instance)
    return function.__get__(instance, type(instance)) if hasattr(kind, "__get__") else function


def _is_class_method(function: Any) -> bool:
    while issubclass(cast("Any", type(function)), _wrapt.FunctionWrapper):
        function = function.__wrapped__
    return isinstance(function, classmethod)


def _named(function: Any) -> Any:
    """Return the object at a function's qualified name, or None."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in (getattr(function, "__qualname__", None) or "<none>").split("."):
        found = getattr(found, name, None)
    return found


def _find(module: str, qualname: str) -> Any:
    """Return the object at a qualified name; called when unpickling."""
    return functools.reduce(
        getattr, qualname.split("."), cast("Any", importlib.import_module(module))
    )


def is_function(value: Any) -> bool:
    """Return whether a value is callable, or a class or static method."""
    kind = cast("Any", type(value))  # isinstance() would run code of the value
    return callable(value) or issubclass(kind, classmethod | staticmethod)


def check_is_function(function: Any, decorator: str) -> None:
    """Raise InvalidArgumentError unless a decorator is used on a function."""
    if isinstance(function, type) or not is_function(function):
        raise InvalidArgumentError(
            decorator, function, f"used on a function: @{decorator} or @{decorator}(...)"
        )


def as_in_class(function: Any) -> Any:
    """Return a special method as its class would convert it.

    A class turns `__init_subclass__` and `__class_getitem__` into class methods and `__new__` into
    a static method, but only if they are plain functions, not wrappers.
    """
    if type(function) is not types.FunctionType:
        return function
    where = function.__qualname__.rpartition(".")[0]
    make = _MADE_BY_CLASSES.get(function.__name__)
    is_in_class = bool(where) and not where.endswith("<locals>")
    return make(function) if make is not None and is_in_class else function


_MADE_BY_CLASSES: Final[dict[str, Callable[[Any], Any]]] = {
    "__init_subclass__": classmethod,
    "__class_getitem__": classmethod,
    "__new__": staticmethod,
}


def target_of(function: Any) -> Any:
    """Return the function inside methods, partials and callable objects."""
    while True:
        if isinstance(function, Traced):
            function = cast("Any", function).__wrapped__
        elif isinstance(function, classmethod | staticmethod):
            function = cast("Any", function).__func__
        elif isinstance(function, functools.partial):
            function = cast("Any", function).func
        elif hasattr(function, "__code__"):
            return function
        else:
            method = inspect.getattr_static(cast("Any", type(function)), "__call__", None)
            return method if hasattr(method, "__code__") else function


def signature_of(function: Any) -> inspect.Signature | None:
    """Return the signature of a function; None for a builtin without one."""
    is_method = isinstance(function, classmethod | staticmethod)
    try:
        return inspect.signature(target_of(function) if is_method else function)
    except (TypeError, ValueError):
        return None


def name_of(function: Any) -> str:
    """Return the name of a function, or of the class of a callable object."""
    while isinstance(function, functools.partial):
        function = cast("Any", function).func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) and name else type(function).__name__


def described(function: Any) -> str:
    """Return the first line of a function's docstring, or its name in words."""
    target = target_of(function)
    doc = getattr(target, "__doc__", None)
    first_line = doc.strip().partition("\n")[0] if isinstance(doc, str) else ""
    return first_line or name_of(function).replace("_", " ").strip()
