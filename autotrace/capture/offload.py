"""Calls that take their time, from code that must not block its event loop.

What waits is written once, as a generator that yields how long to sleep; here it is run through in
both styles. Under another event loop than asyncio's, or under none, calls are made in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def in_thread(
    function: Callable[..., T], *arguments: Any, undo: Callable[[T], Any] | None = None
) -> T:
    """Call in a thread, with the context of the caller.

    A caller who is cancelled meanwhile learns of it after the call is done, so that nothing is
    left half done that nobody knows of.

    Args:
        function: What to call.
        arguments: Its arguments.
        undo: Called with the result if the caller was cancelled.
    """
    if not _in_asyncio():
        return function(*arguments)
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await _done(call)
        if not call.cancelled() and call.exception() is None and undo is not None:
            await _done(asyncio.ensure_future(asyncio.to_thread(undo, call.result())))
        raise


async def _done(call: asyncio.Future[Any]) -> None:
    """Wait for a call whose caller was cancelled, however often that is said again."""
    while not call.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([call])


def _in_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


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
    """Run what waits to its end, without blocking the event loop.

    Args:
        waiting: What waits.
        undo: Called with the result if the caller was cancelled in the last moment.
    """
    if not _in_asyncio():
        return run_through(waiting)

    def undo_end(step: float | _End[T]) -> None:
        if isinstance(step, _End) and undo is not None:
            undo(step.value)

    while True:
        step = await in_thread(_next, waiting, undo=undo_end)
        if isinstance(step, _End):
            return step.value
        await asyncio.sleep(step)


class _End(Generic[T]):
    """The end of a generator; a future cannot carry a StopIteration."""

    def __init__(self, value: T) -> None:
        self.value = value


def _next(waiting: Generator[float, None, T]) -> float | _End[T]:
    try:
        return next(waiting)
    except StopIteration as stop:
        return _End(stop.value)
