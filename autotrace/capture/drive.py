"""Running user functions inside operations: plain, async, generators, async generators.

What can go wrong, and the rule against it:

* A span left attached across a `yield` leaks into whatever the consumer does next, and cannot be
  detached where it was attached: it is attached only while the generator's body runs.
* `send`, `throw`, `close` and return values must reach the body: they are handed on one by one.
  `close` is handed on as the GeneratorExit it is, so that a body that catches it, or yields in
  spite of it, meets what it would meet without us.
* A wrong call must raise where it did: the function is called at once, and only what it returned
  is driven, so that a TypeError comes from the call and not from the first `await`.
* A generator that is dropped halfway is closed by Python, which ends its span; one that is never
  started makes none, as nothing of it ran.
* What passes through must not live longer than without us: nothing that was yielded or sent is
  kept across a `yield`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from inspect import (
    CO_ITERABLE_COROUTINE,
    isasyncgenfunction,
    iscoroutine,
    iscoroutinefunction,
    isgeneratorfunction,
    unwrap,
)
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from autotrace.capture.function import target_of, wrap
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder, current, is_suppressed

if TYPE_CHECKING:
    from opentelemetry.context import Context

MakeOperation = Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any]], Operation]
"""Makes the operation of one call from recorder, instance, args, kwargs. May raise Exceptions."""


class Tracing(Protocol):
    """Calls a function, so that the call is an operation."""

    def __call__(
        self,
        wrapped: Any,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: MakeOperation = ...,
    ) -> Any:
        """Call `wrapped`; `make` makes the operation of this call."""
        ...


def traced(
    function: Any,
    make: MakeOperation,
    decorator: Callable[[Any], Any],
    not_configured: Callable[[], None] | None = None,
) -> Any:
    """Wrap a function so that each call is an operation.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
        make: Makes the operation of a call.
        decorator: What the function is decorated with; picklable.
        not_configured: Called when a call finds that nothing records.

    Returns:
        A `Traced`.
    """
    return wrap(function, tracing(function, make, not_configured), decorator)


def stages_of(function: Any) -> tuple[bool, frozenset[type | None]]:
    """Tell when the body of a function runs.

    Returns:
        Whether a call only makes what will run it; and what else a call may return that will.
    """
    target = target_of(function)
    handed_out = frozenset({CoroutineType, _kind_of(_innermost(target))})
    return _kind_of(target) is not None, handed_out


def tracing(
    function: Any, make: MakeOperation, not_configured: Callable[[], None] | None = None
) -> Tracing:
    """Return what calls a function so that each call is an operation; see `traced`."""
    starts_later, handed_out = stages_of(function)

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
        if starts_later:
            return _driven(operation, wrapped, args, kwargs)
        operation.enter()
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            operation.fail(error)
            raise
        if type(result) in handed_out:
            # A plain function that hands out a coroutine, or a decorator's wrapper that hands out
            # the generator of the function below it: what it stands for is still to run.
            operation.detach()
            if not iscoroutine(result):
                operation.streams()
            elif sys.getrefcount(result) <= 2:  # nobody else has it: ours to close if it is dropped
                operation.unstarted = result
            return driven_by(_DRIVERS, operation, result)
        operation.succeed(result)
        return result

    return call


def _innermost(function: Any) -> Any:
    """Return the function below decorators that tell what they wrap."""
    try:
        return target_of(unwrap(function))
    except ValueError:  # they wrap each other
        return function


def _kind_of(function: Any) -> type | None:
    """Return the type of what a call hands out when the body only runs later, or None."""
    if iscoroutinefunction(function):
        return CoroutineType
    if isasyncgenfunction(function):
        return AsyncGeneratorType
    if isgeneratorfunction(function):
        return GeneratorType
    return None


def _driven(
    operation: Operation, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        body = wrapped(*args, **kwargs)
    except BaseException as error:  # a wrong call: it has failed before it began
        operation.start()
        operation.fail(error)
        raise
    if type(body) is CoroutineType:
        operation.unstarted = body
    return driven_by(_DRIVERS, operation, body)


class Drivers(NamedTuple):
    """What drives a body, given what it is driven for and the body: one for each kind."""

    generator: Callable[[Any, Any], Any]
    async_generator: Callable[[Any, Any], Any]
    coroutine: Callable[[Any, Any], Any]


def driven_by(drivers: Drivers, driven_for: Any, body: Any) -> Any:
    """Return the driver for what a call has returned, under the name of what it drives."""
    kind = cast("Any", type(body))
    if kind is GeneratorType and not body.gi_code.co_flags & CO_ITERABLE_COROUTINE:
        driver = drivers.generator(driven_for, body)
    elif kind is AsyncGeneratorType:
        driver = drivers.async_generator(driven_for, body)
    else:
        driver = drivers.coroutine(driven_for, body)
        if kind is not CoroutineType and kind is not GeneratorType:
            return driver  # what a foreign compiler makes of a coroutine; it may have no name
    driver.__name__, driver.__qualname__ = body.__name__, body.__qualname__
    return driver


async def _drive_coroutine(operation: Operation, coroutine: Coroutine[Any, Any, Any]) -> Any:
    operation.unstarted = None
    if operation.span is None:
        operation.enter()
    else:  # it has started in the plain function that handed the coroutine out
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
    operation: Operation, generator: AsyncGenerator[Any, Any]
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
    """Ends an operation with the frame that holds this, whatever the context holds.

    A generator that is collected without an event loop cannot finish if its body awaits something
    then. It stays where it is, attached, until its frame is cleared.
    """

    __slots__ = ("operation",)

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def __del__(self) -> None:
        self.operation.close_early()


def first_step(generator: AsyncGenerator[Any, Any]) -> Any:
    """Begin an async generator without the event loop's knowledge.

    The loop closes the generators that it knows of when it shuts down, all at once. It knows of
    ours, which closes the one inside; if it knew of both, they would close each other.
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


_DRIVERS: Final = Drivers(_drive_generator, _drive_async_generator, _drive_coroutine)
