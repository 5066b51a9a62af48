"""Lanes: what one sender has waiting delays no other, and each reads what it has recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from filelock import FileLock

from autotrace.base.health_counters import HealthCounters
from autotrace.memory import Memory
from autotrace.settings import load_settings
from autotrace.spool.files import processes_in
from autotrace.spool.lanes import LOCAL_LANE, MAX_LANES, SpoolLanes, lane_of
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.writer import MAX_SEGMENT_BYTES
from autotrace.traces.ingest import Ingestor
from autotrace.worker.batch_selection import LARGE_BATCHES, TURN
from autotrace.worker.spool_reader import Drainer
from autotrace.worker.wiring import choose_embedding
from tests.traces.strategies import decision_record, task_record, tool_record

MANY = 2_000


def of(agent: str | None, record: SpanRecord) -> SpanRecord:
    """Return a record as one that came with the key of an agent."""
    if agent is None:
        return record
    return cast(
        "SpanRecord", {**record, "owner": agent, "sender": {"key": f"k-{agent}", "agent": agent}}
    )


def tasks(agent: str | None, number: int) -> list[SpanRecord]:
    return [of(agent, task_record(span, None, span, span + 1)) for span in range(1, number + 1)]


class Stored:
    """In place of what stores: keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[str | None, str]]] = []

    def ingest(self, records: Sequence[SpanRecord], **of_the_batch: Any) -> None:
        del of_the_batch
        self.batches.append([(r.get("owner"), r["id"]) for r in records])

    def forget(self) -> None:
        """Know nothing that could be forgotten."""


def lanes_in(spool: Path) -> SpoolLanes:
    return SpoolLanes(
        spool, count=lambda name: None, max_total_bytes=2**32, on_error=lambda error: None
    )


def drainer_of(spool: Path) -> tuple[Drainer, Stored]:
    stored = Stored()
    drainer = Drainer(spool, cast("Ingestor", stored), lambda name, number: None)
    assert drainer.acquire()
    return drainer, stored


@pytest.mark.parametrize("agent", ["quiet", None])
def test_a_backlog_takes_its_turns_and_keeps_its_order(tmp_path: Path, agent: str | None) -> None:
    lanes = lanes_in(tmp_path)
    for record in [*tasks("loud", MANY), of(agent, task_record(MANY + 1, None, 1, 2))]:
        assert lanes.write(record)
    drainer, stored = drainer_of(tmp_path)

    while drainer.step(LARGE_BATCHES):
        pass

    # Batches end at whole reads, so that a turn may be somewhat more.
    assert len(stored.batches) > MANY // (2 * TURN.tasks)
    assert max(map(len, stored.batches)) < 3 * TURN.tasks
    assert (agent, f"{MANY + 1:016x}") in stored.batches[0]
    every = [record for batch in stored.batches for record in batch]
    assert [span for owner, span in every if owner == "loud"] == [r["id"] for r in tasks("", MANY)]
    assert len(every) == MANY + 1
    lanes.close()


def test_of_many_backlogs_every_one_goes_on(tmp_path: Path) -> None:
    lanes = lanes_in(tmp_path)
    agents = [f"agent {number}" for number in range(6)]
    for agent in agents:
        for record in tasks(agent, 1_000):
            lanes.write(record)
    drainer, stored = drainer_of(tmp_path)

    for _ in range(len(agents)):
        drainer.step(LARGE_BATCHES)

    assert {owner for batch in stored.batches for owner, _ in batch} == set(agents)
    lanes.close()


def test_spans_that_open_no_trace_are_stored_many_at_once(tmp_path: Path) -> None:
    lanes = lanes_in(tmp_path)
    for span in range(1, 1_001):
        lanes.write(of("loud", tool_record(span, None, span, span + 1)))
    drainer, stored = drainer_of(tmp_path)

    drainer.step(LARGE_BATCHES)

    assert [len(batch) for batch in stored.batches] == [1_000]
    lanes.close()


def test_without_senders_a_batch_is_as_large_as_it_may_be(tmp_path: Path) -> None:
    lanes = lanes_in(tmp_path)
    for record in tasks(None, MANY):
        lanes.write(record)
    drainer, stored = drainer_of(tmp_path)

    drainer.step(LARGE_BATCHES)

    assert [len(batch) for batch in stored.batches] == [MANY]
    lanes.close()


