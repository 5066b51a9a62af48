"""Scripts: what callers do with a function, and what they see of it.

Each drives one subject and returns everything that a caller can tell: values, exceptions and when
they came, and what the current span was in the caller's own code in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import get_current_span

from tests.capture.subjects import STOP, WAIT, Pause, closed

Subject = Callable[..., Any]


class Seen(list[Any]):
    """What a caller has seen, in order."""

    def see(self, value: Any) -> None:
        self.append(("value", value))
        self.look_around()

    def look_around(self) -> None:
        """Note the span that is current in the caller's code."""
        self.append(("current", get_current_span().get_span_context().span_id))

    @contextlib.contextmanager
    def catching(self, sent: BaseException | None = None) -> Iterator[None]:
        """Note what is raised, and whether it is the very object that was sent in."""
        try:
            yield
        except BaseException as error:
            chained = (type(error.__cause__), type(error.__context__), error.__suppress_context__)
            self.append(("raised", type(error), error.args, error is sent, chained))
            if isinstance(error, StopIteration):
                self.append(("returned", error.value))
        self.look_around()

    def end(self) -> list[Any]:
        self.append(("closed", list(closed)))
        return list(self)


@dataclass(frozen=True)
class Recorded:
    """What is recorded of a script."""

    arguments: Any
    result: Any = None
    status: str | None = None
    error_type: str | None = None
    exhausted: bool = True
    yielded: Any = None


ARGUMENTS: Final = {"a": 1, "b": 2, "c": 3}
VALUE: Final = [1, 2, [], 3, {}]


def _wrong_call(seen: Seen, subject: Subject) -> list[Any]:
    with seen.catching():
        subject(b=1)
    return seen.end()


# --- plain functions


def returns(subject: Subject) -> list[Any]:
    seen = Seen()
    seen.see(subject(1))
    return seen.end()


def returns_of_many_arguments(subject: Subject) -> list[Any]:
    seen = Seen()
    seen.see(subject(1, 5, 6, 7, d=9))
    return seen.end()


def raises(subject: Subject) -> list[Any]:
    seen, error = Seen(), ValueError("boom", 1)
    with seen.catching(error):
        subject(error)
    return seen.end()


def times_out(subject: Subject) -> list[Any]:
    seen, error = Seen(), TimeoutError("late")
    with seen.catching(error):
        subject(error)
    return seen.end()


def is_interrupted(subject: Subject) -> list[Any]:
    seen, error = Seen(), KeyboardInterrupt()
    with seen.catching(error):
        subject(error)
    return seen.end()


def is_called_wrongly(subject: Subject) -> list[Any]:
    return _wrong_call(Seen(), subject)


# --- coroutine functions


async def returns_async(subject: Subject) -> list[Any]:
    seen = Seen()
    seen.see(await subject(1))
    return seen.end()


async def raises_async(subject: Subject) -> list[Any]:
    seen, error = Seen(), ValueError("boom", 1)
    coroutine = subject(error)
    seen.look_around()
    with seen.catching(error):
        await coroutine
    return seen.end()


async def times_out_async(subject: Subject) -> list[Any]:
    seen = Seen()
    with seen.catching():
        await subject(TimeoutError("late"))
    return seen.end()


async def is_called_wrongly_async(subject: Subject) -> list[Any]:
    return _wrong_call(Seen(), subject)


async def is_cancelled(subject: Subject) -> list[Any]:
    seen = Seen()
    running = asyncio.create_task(subject(WAIT))
    await Pause()
    await Pause()
    running.cancel("enough")
    with seen.catching():
        await running
    return seen.end()


async def is_given_up(subject: Subject) -> list[Any]:
    seen = Seen()
    with seen.catching():
        async with asyncio.timeout(0):
            await subject(WAIT)
    return seen.end()


async def is_closed_by_hand(subject: Subject) -> list[Any]:
    seen, coroutine = Seen(), subject(WAIT)
    with seen.catching():
        coroutine.send(None)
        coroutine.close()
    return seen.end()


async def is_dropped_halfway(subject: Subject) -> list[Any]:
    seen, coroutine = Seen(), subject(WAIT)
    with seen.catching():
        coroutine.send(None)
        del coroutine
    return seen.end()


async def is_never_awaited(subject: Subject) -> list[Any]:
    seen = Seen()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        subject(1)
    seen.append([(warning.category, str(warning.message)) for warning in caught])
    return seen.end()


# --- generators


