"""Work that a task starts elsewhere belongs to that task: each library in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.instrumentation.threading import ThreadingInstrumentor

from autotrace import task, tool
from autotrace.testing import recording

PROGRAM = """
import contextvars, json
{imports}
from autotrace import task, tool
from autotrace.testing import recording

mine = contextvars.ContextVar("mine", default="unset")
seen = []

@tool
def work(name):
    seen.append(mine.get())
    return name

with recording() as recorded:
    mine.set("set")
    with task("first"):
{body}
    outside()
traces = {{t.task: [c.arguments["name"] for c in t.tool_calls] for t in recorded.traces}}
print(json.dumps([traces, sorted(set(seen)), recorded.counters]))
"""

GEVENT = """
import gevent, gevent.pool, gevent.threadpool
"""
GEVENT_BODY = """
        spawned = gevent.spawn(work, "spawned")
        spawned.join()
        gevent.pool.Pool(2).map(work, ["pooled"])
        gevent.spawn_later(0, work, "later").join()
        gevent.threadpool.ThreadPool(1).spawn(work, "thread").get()
        waiting = gevent.spawn(work, "after its end")
    def outside():
        with task("second"):
            waiting.join()
        gevent.spawn(lambda: None).join()
"""
EVENTLET = """
import eventlet
"""
EVENTLET_BODY = """
        eventlet.spawn(work, "spawned").wait()
        eventlet.GreenPool(2).spawn(work, "pooled").wait()
        eventlet.spawn_after(0, work, "later").wait()
        eventlet.spawn_n(work, "unwatched")
        eventlet.sleep(0)
        waiting = eventlet.spawn(work, "after its end")
    def outside():
        with task("second"):
            waiting.wait()
        eventlet.spawn(lambda: None).wait()
"""
STARLETTE = """
import asyncio
"""
STARLETTE_BODY = """
        from starlette.background import BackgroundTask, BackgroundTasks
        tasks = BackgroundTasks()
        tasks.add_task(work, "sync")
        async def later(name): return work(name)
        tasks.add_task(later, "async")
        alone = BackgroundTask(work, "after its end")
    def outside():
        asyncio.run(tasks())
        asyncio.run(alone())
"""


@pytest.mark.parametrize(
    ("imports", "body", "calls", "variables"),
    [
        (GEVENT, GEVENT_BODY, ["spawned", "pooled", "later", "thread", "after its end"], ["unset"]),
        (
            EVENTLET,
            EVENTLET_BODY,
            ["spawned", "pooled", "later", "unwatched", "after its end"],
            ["unset"],
        ),
        (STARLETTE, STARLETTE_BODY, ["sync", "async", "after its end"], ["set"]),
    ],
    ids=["gevent", "eventlet", "starlette"],
)
def test_what_a_task_starts_belongs_to_it_and_no_variable_of_the_program_is_carried(
    imports: str, body: str, calls: list[str], variables: list[str]
) -> None:
    program = textwrap.dedent(PROGRAM).format(imports=imports, body=body)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    traces, seen, counters = json.loads(done.stdout)
    assert traces.pop("first") == calls
    assert traces in ({}, {"second": []})
    assert (seen, counters) == (variables, {})


def agent() -> None:
    @tool
    def work(name: str) -> str:
        return name

    with task("agent"):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work, "executor").result()
        thread = threading.Thread(target=work, args=("thread",))
        thread.start()
        thread.join()


def test_threads_of_a_recording_inherit_the_task_and_are_left_alone_after_it() -> None:
    instrumentor = ThreadingInstrumentor()
    before = instrumentor.is_instrumented_by_opentelemetry  # by another test's `configure`, maybe
    with recording() as recorded:
        agent()
        with recording() as inner:
            agent()
        agent()
        assert instrumentor.is_instrumented_by_opentelemetry
    assert instrumentor.is_instrumented_by_opentelemetry is before
    names: list[list[Any]] = [
        [call.arguments["name"] for call in trace.tool_calls]
        for trace in (*recorded.traces, *inner.traces)
    ]
    assert names == [["executor", "thread"]] * 3


def test_a_thread_whose_run_is_called_directly_belongs_to_the_caller() -> None:
    """Releases of the instrumentor before 0.61 raise there; `make lowest` has one."""

    class Synchronous(threading.Thread):
        def start(self) -> None:
            self.run()

    @tool
    def work(name: str) -> str:
        return name

    before = threading.Thread(target=work, args=("made before",))
    with recording() as recorded:
        with task("agent"):
            before.run()
            threading.Thread(target=work, args=("thread",)).run()
            threading.Timer(0, work, args=("timer",)).run()
            Synchronous(target=work, args=("synchronous",)).start()
        bound = threading.Thread(target=work, args=("after",)).run
    bound()
    (trace,) = recorded.traces
    names = [call.arguments["name"] for call in trace.tool_calls]
    assert names == ["made before", "thread", "timer", "synchronous"]


def test_threads_of_a_recording_do_not_inherit_where_the_settings_say_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(APART)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[[]]"), done.stderr


APART = """
import threading
from autotrace import task, tool
from autotrace.testing import recording

with recording(propagate_threads=False) as recorded, task("agent"):
    thread = threading.Thread(target=tool(lambda: 1))
    thread.start()
    thread.join()
print([trace.tool_calls for trace in recorded.traces])
"""
