"""What is recorded of tasks and steps: as blocks, as async blocks, and as decorators."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from autotrace import current_task, semconv, step, task, tool
from autotrace.testing import Recording, recording
from tests.capture.spans import Spans, attribute, exception_of, id_of


def outcome_of(span: ReadableSpan) -> tuple[Any, Any]:
    return attribute(span, semconv.OUTCOME), attribute(span, semconv.SUCCESS)


# --- tasks


def test_a_task_says_what_was_asked_by_whom_and_how_it_ended(recorded: Recording) -> None:
    with task(
        "Find a restaurant", session_id="s1", agent="concierge", triggered_by_memory_id="mem-7"
    ) as t:
        t.complete("Trattoria Milano")
    trace = recorded.trace
    assert trace.trace_id == t.trace_id
    assert trace.trace_id.startswith("trace-")
    assert (trace.task, trace.status) == ("Find a restaurant", "completed")
    assert (trace.outcome, trace.success) == ("Trattoria Milano", True)
    assert (trace.session_id, trace.agent) == ("s1", "concierge")
    assert trace.triggered_by_memory_id == "mem-7"


def test_a_task_follows_the_conventions_for_generative_ai(spans: Spans) -> None:
    with task("x", agent="concierge", session_id="s1"), step("think", action="act"):
        pass
    (done,), (thought,) = spans.tasks, spans.steps
    assert done.name == "invoke_agent concierge"
    assert attribute(done, "gen_ai.operation.name") == "invoke_agent"
    assert attribute(done, "gen_ai.agent.name") == "concierge"
    assert attribute(done, "gen_ai.conversation.id") == "s1"
    assert thought.name == "step"


def test_left_without_a_word_a_task_has_succeeded(spans: Spans) -> None:
    with task("x"):
        pass
    assert outcome_of(spans.tasks[0]) == (None, True)
    assert spans.tasks[0].status.status_code is StatusCode.UNSET


def test_the_last_word_before_the_block_is_left_counts(spans: Spans) -> None:
    with task("x") as t:
        t.complete("first", success=True)
        t.complete("second", success=False)
    t.complete("too late", success=True)
    assert outcome_of(spans.tasks[0]) == ("second", False)
    assert spans.tasks[0].status.status_code is StatusCode.ERROR


def test_an_outcome_is_recorded_as_it_is_when_it_is_said(spans: Spans) -> None:
    found = {"hits": 1}
    with task("x") as t:
        t.complete(found)
        found["hits"] = 2
    assert outcome_of(spans.tasks[0]) == ('{"hits":1}', True)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("boom"),
        KeyboardInterrupt(),
        SystemExit(3),
        asyncio.CancelledError("stop"),
        GeneratorExit(),
    ],
)
@pytest.mark.parametrize("said", [False, True])
def test_a_task_left_by_an_exception_has_failed_and_the_exception_goes_on(
    error: BaseException, said: bool, spans: Spans
) -> None:
    def fails() -> None:
        with task("x") as t, step("y"):
            if said:
                t.complete("fine", success=True)
            raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert caught.value is error
    for span in (spans.tasks[0], spans.steps[0]):
        assert span.status.status_code is StatusCode.ERROR
        assert exception_of(span)[semconv.EXCEPTION_MESSAGE] == str(error)
    outcome, success = outcome_of(spans.tasks[0])
    assert success is False
    assert type(error).__name__ in outcome
    assert str(error) in outcome


def test_inner_tasks_are_traces_of_their_own_and_inherit_session_and_agent(
    recorded: Recording,
) -> None:
    with task("outer", session_id="s1", agent="boss") as outer:
        with task("inherits") as inner:
            assert inner.trace_id != outer.trace_id
        with task("has its own", session_id="s2", agent="worker"), step("s"), task("deep"):
            pass
    by_task = {trace.task: trace for trace in recorded.traces}
    assert by_task["inherits"].parent_trace_id == outer.trace_id
    assert (by_task["inherits"].session_id, by_task["inherits"].agent) == ("s1", "boss")
    assert (by_task["has its own"].session_id, by_task["has its own"].agent) == ("s2", "worker")
    assert (by_task["deep"].session_id, by_task["deep"].agent) == ("s2", "worker")
    assert by_task["deep"].parent_trace_id == by_task["has its own"].trace_id
    assert by_task["outer"].parent_trace_id is None


def test_the_agent_of_the_settings_is_that_of_tasks_that_name_none() -> None:
    with recording(agent="default") as recorded:
        with task("x"):
            pass
        with task("y", agent="named"):
            pass
    assert [trace.agent for trace in recorded.traces] == ["default", "named"]


def test_the_current_task_can_be_completed_from_anywhere_inside(recorded: Recording) -> None:
    assert current_task() is None

    @tool
    def finishes() -> None:
        found = current_task()
        assert found is not None
        found.complete("done inside", success=False)

    with task("x") as t:
        found = current_task()
        assert found is not None
        assert found.trace_id == t.trace_id
        with step("y"):
            finishes()
    assert current_task() is None
    assert (recorded.trace.outcome, recorded.trace.success) == ("done inside", False)


def test_values_that_are_no_text_are_recorded_as_json(spans: Spans) -> None:
    anything: Any = {"goal": "eat"}
    with task(anything, session_id=anything, agent=anything) as t, step(anything, anything) as s:
        s.observe(anything)
        t.complete(anything)
    assert attribute(spans.tasks[0], semconv.TASK) == '{"goal":"eat"}'
    assert attribute(spans.steps[0], semconv.ACTION) == '{"goal":"eat"}'
    assert attribute(spans.steps[0], semconv.OBSERVATIONS) == ('{"goal":"eat"}',)


# --- tasks as decorators


def test_a_decorated_function_is_a_task_with_its_return_value_as_outcome(
    recorded: Recording,
) -> None:
    @task("Summarise {topic} for {reader}", agent="writer")
    def summarise(topic: str, reader: str = "everyone") -> str:
        return f"{topic} in short"

    assert summarise("tea") == "tea in short"
    assert recorded.trace.task == "Summarise tea for everyone"
    assert (recorded.trace.outcome, recorded.trace.agent) == ("tea in short", "writer")


def test_a_bare_task_takes_its_text_from_the_first_text_among_the_arguments(
    recorded: Recording,
) -> None:
    class Agent:
        @task
        def run(self, limit: int, query: str) -> None: ...

        @task
        def look_around(self) -> None:
            """Look around.

            And nothing else.
            """

        @task(agent="quiet")
        def wait_a_bit(self, api_key: str = "secret") -> None: ...

    agent = Agent()
    agent.run(3, "find tea")
    agent.look_around()
    agent.wait_a_bit()
    assert [trace.task for trace in recorded.traces] == ["find tea", "Look around.", "wait a bit"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Use {password} of {user}", "Use [REDACTED] of ann"),
        ("No {such} field", "No {such} field"),
        ("{0} {} {user", "{0} {} {user"),
        ("JSON {'a': 1}", "JSON {'a': 1}"),
        ("{strange}", "{strange}"),
    ],
)
def test_text_is_filled_in_from_the_arguments_and_else_stays_as_it_is(
    text: str, expected: str, recorded: Recording
) -> None:
    class Strange:
        def __format__(self, spec: str) -> str:
            raise RuntimeError(spec)

    @task(text)
    def work(user: str, password: str, strange: object) -> None: ...

    work("ann", "hunter2", Strange())
    assert recorded.trace.task == expected


def test_a_block_that_decorates_two_functions_describes_each(spans: Spans) -> None:
    shared = step(action="do it")

    @shared
    def first_thing() -> None: ...

    @shared
    def second_thing() -> None: ...

    first_thing()
    second_thing()
    assert [attribute(span, semconv.THOUGHT) for span in spans.steps] == [
        "first thing",
        "second thing",
    ]


def test_what_a_streaming_task_yields_is_its_outcome(recorded: Recording) -> None:
    @task
    def answer(query: str) -> Iterator[str]:
        yield "Hello "
        yield "world"

    @task
    async def answer_async(query: str) -> AsyncIterator[str]:
        yield "Hello "
        yield "again"

    async def consume() -> None:
        async for _ in answer_async("q2"):
            pass

    assert list(answer("q1")) == ["Hello ", "world"]
    asyncio.run(consume())
    next(iter(answer("q3")))
    assert [(trace.outcome, trace.success) for trace in recorded.traces] == [
        ("Hello world", True),
        ("Hello again", True),
        ("Hello ", True),
    ]


# --- steps


def test_a_step_says_what_was_thought_done_and_observed(recorded: Recording) -> None:
    with task("x"), step("I need to search", "call search", ["told before"]) as s:
        s.observe("Found 15")
        s.observe({"hits": 15})
    (found,) = recorded.trace.steps
    assert found.step_id == s.step_id
    assert found.step_id.startswith("step-")
    assert (found.thought, found.action) == ("I need to search", "call search")
    assert found.observations == ["told before", "Found 15", '{"hits":15}']


def test_one_text_of_observations_is_one_observation(recorded: Recording) -> None:
    with task("x"), step("y", observations="all of it"):
        pass
    assert recorded.trace.steps[0].observations == ["all of it"]


def test_observations_beyond_the_limit_are_counted(recorded: Recording) -> None:
    with task("x"), step("y") as s:
        for number in range(1005):
            s.observe(str(number))
    assert len(recorded.trace.steps[0].observations) == 1000
    assert recorded.counters["truncated"] == 5


def test_a_decorated_function_is_a_step(recorded: Recording) -> None:
    @step("Rank the {kind} candidates", action="rank {kind}")
    def rank(kind: str) -> None: ...

    @step
    def tidy_up() -> None: ...

    with task("x"):
        rank("italian")
        tidy_up()
    assert [(s.thought, s.action) for s in recorded.trace.steps] == [
        ("Rank the italian candidates", "rank italian"),
        ("tidy up", None),
    ]


# --- the same block, again and at once


def test_a_block_can_be_entered_again_and_inside_itself(spans: Spans) -> None:
    block = step("again")
    with block as first, block as second:
        assert first.step_id != second.step_id
        first.observe("outer")
        second.observe("inner")
    with block:
        pass
    inner, outer, third = spans.steps
    assert attribute(outer, semconv.OBSERVATIONS) == ("outer",)
    assert attribute(inner, semconv.OBSERVATIONS) == ("inner",)
    assert spans.parent_of(inner) is outer
    assert third.parent is None


def test_a_block_can_be_open_in_many_threads_at_once(spans: Spans) -> None:
    block = task("shared")
    everybody_is_in = threading.Barrier(4)
    everybody_goes = threading.Barrier(4)

    def work(number: int) -> None:
        with block as t:
            everybody_is_in.wait(10)
            t.complete(str(number))
            everybody_goes.wait(10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert {outcome_of(span)[0] for span in spans.tasks} == {"0", "1", "2", "3"}


def test_a_block_can_be_open_in_many_asyncio_tasks_at_once(spans: Spans) -> None:
    block = task("shared")

    async def work(number: int, turns: int) -> None:
        async with block as t:
            for _ in range(turns):
                await asyncio.sleep(0)
            t.complete(str(number))

    async def main() -> None:
        await asyncio.gather(*(work(number, 7 * number % 5) for number in range(5)))

    asyncio.run(main())
    assert {outcome_of(span)[0] for span in spans.tasks} == {"0", "1", "2", "3", "4"}
    assert all(span.parent is None for span in spans.tasks)


def test_a_shared_block_ends_its_own_entry_in_whatever_order_generators_end(
    spans: Spans,
) -> None:
    block = step("shared")

    def work(name: str) -> Iterator[None]:
        with block as s:
            yield
            s.observe(name)

    first, second, third = work("first"), work("second"), work("third")
    for generator in (first, second, third):
        next(generator)
    for generator in (second, first, third):
        assert next(generator, "end") == "end"
    assert [attribute(span, semconv.OBSERVATIONS) for span in spans.steps] == [
        ("second",),
        ("first",),
        ("third",),
    ]


def test_a_block_entered_by_hand_is_left_by_hand(spans: Spans) -> None:
    block = step("by hand")
    block.__enter__()
    with block:
        pass
    block.__exit__(None, None, None)
    block.__exit__(None, None, None)  # once too often
    inner, outer = spans.steps
    assert inner.parent is not None
    assert inner.parent.span_id == id_of(outer)


def test_an_async_block_is_a_block(spans: Spans) -> None:
    async def main() -> None:
        async with task("x") as t, step("y") as s:
            s.observe("seen")
            t.complete("done")

    asyncio.run(main())
    assert outcome_of(spans.tasks[0]) == ("done", True)
    assert spans.parent_of(spans.steps[0]) is spans.tasks[0]
