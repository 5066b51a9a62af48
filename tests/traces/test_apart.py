"""Records that are refused cost themselves alone: a batch is divided until they are found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotrace.errors import StoreUnavailableError
from autotrace.spool.cursor import Group, save_cursor
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.writer import SpoolWriter
from autotrace.store import schema
from autotrace.store.connection import connect
from autotrace.traces import batch_groups, log_state, projection_changes
from autotrace.traces.batch_groups import RefusedError
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.worker import spool_reader as drain
from autotrace.worker.quarantine import count_set_aside, set_aside_path
from autotrace.worker.rebuild import rebuild
from autotrace.worker.spool_reader import Drainer
from tests.embedders import HashEmbedder
from tests.traces.strategies import task_record, tool_record

Records = Sequence[Any]


@dataclass
class Progress:
    writer: str = "w"
    batch: int = 0
    groups: list[Group] | None = None


@dataclass
class Memory:
    """Stores records in memory, and refuses those that are bad, by name or without one."""

    names_partitions: bool
    stored: list[str] = field(default_factory=list[str])
    numbers: list[int] = field(default_factory=list[int])
    wrote: bool = False

    def ingest(
        self, records: Records, *, writer: str, batch: int, attempts: Sequence[int] = ()
    ) -> None:
        self.numbers.append(batch)
        bad = {partition_of(r): ValueError(r["id"]) for r in records if r["bad"]}
        if bad and self.names_partitions:
            raise RefusedError(bad)
        if bad:
            raise ValueError(*bad)
        self.stored += [record["id"] for record in records]

    def check(self) -> None:
        pass


some_records = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 4).map(lambda n: n == 0)), max_size=40
).map(lambda drawn: [{"trace": t, "id": str(n), "bad": bad} for n, (t, bad) in enumerate(drawn)])


@settings(max_examples=80)
@given(records=some_records, names_partitions=st.booleans())
def test_every_good_record_is_stored_once_and_only_bad_ones_are_refused(
    records: list[dict[str, Any]], names_partitions: bool
) -> None:
    memory, refused = Memory(names_partitions), list[int]()
    progress = Progress()
    batch_groups.store(
        memory, records, progress, refuse=lambda p, _: refused.extend(p), save=lambda: None
    )
    assert sorted(memory.stored) == sorted(r["id"] for r in records if not r["bad"])
    assert sorted(refused) == [n for n, record in enumerate(records) if record["bad"]]
    assert memory.numbers == sorted(set(memory.numbers))


def test_a_thousand_bad_partitions_do_not_keep_the_good_one_waiting() -> None:
    records = [{"trace": f"t{n}", "id": str(n), "bad": n != 500} for n in range(1000)]
    memory = Memory(names_partitions=True)
    batch_groups.store(memory, records, Progress(), refuse=lambda *_: None, save=lambda: None)
    assert (memory.stored, memory.numbers) == (["500"], [1, 2, 3, 4])


def test_the_search_for_bad_records_in_one_partition_ends() -> None:
    records = [{"trace": "t", "id": str(n), "bad": True} for n in range(2000)]
    memory, refused = Memory(names_partitions=False), list[int]()
    batch_groups.store(
        memory, records, Progress(), refuse=lambda p, _: refused.extend(p), save=list
    )
    assert (sorted(refused), len(memory.numbers) < 300) == (list(range(2000)), True)


def test_nothing_is_refused_while_the_store_does_not_take_a_write() -> None:
    class Down(Memory):
        def check(self) -> None:
            raise StoreUnavailableError("down")

    records = [{"trace": "t", "id": "1", "bad": True}]
    progress, refused = Progress(), list[int]()
    with pytest.raises(StoreUnavailableError):
        batch_groups.store(
            Down(False), records, progress, refuse=lambda p, _: refused.extend(p), save=list
        )
    assert (refused, progress) == ([], Progress(groups=[Group([0])]))


class Short(HashEmbedder):
    """Gives poisoned texts vectors that Chroma refuses."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        rows = super().embed(texts)
        return [r[:3] if "poison" in t else r for t, r in zip(texts, rows, strict=True)]


@dataclass
class Place:
    """A store, and a spool of a process that has ended."""

    root: Path

    def record(self, records: Records) -> None:
        writer = SpoolWriter(self.root / "spool", count=lambda _: None)
        for record in records:
            assert writer.write(record)
        writer.close()

    def drainer(self) -> Drainer:
        """Return a drainer as a process that has just begun to store has it."""
        self.counted: list[str] = []
        connection = connect(str(self.root / "store"), space=HashEmbedder.space)
        drainer = Drainer(
            self.root / "spool",
            Ingestor(connection, Short(), self.counted.append),
            lambda name, _: self.counted.append(name),
        )
        assert drainer.acquire()
        return drainer

    def drain(self) -> Drainer:
        drainer = self.drainer()
        while drainer.step():
            pass
        drainer.release()
        return drainer

    def reader(self) -> Reader:
        connection = connect(str(self.root / "store"), space=HashEmbedder.space)
        return Reader(connection, HashEmbedder())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def a_trace(number: int, text: str, calls: int = 2) -> list[SpanRecord]:
    """Return the records of a task with some calls of two tools."""
    made = [tool_record(n + 2, 1, n, n + 1, f"tool{n % 2}") for n in range(calls)]
    made.append(task_record(1, None, 0, 9, **{"autotrace.task": text}))
    return [SpanRecord(**{**record, "trace": f"{number:032x}"}) for record in made]


def refused_ids(place: Place) -> list[tuple[str, str]]:
    lines = set_aside_path(place.root / "spool").read_bytes().splitlines()
    return [(record["trace"], record["id"]) for record in map(orjson.loads, lines)]


