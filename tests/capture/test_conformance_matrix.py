"""A decorated function is the function it decorates, to whoever calls it; and each call is a span.

A case runs a script on a decorated function and on the same one undecorated, and compares what the
caller has seen; then it reads the spans. The axes: call kind, host (what kind of method it is),
stack (which decorators, in which order), where it runs, and script (what the caller does): a test
runs all scripts of its kind.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from autotrace import semconv, step, task, tool
from tests.capture import subjects
from tests.capture.scripts import SCRIPTS, Recorded, is_thrown_into_unstarted
from tests.capture.spans import Spans, arguments_of, attribute, id_of, result_of
from tests.capture.subjects import HOSTS, KINDS, OPAQUE_HOSTS, Wrap, foreign, hosted, plain
from tests.cases import case


@dataclass(frozen=True)
class Stack:
    """Decorators over a function, given what to use as `tool`, `step` and `task`."""

    wrap: Callable[[Wrap, Wrap, Wrap], Wrap]
    wrap_descriptor: Callable[[Wrap], Wrap] = lambda tool: plain
    spans: tuple[str, ...] = ("tool",)
    """Kinds of the spans of one call, the outermost first."""
    starts_with_the_call: bool = False
    """Whether the span starts when a plain wrapper is called, before the body does."""


STACKS: Final = {
    "bare": Stack(lambda tool, step, task: tool),
    "above a foreign decorator": Stack(
        lambda tool, step, task: lambda f: tool(foreign(f)), starts_with_the_call=True
    ),
    "below a foreign decorator": Stack(lambda tool, step, task: lambda f: foreign(tool(f))),
    "twice": Stack(lambda tool, step, task: lambda f: tool(tool(f))),
    "above step": Stack(lambda tool, step, task: lambda f: tool(step(f)), spans=("tool", "step")),
    "below step": Stack(lambda tool, step, task: lambda f: step(tool(f)), spans=("step", "tool")),
    "below task": Stack(lambda tool, step, task: lambda f: task(tool(f)), spans=("task", "tool")),
}
DESCRIPTOR_STACKS: Final = {
    "above the descriptor": Stack(lambda tool, step, task: plain, lambda tool: tool),
    "above the descriptor and a foreign decorator": Stack(
        lambda tool, step, task: foreign, lambda tool: tool, starts_with_the_call=True
    ),
}
"""For class methods and static methods alone: `tool` on what `classmethod` has made."""
OPAQUE_STACKS: Final = ("bare", "twice", "above step", "below task")

PLACES: Final = (
    "here",
    "thread",
    "executor",
    "asyncio task",
    "asyncio.to_thread",
    "run_in_executor",
)


def cases() -> Iterator[tuple[str, str, Stack, str]]:
    for kind, host in itertools.product(KINDS, HOSTS):
        of_descriptors = DESCRIPTOR_STACKS if host in ("class method", "static method") else {}
        for stack in (STACKS | of_descriptors).values():
            yield kind, host, stack, "here"
    for kind, host, stack in itertools.product(KINDS, OPAQUE_HOSTS, OPAQUE_STACKS):
        yield kind, host, STACKS[stack], "here"
    for kind, host, place in itertools.product(KINDS, ("function", "method"), PLACES[1:]):
        yield kind, host, STACKS["bare"], place


def name_of(value: Any) -> str | None:
    if isinstance(value, Stack):
        everything = STACKS | DESCRIPTOR_STACKS
        return next(name for name, stack in everything.items() if stack is value)
    return getattr(value, "__name__", None)


@pytest.fixture(scope="module", autouse=True)
def _threads_inherit() -> Iterator[None]:
    instrumentor = ThreadingInstrumentor()
    instrumentor.instrument()
    yield
    instrumentor.uninstrument()


def run(script: Callable[[Any], Any], subject: Callable[..., Any], place: str) -> list[Any]:
    """Run a script somewhere, and return what it has seen and which bodies were left."""
    subjects.closed.clear()
    seen = _run(script, subject, place)
    return [*seen, list(subjects.closed)]


def _run(script: Callable[[Any], Any], subject: Callable[..., Any], place: str) -> Any:
    def here() -> Any:
        return (
            asyncio.run(script(subject)) if inspect.iscoroutinefunction(script) else script(subject)
        )

    async def in_loop() -> Any:
        loop = asyncio.get_running_loop()
        if place == "asyncio.to_thread":
            return await asyncio.to_thread(here)
        if place == "run_in_executor":
            return await loop.run_in_executor(None, here)
        if inspect.iscoroutinefunction(script):
            return await asyncio.create_task(script(subject))
        return await asyncio.create_task(_as_coroutine(here))

    if place == "here":
        return here()
    if place == "thread":
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(here()))
        thread.start()
        thread.join()
        return result[0]
    if place == "executor":
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(here).result()
    return asyncio.run(in_loop())


async def _as_coroutine(function: Callable[[], Any]) -> Any:
    return function()


@pytest.mark.parametrize(("kind", "host", "stack", "place"), list(cases()), ids=name_of)
def test_a_decorated_function_behaves_as_without_and_each_call_is_one_span(
    kind: str, host: str, stack: Stack, place: str, spans: Spans
) -> None:
    context = otel_context.get_current()
    starts_with_the_call = stack.starts_with_the_call or host in OPAQUE_HOSTS
    for script in SCRIPTS[kind]:
        # The traceback of what is thrown into a generator that has not begun keeps it, and its span
        # with it, open for as long as the exception lives.
        if starts_with_the_call and script is is_thrown_into_unstarted:
            continue
        with case(script.__name__):
            spans.clear()
            check_script(kind, host, stack, script, place, spans)
            assert not spans.open_or_ended_twice()
            assert otel_context.get_current() == context


def check_script(
    kind: str, host: str, stack: Stack, script: Callable[[Any], Any], place: str, spans: Spans
) -> None:
    """Run one script with and without decorators."""
    undecorated = hosted(kind, host, stack.wrap(plain, plain, plain), stack.wrap_descriptor(plain))
    decorated = hosted(
        kind,
        host,
        stack.wrap(tool(name="subject"), step("inner"), task("inner")),
        stack.wrap_descriptor(tool(name="subject")),
    )
    with task("outer"), step("outer"):
        expected = run(script, undecorated, place)
        spans.ended.clear()
        subjects.current_spans.clear()
        seen = run(script, decorated, place)

    assert seen == expected
    recorded = SCRIPTS[kind][script]
    of_the_call = spans.ended[:-2]
    starts_with_the_call = stack.starts_with_the_call or host in OPAQUE_HOSTS
    if recorded is None and not starts_with_the_call:
        assert of_the_call == []
        return
    # A wrong call fails where it is made, before the span of a body that runs later has started.
    fails_first = kind != "sync" and script.__name__.startswith("is_called_wrongly")
    check_tree(spans, of_the_call, stack, nested=not fails_first or starts_with_the_call)
    if recorded is not None:
        check_call(spans.tool, recorded, host)
    elif kind == "async":
        assert attribute(spans.tool, semconv.ENDED_BY) == (
            "GeneratorExit: dropped before it had ended"
        )
    else:
        assert attribute(spans.tool, semconv.TOOL_EXHAUSTED) is False


def check_tree(
    spans: Spans, of_the_call: list[ReadableSpan], stack: Stack, *, nested: bool
) -> None:
    """Look at the places of the spans of one call, made inside a step of a task."""
    assert len(of_the_call) == len(stack.spans)
    if not nested:
        assert {tuple(spans.path_to(span)) for span in of_the_call} == {
            ("task", "step", kind) for kind in stack.spans
        }
        return
    from_outer_to_inner = sorted(of_the_call, key=lambda span: len(spans.path_to(span)))
    innermost = from_outer_to_inner[-1]
    assert spans.path_to(innermost) == ["task", "step", *stack.spans]
    assert set(subjects.current_spans) <= {id_of(innermost)}
    for outer, inner in itertools.pairwise([spans.ended[-2], *from_outer_to_inner]):
        assert (outer.start_time or 0) <= (inner.start_time or 0)
        assert 0 <= duration_ns(inner) <= duration_ns(outer)


def duration_ns(span: ReadableSpan) -> int:
    """What a monotonic clock has counted; starts are those of the wall clock."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


def check_call(call: ReadableSpan, recorded: Recorded, host: str) -> None:
    """Look at what the span of a call says."""
    expected_arguments = recorded.arguments
    if host == "partial" and expected_arguments is not ...:
        expected_arguments = expected_arguments | {"c": 30}
    if expected_arguments is not ...:
        assert arguments_of(call) == expected_arguments
    assert result_of(call) == _with_partial(recorded.result, host)
    yielded = json.loads(str(attribute(call, semconv.TOOL_YIELDED) or "null"))
    assert yielded == _with_partial(recorded.yielded, host)
    assert attribute(call, semconv.TOOL_STATUS) == recorded.status
    assert attribute(call, semconv.ERROR_TYPE) == recorded.error_type
    assert attribute(call, semconv.TOOL_EXHAUSTED) is (None if recorded.exhausted else False)
    failed = recorded.status in ("error", "timeout")
    assert (call.status.status_code is StatusCode.ERROR) == failed


def _with_partial(result: Any, host: str) -> Any:
    """The partial of the matrix gives `c` a value of its own."""
    if host == "partial" and isinstance(result, list):
        return [_with_partial(item, host) for item in result[:3]] + [
            30 if item == 3 else item for item in result[3:]
        ]
    return result
