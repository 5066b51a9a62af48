"""The functions that the conformance matrix decorates: every call kind as every kind of method.

Each takes the same parameters and does what it is sent, so that one script drives a decorated one
and its undecorated twin, and what both did can be compared.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Final

import wrapt
from opentelemetry.trace import get_current_span

from tests.capture.foreign_bodies import compiled

KINDS: Final = ("sync", "async", "generator", "async generator")
HOSTS: Final = (
    "function",
    "method",
    "unbound method",
    "class method",
    "static method",
    "partial",
    "callable object",
    "bound method",
)
OPAQUE_HOSTS: Final = ("adapted function", "adapted method", "compiled function")
"""Where only what a call returns can show its kind."""
WAIT: Final = "wait"
STOP: Final = "stop"

current_spans: list[int] = []
"""The span that was current in each body that ran, by its id."""
closed: list[str] = []
"""One entry for each body of a generator or coroutine that was left, in whatever way."""


class Pause:
    """Awaiting it gives way once, to an event loop or to whoever drives the coroutine by hand."""

    def __await__(self) -> Generator[None]:
        yield


def _note() -> None:
    current_spans.append(get_current_span().get_span_context().span_id)


def _plain(a: Any, b: Any, rest: tuple[Any, ...], c: Any, more: dict[str, Any]) -> list[Any]:
    _note()
    if isinstance(a, BaseException):
        raise a
    return [a, b, list(rest), c, more]


async def _async(a: Any, b: Any, rest: tuple[Any, ...], c: Any, more: dict[str, Any]) -> list[Any]:
    try:
        await Pause()
        while a == WAIT:
            await Pause()
        return _plain(a, b, rest, c, more)
    finally:
        closed.append("coroutine")


def _generator(
    a: Any, b: Any, rest: tuple[Any, ...], c: Any, more: dict[str, Any]
) -> Generator[Any, Any, str]:
    try:
        _note()
        got = yield [a, b, list(rest), c, more]
        while got != STOP:
            if isinstance(got, BaseException):
                raise got
            try:
                _note()
                got = yield ["echo", got]
            except KeyError as error:
                got = yield ["caught", *error.args]
        return "returned"
    finally:
        closed.append("generator")


class _Turns:
    """What the async generators do between being sent one thing and yielding the next."""

    def __init__(self, *arguments: Any) -> None:
        a, b, rest, c, more = arguments
        self._first = [a, b, list(rest), c, more]

    async def first(self) -> list[Any]:
        await Pause()
        _note()
        return self._first

    async def after(self, got: Any) -> Any:
        if got == STOP or isinstance(got, BaseException):
            if got == STOP:
                return STOP
            raise got
        await Pause()
        while got == WAIT:
            await Pause()
        _note()
        return ["echo", got]

    async def close(self) -> None:
        await Pause()
        closed.append("async generator")


def sync_function(a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any) -> list[Any]:
    """Does as it is told."""
    return _plain(a, b, rest, c, more)


def sync_method(self: object, a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any) -> list[Any]:
    """Does as it is told."""
    return _plain(a, b, rest, c, more)


def sync_class_method(
    cls: type[object], a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> list[Any]:
    """Does as it is told."""
    return _plain(a, b, rest, c, more)


async def async_function(a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any) -> list[Any]:
    """Does as it is told."""
    return await _async(a, b, rest, c, more)


async def async_method(
    self: object, a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> list[Any]:
    """Does as it is told."""
    return await _async(a, b, rest, c, more)


async def async_class_method(
    cls: type[object], a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> list[Any]:
    """Does as it is told."""
    return await _async(a, b, rest, c, more)


def generator_function(
    a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> Generator[Any, Any, str]:
    """Does as it is told."""
    return (yield from _generator(a, b, rest, c, more))


def generator_method(
    self: object, a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> Generator[Any, Any, str]:
    """Does as it is told."""
    return (yield from _generator(a, b, rest, c, more))


def generator_class_method(
    cls: type[object], a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> Generator[Any, Any, str]:
    """Does as it is told."""
    return (yield from _generator(a, b, rest, c, more))


async def async_generator_function(
    a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> AsyncGenerator[Any, Any]:
    """Does as it is told."""
    turns = _Turns(a, b, rest, c, more)
    try:
        item = await turns.first()
        while item is not STOP:
            try:
                item = await turns.after((yield item))
            except KeyError as error:
                item = ["caught", *error.args]
    finally:
        await turns.close()


async def async_generator_method(
    self: object, a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> AsyncGenerator[Any, Any]:
    """Does as it is told."""
    turns = _Turns(a, b, rest, c, more)
    try:
        item = await turns.first()
        while item is not STOP:
            try:
                item = await turns.after((yield item))
            except KeyError as error:
                item = ["caught", *error.args]
    finally:
        await turns.close()


async def async_generator_class_method(
    cls: type[object], a: Any, b: int = 2, *rest: Any, c: int = 3, **more: Any
) -> AsyncGenerator[Any, Any]:
    """Does as it is told."""
    turns = _Turns(a, b, rest, c, more)
    try:
        item = await turns.first()
        while item is not STOP:
            try:
                item = await turns.after((yield item))
            except KeyError as error:
                item = ["caught", *error.args]
    finally:
        await turns.close()


FUNCTIONS: Final[dict[str, tuple[Any, Any, Any]]] = {
    "sync": (sync_function, sync_method, sync_class_method),
    "async": (async_function, async_method, async_class_method),
    "generator": (generator_function, generator_method, generator_class_method),
    "async generator": (
        async_generator_function,
        async_generator_method,
        async_generator_class_method,
    ),
}
"""Of each call kind: as a function, with `self` and with `cls`."""

Wrap = Callable[[Any], Any]


def plain(function: Any) -> Any:
    """Decorate with nothing."""
    return function


def foreign(function: Any) -> Any:
    """Decorate as other libraries do: a plain wrapper that says what it wraps."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@wrapt.decorator
def adapted(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Decorate as instrumentation does: to `inspect`, the same function as the one below."""
    return wrapped(*args, **kwargs)


def hosted(kind: str, host: str, wrap: Wrap, wrap_descriptor: Wrap = plain) -> Callable[..., Any]:
    """Return a subject as users reach it: by its name, on an instance, on a class.

    Args:
        kind: One of `KINDS`.
        host: One of `HOSTS` or `OPAQUE_HOSTS`.
        wrap: Decorates the function.
        wrap_descriptor: Decorates what `classmethod` and `staticmethod` make of it.
    """
    function, method, class_method = FUNCTIONS[kind]
    if host == "function":
        return wrap(function)
    if host == "adapted function":
        return wrap(adapted(function))
    if host == "adapted method":
        return type("Host", (), {"subject": wrap(adapted(method))})().subject
    if host == "compiled function":
        return wrap(compiled(kind, function))
    if host == "partial":
        return wrap(functools.partial(function, c=30))
    if host == "callable object":
        return wrap(type("Service", (), {"__call__": method})())
    if host == "bound method":
        return wrap(type("Host", (), {"subject": method})().subject)
    if host == "class method":
        return type(
            "Host", (), {"subject": wrap_descriptor(classmethod(wrap(class_method)))}
        ).subject
    if host == "static method":
        return type("Host", (), {"subject": wrap_descriptor(staticmethod(wrap(function)))}).subject
    host_type = type("Host", (), {"subject": wrap(method)})
    if host == "unbound method":
        return functools.partial(host_type.subject, host_type())
    return host_type().subject
