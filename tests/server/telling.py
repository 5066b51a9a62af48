"""A tenant's service as a worker opens it, in the test's process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from autotrace.memory import Memory
from autotrace.server.auth.principal import Principal
from autotrace.server.remote_traces import TraceService
from autotrace.settings import load_settings
from autotrace.worker.wiring import choose_embedding

ALICE = Principal("key-alice", "alice", "default", "agent")
BOB = Principal("key-bob", "bob", "default", "agent")
ADMIN = Principal("key-root", "root", "default", "admin")


def open_service(settings: dict[str, Any], **limits: Any) -> tuple[Memory, TraceService]:
    """Open a memory and its service, in which a thread stores unless the settings say otherwise."""
    usual = {
        "embedder": "tests.embedders:SmallEmbedder",
        "storing": "thread",
        "flush_interval_ms": 0,
    }
    loaded = load_settings(**usual | settings)
    memory = Memory(loaded, choose_embedding(loaded))
    memory.start()
    return memory, TraceService(memory, **limits)


def serve(settings: dict[str, Any], pipes: Sequence[Connection]) -> None:
    """Be a worker: do what comes through each pipe until it is closed, and answer each call."""
    memory, service = open_service(settings)
    threads = [threading.Thread(target=_answer, args=(service, calls)) for calls in pipes]
    for thread in threads:
        thread.start()
    pipes[0].send(os.getpid())
    for thread in threads:
        thread.join()
    service.stop()
    memory.stop(30)


def _answer(service: TraceService, calls: Connection) -> None:
    with contextlib.suppress(EOFError):
        while True:
            name, arguments, options = calls.recv()
            try:
                answer: Any = getattr(service, name)(*arguments, **options)
            except Exception as error:
                answer = error
            calls.send(answer)


def told_what_happens(service: TraceService, task: str, calls: int = 2) -> str:
    """Tell of a whole trace; return its id."""
    trace_id = service.start(task, "s1", by=ALICE).trace_id
    for number in range(calls):
        service.step(trace_id, f"thought {number}", "act", by=ALICE)
        service.tool_call(trace_id, f"tool_{number}", {}, number, 5, "success", by=ALICE)
    service.complete(trace_id, "done", True, by=ALICE)
    return trace_id