def failing_for(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def summarize(tree: Any, task: Any) -> Any:
        if any(r.get("name") == name for r in tree.spans.values()):
            raise ZeroDivisionError(name)
        return real(tree, task)

    return summarize


def test_a_record_that_cannot_be_read_costs_itself_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a fault that nobody foresaw: one name of a span makes reading fail."""
    monkeypatch.setattr(
        projection_changes, "summarize", failing_for("unforeseen", projection_changes.summarize)
    )
    good = [r for n in range(4) for r in a_trace(n, f"task {n}")]
    mixed = a_trace(9, "task 9", calls=5)
    mixed[3]["name"] = "unforeseen"
    place.record([*good, *mixed, *a_trace(5, "task 5")])

    drainer = place.drain()

    assert refused_ids(place) == [(mixed[3]["trace"], mixed[3]["id"])]
    assert [(number, str(error)) for number, error in drainer.refused] == [
        (1, "ZeroDivisionError: unforeseen")
    ]
    reader = place.reader()
    listed = reader.list_traces()
    assert {(s.task, s.tool_call_count) for s in listed} == {
        ("task 9", 4),
        *((f"task {n}", 2) for n in (0, 1, 2, 3, 5)),
    }
    assert sum(stats.call_count for stats in reader.tool_stats()) == 14
    for summary in listed:
        assert reader.recall(summary.task, limit=1)[0].trace_id == summary.trace_id


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", range(7))
def test_a_batch_that_chroma_refuses_is_divided_and_a_crash_on_the_way_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, point: int, after: bool
) -> None:
    """The process dies just before, or just after, the cursor is kept for the n-th time."""
    traces = [a_trace(n, f"task {n}") for n in range(6)]
    traces[2] = a_trace(2, "poison")
    place.record([record for trace in traces for record in trace])
    real, saves = drain.save_cursor, 0

    def dying(*arguments: Any) -> None:
        nonlocal saves
        saves += 1
        if saves - 1 != point or after:
            real(*arguments)
        if saves - 1 == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(drain, "save_cursor", dying)
    drainer = place.drainer()
    with pytest.raises(KeyboardInterrupt):
        drainer.step()
    drainer.release()
    monkeypatch.setattr(drain, "save_cursor", real)

    place.drain()

    (poison,) = (r for r in traces[2] if r["name"] == "span 1")
    assert set(refused_ids(place)) == {(poison["trace"], poison["id"])}
    reader = place.reader()
    listed = {s.task: s.trace_id for s in reader.list_traces()}
    assert listed.keys() - {"poison"} == {f"task {n}" for n in (0, 1, 3, 4, 5)}
    for text in listed.keys() - {"poison"}:
        assert reader.recall(text, limit=1)[0].trace_id == listed[text]
        assert len(reader.get_trace(listed[text]).tool_calls) == 2
    assert {s.tool_name: s.call_count for s in reader.tool_stats()} == {"tool0": 6, "tool1": 6}


def test_what_is_read_from_a_spool_and_is_no_record_is_damage(place: Place) -> None:
    odd: Any = {"trace": 5, "id": "x", "open": True, "attributes": {"autotrace.kind": "task"}}
    place.record([odd, *a_trace(1, "task 1")])
    place.drain()
    assert place.counted == ["damaged_records"]
    assert count_set_aside(place.root / "spool") == 0
    assert [s.task for s in place.reader().list_traces()] == ["task 1"]


def _die_after_save(place: Place, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    """Store until the cursor was kept for the n-th time, or to the end."""
    saves = 0

    def dying(*arguments: Any) -> None:
        nonlocal saves
        save_cursor(*arguments)
        saves += 1
        if saves - 1 == point:
            raise KeyboardInterrupt

    drainer = place.drainer()
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(drain, "save_cursor", dying)
        drainer.step()
    drainer.release()


@pytest.mark.parametrize("point", range(8))
def test_a_rebuild_amid_a_divided_batch_counts_each_call_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    traces = [a_trace(n, f"task {n}") for n in range(4)]
    traces[2] = a_trace(2, "poison", calls=4)
    place.record([record for trace in traces for record in trace])
    _die_after_save(place, monkeypatch, point)

    connection = connect(str(place.root / "store"), space=None)
    rebuild(connection, HashEmbedder(), place.root / "spool")
    place.drain()

    counted = {s.tool_name: s.call_count for s in place.reader().tool_stats()}
    assert counted == {"tool0": 5, "tool1": 5}


@pytest.mark.parametrize("point", range(8))
def test_a_rebuild_counts_once_what_an_attempt_had_stored_of_a_trace_in_part(
    place: Place, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    """The log takes what comes before a refused record; the division begins with what is newer."""
    monkeypatch.setattr(log_state, "MAX_PART_BYTES", 1)
    late, refused, early = (tool_record(n, None, n, n + 1, "hammer") for n in (9, 5, 1))
    refused["name"] = "poison"
    place.record([late, refused, early])
    add = schema.add

    def add_until_refused(log: Any, records: dict[str, bytes], max_batch: int = 1_000) -> None:
        for record_id, document in records.items():
            if b"poison" in document:
                raise ValueError("refused")
            add(log, {record_id: document}, max_batch)

    monkeypatch.setattr(schema, "add", add_until_refused)
    _die_after_save(place, monkeypatch, point)

    connection = connect(str(place.root / "store"), space=None)
    rebuild(connection, HashEmbedder(), place.root / "spool")
    place.drain()

    assert set(refused_ids(place)) == {(refused["trace"], refused["id"])}
    assert {s.tool_name: s.call_count for s in place.reader().tool_stats()} == {"hammer": 2}
