"""One trace across threads and processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, propagate
from opentelemetry import context as otel_context

import autotrace
from autotrace import attach, current_task, inject, step, task, tool
from autotrace.testing import Recording
from tests.capture.spans import Spans
from tests.conftest import Configure


@tool
def search(query: str) -> str:
    return f"found {query}"


HEADERS = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


def test_nothing_is_injected_outside_of_any_span(spans: Spans) -> None:
    carrier = {"accept": "text/html"}
    assert inject(carrier) == {}
    assert carrier == {"accept": "text/html"}


def test_the_headers_are_those_of_the_w3c(spans: Spans) -> None:
    carrier: dict[str, str] = {}
    with task("x"):
        headers = inject(carrier)
        standard: dict[str, str] = {}
        propagate.inject(standard)
    assert headers == carrier
    assert headers["traceparent"] == standard["traceparent"]


def test_what_is_recorded_inside_belongs_to_the_trace_that_was_sent(recorded: Recording) -> None:
    with task("sender") as sender, step("sends"):
        headers = inject()
    with attach({key.upper(): value for key, value in headers.items()}):
        search("tea")
        with task("receiver") as receiver:
            search("coffee")
    by_task = {found.task: found for found in recorded.traces}
    assert by_task["receiver"].parent_trace_id == sender.trace_id
    assert by_task["receiver"].trace_id == receiver.trace_id
    (thought,) = by_task["sender"].steps
    assert [call.result for call in thought.tool_calls] == ["found tea"]


@pytest.mark.parametrize(
    "carrier", [{}, {"traceparent": "nonsense"}, {"accept": "text/html"}, {"traceparent": ""}]
)
def test_headers_that_name_no_trace_change_nothing(carrier: Any, spans: Spans) -> None:
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    with task("outer"):
        before = otel_context.get_current()
        with attach(carrier):
            assert otel_context.get_current() is before
            search("tea")
    otel_context.detach(token)
    assert spans.path_to(spans.tool) == ["task", "tool"]


@pytest.mark.parametrize("carrier", [{3: 4}, {"traceparent": 5}, None, 7])
def test_what_is_no_carrier_is_counted_and_changes_nothing(
    carrier: Any, recorded: Recording
) -> None:
    with task("outer"):
        before = otel_context.get_current()
        with attach(carrier):
            assert otel_context.get_current() is before
    assert recorded.counters["capture_errors"] == 1


def test_nothing_of_a_task_that_is_open_here_is_inherited_by_one_from_elsewhere(
    recorded: Recording,
) -> None:
    with task("here", session_id="s1", agent="a1"), attach(HEADERS):
        assert current_task() is None
        with task("from elsewhere"):
            pass
    found = next(found for found in recorded.traces if found.task == "from elsewhere")
    assert (found.session_id, found.agent) == (None, None)
    assert "a" * 32 in found.trace_id


def test_headers_left_while_another_context_is_current_leave_that_one_alone(spans: Spans) -> None:
    def receive(headers: dict[str, str]) -> Iterator[None]:
        with attach(headers):
            yield

    other = HEADERS["traceparent"].replace("a", "c")
    first, second = receive(HEADERS), receive({"traceparent": other})
    next(first)
    next(second)
    inside = otel_context.get_current()
    next(first, None)
    assert otel_context.get_current() is inside
    otel_context.attach(otel_context.Context())


def test_a_stream_may_leave_the_headers_in_another_context(spans: Spans) -> None:
    async def stream() -> AsyncGenerator[int]:
        with attach(HEADERS):
            yield 1

    async def consume() -> None:
        generator = stream()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[arg-type] - a coroutine here

    asyncio.run(consume())


def test_the_standard_propagators_work_as_well(recorded: Recording) -> None:
    with task("sender") as sender:
        headers: dict[str, str] = {}
        propagate.inject(headers)
    token = otel_context.attach(propagate.extract(headers))
    with task("receiver"):
        pass
    otel_context.detach(token)
    receiver = next(found for found in recorded.traces if found.task == "receiver")
    assert receiver.parent_trace_id == sender.trace_id


WORKER = """
    import os, sys
    import autotrace
    from autotrace import step, task, tool

    @tool
    def search(query): return f"{query} in {os.getpid()}"

    autotrace.configure(sys.argv[1], embedder=lambda texts: [[1.0, 0.0]] * len(texts))
    with autotrace.attach(os.environ):
        search("tea")
        with task("subtask", agent="worker") as t:
            search("coffee")
    assert autotrace.shutdown()
    print(os.getpid(), t.trace_id)
