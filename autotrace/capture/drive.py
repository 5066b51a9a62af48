"""Running user functions inside operations: plain, async, generators, async generators.

What can go wrong, and the rule against it:

* A span left attached across a `yield` leaks into whatever the consumer does next, and cannot be
  detached where it was attached: it is attached only while the generator's body runs.
* `send`, `throw`, `close` and return values must reach the body: they are handed on one by one.
* A wrong call must raise where it did: the function is called at once, and only what it returned
  is driven, so that a TypeError comes from the call and not from the first `await`.
* A generator that is dropped halfway is closed by Python, which ends its span; one that is never
  started makes none, as nothing of it ran.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import CoroutineType
from typing import Any, cast

import wrapt

from autotrace.capture.recorder import Operation, Recorder, current, is_suppressed

MakeOperation = Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any]], Operation | None]
"""Makes the operation of one call from recorder, instance, args, kwargs. May raise Exceptions."""


class TracedFunction(wrapt.FunctionWrapper):
    """A function that records its calls and is otherwise the function it wraps.

    Introspection, binding as a method, and class or static methods in either order of stacking are
    those of the wrapped object. It pickles by name, as functions do.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__qualname__

    def __reduce__(self) -> Any:
        return self.__wrapped__.__qualname__

    def __copy__(self) -> TracedFunction:
        return self

    def __deepcopy__(self, memo: Any) -> TracedFunction:
        return self


def traced(
    function: Any, make: MakeOperation, not_configured: Callable[[], None] | None = None
) -> Any:
    """Wrap a function so that each call is an operation.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
        make: Makes the operation of a call; None for a call that is not to be recorded.
        not_configured: Called when a call finds that nothing records.
    """
    target = target_of(function)
    drive = (
        _drive_generator
        if isgeneratorfunction(target)
        else _drive_async_generator
        if isasyncgenfunction(target)
        else _drive_coroutine
        if iscoroutinefunction(target)
        else None
    )

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        recorder = current.recorder
        if recorder is None:
            if not_configured is not None:
                not_configured()
            return wrapped(*args, **kwargs)
        try:
            operation = None if is_suppressed() else make(recorder, instance, args, kwargs)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            recorder.failed(error)
            operation = None
        if operation is None:
            return wrapped(*args, **kwargs)
        if drive is None:
            return _run(operation, wrapped, args, kwargs)
        return _named(drive(operation, wrapped(*args, **kwargs)), wrapped)

    return TracedFunction(function, call)


def target_of(function: Any) -> Any:
    """Return the function inside class methods, static methods, partials and callable objects."""
    while True:
        if isinstance(function, classmethod | staticmethod):
            function = cast("Any", function).__func__
        elif hasattr(function, "func") and hasattr(function, "keywords"):
            function = function.func  # functools.partial and partialmethod
        elif not hasattr(function, "__code__") and hasattr(type(function), "__call__"):
            method = getattr(type(function), "__call__", None)
            return method if hasattr(method, "__code__") else function
        else:
            return function


def _run(
    operation: Operation, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    operation.enter()
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        operation.fail(error)
        raise
    if type(result) is CoroutineType:
        # A plain function that hands out a coroutine: what it stands for is still to run.
        operation.detach()
        return _named(_drive_coroutine(operation, result), wrapped)
    operation.succeed(result)
    return result


def _named(driver: Any, wrapped: Any) -> Any:
    driver.__name__ = getattr(wrapped, "__name__", driver.__name__)
    driver.__qualname__ = getattr(wrapped, "__qualname__", driver.__qualname__)
    return driver


async def _drive_coroutine(operation: Operation, coroutine: Coroutine[Any, Any, Any]) -> Any:
    if operation.span is None:
        operation.start()
    operation.attach()
    try:
        result = await coroutine
    except BaseException as error:
        operation.fail(error)
        raise
    operation.succeed(result)
    return result


def _drive_generator(
    operation: Operation, generator: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    operation.start()
    resume: Callable[[Any], Any] = generator.send
    value: Any = None
    try:
        while True:
            operation.attach()
            try:
                item = resume(value)
            finally:
                operation.detach()
            operation.item(item)
            try:
                value = yield item
                resume = generator.send
            except GeneratorExit:
                operation.attach()
                try:
                    generator.close()
                finally:
                    operation.detach()
                operation.close_early()
                raise
            except BaseException as error:  # noqa: BLE001 - handed on to the body
                value = error
                resume = generator.throw
    except StopIteration as stop:
        operation.succeed(stop.value)
        return stop.value
    except BaseException as error:
        operation.fail(error)
        raise


async def _drive_async_generator(
    operation: Operation, generator: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    operation.start()
    resume: Any = generator.asend(None)
    try:
        while True:
            operation.attach()
            try:
                item = await resume
            finally:
                operation.detach()
            operation.item(item)
            try:
                value = yield item
                resume = generator.asend(value)
            except GeneratorExit:
                operation.attach()
                try:
                    await generator.aclose()
                finally:
                    operation.detach()
                operation.close_early()
                raise
            except BaseException as error:  # noqa: BLE001 - handed on to the body
                resume = generator.athrow(error)
    except StopAsyncIteration:
        operation.succeed(None)
    except BaseException as error:
        operation.fail(error)
        raise
