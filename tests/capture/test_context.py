"""Who is inside what: the context follows the code that runs, and is left as it was found."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

from autotrace import current_task, semconv, step, task, tool, tool_call
from autotrace.capture.operation import Operation
from autotrace.testing import Recording, recording
from tests.capture.spans import Spans, arguments_of, attribute, id_of
from tests.capture.subjects import Pause


@tool
def mark(name: str) -> None:
    """Leave a span where it is called."""


def marks(spans: Spans) -> dict[str, list[str]]:
    """The names of the marks, with the texts of what is around each, the outermost first."""
    found: dict[str, list[str]] = {}
    for span in spans.tools:
        if span.name != "execute_tool mark":
            continue
        around: list[str] = []
        above = spans.parent_of(span)
        while above is not None:
            text = attribute(above, semconv.THOUGHT) or attribute(above, semconv.TASK)
            around.insert(0, text or above.name)
            above = spans.parent_of(above)
        found[arguments_of(span)["name"]] = around
    return found


def current_span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


# --- decorated generators: the consumer never sees their context


@tool
def pages(name: str) -> Generator[str, None, None]:
    with step(name):
        mark(f"{name} 1")
        yield "one"
        mark(f"{name} 2")
        yield "two"
        mark(f"{name} 3")


def test_what_a_body_opens_is_open_again_when_it_goes_on_and_never_for_its_consumer(
    spans: Spans,
) -> None:
    with task("consumer"):
        outside = current_span_id()
        for page in pages("p"):
            assert current_span_id() == outside
            mark(f"consumer {page}")
    inside = ["consumer", "execute_tool pages", "p"]
    assert marks(spans) == {
        "p 1": inside,
        "p 2": inside,
        "p 3": inside,
        "consumer one": ["consumer"],
        "consumer two": ["consumer"],
    }


def test_generators_that_take_turns_stay_apart(spans: Spans) -> None:
    with task("consumer"):
        first, second = pages("a"), pages("b")
        next(first)
        next(second)
        next(first)
        second.close()
        mark("between")
        with pytest.raises(StopIteration):
            next(first)
    found = marks(spans)
    assert found["between"] == ["consumer"]
    assert {name: around[-1] for name, around in found.items() if name != "between"} == {
        "a 1": "a",
        "a 2": "a",
        "a 3": "a",
        "b 1": "b",
    }


@given(
    program=st.lists(
        st.tuples(st.sampled_from(["advance", "nest", "close", "drop"]), *[st.integers(0, 3)] * 2),
        max_size=30,
    )
)
def test_no_program_of_generators_confuses_who_is_inside_what(
    program: list[tuple[str, int, int]], spans_of_the_session: tuple[TracerProvider, Spans]
) -> None:
    provider, spans = spans_of_the_session
    spans.clear()
    walkers: dict[int, Generator[None, int | None, None]] = {}

    @tool
    def walk(number: int) -> Generator[None, int | None, None]:
        with step(f"walker {number}"):
            while True:
                target = yield
                if target is not None:
                    advance(target, None)
                mark(f"walker {number}")

    def advance(number: int, target: int | None) -> None:
        walker = walkers.get(number)
        if walker is None:
            walker = walkers[number] = walk(number)
            next(walker)
        if not walker.gi_running:
            walker.send(target)

    with recording(tracer_provider=provider), task("consumer"):
        outside = otel_context.get_current()
        for action, number, target in program:
            if action in ("advance", "nest"):
                advance(number, target if action == "nest" else None)
            elif number in walkers:
                walker = walkers.pop(number)
                if action == "close":
                    walker.close()
                del walker
            assert otel_context.get_current() is outside
        walkers.clear()
        assert otel_context.get_current() is outside
    assert not spans.open_or_ended_twice()
    for name, around in marks(spans).items():
        assert around[-1] == name


# --- generators that are ended elsewhere


def in_another_context(close: Callable[[], None]) -> None:
    contextvars.Context().run(close)


def in_a_copied_context(close: Callable[[], None]) -> None:
    contextvars.copy_context().run(close)


def in_another_thread(close: Callable[[], None]) -> None:
    thread = threading.Thread(target=close)
    thread.start()
    thread.join()


def in_an_asyncio_task(close: Callable[[], None]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(close)
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize(
    "elsewhere", [in_another_context, in_a_copied_context, in_another_thread, in_an_asyncio_task]
)
@pytest.mark.parametrize("decorated", [True, False])
def test_a_generator_may_be_closed_elsewhere(
    elsewhere: Callable[[Callable[[], None]], None], decorated: bool, spans: Spans
) -> None:
    def work() -> Iterator[int]:
        with task("work"):
            try:
                yield 1
            finally:
                mark("closing")

    generator: Any = (tool if decorated else lambda f: f)(work)()
    with step("consumer"):
        next(generator)
        elsewhere(generator.close)
    mark("after")
    found = marks(spans)
    assert found["after"] == []
    if decorated:
        assert found["closing"] == ["consumer", "execute_tool work", "work"]


def test_an_async_generator_dropped_without_a_loop_ends_its_span(spans: Spans) -> None:
    @tool
    async def stream() -> AsyncGenerator[int]:
        with step("inside"):
            yield 1

    generator = stream()
    with pytest.raises(StopIteration, match="1"):
        generator.asend(None).send(None)
    mark("between")
    del generator
    gc.collect()
    assert marks(spans)["between"] == []
    assert attribute(spans.tools[-1], semconv.TOOL_EXHAUSTED) is False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_async_generator_that_cannot_be_closed_without_a_loop_ends_its_span(
    recorded: Recording,
) -> None:
    async def stream() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await Pause()

    for function in (stream, tool(stream)):  # Python complains of either, in the same words
        generator = function()
        with pytest.raises(StopIteration, match="1"):
            generator.asend(None).send(None)
        del generator
        gc.collect()
    (record,) = recorded.records
    assert record.get("attributes", {})[semconv.TOOL_EXHAUSTED] is False


def test_a_coroutine_that_its_loop_left_behind_ends_its_span(spans: Spans) -> None:
    @tool
    async def waits() -> None:
        with step("waiting"):
            await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it would say that a task was destroyed
    pending = [loop.create_task(waits())]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    pending.clear()
    gc.collect()
    assert attribute(spans.tool, semconv.TOOL_STATUS) == "cancelled"
    assert "GeneratorExit" in str(attribute(spans.tool, semconv.ENDED_BY))


# --- blocks in undecorated generators: they leak while they are open, and heal


@given(order=st.permutations(range(4)), others=st.permutations(range(4)))
def test_blocks_left_in_any_order_leave_the_context_as_it_was(
    order: list[int], others: list[int], spans_of_the_session: tuple[TracerProvider, Spans]
) -> None:
    provider, spans = spans_of_the_session
    spans.clear()

    def work(number: int) -> Iterator[None]:
        with [task, step, tool_call][number % 3](str(number)):
            yield

    with recording(tracer_provider=provider), task("consumer"):
        outside = otel_context.get_current()
        generators = {number: work(number) for number in others}
        for generator in generators.values():
            next(generator)
        for number in order:
            next(generators[number], None)
        assert otel_context.get_current() is outside
        mark("after")
    assert marks(spans)["after"] == ["consumer"]
    assert not spans.open_or_ended_twice()


def test_a_stream_that_was_left_open_elsewhere_is_no_parent_of_what_follows(spans: Spans) -> None:
    async def stream() -> AsyncGenerator[int]:
        with task("stream"):
            yield 1

    async def consume() -> None:
        generator = stream()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[arg-type] - a coroutine here
        mark("after")
        assert current_task() is None

    asyncio.run(consume())
    assert marks(spans)["after"] == []


def test_coroutines_that_are_stepped_by_hand_leave_the_context_as_it_was(spans: Spans) -> None:
    @tool
    async def work(name: str) -> None:
        await Pause()
        mark(name)

    coroutines = [work("a"), work("b"), work("c")]
    for coroutine in coroutines:
        coroutine.send(None)
    for coroutine in coroutines:
        with pytest.raises(StopIteration):
            coroutine.send(None)
    mark("after")
    assert marks(spans)["after"] == []


# --- concurrency


def test_what_runs_at_once_has_its_own_context(spans: Spans) -> None:
    @tool
    async def work(name: str, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        with step(name):
            await asyncio.sleep(0)
            mark(name)

    async def main() -> None:
        async with task("all"):
            await asyncio.gather(*(work(f"{n}", 5 - n) for n in range(5)))
            mark("after")

    asyncio.run(main())
    found = marks(spans)
    assert found.pop("after") == ["all"]
    assert found == {f"{n}": ["all", "execute_tool work", f"{n}"] for n in range(5)}


def test_threads_of_the_application_inherit_what_they_are_given(spans: Spans) -> None:
    with task("outer"), ThreadPoolExecutor(1) as pool:
        pool.submit(mark, "without").result()
        pool.submit(contextvars.copy_context().run, mark, "with").result()
    assert marks(spans) == {"without": [], "with": ["outer"]}


def operations_alive() -> int:
    return sum(issubclass(type(found), Operation) for found in gc.get_objects())


def test_a_chain_of_asyncio_tasks_keeps_no_operation_alive(spans: Spans) -> None:
    @tool
    async def link(left: int) -> asyncio.Task[Any] | None:
        return asyncio.create_task(link(left - 1)) if left else None

    async def main() -> None:
        following = await link(300)
        while following is not None:
            following = await following
        gc.collect()
        assert operations_alive() < before + 10

    gc.collect()
    before = operations_alive()
    asyncio.run(main())
    assert len(spans.tools) == 301


# --- what others put into the context


def test_baggage_and_spans_of_others_pass_through(spans: Spans) -> None:
    tracer = trace.get_tracer("other", tracer_provider=_provider_of(spans))

    @tool
    def asks() -> Any:
        with tracer.start_as_current_span("query"):
            mark("inside")
            return baggage.get_baggage("tenant")

    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with tracer.start_as_current_span("request"), step("s"):
            assert asks() == "acme"
    finally:
        otel_context.detach(token)
    assert marks(spans)["inside"] == ["request", "s", "execute_tool asks", "query"]


def test_what_a_body_attaches_by_itself_stays_attached_across_a_yield(spans: Spans) -> None:
    @tool
    def stream() -> Iterator[Any]:
        token = otel_context.attach(baggage.set_baggage("tenant", "acme", otel_context.Context()))
        yield baggage.get_baggage("tenant")
        yield baggage.get_baggage("tenant")
        otel_context.detach(token)

    seen = []
    for item in stream():
        seen += [item, baggage.get_baggage("tenant")]
    assert seen == ["acme", None, "acme", None]


def _provider_of(spans: Spans) -> TracerProvider:
    from autotrace.capture.recorder import current

    assert current.recorder is not None
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(spans)
    return provider


def test_nothing_is_recorded_where_instrumentation_is_suppressed(spans: Spans) -> None:
    @step
    def thinks() -> int:
        return tool(lambda: 7)()

    @tool
    async def asks() -> int:
        return 7

    with suppress_instrumentation(), task("x") as t, step("y") as s, tool_call("z") as call:
        t.complete("done")
        s.observe("seen")
        call.set_result(1)
        assert thinks() == 7
        assert asyncio.run(asks()) == 7
        assert list(pages("p")) == ["one", "two"]
        assert (t.trace_id, s.step_id, call.tool_call_id) == ("", "", "")
        assert current_task() is None
    assert spans.ended == []


def test_a_block_entered_while_suppressed_inside_itself_ends_the_right_entry(
    spans: Spans,
) -> None:
    block = step("again")
    with block:
        with suppress_instrumentation(), block:
            pass
        mark("still inside")
    assert marks(spans)["still inside"] == ["again"]


def test_an_exit_stack_leaves_blocks_as_with_does(spans: Spans) -> None:
    with ExitStack() as stack:
        stack.enter_context(task("outer"))
        stack.enter_context(step("inner"))
        mark("inside")
    assert marks(spans) == {"inside": ["outer", "inner"]}
    assert [id_of(span) for span in spans.ended[-2:]] == [
        id_of(spans.steps[0]),
        id_of(spans.tasks[0]),
    ]