"""


def in_a_process(program: str, *arguments: str, **headers: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, **headers},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_adds_to_the_trace_and_opens_tasks_below_it(configure: Configure) -> None:
    store = configure(embedder=lambda texts: [[1.0, 0.0]] * len(texts))
    with task("boss") as boss, step("delegates"):
        pid, subtask_id = in_a_process(WORKER, str(store), **inject()).split()
    assert autotrace.flush()
    trace_of_boss = autotrace.get_trace(boss.trace_id)
    assert [call.result for call in trace_of_boss.steps[0].tool_calls] == [f"tea in {pid}"]
    subtask = autotrace.get_trace(subtask_id)
    assert subtask.parent_trace_id == boss.trace_id
    assert (subtask.task, subtask.agent) == ("subtask", "worker")
    assert [call.result for call in subtask.tool_calls] == [f"coffee in {pid}"]


# --- threads


def test_threads_and_executors_inherit_the_task_when_told_to(configure: Configure) -> None:
    configure(propagate_threads=True)

    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, search, "run_in_executor")
        await asyncio.to_thread(search, "to_thread")

    with task("x") as t:
        threads: list[threading.Thread] = [
            threading.Thread(target=search, args=("thread",)),
            threading.Timer(0, search, args=("timer",)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
        with ThreadPoolExecutor(1) as pool:
            list(pool.map(search, ["map"]))
            pool.submit(search, "submit").result()
        asyncio.run(main())
    assert autotrace.flush()
    assert {call.result for call in autotrace.get_trace(t.trace_id).tool_calls} == {
        f"found {where}"
        for where in ("thread", "timer", "map", "submit", "run_in_executor", "to_thread")
    }


def test_threads_are_as_before_when_recording_has_stopped(configure: Configure) -> None:
    run = threading.Thread.run
    configure()
    assert threading.Thread.run is not run
    autotrace.shutdown()
    assert threading.Thread.run is run


APART = """
    import sys, threading
    import autotrace
    from autotrace import task, tool
    run = threading.Thread.run

    @tool
    def search(query): return query

    autotrace.configure(
        sys.argv[1],
        embedder=lambda texts: [[1.0, 0.0]] * len(texts),
        propagate_threads=False,
    )
    with task("x") as t:
        thread = threading.Thread(target=search, args=("tea",))
        thread.start()
        thread.join()
    assert autotrace.flush()
    assert autotrace.get_trace(t.trace_id).tool_calls == []
    assert autotrace.tool_stats()[0].call_count == 1
    assert threading.Thread.run is run
"""


def test_threads_are_left_alone_when_told_so(tmp_path: Path) -> None:
    in_a_process(APART, str(tmp_path / "store"))


# --- forked processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_worker_records_into_the_same_trace(tmp_path: Path) -> None:
    program = """
        import os, sys
        import autotrace
        from autotrace import task, tool

        @tool
        def search(query): return query

        def embed(texts): return [[1.0, 0.0]] * len(texts)

        autotrace.configure(sys.argv[1], embedder=embed)
        with task("x") as t:
            search("parent")
            pid = os.fork()
            if pid == 0:
                search("child")
                os._exit(0)
            os.waitpid(pid, 0)
        assert autotrace.flush()
        autotrace.shutdown()
        autotrace.configure(sys.argv[1], embedder=embed)
        assert autotrace.flush()
        print(sorted(call.result for call in autotrace.get_trace(t.trace_id).tool_calls))
    """
    assert in_a_process(program, str(tmp_path / "store")).strip() == "['child', 'parent']"
