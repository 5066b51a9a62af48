"""Call functions behind a gate: plain, async, generators, async generators.

The gate is outside of the tool's operation, so that waiting for approval does not count as the
call's duration. A body that starts later than the call passes the gate when it starts.
"""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Callable, Generator
from inspect import isawaitable
from typing import Any, Final, NoReturn, cast

from autotrace.base.blocking_calls import call_unawaited, in_thread, run_through, run_through_async
from autotrace.base.event_loops import running_library
from autotrace.capture.approvals.approved_run import ApprovedRun
from autotrace.capture.approvals.gate import ApprovalCall, Gate
from autotrace.capture.call_drivers import Drivers, Tracing, can_be_driven, driven_by, first_step
from autotrace.capture.result_protocols import (
    STREAMS,
    claimed_body,
    declared_body,
    is_held_once,
    returned_body,
)
from autotrace.capture.wrappers import CallHandler, bound_to, name_of

_CANCELLED: Final = "cancelled before it ran"


def gated(function: Any, gate: Gate, call: Tracing) -> CallHandler:
    """Return a handler that calls a function once its gate is passed.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
        gate: The gate.
        call: Calls the function.
    """
    claimed = claimed_body(function)

    def gated_call(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            passage = gate.prepare(instance, args, kwargs)
        except TypeError as error:
            return call(_raising(error), instance, args, kwargs)
        args, kwargs = passage.args, passage.kwargs
        wrapped = bound_to(function, instance)  # the given object may be a proxy
        # Looked up at each call, as the function may have changed.
        body = declared_body(function)
        if body is not None:
            made = call(wrapped, instance, args, kwargs, passage.make)
            return driven_by(_DRIVERS, passage, body, made)
        is_closed = passage.is_closed()
        if is_closed and claimed is not None and running_library() is not None:
            # Passing the gate at once would block the event loop.
            later = _Uncalled(function, lambda: call(wrapped, instance, args, kwargs, passage.make))
            return driven_by(_DRIVERS, passage, claimed, later)
        run = run_through(passage.steps()) if is_closed else None
        make = () if run is None else (passage.make,)
        try:
            result = call(wrapped, instance, args, kwargs, *make)
        except BaseException as error:
            passage.leave()
            if run is not None:
                run.fail(error)
            raise
        if run is not None or passage.has_copies:
            body = returned_body(result)
            # The body of a coroutine or generator runs later: see capture/call_drivers.py
            if body is not None and can_be_driven(body, is_held_once(result)):
                return driven_by(_DRIVERS, _Passed(passage, run), body, result)
        passage.leave()
        if run is not None:
            run.succeed()
        return passage.result_of(result)

    return gated_call


def _raising(error: TypeError) -> Any:
    """Return a function that raises the error of a wrong call."""

    def wrongly_called(*_: Any, **__: Any) -> NoReturn:
        raise error

    return wrongly_called


class _Passed:
    """A gate that was passed before its body could start."""

    def __init__(self, passage: ApprovalCall | _Passed, run: ApprovedRun | None) -> None:
        self._run = run
        self.leave = passage.leave
        self.result_of = passage.result_of

    def is_closed(self) -> bool:
        return self._run is not None

    def steps(self) -> Generator[float, None, ApprovedRun]:
        yield from ()
        if self._run is None:  # `is_closed` is False then
            raise AssertionError
        return self._run


_Way = ApprovalCall | _Passed


def _give_up(run: ApprovedRun) -> None:
    run.give_up(_CANCELLED)


def _drive_generator(body: Generator[Any, Any, Any], way: _Way) -> Generator[Any, Any, Any]:
    run = run_through(way.steps()) if way.is_closed() else None
    try:
        result = yield from body
    except GeneratorExit:  # the consumer stopped, which is not a failure
        way.leave()
        if run is not None:
            run.succeed()
        raise
    except BaseException as error:
        way.leave()
        if run is not None:
            run.fail(error)
        raise
    way.leave()
    if run is not None:
        run.succeed()
    return way.result_of(result)


class _Uncalled:
    """Result of a function that must not be called before its gate is passed."""

    def __init__(self, function: Any, call: Callable[[], Any]) -> None:
        self.__name__ = name_of(function)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self._call = call
        self._generator: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        result = self._call()
        return (yield from _awaited(result).__await__()) if isawaitable(result) else result

    def close(self) -> None:
        """Do nothing: the function was not called."""

    def asend(self, value: Any) -> Any:
        """Continue as an async generator; the first step calls the function."""
        if self._generator is None:
            made = self._call()
            if not hasattr(made, "asend"):
                msg = (
                    f"{self.__name__} returned a {name_of(type(made))} to its caller in an event "
                    "loop, but inspect.isasyncgenfunction() is true for it; have it return an "
                    "async generator"
                )
                raise TypeError(msg)
            self._generator = made
        return self._generator.asend(value)

    def athrow(self, error: BaseException) -> Any:
        """Raise in the async generator."""
        return self._generator.athrow(error)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


class _Unstarted:
    """Closes a coroutine that is not awaited, so that Python warns only of the outer one."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def take(self) -> Any:
        coroutine, self.coroutine = self.coroutine, None
        return coroutine

    def close(self) -> None:
        """Close the coroutine, if it was not taken."""
        close = getattr(self.take(), "close", None)
        if close is not None:
            close()

    __del__ = close


def _drive_coroutine(body: Any, way: _Way) -> Any:
    return _await(way, _Unstarted(body))


async def _await(way: _Way, unstarted: _Unstarted) -> Any:
    try:
        run = await run_through_async(way.steps(), undo=_give_up) if way.is_closed() else None
    except BaseException:
        unstarted.close()  # a cycle with the exception would be collected in any order
        raise
    try:
        result = await unstarted.take()
    except GeneratorExit as error:  # a coroutine that is being closed cannot await
        way.leave()
        if run is not None:
            call_unawaited(run.fail, error)
        raise
    except BaseException as error:
        way.leave()
        if run is not None:
            await in_thread(run.fail, error)
        raise
    body = returned_body(result)
    if body in STREAMS and is_held_once(result):
        return driven_by(_DRIVERS, _Passed(way, run), body, result)
    way.leave()
    if run is not None:
        await in_thread(run.succeed)
    return way.result_of(result)


async def _drive_async_generator(
    body: AsyncGenerator[Any, Any], way: _Way
) -> AsyncGenerator[Any, Any]:
    run = await run_through_async(way.steps(), undo=_give_up) if way.is_closed() else None
    step: Any = None
    closing = False
    passing: list[Any] = []
    try:
        step = first_step(body)  # calls the function, if it waited for the gate
        while True:
            try:
                passing.append(await step)
            finally:
                step = None
            try:
                step = body.asend((yield passing.pop()))
                closing = False
            except BaseException as error:  # noqa: BLE001 - handed on to the body
                step = body.athrow(error)
                closing = isinstance(error, GeneratorExit)
    except StopAsyncIteration:
        way.leave()
        if run is not None:
            await in_thread(run.succeed)
    except GeneratorExit as error:
        way.leave()
        if run is not None:
            await (in_thread(run.succeed) if closing else in_thread(run.fail, error))
        raise
    except BaseException as error:
        way.leave()
        if run is not None:
            await in_thread(run.fail, error)
        raise


@types.coroutine
def _drive_iterable_coroutine(body: Any, way: _Way) -> Generator[Any, Any, Any]:
    return (yield from cast("Generator[Any, Any, Any]", _await(way, _Unstarted(body))))


_DRIVERS: Final = Drivers(
    _drive_generator, _drive_async_generator, _drive_coroutine, _drive_iterable_coroutine
)