def is_exhausted(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.look_around()
    seen.see(next(generator))
    seen.see(generator.send("hello"))
    seen.see(generator.throw(KeyError("k")))
    with seen.catching():
        generator.send(STOP)
    with seen.catching():
        next(generator)
    return seen.end()


def raises_halfway(subject: Subject) -> list[Any]:
    seen, error, generator = Seen(), ValueError("boom", 1), subject(1)
    seen.see(next(generator))
    with seen.catching(error):
        generator.send(error)
    return seen.end()


def times_out_halfway(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(next(generator))
    with seen.catching():
        generator.send(TimeoutError("late"))
    return seen.end()


def is_thrown_into(subject: Subject) -> list[Any]:
    seen, error, generator = Seen(), OSError("from outside"), subject(1)
    seen.see(next(generator))
    with seen.catching(error):
        generator.throw(error)
    return seen.end()


def is_closed_early(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(next(generator))
    with seen.catching():
        generator.close()
    with seen.catching():
        next(generator)
    return seen.end()


def is_dropped(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(next(generator))
    with seen.catching():
        del generator
    return seen.end()


def is_never_started(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    with seen.catching():
        del generator
    return seen.end()


def is_thrown_into_unstarted(subject: Subject) -> list[Any]:
    seen, error, generator = Seen(), OSError("from outside"), subject(1)
    with seen.catching(error):
        generator.throw(error)
    return seen.end()


# --- async generators


async def is_exhausted_async(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.look_around()
    seen.see(await anext(generator))
    seen.see(await generator.asend("hello"))
    seen.see(await generator.athrow(KeyError("k")))
    with seen.catching():
        await generator.asend(STOP)
    with seen.catching():
        await anext(generator)
    return seen.end()


async def raises_halfway_async(subject: Subject) -> list[Any]:
    seen, error, generator = Seen(), ValueError("boom", 1), subject(1)
    seen.see(await anext(generator))
    with seen.catching(error):
        await generator.asend(error)
    return seen.end()


async def times_out_halfway_async(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(await anext(generator))
    with seen.catching():
        await generator.asend(TimeoutError("late"))
    return seen.end()


async def is_thrown_into_async(subject: Subject) -> list[Any]:
    seen, error, generator = Seen(), OSError("from outside"), subject(1)
    seen.see(await anext(generator))
    with seen.catching(error):
        await generator.athrow(error)
    return seen.end()


async def is_cancelled_halfway(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(await anext(generator))
    running = asyncio.create_task(generator.asend(WAIT))
    await Pause()
    await Pause()
    running.cancel("enough")
    with seen.catching():
        await running
    return seen.end()


async def is_closed_early_async(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(await anext(generator))
    with seen.catching():
        await generator.aclose()
    with seen.catching():
        await anext(generator)
    return seen.end()


async def is_dropped_async(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(await anext(generator))
    del generator
    while not closed:  # the event loop closes it, in a task of its own
        await Pause()
    seen.look_around()
    return seen.end()


async def is_left_to_the_loop(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    seen.see(await anext(generator))
    _kept.append(generator)  # asyncio.run() closes it when all else is done
    return list(seen)


async def is_never_started_async(subject: Subject) -> list[Any]:
    seen, generator = Seen(), subject(1)
    with seen.catching():
        del generator
    return seen.end()


_kept: list[Any] = []

ITEMS: Final = [VALUE]
SCRIPTS: Final[dict[str, dict[Callable[[Subject], Any], Recorded | None]]] = {
    "sync": {
        returns: Recorded(ARGUMENTS, VALUE),
        returns_of_many_arguments: Recorded(
            {"a": 1, "b": 5, "rest": [6, 7], "c": 3, "d": 9}, [1, 5, [6, 7], 3, {"d": 9}]
        ),
        raises: Recorded(..., None, "error", "ValueError"),
        times_out: Recorded(..., None, "timeout", "TimeoutError"),
        is_interrupted: Recorded(..., None, "cancelled"),
        is_called_wrongly: Recorded({"b": 1, "c": 3}, None, "error", "TypeError"),
    },
    "async": {
        returns_async: Recorded(ARGUMENTS, VALUE),
        raises_async: Recorded(..., None, "error", "ValueError"),
        times_out_async: Recorded(..., None, "timeout", "TimeoutError"),
        is_called_wrongly_async: Recorded({"b": 1, "c": 3}, None, "error", "TypeError"),
        is_cancelled: Recorded(..., None, "cancelled"),
        is_given_up: Recorded(..., None, "timeout", "asyncio.exceptions.CancelledError"),
        is_closed_by_hand: Recorded(..., None, "cancelled"),
        is_dropped_halfway: Recorded(..., None, "cancelled"),
        is_never_awaited: None,
    },
    "generator": {
        is_exhausted: Recorded(
            ARGUMENTS, "returned", yielded=[VALUE, ["echo", "hello"], ["caught", "k"]]
        ),
        raises_halfway: Recorded(ARGUMENTS, ITEMS, "error", "ValueError"),
        times_out_halfway: Recorded(ARGUMENTS, ITEMS, "timeout", "TimeoutError"),
        is_thrown_into: Recorded(ARGUMENTS, ITEMS, "error", "OSError"),
        is_called_wrongly: Recorded({"b": 1, "c": 3}, None, "error", "TypeError"),
        is_closed_early: Recorded(ARGUMENTS, ITEMS, exhausted=False),
        is_dropped: Recorded(ARGUMENTS, ITEMS, exhausted=False),
        is_never_started: None,
        is_thrown_into_unstarted: None,
    },
    "async generator": {
        is_exhausted_async: Recorded(ARGUMENTS, [VALUE, ["echo", "hello"], ["caught", "k"]]),
        raises_halfway_async: Recorded(ARGUMENTS, ITEMS, "error", "ValueError"),
        times_out_halfway_async: Recorded(ARGUMENTS, ITEMS, "timeout", "TimeoutError"),
        is_thrown_into_async: Recorded(ARGUMENTS, ITEMS, "error", "OSError"),
        is_called_wrongly_async: Recorded({"b": 1, "c": 3}, None, "error", "TypeError"),
        is_cancelled_halfway: Recorded(ARGUMENTS, ITEMS, "cancelled"),
        is_closed_early_async: Recorded(ARGUMENTS, ITEMS, exhausted=False),
        is_dropped_async: Recorded(ARGUMENTS, ITEMS, exhausted=False),
        is_left_to_the_loop: Recorded(ARGUMENTS, ITEMS, exhausted=False),
        is_never_started_async: None,
    },
}
"""What is recorded of each script: None where nothing of the function ran, `...` for anything."""
