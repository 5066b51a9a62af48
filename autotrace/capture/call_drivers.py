"""Run user functions, coroutines and generators inside operations.

* A span is attached only while the body of a generator runs, or it would leak into the consumer.
* `send`, `throw` and `close` reach the body one by one, `close` as GeneratorExit.
* A function is called at once and its result is driven, so that a wrong call raises a TypeError at
  the call. A generator that is never started makes no span; a dropped one is closed by Python.
* No yielded or sent value is kept across a `yield`.
"""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder, current, is_suppressed
from autotrace.capture.result_protocols import (
    STREAMS,
    Body,
    covers_coroutine,
    declared_body,
    is_held_once,
    returned_body,
)
from autotrace.capture.wrappers import wrap

if TYPE_CHECKING:
    from opentelemetry.context import Context

MakeOperation = Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any]], Operation]
"""Make the operation of a call from instance and arguments; may raise."""


class Tracing(Protocol):
    """Handler that calls a function inside an operation."""

    def __call__(
        self,
        wrapped: Any,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: MakeOperation = ...,
    ) -> Any:
        """Call `wrapped` in the operation that `make` returns."""
        ...


_ITERATION_ENDS: Final[dict[str, tuple[type[BaseException], ...]]] = {
    "__next__": (StopIteration,),
    "__anext__": (StopAsyncIteration,),
}
"""Exceptions by which these methods end without a failure."""


def _iteration_end(function: Any) -> tuple[type[BaseException], ...]:
    return _ITERATION_ENDS.get(function.__name__, ()) if type(function) is FunctionType else ()


def traced(
    function: Any,
    make: MakeOperation,
    decorator: Callable[[Any], Any],
    not_configured: Callable[[], None] | None = None,
) -> Any:
    """Wrap a function so that each call is an operation.

    `decorator` must be picklable. `not_configured` is called when a call finds that nothing
    records.
    """
    return wrap(function, tracing(function, make, not_configured), decorator)


def tracing(
    function: Any, make: MakeOperation, not_configured: Callable[[], None] | None = None
) -> Tracing:
    """Return the handler that makes each call an operation; see `traced`."""
    starts_later = declared_body(function) is not None
    is_for_await = covers_coroutine(function)
    ends_with = _iteration_end(function)

    def call(
        wrapped: Any,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: MakeOperation = make,
    ) -> Any:
        recorder = current.recorder
        if recorder is None:
            if not_configured is not None:
                not_configured()
            return wrapped(*args, **kwargs)
        operation: Operation | None = None
        try:
            if not is_suppressed():
                operation = make(recorder, instance, args, kwargs)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            recorder.failed(error)
        if operation is None:
            return wrapped(*args, **kwargs)
        operation.ends_with = ends_with
        if starts_later:
            return _driven(operation, wrapped, args, kwargs)
        operation.enter()
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            operation.fail(error)
            raise
        body = returned_body(result)
        if body is None:
            operation.succeed(result)
            return result
        held_once = is_held_once(result)
        if can_be_driven(body, held_once):
            return _handed_on(operation, body, result, held_once)
        if body is Body.FUTURE and is_for_await:
            _follow(operation, result)
        else:
            operation.succeed(result)
        return result

    return call


