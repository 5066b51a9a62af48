"""Recording from event loops: nothing blocks them, and what ended is on disk all the same.

blockbuster stands for hosts that refuse blocking calls (LangGraph's dev server installs it over the
whole loop). It knows loops of asyncio alone, so for trio the calls are seen by an audit hook.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import wrapt
from blockbuster import BlockingError, blockbuster_ctx

import autotrace
from autotrace import decisions, runtime, task, tool
from autotrace.base import blocking_calls
from autotrace.embedding.minilm import MiniLmEmbedder
from autotrace.spool import segment
from tests.embedders import HashEmbedder

ROOT = Path(__file__).parents[2]
LIBRARIES = ["asyncio", "trio"]


@pytest.fixture(params=["mapped", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the spool is written; the second is for file systems that cannot be trusted with maps."""
    if request.param == "plain":
        monkeypatch.setattr(segment, "is_mappable", lambda _: False)
    return request.param


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "store"
    autotrace.shutdown()


@tool
async def search(query: str, size: int = 1) -> str:
    await anyio.sleep(0)
    return query * size


@tool
def look_up(query: str) -> str:
    return query


async def agent(name: str, calls: int = 5, size: int = 1) -> None:
    async with task(name) as t:
        for number in range(calls):
            await search(str(number), size)
            look_up(str(number))
        t.complete("ok")


def calls_by_task() -> dict[str, int]:
    """Return how many tool calls are stored, by task."""
    assert autotrace.flush(timeout=500) is True
    traces = [autotrace.get_trace(s.trace_id) for s in autotrace.list_traces(limit=1000)]
    return {t.task: len(t.tool_calls) for t in traces}


def counted(before: dict[str, int]) -> dict[str, int]:
    """Return what this process has counted since."""
    now = autotrace.health().counters
    return {k: n - before.get(k, 0) for k, n in now.items() if n != before.get(k, 0)}


def run(program: str, *arguments: Any, env: dict[str, str] | None = None) -> Any:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
        check=False,
    )


def test_a_loop_that_refuses_blocking_calls_records_the_first_task_and_every_other(
    store: Path, way: str
) -> None:
    autotrace.configure(store, embedder=HashEmbedder())
    before = autotrace.health().counters

    with blockbuster_ctx():
        asyncio.run(agent("cold"))
    with blockbuster_ctx():
        asyncio.run(agent("warm"))

    assert calls_by_task() == {"cold": 10, "warm": 10}
    assert counted(before) == {}


def test_many_large_results_fill_segment_after_segment_without_a_blocking_call(
    store: Path, way: str
) -> None:
    autotrace.configure(store, embedder=HashEmbedder())
    before = autotrace.health().counters

    async def agents() -> None:
        await asyncio.gather(*(agent(f"agent {n}", 20, 30_000) for n in range(20)))

    with blockbuster_ctx():
        asyncio.run(agents())

    assert calls_by_task() == {f"agent {n}": 40 for n in range(20)}
    assert counted(before) == {}


