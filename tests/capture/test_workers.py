"""What a worker does that was started inside a task: it is not the task's, once that has ended."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import autotrace
from autotrace import task, tool
from autotrace.testing import Recording


@tool
def write(owner: str) -> str:
    return owner


def owners(recorded: Recording) -> dict[str, list[str]]:
    return {t.task: [call.arguments["owner"] for call in t.tool_calls] for t in recorded.traces}


class Writer:
    """Starts its worker for the first item, as pools and clients do."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, asyncio.Event]] = asyncio.Queue()
        self.worker: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            owner, done = await self.queue.get()
            write(owner)
            done.set()

    async def put(self, owner: str) -> None:
        if self.worker is None:
            self.worker = asyncio.create_task(self.run())
        done = asyncio.Event()
        await self.queue.put((owner, done))
        await done.wait()


async def through_an_asyncio_queue(put: Callable[[Callable[[str], Awaitable[None]]], Any]) -> None:
    await put(Writer().put)


async def through_a_stream(put: Callable[[Callable[[str], Awaitable[None]]], Any]) -> None:
    sender, receiver = anyio.create_memory_object_stream[tuple[str, asyncio.Event]](8)
    workers: list[asyncio.Task[None]] = []

    async def work() -> None:
        async for owner, done in receiver:
            write(owner)
            done.set()

    async def enqueue(owner: str) -> None:
        if not workers:
            workers.append(asyncio.create_task(work()))
        done = asyncio.Event()
        await sender.send((owner, done))
        await done.wait()

    async with sender, receiver:
        await put(enqueue)
        workers[0].cancel()


@pytest.mark.parametrize("through", [through_an_asyncio_queue, through_a_stream])
def test_a_finished_task_gets_nothing_of_a_worker_that_was_started_in_it(
    through: Callable[[Any], Awaitable[None]], recorded: Recording
) -> None:
    async def puts(enqueue: Callable[[str], Awaitable[None]]) -> None:
        with task("a"):
            await enqueue("a")
        with task("b"):
            await enqueue("b")

    async def main() -> None:
        await through(puts)

    asyncio.run(main())
    assert owners(recorded) == {"a": ["a"], "b": []}
    written = [r for r in recorded.records if r.get("name") == "execute_tool write"]
    assert [r.get("parent") is None for r in written] == [False, True]


def test_a_thread_that_consumes_a_queue_works_for_no_finished_task(recorded: Recording) -> None:
    from contextvars import copy_context

    items: queue.Queue[str | None] = queue.Queue()

    def work() -> None:
        while (owner := items.get()) is not None:
            write(owner)
            items.task_done()

    with task("a"):
        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        items.put("a")
        items.join()
    items.put("b")
    items.put(None)
    thread.join()
    assert owners(recorded) == {"a": ["a"]}


def test_what_a_task_has_not_awaited_is_its_own(recorded: Recording) -> None:
    async def late() -> None:
        for owner in ("first", "second"):
            await asyncio.sleep(0)
            write(owner)

    async def main() -> None:
        with task("a"):
            running = asyncio.create_task(late())
        with task("b"):
            await running

    asyncio.run(main())
    assert owners(recorded) == {"a": ["first", "second"], "b": []}


def test_a_task_that_a_worker_opens_has_no_finished_task_above_it(recorded: Recording) -> None:
    async def work(jobs: asyncio.Queue[str]) -> None:
        while (job := await jobs.get()) != "end":
            with task(job):
                write(job)

    async def main() -> None:
        jobs: asyncio.Queue[str] = asyncio.Queue()
        with task("a", session_id="s1"):
            worker = asyncio.create_task(work(jobs))
            await asyncio.sleep(0)
        for job in ("b", "end"):
            jobs.put_nowait(job)
        await worker

    asyncio.run(main())
    (found,) = [trace for trace in recorded.traces if trace.task == "b"]
    assert (found.parent_trace_id, found.session_id) == (None, None)


def test_detached_starts_what_belongs_to_no_task(recorded: Recording) -> None:
    async def work() -> None:
        with task("of its own"):
            write("worker")

    async def main() -> None:
        with task("a"):
            with autotrace.detached():
                running = asyncio.create_task(work())
            await running
            write("a")

    asyncio.run(main())
    assert owners(recorded) == {"a": ["a"], "of its own": ["worker"]}
    assert [trace.parent_trace_id for trace in recorded.traces] == [None, None]