def test_a_batch_that_was_cut_off_is_stored_as_it_was(tmp_path: Path) -> None:
    lanes = lanes_in(tmp_path)
    for record in [*tasks("loud", MANY), *tasks("quiet", 3)]:
        lanes.write(record)
    drainer, stored = drainer_of(tmp_path)

    def fail(records: Sequence[SpanRecord], **of_the_batch: Any) -> None:
        del of_the_batch
        stored.batches.append([(r.get("owner"), r["id"]) for r in records])
        raise OSError("the process ends here")

    drainer._ingestor.ingest = fail  # type: ignore[method-assign] # pyright: ignore[reportPrivateUsage]
    with pytest.raises(OSError, match="ends here"):
        drainer.step(LARGE_BATCHES)
    drainer.release()
    after_a_crash, again = drainer_of(tmp_path)
    after_a_crash.step(dataclasses.replace(LARGE_BATCHES, records=10, bytes=1_000))

    assert again.batches == stored.batches
    lanes.close()


def test_senders_beyond_the_limit_share_a_lane(tmp_path: Path) -> None:
    lanes = lanes_in(tmp_path)
    for number in range(MAX_LANES + 5):
        lanes.write(of(f"agent {number}", task_record(1, None, 1, 2)))

    assert len(processes_in(tmp_path)) == MAX_LANES + 1
    last, other = lane_of(f"agent {MAX_LANES + 4}"), lane_of("agent 0")
    assert len(lanes.places(last)) == 1
    assert len(lanes.places(other)) == 2  # it may have used the shared lane in another process
    assert lanes.places(LOCAL_LANE) == {}
    lanes.close()


def test_an_event_of_a_decision_waits_in_the_lane_of_the_trace_s_owner(tmp_path: Path) -> None:
    from autotrace import semconv

    lanes = lanes_in(tmp_path)
    event = decision_record(1, None, 1, 2)
    event["name"] = "decision created"
    event.setdefault("attributes", {})[semconv.DECISION_OWNER] = "alice"
    lanes.write(event)

    assert (len(lanes.places(lane_of("alice"))), lanes.places(LOCAL_LANE)) == (1, {})
    lanes.close()


def test_all_spools_of_a_process_together_hold_no_more_than_they_may(tmp_path: Path) -> None:
    counters = HealthCounters()
    segment = MAX_SEGMENT_BYTES
    lanes = SpoolLanes(
        tmp_path,
        count=counters.add,
        max_total_bytes=2 * (segment - 10_000),
        on_error=lambda error: None,
    )
    large = task_record(1, None, 1, 2, padding="x" * (segment - 10_000))

    assert [lanes.write(of(agent, large)) for agent in ("a", "a", "b")] == [True, False, False]
    assert counters.snapshot() == {"dropped_spool_full": 2}
    lanes.close()


def test_after_the_end_a_sender_s_record_waits_in_its_lane(tmp_path: Path) -> None:
    lanes = lanes_in(tmp_path)
    lanes.write(of("alice", task_record(1, None, 1, 2)))
    lanes.close()

    assert lanes.write(of("alice", task_record(2, None, 1, 2)))
    assert lanes.write(of("bob", task_record(3, None, 1, 2)))

    names = [name.partition(".")[2] for name in processes_in(tmp_path)]
    assert sorted(names) == sorted([lane_of("alice"), lane_of("alice"), lane_of("bob")])


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    """Two memories of one store, of which neither stores: a test does."""
    made: list[Memory] = []
    spool = tmp_path / "store" / "spool"
    spool.mkdir(parents=True)
    held = FileLock(spool / "drain.lock")
    held.acquire()
    for _ in "ab":
        loaded = load_settings(
            store=str(tmp_path / "store"),
            spool=str(spool),
            storing="thread",
            embedder="tests.embedders:SmallEmbedder",
        )
        made.append(Memory(loaded, choose_embedding(loaded)))
    yield made, held, spool
    for each in made:
        each.stop(0)


def test_a_sender_waits_for_its_own_records_in_every_process_and_for_a_turn_of_others(
    memory: Any,
) -> None:
    (one, other), held, spool = memory
    one.record(tasks("loud", MANY))
    one.record(tasks("quiet", 1))
    before = one.pipeline.batches_stored()
    assert not other.catch_up(0, lane=lane_of("quiet"))
    assert not other.catch_up(0, lane=lane_of("silent"), after_batch=before)
    assert not other.catch_up(0, lane=LOCAL_LANE, after_batch=before)

    held.release()
    drainer, _ = drainer_of(spool)
    drainer.step(LARGE_BATCHES)

    caught_up = {
        "all": other.catch_up(0),
        "loud": other.catch_up(0, lane=lane_of("loud")),
        "loud, as storing goes on": other.catch_up(0, lane=lane_of("loud"), after_batch=before),
        "quiet": other.catch_up(0, lane=lane_of("quiet"), after_batch=before),
        "silent": other.catch_up(0, lane=lane_of("silent"), after_batch=before),
    }
    drainer.release()
    assert caught_up == {
        "all": False,
        "loud": False,
        "loud, as storing goes on": False,
        "quiet": True,
        "silent": True,
    }
