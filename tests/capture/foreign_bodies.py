"""Coroutines and generators that Python has not made: what compilers of other projects return."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any


class CompiledCoroutine(Coroutine[Any, Any, Any]):
    """What Cython makes of a coroutine: nothing but the protocol."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.__name__, self.__qualname__ = body.__name__, body.__qualname__

    def send(self, value: Any) -> Any:
        return self._body.send(value)

    def throw(self, *error: Any) -> Any:
        return self._body.throw(*error)

    def close(self) -> None:
        self._body.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._body.__await__()


class CompiledGenerator(Generator[Any, Any, Any]):
    """The same of a generator."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def send(self, value: Any) -> Any:
        return self._body.send(value)

    def throw(self, *error: Any) -> Any:
        return self._body.throw(*error)

    def close(self) -> None:
        self._body.close()

    def __next__(self) -> Any:
        return next(self._body)


class CompiledAsyncGenerator(AsyncGenerator[Any, Any]):
    """The same of an async generator."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def __anext__(self) -> Any:
        return self._body.__anext__()

    def asend(self, value: Any) -> Any:
        return self._body.asend(value)

    def athrow(self, *error: Any) -> Any:
        return self._body.athrow(*error)

    def aclose(self) -> Any:
        return self._body.aclose()


_RETURNED = {
    "async": CompiledCoroutine,
    "generator": CompiledGenerator,
    "async generator": CompiledAsyncGenerator,
}


def compiled(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as a compiler makes it: `inspect` cannot tell its kind.

    Args:
        kind: What a call of the function returns, as in `subjects.KINDS`.
        function: The function.
    """
    wrap = _RETURNED.get(kind, lambda value: value)

    def call(*args: Any, **kwargs: Any) -> Any:
        return wrap(function(*args, **kwargs))

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined] - read by inspect
    return call
