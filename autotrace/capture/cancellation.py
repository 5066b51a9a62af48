"""Decide whether a call was cancelled by a timeout around it.

A cancelled call sees a `CancelledError` without its reason; the `TimeoutError` is raised by the
timeout, after the span has ended. So this module looks for expired timeouts of the call's asyncio
task and of the tasks that await it (`gather`, `TaskGroup`, `wait_for`). A task does not know its
timeouts, so `asyncio.Timeout` is patched to record the task when it expires.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from asyncio import timeouts
from collections.abc import Iterator
from typing import Any, Final

_MAX_TASKS: Final = 32
"""Limit of tasks examined: the cancelled one and those that await it."""
_DEADLINE: Final = "; reason: deadline exceeded"
"""End of the message with which anyio cancels at a deadline."""

_expired: Final[weakref.WeakKeyDictionary[Any, list[weakref.ref[Any]]]] = (
    weakref.WeakKeyDictionary()
)
"""Expired timeouts of each task."""


def note_timeouts() -> None:
    """Patch the timeouts of asyncio to record the tasks that they cancel."""
    original: Any = getattr(timeouts.Timeout, "_on_timeout", None)
    if original is None or hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def _on_timeout(self: Any) -> None:
        try:
            task = self._task
            known = [ref for ref in _expired.get(task, ()) if _is_expiring(ref())]
            _expired[task] = [*known, weakref.ref(self)]
        except Exception:  # noqa: BLE001, S110 - asyncio's private names have changed
            pass
        original(self)

    timeouts.Timeout._on_timeout = _on_timeout  # pyright: ignore[reportAttributeAccessIssue] - it is private


def _is_expiring(timeout: Any) -> bool:
    """Return whether a timeout has cancelled its task and not yet exited."""
    return timeout is not None and timeout._state.value == "expiring"


def is_by_timeout(error: BaseException) -> bool:
    """Return whether a timeout around the current task cancelled the call."""
    if getattr(error, "source", None) == "deadline":  # of trio
        return True
    if any(isinstance(word, str) and word.endswith(_DEADLINE) for word in error.args):
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return False
    try:
        return _is_out_of_time(task)
    except Exception:  # noqa: BLE001 - asyncio's private names have changed
        return False


def _is_out_of_time(task: Any) -> bool:
    waiting: list[Any] = [task]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_TASKS:
        task = waiting.pop()
        if task is None or id(task) in seen:
            continue
        seen.add(id(task))
        if any(_is_expiring(ref()) for ref in _expired.get(task, ())) or _in_late_scope(task):
            return True
        met: list[Any] = []
        for awaiting in _awaiting(task, met):
            if _wait_is_over(awaiting, met):
                return True
            waiting.append(awaiting)
    return False


def _awaiting(future: Any, met: list[Any], depth: int = 0) -> Iterator[Any]:
    """Yield the tasks that await a future; `met` gets it and those between."""
    met.append(future)
    for callback, _ in getattr(future, "_callbacks", None) or ():
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.Task):  # it wakes up the task that awaits the future
            yield owner
        elif isinstance(owner, asyncio.TaskGroup):
            yield getattr(owner, "_parent_task", None)
        elif depth < 3:
            for inner in _futures_in(callback):
                yield from _awaiting(inner, met, depth + 1)


def _futures_in(callback: Any) -> Iterator[Any]:
    """Yield the futures in a callback of `gather`, `wait` or `wait_for`."""
    held: list[Any] = list(getattr(callback, "args", ()))
    for cell in getattr(callback, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # an empty cell
            continue
    yield from (value for value in held if isinstance(value, asyncio.Future))


def _wait_is_over(awaiting: Any, awaited: list[Any]) -> bool:
    """Return whether a task awaits a future in a `wait_for` that timed out.

    Only Python 3.11 needs this: the `wait_for` of later versions uses `asyncio.Timeout`.
    """
    frame_owner: Any = awaiting.get_coro()
    while frame_owner is not None:
        frame = getattr(frame_owner, "cr_frame", None)
        if frame is not None and frame.f_code is asyncio.wait_for.__code__:
            held = frame.f_locals
            waiter, timeout = held.get("waiter"), held.get("timeout")
            if timeout is not None and any(held.get("fut") is one for one in awaited):
                if waiter is None:
                    return timeout <= 0
                return waiter.done() and not waiter.cancelled()
        frame_owner = getattr(frame_owner, "cr_await", None)
    return False


def _in_late_scope(task: Any) -> bool:
    """Return whether an anyio scope of a task was cancelled at its deadline.

    Versions of anyio before 4.11 cancel without the message that `_DEADLINE` ends.
    """
    backend: Any = sys.modules.get("anyio._backends._asyncio")
    state = None if backend is None else backend._task_states.get(task)
    scope = None if state is None else state.cancel_scope
    while scope is not None:
        if scope.cancel_called and scope.deadline <= asyncio.get_running_loop().time():
            return True
        scope = scope._parent_scope
    return False
