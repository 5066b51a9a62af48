"""Traces told to several workers: any of them takes the next call, and may be killed."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from autotrace.errors import TraceStateError
from tests.faults.processes import LINUX, MARK, kill_storekeepers, start
from tests.server.telling import ALICE, serve

Hire = Callable[[dict[str, str], int], "list[Worker]"]


class Worker:
    """A process with a service. Any thread may call; a few calls are under way at once."""

    def __init__(self, settings: dict[str, str]) -> None:
        pipes = [multiprocessing.Pipe() for _ in range(LANES)]
        self._free: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self.process = start(serve, settings, [its_end for _, its_end in pipes])
        for own_end, its_end in pipes:
            its_end.close()
            self._free.put(own_end)
        self.pid: int = pipes[0][0].recv()

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        calls = self._free.get()
        try:
            calls.send((name, arguments, options))
            answer = calls.recv()
        finally:
            self._free.put(calls)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.process.join()

    def stop(self) -> None:
        for _ in range(LANES):
            self._free.get().close()
        self.process.join()


@pytest.fixture
def hire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hire]:
    """Starts workers over one store, as `autotrace serve --workers` does; a process stores."""
    monkeypatch.setenv(MARK, str(tmp_path))
    hired: list[Worker] = []

    def workers(settings: dict[str, str], number: int) -> list[Worker]:
        with ThreadPoolExecutor(number) as pool:
            hired.extend(pool.map(Worker, [{**settings, "storing": "process"}] * number))
        return hired[-number:]

    yield workers
    for worker in hired:
        worker.stop()
    if LINUX:
        kill_storekeepers(str(tmp_path))


LANES = 4
WORKERS = {"embedded": 2, "server": 3}


@pytest.fixture
def workers(hire: Hire, store_settings: dict[str, str]) -> list[Worker]:
    """Two over an embedded store, three over a Chroma server."""
    kind = "server" if "://" in store_settings["store"] else "embedded"
    return hire(store_settings, WORKERS[kind])


def test_a_trace_goes_on_in_whichever_worker_is_asked(workers: list[Worker]) -> None:
    takes_turns = itertools.cycle(workers)

    def ask(name: str, *arguments: Any, **options: Any) -> Any:
        return next(takes_turns)(name, *arguments, **options)

    trace_id = ask("start", "t", "s", by=ALICE).trace_id
    told: list[tuple[str, list[str]]] = []
    for number in range(3):
        step = ask("step", trace_id, f"thought {number}", "", by=ALICE)
        for call in range(2):
            named = {"step_id": step.step_id} if call else {}
            name = f"tool_{number}_{call}"
            ask("tool_call", trace_id, name, {}, None, 7, "success", **named, by=ALICE)
        told.append((step.step_id, [f"tool_{number}_{call}" for call in range(2)]))
        # What was acknowledged is seen at once by whoever is asked next.
        seen = ask("get", trace_id, by=ALICE)
        assert [(s.step_id, [c.tool_name for c in s.tool_calls]) for s in seen.steps] == told
    ask("complete", trace_id, "done", True, by=ALICE)

    for worker in workers:
        trace = worker("get", trace_id, by=ALICE)
        assert (trace.status, len(trace.steps), len(trace.tool_calls)) == ("completed", 3, 6)
        assert [f.trace_id for f in worker("recall", "t", by=ALICE)] == [trace_id]
        assert sum(s.call_count for s in worker("tool_stats", by=ALICE).tools) == 6
        with pytest.raises(TraceStateError):
            worker("step", trace_id, "late", "", by=ALICE)


def test_of_workers_that_complete_at_once_one_does_and_all_see_which(
    workers: list[Worker],
) -> None:
    for round_ in range(5):
        trace_id = workers[0]("start", f"t{round_}", "s", by=ALICE).trace_id
        together = threading.Barrier(2 * len(workers))

        def complete(place: int, trace_id: str = trace_id, together: Any = together) -> Any:
            worker = workers[place % len(workers)]
            outcome = f"outcome {place % len(workers)}"
            together.wait()
            try:
                return worker("complete", trace_id, outcome, True, by=ALICE)
            except TraceStateError:
                return None

        with ThreadPoolExecutor(2 * len(workers)) as pool:
            answers = list(pool.map(complete, range(2 * len(workers))))

        trace = workers[-1]("get", trace_id, by=ALICE)
        won = [answer for answer in answers if answer is not None]
        # Each outcome was given twice: the winner's gets the same answer both times.
        assert len(won) == 2
        assert won[0] == won[1]
        assert (won[0].outcome, won[0].completed_at) == (trace.outcome, trace.completed_at)


def test_a_worker_killed_under_load_loses_nothing_that_was_acknowledged(
    hire: Hire, store_settings: dict[str, str], tmp_path: Path
) -> None:
    victim, survivor = hire(store_settings, 2)
    acknowledged: list[tuple[str, str, str]] = []

    def work(client: int) -> None:
        for number in itertools.count():
            try:
                trace_id = victim("start", f"t {client} {number}", "s", by=ALICE).trace_id
                acknowledged.append(("started", trace_id, ""))
                step = victim("step", trace_id, "", "", by=ALICE)
                acknowledged.append(("stepped", trace_id, step.step_id))
                call = victim("tool_call", trace_id, "t", {}, 1, 1, "success", by=ALICE)
                acknowledged.append(("called", trace_id, call.tool_call_id))
                victim("complete", trace_id, "done", True, by=ALICE)
                acknowledged.append(("completed", trace_id, ""))
            except (EOFError, OSError):
                return

    clients = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for client in clients:
        client.start()
    while sum(kind == "completed" for kind, _, _ in list(acknowledged)) < 10:
        clients[0].join(0.01)
    victim.kill()
    kill_storekeepers(str(tmp_path))
    for client in clients:
        client.join()

    ids = {trace_id for _, trace_id, _ in acknowledged}
    traces = {i: survivor("get", i, by=ALICE) for i in ids}
    for kind, trace_id, part in acknowledged:
        trace = traces[trace_id]
        assert trace.status != "interrupted"
        if kind == "stepped":
            assert part in [s.step_id for s in trace.steps]
        elif kind == "called":
            assert part in [c.tool_call_id for c in trace.tool_calls]
        elif kind == "completed":
            assert trace.status == "completed"
    # A trace that the victim had not completed is nobody's: another worker goes on with it.
    completed = {trace_id for kind, trace_id, _ in acknowledged if kind == "completed"}
    for trace_id in traces.keys() - completed:
        survivor("complete", trace_id, "done", True, by=ALICE)
        assert survivor("get", trace_id, by=ALICE).status == "completed"
