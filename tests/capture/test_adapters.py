"""What a call returns decides how it is recorded, and reaches the caller as it is.

`inspect` says of an adapter what it says of the function below: that it is a coroutine function,
say, where it returns a list. Each test runs a call undecorated and decorated.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import logging
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest
import wrapt

from autotrace import step, task, tool
from autotrace.testing import Recording, recording
from tests.capture.foreign_bodies import CompiledCoroutine, CompiledGenerator


def rows(count: int) -> Iterator[int]:
    yield from range(count)


async def fetch(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail() -> int:
    raise ValueError("boom")


async def pages(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@wrapt.decorator
def to_list(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return list(wrapped(*args, **kwargs))


@wrapt.decorator
def blocking(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return asyncio.run(wrapped(*args, **kwargs))


@wrapt.decorator
def as_task(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return asyncio.ensure_future(wrapped(*args, **kwargs))


def called(function: Callable[..., Any], use: Callable[[Any], Any]) -> tuple[Any, list[Any]]:
    """Call a decorated function, and return what `use` makes of it, and each call recorded."""
    with recording() as recorded:
        with task("t"):
            seen = use(tool(name="subject")(function))
        assert recorded.counters == {}
    return seen, [(call.status, call.result) for call in recorded.trace.tool_calls]


ADAPTED: dict[str, tuple[Callable[..., Any], Callable[[Any], Any], Any]] = {
    "a generator made a list": (to_list(rows), lambda call: call(3), [0, 1, 2]),
    "a coroutine made its value": (blocking(fetch), lambda call: call(3), 3),
    "a function marked as a coroutine function": (
        getattr(inspect, "markcoroutinefunction", lambda function: function)(lambda value: value),
        lambda call: call(3),
        3,
    ),
    "a method of an adapter": (
        type("Host", (), {"rows": to_list(lambda self, count: rows(count))})().rows,
        lambda call: call(2),
        [0, 1],
    ),
    "an async call": (
        type("Service", (), {"__call__": lambda self, value: fetch(value)})(),
        lambda call: asyncio.run(call(5)),
        5,
    ),
    "a partial of a coroutine function": (
        functools.partial(fetch, 4),
        lambda call: asyncio.run(call()),
        4,
    ),
    "a compiled coroutine": (
        lambda value: CompiledCoroutine(fetch(value)),
        lambda call: asyncio.run(_awaited(call(3))),
        3,
    ),
    "a compiled generator": (
        lambda count: CompiledGenerator(rows(count)),
        lambda call: list(call(2)),
        [0, 1],
    ),
    "a generator that is returned": (lambda count: rows(count), lambda call: list(call(2)), [0, 1]),
    "a coroutine that returns an async generator": (
        lambda count: _returning(pages(count)),
        lambda call: asyncio.run(_listed(call(2))),
        [0, 1],
    ),
}


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _returning(value: Any) -> Any:
    return value


async def _listed(coroutine: Any) -> list[Any]:
    return [item async for item in await coroutine]


@pytest.mark.parametrize("name", ADAPTED)
def test_a_call_gives_what_it_gives_undecorated_and_that_is_its_result(name: str) -> None:
    function, use, expected = ADAPTED[name]
    assert use(function) == expected
    assert use(tool(function)) == expected
    assert called(function, use) == (expected, [("success", expected)])


@pytest.mark.parametrize("decorate", [task("inner"), step("inner")])
def test_tasks_and_steps_give_what_an_adapter_returns(decorate: Any) -> None:
    with recording() as recorded, task("outer"):
        assert decorate(to_list(rows))(2) == [0, 1]
        assert decorate(blocking(fetch))(3) == 3
    assert recorded.counters == {}


def test_a_running_task_is_the_very_task_and_ends_its_call() -> None:
    made: list[asyncio.Task[Any]] = []

    @wrapt.decorator
    def starting(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        made.append(asyncio.create_task(wrapped(*args, **kwargs)))
        return made[-1]

    async def use(call: Any) -> Any:
        running = call(3)
        assert running is made[-1]
        return await running

    assert called(starting(fetch), lambda call: asyncio.run(use(call))) == (3, [("success", 3)])


def test_a_running_task_that_is_cancelled_is_not_a_success() -> None:
    async def use(call: Any) -> Any:
        running = call(3)
        running.cancel()
        return await asyncio.gather(running, return_exceptions=True)

    seen, ((status, result),) = called(as_task(fetch), lambda call: asyncio.run(use(call)))
    assert [type(error) for error in seen] == [asyncio.CancelledError]
    assert (status != "success", result) == (True, None)


def test_asyncio_still_tells_of_an_exception_that_nobody_retrieved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def use(call: Any) -> None:
        call()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR, "asyncio"):
        _, ((status, _),) = called(as_task(fail), lambda call: asyncio.run(use(call)))
    assert status == "error"
    assert "Task exception was never retrieved" in caplog.text


def test_a_future_that_a_plain_function_returns_is_a_value() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    async def use(call: Any) -> None:
        running = call()
        assert type(running) is asyncio.Task
        assert [c.tool_name for c in recorded.trace.tool_calls] == ["start"]
        running.cancel()

    with recording() as recorded, task("t"):
        start = tool(name="start")(lambda: asyncio.get_running_loop().create_task(forever()))
        asyncio.run(use(start))
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        assert tool(lambda: future)() is future


class Stream:
    """What client libraries return: iterable, with more to it."""

    def __init__(self, items: Iterator[int]) -> None:
        self._items = items
        self.usage = 7

    def __iter__(self) -> Iterator[int]:
        return self._items


class Request(Coroutine[Any, Any, int]):
    """A request that is awaited, or entered as a context manager."""

    def __init__(self, body: Coroutine[Any, Any, int]) -> None:
        self._body = body

    def send(self, value: Any) -> Any:
        return self._body.send(value)

    def throw(self, *error: Any) -> Any:
        return self._body.throw(*error)

    def close(self) -> None:
        self._body.close()

    def __await__(self) -> Generator[Any, Any, int]:
        return self._body.__await__()

    async def __aenter__(self) -> int:
        return await self._body

    async def __aexit__(self, *error: object) -> None: ...


async def _entered(request: Any) -> Any:
    async with request as value:
        return value


@pytest.mark.parametrize(
    ("make", "use"),
    [
        (lambda: Stream(rows(2)), lambda stream: (list(stream), stream.usage)),
        (lambda: Request(fetch(3)), lambda request: asyncio.run(_entered(request))),
        (lambda: map(str, rows(2)), list),
        (lambda: asyncio.run(_returning(Stream(rows(2)))), list),
    ],
)
def test_what_can_do_more_than_its_protocol_reaches_the_caller_itself(
    make: Callable[[], Any], use: Callable[[Any], Any]
) -> None:
    made: list[Any] = []

    def function() -> Any:
        made.append(make())
        return made[-1]

    expected = use(function())
    seen, calls = called(function, lambda call: (call(), use(made[-1])))
    assert seen == (made[-1], expected)
    assert seen[0] is made[-1]
    assert [status for status, _ in calls] == ["success"]


def test_a_generator_that_the_program_keeps_is_not_closed_with_the_call() -> None:
    class Reader:
        def __init__(self) -> None:
            self.lines = rows(3)

        @tool
        def open(self) -> Iterator[int]:
            return self.lines

    with recording() as recorded, task("t"):
        reader = Reader()
        assert next(reader.open()) == 0
        assert list(reader.lines) == [1, 2]
    assert [call.status for call in recorded.traces[0].tool_calls] == ["success"]


def test_a_generator_based_coroutine_is_awaited_and_delegated_to() -> None:
    @types.coroutine
    def pause(value: int) -> Generator[None, None, int]:
        yield
        return value

    traced = tool(pause)

    def by_hand(make: Any) -> Any:
        def outer() -> Generator[Any, Any, Any]:
            return (yield from make(5))

        generator = outer()
        assert next(generator) is None
        with pytest.raises(StopIteration) as stop:
            next(generator)
        return stop.value.value

    with recording() as recorded, task("t"):
        assert asyncio.run(_awaited(traced(4))) == 4
        assert by_hand(traced) == by_hand(pause) == 5
    assert [(c.status, c.result) for c in recorded.trace.tool_calls] == [
        ("success", 4),
        ("success", 5),
    ]


def test_a_function_whose_code_is_replaced_runs_as_it_is_then() -> None:
    async def before() -> str:
        return "before"

    def after() -> str:
        return "after"

    traced = tool(name="subject")(before)
    before.__code__ = after.__code__
    with recording() as recorded, task("t"):
        assert traced() == "after"
    assert _results(recorded) == ["after"]


def test_a_class_that_python_cannot_hash_is_a_result_like_any_other() -> None:
    class Unhashable(type):
        def __eq__(cls, other: object) -> bool:
            raise RuntimeError("must not be asked")

        __hash__ = None  # type: ignore[assignment] - that is the test

    class Result(metaclass=Unhashable): ...

    result = Result()
    with recording() as recorded, task("t"):
        assert tool(lambda: result)() is result
    assert [call.status for call in recorded.trace.tool_calls] == ["success"]
    assert "capture_errors" not in recorded.counters


def _results(recorded: Recording) -> list[Any]:
    return [call.result for call in recorded.trace.tool_calls]


# --- bodies that run after the block that called them


def _stream(count: int) -> Iterator[int]:
    for number in range(count):
        _part(number)
        yield number


async def _astream(count: int) -> AsyncIterator[int]:
    for number in range(count):
        _part(number)
        yield number


@tool(name="part")
def _part(number: int) -> int:
    return number


async def _all(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


@pytest.mark.parametrize(
    ("function", "use"),
    [
        (_stream, list),
        (_astream, lambda items: asyncio.run(_all(items))),
        (fetch, lambda coroutine: asyncio.run(_awaited(coroutine))),
    ],
)
def test_a_body_that_runs_after_its_task_was_left_belongs_to_the_task_that_called_it(
    function: Callable[..., Any], use: Callable[[Any], Any]
) -> None:
    with recording() as recorded:
        with task("request"):
            pending = tool(name="subject")(function)(2)
        expected = use(pending)
        with task("other"):
            elsewhere = use(tool(name="subject")(function)(2))
    assert expected == elsewhere
    for trace in recorded.traces:
        subject, *parts = trace.tool_calls
        assert (subject.tool_name, subject.result) == ("subject", expected)
        assert {part.parent_tool_call_id for part in parts} <= {subject.tool_call_id}
        assert len(parts) == (0 if function is fetch else 2)


def test_a_body_that_runs_in_another_task_belongs_to_that_one() -> None:
    with recording() as recorded:
        with task("request"):
            pending = tool(_stream)(1)
        with task("other"):
            assert list(pending) == [0]
    calls = {trace.task: len(trace.tool_calls) for trace in recorded.traces}
    assert calls == {"request": 0, "other": 2}