def test_it_can_be_configured_in_a_loop_that_refuses_blocking_calls(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def program() -> None:
        autotrace.configure("store", embedder=HashEmbedder())
        await agent("configured here")
        assert autotrace.health().configured is True
        assert await autotrace.aflush(60) is True

    with blockbuster_ctx():
        asyncio.run(program())

    assert calls_by_task() == {"configured here": 10}


def test_a_task_that_ends_after_shutdown_is_recorded_in_the_loop_too(store: Path) -> None:
    autotrace.configure(store, embedder=HashEmbedder())

    async def program() -> None:
        async with task("outlives"):
            await autotrace.ashutdown()
            await search("late")

    with blockbuster_ctx():
        asyncio.run(program())

    autotrace.configure(store, embedder=HashEmbedder())
    assert calls_by_task() == {"outlives": 0}
    assert autotrace.list_traces()[0].status == "completed"


KILLED = """
import asyncio, os, signal, sys
from blockbuster import BlockBuster
import autotrace
from autotrace.spool import segment
from tests.capture.test_event_loops import search, task
from tests.embedders import HashEmbedder

if sys.argv[2] == "plain":
    segment.is_mappable = lambda _: False
autotrace.configure(sys.argv[1], embedder=HashEmbedder(), flush_interval_ms=600_000)

async def main():
    async with task("killed"):
        for number in range(int(sys.argv[3])):
            await search(str(number), 3000)
        os.kill(os.getpid(), signal.SIGKILL)

BlockBuster().activate()
asyncio.run(main())
"""


@pytest.mark.parametrize("written", ["mapped", "plain"])
@pytest.mark.parametrize("calls", [1, 200])
def test_what_ended_in_a_guarded_loop_survives_a_kill_before_the_next_line(
    store: Path, written: str, calls: int
) -> None:
    killed = run(KILLED, store, written, calls)
    assert (killed.returncode, killed.stderr) == (-9, "")

    autotrace.configure(store, embedder=HashEmbedder())

    assert calls_by_task() == {"killed": calls}
    assert autotrace.list_traces()[0].status == "interrupted"


FORKS = """
import asyncio, os, sys
from blockbuster import BlockBuster
import autotrace
from tests.capture.test_event_loops import agent
from tests.embedders import HashEmbedder

autotrace.configure(sys.argv[1], embedder=HashEmbedder())
BlockBuster().activate()
asyncio.run(agent("parent before"))
child = os.fork()
asyncio.run(agent("parent after" if child else "child"))
if child:
    os.waitpid(child, 0)
print({n for n in autotrace.health().counters if n.startswith("dropped")} or "nothing dropped")
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_records_in_its_own_loop_beside_its_parent(store: Path) -> None:
    done = run(FORKS, store)
    assert (done.stdout.splitlines(), done.stderr) == (["nothing dropped"] * 2, "")

    autotrace.configure(store, embedder=HashEmbedder())

    assert calls_by_task() == {"parent before": 10, "parent after": 10, "child": 10}


WATCHED = """
import sys, threading
import anyio
import autotrace
from autotrace import step, task, tool, tool_call
from tests.capture.test_event_loops import look_up, search
from tests.embedders import HashEmbedder

autotrace.configure(sys.argv[1], embedder=HashEmbedder())
seen, loop = [], threading.get_ident()
blocking = ("os.", "import", "open", "socket.", "subprocess.", "sqlite3.", "fcntl.", "mmap.")

def watch(event, arguments):
    if seen is not None and threading.get_ident() == loop and event.startswith(blocking):
        seen.append((event, str(arguments[0]) if arguments else ""))

@tool
async def stream(n):
    for number in range(n):
        yield number

async def main():
    global seen
    sys.addaudithook(watch)
    async with task("first", session_id="s") as t:
        async with step("think", action="act") as s:
            await search("a")
            look_up("b")
            async for _ in stream(3):
                pass
            with tool_call("by hand", {"a": 1}) as call:
                call.set_result([1])
            s.observe("seen")
        assert autotrace.inject()
        t.complete({"done": True})
    found, seen = seen, None
    print(found)

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_first_calls_in_a_loop_import_open_and_ask_for_nothing(
    store: Path, library: str
) -> None:
    done = run(WATCHED, store, library)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_blocks_has_an_async_form_that_answers_the_same(store: Path, library: str) -> None:
    autotrace.configure(store, embedder=HashEmbedder())

    async def program() -> None:
        await agent("find a restaurant")
        assert await autotrace.aflush(60) is True
        async with autotrace.decision("order", actor="bot") as d:
            await d.add_context_async({"risk": 1}, summary="low")
            await d.request_approval_async(title="may I?")
            (waiting,) = await decisions.apending()
            await decisions.aapprove(waiting.decision_id, "ada")
            assert (await d.wait_async(60)).status == "approved"
            await d.commit_async({"ordered": True})
        (found,) = await autotrace.arecall("find a restaurant", limit=1)
        assert found == autotrace.recall("find a restaurant", limit=1)[0]
        assert await autotrace.aget_trace(found.trace_id) == autotrace.get_trace(found.trace_id)
        assert await autotrace.alist_traces(limit=5) == autotrace.list_traces(limit=5)
        assert await autotrace.atool_stats() == autotrace.tool_stats()
        assert await decisions.aget(d.decision_id) == decisions.get(d.decision_id)
        assert (await autotrace.ahealth()).problems == []
        await autotrace.adelete_trace(found.trace_id)
        assert await autotrace.alist_traces() == []

    anyio.run(program, backend=library)


def test_no_async_form_blocks_a_loop_that_refuses_it(store: Path) -> None:
    async def program() -> None:
        await autotrace.aconfigure(store, embedder=HashEmbedder())
        await agent("find a restaurant")
        await autotrace.aflush(60)
        async with autotrace.decision("order", actor="bot") as d:
            await d.add_context_async({"risk": 1}, summary="low")
        (found,) = await autotrace.arecall("find a restaurant", limit=1)
        await autotrace.aget_trace(found.trace_id)
        await autotrace.alist_traces()
        await autotrace.atool_stats()
        await decisions.alist()
        await autotrace.ahealth()
        await autotrace.adelete_trace(found.trace_id)
        await autotrace.ashutdown()

    with blockbuster_ctx():
        asyncio.run(program())


@pytest.mark.parametrize(
    ("module", "names", "not_blocking"),
    [
        (runtime, autotrace._MODULES_OF_NAMES["autotrace.runtime"], set[str]()),
        (
            decisions,
            decisions.__all__,
            {"add_route", "remove_route", "verify_webhook"},
        ),
    ],
    ids=["autotrace", "autotrace.decisions"],
)
def test_every_function_that_blocks_has_an_async_form(
    module: Any, names: list[str], not_blocking: set[str]
) -> None:
    plain = {n for n in names if inspect.isfunction(getattr(module, n))} - not_blocking
    plain = {n for n in plain if not inspect.iscoroutinefunction(getattr(module, n))}

    for name in plain:
        form: Any = getattr(module, f"a{name}")
        assert inspect.iscoroutinefunction(form)
        assert inspect.signature(form) == inspect.signature(getattr(module, name))
        assert (form.__name__, form.__qualname__) == (f"a{name}", f"a{name}")
        assert name in form.__doc__


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_loop_goes_on_while_a_call_in_it_waits_for_approval(store: Path, library: str) -> None:
    autotrace.configure(store, embedder=HashEmbedder())

    @tool(requires_approval=True, wait=60)
    async def guarded(number: int) -> int:
        return number

    @tool(requires_approval=True, wait=60)
    async def stream(number: int) -> Any:
        yield number

    async def approve() -> None:
        while not (waiting := await decisions.apending()):
            await anyio.sleep(0.01)
        await decisions.aapprove(waiting[0].decision_id, "ada")

    async def program() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(approve)  # nobody would, if the loop stood still
            assert await guarded(1) == 1
            group.start_soon(approve)
            assert [item async for item in stream(2)] == [2]

    anyio.run(program, backend=library)


@wrapt.decorator
def adapter(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


@wrapt.decorator
def as_list(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return [*args]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_loop_goes_on_while_a_call_of_an_adapter_waits_for_approval(
    store: Path, library: str
) -> None:
    autotrace.configure(store, embedder=HashEmbedder())
    closed: list[int] = []

    @tool(requires_approval=True, wait=60)
    @adapter
    async def guarded(number: int) -> int:
        return number

    @tool(requires_approval=True, wait=60)
    @adapter
    async def stream(number: int) -> Any:
        try:
            while True:
                number += yield number
        except ZeroDivisionError:
            yield -1
        finally:
            closed.append(number)

    @tool(requires_approval=True, wait=60)
    @as_list
    async def lists(number: int) -> Any:
        yield number

    async def approve() -> None:
        while not (waiting := await decisions.apending()):
            await anyio.sleep(0.01)
        await decisions.aapprove(waiting[0].decision_id, "ada")

    async def program() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(approve)  # nobody would, if the loop stood still
            assert await guarded(1) == 1
            group.start_soon(approve)
            items = stream(2)
            assert [await items.__anext__(), await items.asend(3)] == [2, 5]
            assert await items.athrow(ZeroDivisionError()) == -1
            await items.aclose()
            group.start_soon(approve)
            with pytest.raises(TypeError, match="lists returned a list to"):
                await lists(3).__anext__()

    anyio.run(program, backend=library)

    assert closed == [5]
    assert sorted(d.status for d in decisions.list()) == ["aborted", "committed", "committed"]


def test_a_gated_call_is_refused_without_a_warning_of_its_coroutine(store: Path) -> None:
    autotrace.configure(store, embedder=HashEmbedder())

    @tool(requires_approval=True, wait=False)
    async def guarded() -> None:
        raise AssertionError

    kept: list[BaseException] = []

    async def program() -> None:
        try:
            await guarded()
        except autotrace.ApprovalPending as error:
            kept.append(error)

    asyncio.run(program())

    frames = list(_frames_of(kept[0]))
    unstarted = [f.f_locals["unstarted"] for f in frames if "unstarted" in f.f_locals]
    assert [each.coroutine for each in unstarted] == [None]


def _frames_of(error: BaseException) -> Iterator[Any]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_caller_cancelled_during_a_call_learns_of_it_after_the_call_is_undone(
    library: str,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    happened: list[str] = []

    def call() -> str:
        begun.set()
        go_on.wait()
        happened.append("done")
        return "result"

    async def program() -> None:
        async with anyio.create_task_group() as group:

            async def caller() -> None:
                try:
                    await blocking_calls.in_thread(
                        call, undo=lambda result: happened.append(result)
                    )
                except BaseException:
                    happened.append("cancelled")
                    raise

            group.start_soon(caller)
            while not begun.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
            go_on.set()

    anyio.run(program, backend=library)

    assert happened == ["done", "result", "cancelled"]


def test_an_interrupted_wait_under_trio_leaves_a_decision_with_a_key_open(store: Path) -> None:
    autotrace.configure(store, embedder=HashEmbedder())

    async def program() -> None:
        with trio.CancelScope() as scope:
            async with autotrace.decision("order", actor="bot", key="k") as d:
                await d.request_approval_async(title="may I?")
                scope.cancel()
                await trio.sleep_forever()

    trio.run(program)

    assert [d.status for d in decisions.list()] == ["needs_approval"]


def test_what_was_dropped_makes_the_next_flush_false_and_is_a_problem_until_the_one_after(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    autotrace.configure(store, embedder=HashEmbedder())
    look_up("recorded")

    def refused(_: Any) -> bool:
        raise BlockingError("os.write")

    assert runtime._runtime is not None
    with monkeypatch.context() as patch:
        patch.setattr(runtime._runtime.memory.pipeline, "record", refused)
        look_up("dropped")

    (problem,) = autotrace.health().problems
    assert problem.startswith("1 spans were dropped, and are lost: a span was not recorded: Block")
    assert autotrace.flush(timeout=500) is False
    assert autotrace.health().problems == [problem]
    assert autotrace.flush(timeout=500) is True
    assert autotrace.health().problems == []


@pytest.mark.parametrize(
    "read", [lambda: autotrace.recall("x"), autotrace.list_traces], ids=["recall", "list_traces"]
)
def test_what_blocks_is_refused_with_the_words_of_the_host_that_refuses_it(
    store: Path, read: Callable[[], Any]
) -> None:
    autotrace.configure(store, embedder=MiniLmEmbedder())

    async def program() -> None:
        with pytest.raises(BlockingError, match="Blocking call to"):
            read()

    with blockbuster_ctx():
        asyncio.run(program())


SWITCHED_OFF = """
import logging, sys
import autotrace
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.embedders import HashEmbedder

logging.basicConfig(format="%(message)s")
trace.set_tracer_provider(TracerProvider())
autotrace.configure(sys.argv[1], embedder=HashEmbedder())
with autotrace.task("x") as t, autotrace.step("y") as s, autotrace.tool_call("z") as c:
    print([t.trace_id, s.step_id, c.tool_call_id])
print(autotrace.health().problems)
autotrace.flush()
print(autotrace.list_traces())
"""


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_SDK_DISABLED", "true", "OTEL_SDK_DISABLED=true switches"),
        ("OTEL_TRACES_SAMPLER", "always_off", "the sampler of the application's"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off", "the sampler of the application's"),
    ],
)
def test_tracing_switched_off_by_the_environment_is_said_and_ids_are_empty(
    store: Path, variable: str, value: str, said: str
) -> None:
    done = run(SWITCHED_OFF, store, env={variable: value})

    ids, problems, listed = done.stdout.splitlines()
    assert (ids, listed) == ("['', '', '']", "[]")
    assert problems.startswith(f'["nothing is recorded: {said}')
    assert done.stderr.startswith(f"nothing is recorded: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_the_code_of_the_guide_runs(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "async.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)

    done = run(f"import os\nos.chdir({str(tmp_path)!r})\n{code}")

    assert (done.stdout, done.stderr) == ("2 found\n", "")
