"""Whether a call was cancelled because its time had run out: by a timeout around it.

What is cancelled sees a `CancelledError` without a word of why; the `TimeoutError` is raised only
where the timeout was set, when the span of the call has ended. So the one that cancels is looked
for: the asyncio task that the call runs in, the tasks that await this one (`gather`, `TaskGroup`,
`wait_for`), and the timeouts of these that have expired and not yet been left.

A task does not know its timeouts. `asyncio.Timeout` is therefore asked to note down the task when
it expires: the one place where something of another library is replaced, by the same and a note.
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
"""How many tasks are looked at, from the one cancelled to those that await it."""
_DEADLINE: Final = "; reason: deadline exceeded"
"""How the message ends by which anyio cancels when a deadline is over."""

_expired: Final[weakref.WeakKeyDictionary[Any, list[weakref.ref[Any]]]] = (
    weakref.WeakKeyDictionary()
)
"""By task: its timeouts that have expired."""


def note_timeouts() -> None:
    """Let the timeouts of asyncio note down which tasks they cancel."""
    original: Any = getattr(timeouts.Timeout, "_on_timeout", None)
    if original is None or hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def _on_timeout(self: Any) -> None:
        try:
            task = self._task
            known = [ref for ref in _expired.get(task, ()) if _is_expiring(ref())]
            _expired[task] = [*known, weakref.ref(self)]
        except Exception:  # noqa: BLE001, S110 - a name inside asyncio has changed: less is known
            pass
        original(self)

    timeouts.Timeout._on_timeout = _on_timeout  # pyright: ignore[reportAttributeAccessIssue] - it is private


def _is_expiring(timeout: Any) -> bool:
    """Tell whether a timeout has cancelled its task and not yet been left."""
    return timeout is not None and timeout._state.value == "expiring"


def is_by_timeout(error: BaseException) -> bool:
    """Tell whether what is being cancelled in the current task is so by a timeout around it.

    Args:
        error: What the cancelled call has raised.
    """
    if getattr(error, "source", None) == "deadline":  # trio's
        return True
    if any(isinstance(word, str) and word.endswith(_DEADLINE) for word in error.args):
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return False
    try:
        return _is_out_of_time(task)
    except Exception:  # noqa: BLE001 - a name inside asyncio has changed: less is known
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
    """Yield the tasks that wait for a future, also through others; `met` gets all of these."""
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
    """Yield the futures that a callback completes: of `gather`, `wait` and `wait_for`."""
    held: list[Any] = list(getattr(callback, "args", ()))
    for cell in getattr(callback, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # it is empty
            continue
    yield from (value for value in held if isinstance(value, asyncio.Future))


def _wait_is_over(awaiting: Any, awaited: list[Any]) -> bool:
    """Tell whether a task awaits one of some futures in a `wait_for` whose time has run out.

    That of Python 3.11: later ones have an `asyncio.Timeout`.
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
    """Tell whether a scope of anyio around a task was cancelled when its deadline was over.

    Versions before 4.11 do not say so in the message.
    """
    backend: Any = sys.modules.get("anyio._backends._asyncio")
    state = None if backend is None else backend._task_states.get(task)
    scope = None if state is None else state.cancel_scope
    while scope is not None:
        if scope.cancel_called and scope.deadline <= asyncio.get_running_loop().time():
            return True
        scope = scope._parent_scope
    return False
