"""Blocking calls from async functions, without blocking their event loop.

Code that waits is written once, as a generator that yields how long to sleep, and is run here in
both styles. Event loops are those of asyncio and trio, with or without anyio. Under another one, or
under none, calls are made in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, ParamSpec, TypeVar

from autotrace.base.event_loops import do_apart, off_loop, running_library

P = ParamSpec("P")
T = TypeVar("T")


def asynchronous(
    function: Callable[P, T], name: str | None = None
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return the async form of a blocking function, which calls it in a thread."""

    @functools.wraps(function, assigned=("__module__", "__annotations__"))
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread(functools.partial(function, *args, **kwargs))

    within, _, plain_name = function.__qualname__.rpartition(".")
    call.__name__ = name or f"a{plain_name}"
    call.__qualname__ = f"{within}.{call.__name__}" if within else call.__name__
    call.__doc__ = f"Do what `{plain_name}` does, without blocking the event loop."
    return call


async def in_thread(
    function: Callable[..., T], *arguments: Any, undo: Callable[[T], Any] | None = None
) -> T:
    """Call in a thread, with the context of the caller.

    A cancelled caller gets the cancellation after the call is done; `undo` is then called with the
    result.
    """
    library = running_library()
    if library is None:
        return function(*arguments)
    call = functools.partial(function, *arguments)
    return await (_in_trio if library == "trio" else _in_asyncio)(call, undo)


def call_unawaited(function: Callable[..., None], *arguments: Any) -> None:
    """Call where nothing can be awaited; in another thread if an event loop runs here."""
    with contextlib.suppress(TimeoutError):  # it goes on without us, and counts what fails
        off_loop(functools.partial(function, *arguments), do_apart)


async def _in_asyncio(call: Callable[[], T], undo: Callable[[T], Any] | None) -> T:
    done = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await _wait_for(done)
        if not done.cancelled() and done.exception() is None and undo is not None:
            await _wait_for(asyncio.ensure_future(asyncio.to_thread(undo, done.result())))
        raise


async def _wait_for(done: asyncio.Future[Any]) -> None:
    """Wait for a call whose caller was cancelled, however often it is cancelled."""
    while not done.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([done])


async def _in_trio(call: Callable[[], T], undo: Callable[[T], Any] | None) -> T:
    import trio

    result = await _shielded(call)
    if undo is not None:  # else the caller learns of it at its next checkpoint
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            await _shielded(functools.partial(undo, result))
            raise
    return result


async def _shielded(call: Callable[[], T]) -> T:
    import trio

    with trio.CancelScope(shield=True):
        return await trio.to_thread.run_sync(call)
    raise AssertionError  # nobody cancels that scope, so it swallows nothing


async def _sleep(seconds: float) -> None:
    if running_library() == "trio":
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def run_through(waiting: Generator[float, None, T]) -> T:
    """Run what waits to its end, in this thread."""
    while True:
        try:
            seconds = next(waiting)
        except StopIteration as stop:
            return stop.value
        time.sleep(seconds)


async def run_through_async(
    waiting: Generator[float, None, T], *, undo: Callable[[T], Any] | None = None
) -> T:
    """Run a waiting generator to its end, without blocking the event loop.

    `undo` is called with the result if the caller was cancelled in the last moment.
    """
    if running_library() is None:
        return run_through(waiting)

    def undo_end(step: float | _End[T]) -> None:
        if isinstance(step, _End) and undo is not None:
            undo(step.value)

    while True:
        step = await in_thread(_next, waiting, undo=undo_end)
        if isinstance(step, _End):
            return step.value
        await _sleep(step)


class _End(Generic[T]):
    """The end of a generator; a future cannot carry a StopIteration."""

    def __init__(self, value: T) -> None:
        self.value = value


def _next(waiting: Generator[float, None, T]) -> float | _End[T]:
    try:
        return next(waiting)
    except StopIteration as stop:
        return _End(stop.value)
