"""What one agent has waiting delays the answers to no other; each reads what it has recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autotrace.errors import StoreUnavailableError, TraceNotFoundError
from autotrace.memory import Memory
from autotrace.otlp.decode import Batch
from autotrace.server.auth.principal import Principal
from autotrace.server.remote_traces import TraceService
from autotrace.traces.ingest import Ingestor
from autotrace.worker import batch_selection, pipeline
from autotrace.worker.batch_selection import LARGE_BATCHES, BatchLimits
from autotrace.worker.spool_reader import Drainer
from tests.embedders import SmallEmbedder
from tests.server.telling import ADMIN, ALICE, BOB, open_service
from tests.traces.strategies import task_record

MANY = 300
"""More than several turns, which are made short here."""
UNKNOWN = f"trace-{'0' * 31}1-{'0' * 15}1"


class Busy:
    """A service that stores one batch whenever somebody waits, and none otherwise."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        turn = BatchLimits(20, 4096, 10)
        monkeypatch.setattr(batch_selection, "TURN", turn)
        monkeypatch.setattr(batch_selection, "_TURNS", turn)
        monkeypatch.setattr(batch_selection, "_PIECE_BYTES", 2048)
        monkeypatch.setattr(pipeline, "STEP_BYTES", 1024)
        self.memory: Memory
        self.service: TraceService
        self.memory, self.service = open_service({"store": str(place)}, wait_s=0.1)
        spool = self.memory.settings.spool_path
        spool.mkdir(parents=True, exist_ok=True)
        ingestor = Ingestor(self.memory.connection, SmallEmbedder(), lambda name: None)
        self.drainer = Drainer(spool, ingestor, lambda name, number: None)
        while not self.drainer.acquire():  # the one before may be at its last batch
            pass
        self.is_stuck = False
        storing = threading.Lock()  # the registry is tidied up by a thread, which waits, too
        catch_up = self.memory.pipeline.catch_up

        def store_and_catch_up(timeout_s: float, **options: Any) -> bool:
            if not self.is_stuck:
                with storing:
                    self.drainer.step(LARGE_BATCHES)
            return catch_up(timeout_s, **options)

        monkeypatch.setattr(self.memory.pipeline, "catch_up", store_and_catch_up)

    def flood(self) -> None:
        batch = Batch([task_record(span, None, 1, 2) for span in range(1, MANY + 1)])
        self.service.take_spans(batch, by=ALICE)

    def stop(self) -> None:
        self.service.stop()
        self.memory.stop(0)
        self.drainer.release()


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    made = Busy(tmp_path / "store", monkeypatch)
    yield made
    made.stop()


READS: list[Callable[[TraceService, Principal], Any]] = [
    lambda service, by: service.list(by=by),
    lambda service, by: service.recall("task", by=by),
    lambda service, by: service.tool_stats(by=by),
]


@pytest.mark.parametrize("read", READS)
def test_an_agent_s_answer_does_not_wait_for_the_backlog_of_another(
    busy: Busy, read: Callable[[TraceService, Principal], Any]
) -> None:
    busy.flood()
    started = busy.service.start("find", "s", by=BOB)
    busy.service.complete(started.trace_id, "found", True, by=BOB)

    read(busy.service, BOB)

    assert started.trace_id in {each.trace_id for each in busy.service.list(by=BOB)}
    assert busy.service.get(started.trace_id, by=BOB).status == "completed"
    with pytest.raises(StoreUnavailableError):
        read(busy.service, ALICE)


def test_a_trace_that_may_be_in_another_s_backlog_is_not_said_to_be_none(busy: Busy) -> None:
    busy.flood()

    with pytest.raises(StoreUnavailableError):
        busy.service.get(UNKNOWN, by=BOB)
    with pytest.raises(StoreUnavailableError):
        busy.service.delete(UNKNOWN, by=ADMIN)
    while not busy.memory.catch_up(0):
        pass
    with pytest.raises(TraceNotFoundError):
        busy.service.get(UNKNOWN, by=BOB)


def test_while_nothing_is_stored_nobody_gets_an_old_answer_for_a_new_one(busy: Busy) -> None:
    busy.flood()
    busy.is_stuck = True

    for by in (ALICE, BOB, ADMIN):
        with pytest.raises(StoreUnavailableError):
            busy.service.list(by=by)


def test_what_an_agent_recorded_before_a_restart_is_waited_for(
    busy: Busy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = busy.service.start("find", "s", by=BOB)
    busy.is_stuck = True
    busy.stop()

    again = Busy(tmp_path / "store", monkeypatch)
    again.flood()

    assert started.trace_id in {each.trace_id for each in again.service.list(by=BOB)}
    again.stop()
