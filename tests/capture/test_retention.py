"""What contexts and handles keep of an operation that has ended: no arguments, no results."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import types
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import autotrace
from autotrace import step, task, tool
from autotrace.capture.native_spans import LocalTracerProvider
from autotrace.capture.recorder import Recorder
from tests.conftest import Configure

SECRET_TEXT = "-".join(["text", "of", "an", "argument"])  # in no constant of the code
Outlive = Callable[[], Any]
_RECORDING = types.ModuleType | type | Recorder | LocalTracerProvider


class Value:
    """An argument or a result."""

    def __init__(self) -> None:
        self.text = f"<{SECRET_TEXT}>"


def texts_within(root: Any) -> Iterator[str]:
    """Give all texts that an object keeps alive, apart from code and what records."""
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, _RECORDING):
            continue
        seen.add(id(found))
        if isinstance(found, str):
            yield found
        elif not (isinstance(found, dict) and "__builtins__" in found):  # no module
            waiting.extend(gc.get_referents(found))


def record(outlive: Outlive) -> tuple[Any, list[weakref.ref[Value]]]:
    """Record a task, a step and a tool call with values; return what outlives them."""
    refs: list[weakref.ref[Value]] = []

    def kept(value: Value) -> Value:
        refs.append(weakref.ref(value))
        return value

    @tool(redact=["password"])
    def search(value: Value, password: str) -> tuple[Any, Value]:
        return outlive(), kept(Value())

    def run() -> Any:
        text = f"<{SECRET_TEXT}>"
        with task(text) as t, step(text, action=text) as s:
            s.observe(text)
            outlived = search(kept(Value()), text)[0]
            with pytest.raises(ValueError, match="text-of"):
                fails(text)
            t.complete(text)
            return outlived, t, s

    @tool
    def fails(text: str) -> None:
        raise ValueError(text)

    result = run()
    gc.collect()
    return result, refs


def a_copied_context() -> Any:
    return contextvars.copy_context()


def a_thread() -> Any:
    thread = threading.Thread(target=released.wait, daemon=True)
    thread.start()
    return thread


def queued_work() -> Any:
    pool = ThreadPoolExecutor(1)
    return pool, [pool.submit(released.wait), pool.submit(contextvars.copy_context)]


@tool
def counts() -> Generator[Any]:
    yield 1
    yield contextvars.copy_context()


def a_generator_that_is_not_exhausted() -> Any:
    generator = counts()
    next(generator)
    return generator


def a_generator_that_is_closed() -> Any:
    generator = counts()
    generator.close()
    return generator


def a_decision() -> Any:
    with autotrace.decision("order", actor="bot"):
        return contextvars.copy_context()


released = threading.Event()


@pytest.mark.parametrize(
    "outlive",
    [
        a_copied_context,
        a_thread,
        queued_work,
        a_generator_that_is_not_exhausted,
        a_generator_that_is_closed,
        a_decision,
    ],
)
def test_what_outlives_a_call_keeps_no_value_and_no_text_of_it(
    configure: Configure, outlive: Outlive
) -> None:
    configure()
    released.clear()
    try:
        kept, refs = record(outlive)
        assert [ref() for ref in refs] == [None, None]
        assert [text for text in texts_within(kept) if SECRET_TEXT in text] == []
    finally:
        released.set()


def test_a_background_task_keeps_no_value_and_no_text_of_the_call_that_started_it(
    configure: Configure,
) -> None:
    configure()

    async def main() -> None:
        done = asyncio.Event()
        (background, *handles), refs = record(lambda: asyncio.create_task(wait_for(done)))
        await asyncio.sleep(0)
        assert [ref() for ref in refs] == [None, None]
        assert [text for text in texts_within((background, handles)) if SECRET_TEXT in text] == []
        done.set()
        await background

    asyncio.run(main())


async def wait_for(done: asyncio.Event) -> None:
    await done.wait()


def test_a_future_that_a_call_returned_keeps_the_result_alone(configure: Configure) -> None:
    configure()

    async def main() -> None:
        @tool
        def begin(value: str) -> asyncio.Future[Any]:
            return asyncio.ensure_future(wait_for(done))

        done = asyncio.Event()
        future = begin(f"<{SECRET_TEXT}>")
        done.set()
        await future
        kept = future, contextvars.copy_context()
        assert [text for text in texts_within(kept) if SECRET_TEXT in text] == []

    asyncio.run(main())