def _driven(
    operation: Operation, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a function whose body runs later, and drive its result."""
    operation.note_call()
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:  # a wrong call, which fails before the body starts
        operation.start()
        operation.fail(error)
        raise
    body = returned_body(result)
    if body is None:  # the code was replaced after the function was decorated
        operation.start()
        operation.succeed(result)
        return result
    if body is Body.COROUTINE:
        operation.unstarted = result
    return driven_by(_DRIVERS, operation, body, result)


def can_be_driven(body: Body, held_once: bool) -> bool:
    """Return whether a driver may replace the result of a call.

    A generator that has other references is not driven, since a driver would close it.
    """
    if body in STREAMS:
        return held_once
    return body is not Body.FUTURE


def _handed_on(operation: Operation, body: Body, result: Any, held_once: bool) -> Any:
    """Drive the result of a finished call; its operation ends with the result."""
    operation.detach()
    if body in STREAMS:
        operation.streams()
    elif held_once:  # no other reference: the operation closes it if it is dropped
        operation.unstarted = result
    return driven_by(_DRIVERS, operation, body, result)


def _follow(operation: Operation, future: Any) -> None:
    """End an operation when an asyncio future is done."""
    operation.detach()
    try:
        future.add_done_callback(partial(_finish_call, operation))
    except Exception as error:  # noqa: BLE001 - the guard of this package
        operation.recorder.failed(error)
        operation.succeed()


def _finish_call(operation: Operation, future: Any) -> None:
    try:
        if future.cancelled():
            operation.fail(asyncio.CancelledError())
            return
        # `exception()` would keep asyncio from logging an exception that is never retrieved.
        error = future._exception
        result = None if error is not None else future.result()
    except Exception as error_of_ours:  # noqa: BLE001 - the guard of this package
        operation.recorder.failed(error_of_ours)
        operation.succeed()
        return
    if error is not None:
        operation.fail(error)
    else:
        operation.succeed(result)


class Drivers(NamedTuple):
    """Drivers by kind of body, called with the body and its operation.

    Drivers take the body first: an unstarted driver drops its variables in order, and operations of
    the body must end before its own.
    """

    generator: Callable[[Any, Any], Any]
    async_generator: Callable[[Any, Any], Any]
    coroutine: Callable[[Any, Any], Any]
    iterable_coroutine: Callable[[Any, Any], Any]


def driven_by(drivers: Drivers, driven_for: Any, body: Body, result: Any) -> Any:
    """Return a driver of a result that has the name of the result."""
    driver: Any
    match body:
        case Body.GENERATOR:
            driver = drivers.generator(result, driven_for)
        case Body.ASYNC_GENERATOR:
            driver = drivers.async_generator(result, driven_for)
        case Body.ITERABLE_COROUTINE:
            driver = drivers.iterable_coroutine(result, driven_for)
        case _:
            driver = drivers.coroutine(result, driven_for)
    for name in ("__name__", "__qualname__"):
        given = getattr(result, name, None)
        if type(given) is str:  # objects of other compilers may have no name
            setattr(driver, name, given)
    return driver


async def _drive_coroutine(coroutine: Coroutine[Any, Any, Any], operation: Operation) -> Any:
    operation.resume()
    try:
        result = await coroutine
    except BaseException as error:
        operation.fail(error)
        raise
    body = returned_body(result)
    if body in STREAMS and is_held_once(result):
        return _handed_on(operation, body, result, held_once=True)
    operation.succeed(result)
    return result


@types.coroutine
def _drive_iterable_coroutine(
    body: Generator[Any, Any, Any], operation: Operation
) -> Generator[Any, Any, Any]:
    operation.resume()
    try:
        result = yield from body
    except BaseException as error:
        operation.fail(error)
        raise
    operation.succeed(result)
    return result


def _drive_generator(
    generator: Generator[Any, Any, Any], operation: Operation
) -> Generator[Any, Any, Any]:
    operation.start()
    operation.streams()
    resume: Callable[[Any], Any] = generator.send
    value: Any = None
    closing = False
    body: Context | None = None
    passing: list[Any] = []
    try:
        while True:
            inside = operation.attach(body)
            try:
                passing.append(resume(value))
            finally:
                value = None
            body = operation.suspend(inside, body)
            operation.item(passing[0])
            try:
                value = yield passing.pop()
                resume, closing = generator.send, False
            except BaseException as error:  # noqa: BLE001 - handed on to the body
                value, resume = error, generator.throw
                closing = isinstance(error, GeneratorExit)
    except StopIteration as stop:
        if closing:
            operation.close_early()
        else:
            operation.succeed(stop.value)
        return stop.value
    except BaseException as error:
        _end_of_stream(operation, error, closing=closing)
        raise


async def _drive_async_generator(
    generator: AsyncGenerator[Any, Any], operation: Operation
) -> AsyncGenerator[Any, Any]:
    operation.start()
    operation.streams()
    _ending = _Ending(operation)
    step: Any = first_step(generator)
    closing = False
    body: Context | None = None
    passing: list[Any] = []
    try:
        while True:
            inside = operation.attach(body)
            try:
                passing.append(await step)
            finally:
                step = None
            body = operation.suspend(inside, body)
            operation.item(passing[0])
            try:
                step = generator.asend((yield passing.pop()))
                closing = False
            except BaseException as error:  # noqa: BLE001 - handed on to the body
                step = generator.athrow(error)
                closing = isinstance(error, GeneratorExit)
    except StopAsyncIteration:
        if closing:
            operation.close_early()
        else:
            operation.succeed()
    except BaseException as error:
        _end_of_stream(operation, error, closing=closing)
        raise


class _Ending:
    """Guard that ends an operation when the frame that holds it is cleared.

    Without it, the operation of a generator that is collected without an event loop would stay
    attached if the body awaits then.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def __del__(self) -> None:
        self.operation.close_early()


def first_step(generator: AsyncGenerator[Any, Any]) -> Any:
    """Start an async generator without registering it at the event loop.

    At shutdown the loop closes all registered generators at once. The driver is registered and
    closes the inner one; if that were registered, too, the loop would close it as well.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _end_of_stream(operation: Operation, error: BaseException, *, closing: bool) -> None:
    if closing and isinstance(error, GeneratorExit):
        operation.close_early()
    else:
        operation.fail(error)


_DRIVERS: Final = Drivers(
    _drive_generator, _drive_async_generator, _drive_coroutine, _drive_iterable_coroutine
)
