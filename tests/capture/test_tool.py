"""What is recorded of a tool call: its name, its arguments by name, its result, how it ended."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import json
import types
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace import InvalidArgumentError, semconv, task, tool, tool_call
from autotrace.capture.arguments import ArgumentNames
from autotrace.testing import Recording, recording
from tests.capture.spans import Spans, arguments_of, attribute, exception_of, result_of

# --- names


def test_the_name_is_that_of_the_function_or_the_one_given(spans: Spans) -> None:
    class Service:
        def __call__(self) -> None: ...

    tool(lambda: None)()
    tool(name="given")(lambda: None)()
    tool(Service())()
    tool(len)([])
    tool(name="x" * 1000)(lambda: None)()
    assert [attribute(span, semconv.GEN_AI_TOOL_NAME) for span in spans.tools] == [
        "<lambda>",
        "given",
        "Service",
        "len",
        "x" * 256,
    ]
    assert spans.tools[1].name == "execute_tool given"
    assert attribute(spans.tools[1], semconv.GEN_AI_OPERATION_NAME) == "execute_tool"


def test_a_name_that_is_cut_is_counted_at_each_call(recorded: Recording) -> None:
    named = tool(name="x" * 257)(lambda: None)
    named()
    named()
    with tool_call("y" * 257):
        pass
    tool(name="x" * 256)(lambda: None)()
    with tool_call("y" * 256):
        pass
    assert recorded.counters == {"truncated": 3}


@pytest.mark.parametrize("options", [{"name": ""}, {"name": "  "}, {"redact": "password"}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        tool(**options)


# --- arguments


def test_arguments_are_recorded_by_name_with_defaults_and_without_self(spans: Spans) -> None:
    class Service:
        @tool
        def method(self, a: int, /, b: int = 2, *args: int, c: int = 3, **kwargs: int) -> None: ...

        @tool
        @classmethod
        def class_method(cls, a: int) -> None: ...

        @staticmethod
        @tool
        def static_method(a: int, b: int = 2) -> None: ...

    service = Service()
    service.method(1, 20, 30, 40, c=50, d=60)
    service.method(1, a=10)
    Service.method(service, 1)
    service.class_method(1)
    Service.class_method(a=1)
    service.static_method(1)
    assert [arguments_of(span) for span in spans.tools] == [
        {"a": 1, "b": 20, "args": [30, 40], "c": 50, "d": 60},
        {"a": 1, "b": 2, "c": 3, "kwargs": {"a": 10}},
        {"a": 1, "b": 2, "c": 3},
        {"a": 1},
        {"a": 1},
        {"a": 1, "b": 2},
    ]


def test_self_is_left_out_however_the_method_is_reached(spans: Spans) -> None:
    def foreign(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: function(*args, **kwargs)

    class Service:
        @foreign
        @tool
        def below(self, x: int) -> None: ...

        @tool
        def method(self, x: int) -> None: ...

        def plain(self, x: int) -> None: ...

    service = Service()
    service.below(1)
    Service.method(self=service, x=1)
    tool(service.plain)(1)
    tool(Service.plain)(service, 1)
    assert [arguments_of(span) for span in spans.tools] == [{"x": 1}] * 4


@given(
    signature=st.sampled_from(
        [
            "a, b=2, *, c=3",
            "a, /, b, *args, c, **kwargs",
            "*args, **kwargs",
            "a=1, /, b=2, c=3",
            "*, a, b=2",
            "",
        ]
    ),
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=3),
)
def test_arguments_are_named_as_python_binds_them(
    signature: str, args: list[int], kwargs: dict[str, int]
) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def function({signature}): ...", namespace)
    function = namespace["function"]
    names = ArgumentNames(function)
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        names.bind(None, tuple(args), kwargs)  # a wrong call is named as far as it goes
        return
    bound.apply_defaults()
    expected = dict(bound.arguments)
    rest = expected.pop("kwargs", {})
    hidden = {key: value for key, value in rest.items() if key in expected}
    expected |= {key: value for key, value in rest.items() if key not in hidden}
    if hidden:
        expected["kwargs"] = hidden
    if not expected.get("args", True):
        del expected["args"]
    assert names.bind(None, tuple(args), kwargs) == expected


def test_arguments_are_those_of_the_moment_of_the_call(spans: Spans) -> None:
    @tool
    def fill(items: list[int]) -> list[int]:
        items.append(1)
        return items

    @tool
    def fill_later(items: list[int]) -> Generator[int]:
        items.append(1)
        yield items[0]

    fill([])
    items: list[int] = []
    generator = fill_later(items)
    items.append(7)
    assert list(generator) == [7]
    assert [arguments_of(span) for span in spans.tools] == [{"items": []}, {"items": []}]
    assert [result_of(span) for span in spans.tools] == [[1], [7]]


def test_a_builtin_that_does_not_tell_its_parameters_is_recorded_all_the_same(spans: Spans) -> None:
    assert tool(max)(3, 4) == 4
    assert tool(print)("x", end="") is None
    assert arguments_of(spans.tools[0]) == {"args": [3, 4]}
    assert arguments_of(spans.tools[1])["end"] == ""


# --- what is captured


def test_arguments_and_results_are_left_out_where_told(spans: Spans) -> None:
    @tool(capture_arguments=False)
    def no_arguments(a: int) -> int:
        return a

    @tool(capture_result=False)
    def no_result(a: int) -> int:
        return a

    @tool(capture_result=False)
    def no_items(a: int) -> Iterator[int]:
        yield a

    no_arguments(1)
    no_result(1)
    list(no_items(1))
    assert [(arguments_of(s), result_of(s)) for s in spans.tools] == [
        (None, 1),
        ({"a": 1}, None),
        ({"a": 1}, None),
    ]


def test_the_setting_holds_where_a_tool_says_nothing() -> None:
    @tool
    def silent(a: int) -> int:
        return a

    @tool(capture_arguments=True, capture_result=True)
    def loud(a: int) -> int:
        return a

    with recording(capture_arguments=False, capture_result=False) as recorded:
        silent(1)
        loud(1)
        with tool_call("by hand", {"a": 1}) as call:
            call.set_result(1)
    captured = [
        {semconv.GEN_AI_TOOL_CALL_ARGUMENTS, semconv.GEN_AI_TOOL_CALL_RESULT}
        & record.get("attributes", {}).keys()
        for record in recorded.records
    ]
    assert [len(keys) for keys in captured] == [0, 2, 0]


def test_a_tool_keeps_its_own_secrets_in_arguments_results_items_and_errors(spans: Spans) -> None:
    @tool(redact=["card_number"])
    def pay(card_number: str, *, fail: bool = False) -> dict[str, str]:
        if fail:
            raise ValueError(f"card {card_number} is refused")
        return {"card_number": card_number, "status": "paid"}

    @tool(redact=["card_number"])
    def receipts(card_number: str) -> Iterator[dict[str, str]]:
        yield {"card_number": card_number}

    assert pay("4111-1111")["card_number"] == "4111-1111"
    with pytest.raises(ValueError, match="card 4111-1111 is refused"):
        pay("4111-1111", fail=True)
    assert list(receipts("4111-1111")) == [{"card_number": "4111-1111"}]
    with tool_call("pay", {"card_number": "4111-1111"}, redact=["card_number"]) as call:
        call.set_result({"card_number": "4111-1111"})
    for span in spans.tools:
        assert "4111-1111" not in str(dict(span.attributes or {}))
        assert "4111-1111" not in str([dict(e.attributes or {}) for e in span.events])
        assert "4111-1111" not in str(span.status.description)
        assert arguments_of(span)["card_number"] == semconv.REDACTED


def test_twice_on_one_function_is_one_call_with_the_options_of_both(spans: Spans) -> None:
    @tool(redact=["a"])
    @tool(name="inner", redact=["b"], capture_result=False)
    def subject(a: str, b: str, c: str) -> str:
        return a + b + c

    assert subject("x", "y", "z") == "xyz"
    assert attribute(spans.tool, semconv.GEN_AI_TOOL_NAME) == "inner"
    assert arguments_of(spans.tool) == {"a": semconv.REDACTED, "b": semconv.REDACTED, "c": "z"}
    assert result_of(spans.tool) is None


def test_a_tool_that_calls_itself_is_recorded_each_time(spans: Spans) -> None:
    @tool
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert factorial(3) == 6
    assert [len(spans.path_to(span)) for span in spans.tools] == [4, 3, 2, 1]


# --- generators


def test_a_generators_result_is_what_it_yielded_and_an_empty_ones_is_empty(spans: Spans) -> None:
    @tool
    def pages(count: int) -> Iterator[int]:
        yield from range(count)

    list(pages(3))
    list(pages(0))
    assert [result_of(span) for span in spans.tools] == [[0, 1, 2], []]


@pytest.mark.parametrize(
    ("item", "limit"),
    [(1, "max_items"), ("x" * 10_000, "max_value_bytes"), ("é" * 400, "max_value_bytes")],
)
def test_a_stream_is_cut_at_its_bounds_and_says_so(item: Any, limit: str) -> None:
    @tool
    def stream() -> Iterator[Any]:
        for _ in range(2000):
            yield item

    with recording(max_value_bytes=65_536) as recorded:
        assert sum(1 for _ in stream()) == 2000
    text = recorded.records[0].get("attributes", {})[semconv.GEN_AI_TOOL_CALL_RESULT]
    assert len(text.encode()) <= 65_536
    *kept, marker = json.loads(text)
    assert 0 < len(kept) <= 1000
    assert set(kept) == {item}
    assert marker[semconv.TRUNCATED]["length"] == 2000
    assert marker[semconv.TRUNCATED]["limit"] == limit
    assert recorded.counters["truncated"] == 1


def test_what_is_yielded_is_not_kept_alive(spans: Spans) -> None:
    class Page:
        pass

    @tool
    def pages() -> Iterator[Page]:
        yield Page()
        yield Page()

    generator = pages()
    page = next(generator)
    reference = weakref.ref(page)
    del page
    assert reference() is None
    generator.close()  # type: ignore[attr-defined] - it is a generator


def test_a_body_that_yields_in_spite_of_being_closed_meets_what_it_met_without(
    spans: Spans,
) -> None:
    def stubborn() -> Generator[str]:
        try:
            yield "first"
        except GeneratorExit:
            yield "still here"

    def answers(function: Callable[[], Generator[str]]) -> list[Any]:
        closed, thrown = function(), function()
        seen: list[Any] = [next(closed), next(thrown)]
        with pytest.raises(RuntimeError) as caught:
            closed.close()
        seen.append(str(caught.value))
        seen.extend(closed)
        seen.append(thrown.throw(GeneratorExit()))
        seen.extend(thrown)
        return seen

    assert answers(tool(stubborn)) == answers(stubborn)


def test_a_stop_iteration_raised_inside_is_what_python_makes_of_it(spans: Spans) -> None:
    def leaks() -> Generator[int]:
        yield 1
        raise StopIteration("by mistake")

    def answers(function: Callable[[], Generator[int]]) -> list[Any]:
        generator = function()
        seen: list[Any] = [next(generator)]
        with pytest.raises(RuntimeError) as caught:
            next(generator)
        return [*seen, str(caught.value), type(caught.value.__cause__)]

    assert answers(tool(leaks)) == answers(leaks)
    assert attribute(spans.tool, semconv.ERROR_TYPE) == "RuntimeError"


def test_yield_from_and_context_managers_run_through_a_tool(spans: Spans) -> None:
    @tool
    def inner() -> Generator[int, int, str]:
        got = yield 1
        return f"got {got}"

    def outer() -> Generator[int, int, str]:
        return (yield from inner())

    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as stopped:
        generator.send(5)
    assert stopped.value.value == "got 5"

    @contextlib.contextmanager
    @tool
    def transaction() -> Iterator[str]:
        try:
            yield "open"
        except KeyError:
            pass

    with transaction() as state:
        assert state == "open"
        raise KeyError("swallowed by the manager")
    assert [attribute(span, semconv.TOOL_STATUS) for span in spans.tools] == [None, None]


def test_a_generator_based_coroutine_can_still_be_awaited(spans: Spans) -> None:
    @tool
    @types.coroutine
    def paused() -> Generator[None, None, int]:
        yield
        return 7

    async def main() -> int:
        return await paused()

    assert asyncio.run(main()) == 7
    assert result_of(spans.tool) == 7


def test_a_plain_function_that_hands_out_a_coroutine_is_recorded_until_it_has_run(
    spans: Spans,
) -> None:
    async def search(query: str) -> str:
        await asyncio.sleep(0)
        return f"found {query}"

    handed_out = tool(name="search")(lambda query: search(query))

    async def main() -> str:
        coroutine = handed_out("x")
        assert asyncio.iscoroutine(coroutine)
        assert coroutine.__name__ == "search"
        return await coroutine

    assert asyncio.run(main()) == "found x"
    assert result_of(spans.tool) == "found x"


def test_an_awaitable_that_is_no_coroutine_is_handed_out_as_it_is(spans: Spans) -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        assert tool(lambda: future)() is future
        future.set_result(1)

    asyncio.run(main())
    assert len(spans.tools) == 1


# --- errors


class TimeoutSettingError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "error"),
        (TimeoutError(), "timeout"),
        (concurrent.futures.TimeoutError(), "timeout"),
        (TimeoutSettingError(), "error"),
        (SystemExit(3), "error"),
    ],
)
def test_an_exception_says_error_or_timeout(
    error: BaseException, status: str, spans: Spans
) -> None:
    @tool
    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert caught.value is error
    assert attribute(spans.tool, semconv.TOOL_STATUS) == status
    assert exception_of(spans.tool)[semconv.EXCEPTION_TYPE] == attribute(
        spans.tool, semconv.ERROR_TYPE
    )
    assert "fails" in exception_of(spans.tool)[semconv.EXCEPTION_STACKTRACE]


def test_an_exceptions_chain_and_notes_are_untouched(spans: Spans) -> None:
    error = ValueError("outer")
    error.add_note("a note")

    @tool
    def fails() -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise error from inner

    with pytest.raises(ValueError, match="outer") as caught:
        fails()
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value.__context__, KeyError)
    assert caught.value.__notes__ == ["a note"]
    assert caught.value.__context__.__context__ is None


# --- tool_call


def test_a_tool_call_by_hand_says_what_it_was_told(spans: Spans) -> None:
    with tool_call("search", {"query": "x"}, memory_id="mem-1") as call:
        call.set_result({"hits": 3})
        assert call.tool_call_id.startswith("call-")
    assert (arguments_of(spans.tool), result_of(spans.tool)) == ({"query": "x"}, {"hits": 3})
    assert attribute(spans.tool, semconv.TOOL_MEMORY_ID) == "mem-1"
    assert attribute(spans.tool, semconv.TOOL_STATUS) is None


def test_a_result_is_that_of_the_moment_it_was_set_and_an_exception_does_not_erase_it(
    spans: Spans,
) -> None:
    def search(hits: list[int]) -> None:
        with tool_call("search") as call:
            call.set_result(hits)
            hits.append(2)
            raise OSError("late")

    with pytest.raises(OSError, match="late"):
        search([1])
    assert result_of(spans.tool) == [1]
    assert attribute(spans.tool, semconv.TOOL_STATUS) == "error"


@pytest.mark.parametrize(("timeout", "status"), [(False, "error"), (True, "timeout")])
def test_an_error_without_an_exception_can_be_said_once(
    timeout: bool, status: str, spans: Spans
) -> None:
    with tool_call("search") as call:
        call.set_error("quota used up", error_type="quota", timeout=timeout)
        call.set_error("said again")
        call.set_result(None)
    assert attribute(spans.tool, semconv.TOOL_STATUS) == status
    assert attribute(spans.tool, semconv.ERROR_TYPE) == "quota"
    assert exception_of(spans.tool)[semconv.EXCEPTION_MESSAGE] == "quota used up"


def test_what_a_model_made_up_is_recorded_and_not_refused(spans: Spans) -> None:
    made_up: Any = [None, "", {"name": "x"}, 3]
    for name in made_up:
        with tool_call(name, made_up, memory_id=made_up, redact=["x"]) as call:
            call.set_error(made_up, error_type=made_up)
    assert [attribute(span, semconv.GEN_AI_TOOL_NAME) for span in spans.tools] == [
        "unknown",
        "unknown",
        "{'name': 'x'}",
        "3",
    ]


def test_a_tool_call_can_be_entered_again(spans: Spans) -> None:
    call = tool_call("search")
    with call:
        call.set_error("first")
        call.set_result(1)

    async def again() -> None:
        async with call:
            pass

    asyncio.run(again())
    first, second = spans.tools
    assert (attribute(first, semconv.TOOL_STATUS), result_of(first)) == ("error", 1)
    assert (attribute(second, semconv.TOOL_STATUS), result_of(second)) == (None, None)


def test_a_tool_call_outside_of_a_block_or_unrecorded_does_nothing(recorded: Recording) -> None:
    call = tool_call("search")
    call.set_result(1)
    call.set_error("x")
    call.__exit__(None, None, None)
    assert call.tool_call_id == ""
    assert recorded.records == []


def test_the_result_of_a_generator_is_what_it_returns_and_what_it_yields_is_kept(
    recorded: Recording,
) -> None:
    @tool
    def search() -> Generator[str, None, dict[str, int]]:
        yield "50 %"
        return {"found": 42}

    @task("stream")
    def agent() -> Generator[str, None, str]:
        yield "part"
        yield from search()
        return "final answer"

    assert list(agent()) == ["part", "50 %"]
    (call,) = recorded.trace.tool_calls
    assert (call.result, call.yielded) == ({"found": 42}, ["50 %"])
    assert recorded.trace.outcome == "final answer"
