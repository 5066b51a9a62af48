"""Catching up: a process that reads has what others had recorded stored before."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from autotrace.base.health_counters import HealthCounters
from autotrace.memory import Memory
from autotrace.settings import load_settings
from autotrace.spool.files import processes_in
from autotrace.spool.writer import SpoolWriter
from autotrace.worker.wiring import choose_embedding
from tests.servers import free_port
from tests.traces.strategies import task_record

Open = Callable[..., Memory]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens memories, which are stopped afterwards; a thread stores."""
    made: list[Memory] = []

    def memory(store: str = str(tmp_path / "store"), **settings: Any) -> Memory:
        usual = {"embedder": "tests.embedders:SmallEmbedder", "storing": "thread"}
        loaded = load_settings(store=store, **usual | settings)
        made.append(Memory(loaded, choose_embedding(loaded)))
        return made[-1]

    yield memory
    for memory_ in made:
        memory_.stop(0)


def writer_of(memory: Memory) -> SpoolWriter:
    """Return what another process of the machine records with, seen from this one."""
    return SpoolWriter(memory.settings.spool_path, count=HealthCounters().add)


def test_where_nothing_waits_the_store_is_not_asked(opened: Open, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"

    assert opened(nobody, spool=str(tmp_path / "spool")).catch_up(0) is True


def test_what_the_living_and_the_dead_have_recorded_is_stored(opened: Open) -> None:
    memory = opened()
    living, dead = writer_of(memory), writer_of(memory)
    living.write(task_record(1, None, 10, 20))
    dead.write(task_record(2, None, 10, 20))
    dead.close()

    assert memory.catch_up(60) is True

    assert {trace.task for trace in memory.reader.list_traces()} == {"task 1", "task 2"}
    assert not dead.directory.exists()
    living.close()


def test_another_process_may_store_what_the_dead_left_before_the_first_look(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened()
    dead = writer_of(memory)
    dead.write(task_record(2, None, 10, 20))
    dead.close()

    def is_stored_just_then(spool: Path) -> list[str]:
        found = processes_in(spool)
        shutil.rmtree(dead.directory, ignore_errors=True)
        return found

    monkeypatch.setattr("autotrace.worker.pipeline.processes_in", is_stored_just_then)
    memory.start()

    assert memory.flush(1000) is True  # or the whole test takes too long


def test_another_process_may_store_and_remove_what_is_waited_for_between_two_looks(
    opened: Open,
) -> None:
    memory = opened()
    other = writer_of(memory)
    other.write(task_record(2, None, 10, 20))
    caught_up: list[bool] = []
    waiting = threading.Thread(target=lambda: caught_up.append(memory.catch_up(1000)))

    with FileLock(memory.settings.spool_path / "drain.lock"):
        waiting.start()
        while not memory.pipeline._monitor.waiting:
            time.sleep(0.001)
        shutil.rmtree(other.directory)
        waiting.join()

    assert caught_up == [True]
    other.close()


def test_what_is_recorded_after_the_question_is_not_waited_for(opened: Open) -> None:
    memory = opened()
    writer = writer_of(memory)
    span = iter(range(1, 10**9))
    stopped = threading.Event()

    def record() -> None:
        while not stopped.wait(0.001):
            writer.write(task_record(next(span), None, 10, 20))

    writer.write(task_record(next(span), None, 10, 20))
    recording = threading.Thread(target=record)
    recording.start()
    try:
        assert memory.catch_up(60) is True
    finally:
        stopped.set()
        recording.join()
    writer.close()


def test_many_wait_at_once(opened: Open) -> None:
    memory = opened()
    caught_up: list[bool] = []

    def record_and_catch_up(number: int) -> None:
        memory.record([task_record(number, None, 10, 20)])
        caught_up.append(memory.catch_up(60))
        found = {trace.task for trace in memory.reader.list_traces()}
        caught_up.append(f"task {number}" in found)

    threads = [threading.Thread(target=record_and_catch_up, args=(n,)) for n in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert caught_up == [True] * 24


def test_what_is_of_a_newer_autotrace_is_not_waited_for(opened: Open) -> None:
    memory = opened()
    writer = writer_of(memory)
    writer.write(task_record(1, None, 10, 20))
    (segment,) = writer.directory.glob("*.log")
    from autotrace.spool.files import encode_line

    segment.write_bytes(encode_line({"autotrace_spool": 99}))  # type: ignore[typeddict-item, typeddict-unknown-key] # a header

    assert memory.catch_up(60) is True
    writer.close()


def test_it_is_said_when_it_takes_longer_than_is_waited_for(opened: Open) -> None:
    memory = opened()
    memory.record([task_record(1, None, 10, 20)])

    with FileLock(memory.settings.spool_path / "drain.lock"):
        assert memory.catch_up(0.1) is False

    assert memory.catch_up(60) is True
