"""Recall shares a page among senders: no key fills it while others know something of the matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from autotrace import semconv
from autotrace.models import RecallResult
from autotrace.settings import load_settings
from autotrace.spool.span_records import SpanRecord
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.worker.wiring import open_connection
from tests.embedders import SmallEmbedder
from tests.store.others import another_process

MATTER = "rotate the production database password"


class Senders:
    """A store that agents send traces to, each with a key of its own."""

    def __init__(self, store: str) -> None:
        self.connection = open_connection(load_settings(store=store), SmallEmbedder.space)
        self._reader = Reader(self.connection, SmallEmbedder())
        self._ingestor = Ingestor(self.connection, SmallEmbedder(), lambda _: None)
        self._count = 0

    def send(self, sender: str | None, tasks: Iterable[str], *, name: str | None = None) -> None:
        """Store a trace per task; the program calls itself `name`, by default as its key does."""
        records = [self._record(sender, task, name or sender) for task in tasks]
        self._ingestor.ingest(records, writer="w", batch=self._count)

    def _record(self, sender: str | None, task: str, name: str | None) -> SpanRecord:
        self._count += 1
        record: SpanRecord = {
            "trace": f"{self._count:032x}",
            "id": "1" * 16,
            "parent": None,
            "name": "any",
            "start_ns": 10**18 + self._count,
            "end_ns": 10**18 + self._count,
            "attributes": {
                semconv.KIND: semconv.KIND_TASK,
                semconv.TASK: task,
                semconv.OUTCOME: "done",
                semconv.SUCCESS: True,
            },
        }
        if name is not None:
            record["attributes"] = {
                **record.get("attributes", {}),
                semconv.GEN_AI_AGENT_NAME: name,
            }
        if sender is not None:
            record["sender"] = {"key": f"key of {sender}", "agent": sender}
            record["owner"] = sender
        return record

    def recall(self, query: str, limit: int, **options: object) -> list[RecallResult]:
        found = self._reader.recall(query, limit=limit, **options)  # pyright: ignore[reportArgumentType] - passed through
        ranks = [(-each.similarity, -each.created_at.timestamp()) for each in found]
        assert ranks == sorted(ranks)
        assert found == self._reader.recall(query, limit=limit, **options)  # pyright: ignore[reportArgumentType] - the same again
        return found

    def places(self, query: str, limit: int, **options: object) -> Counter[str | None]:
        return Counter(each.recorded_by for each in self.recall(query, limit, **options))


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def senders(store: str) -> Iterator[Senders]:
    found = Senders(store)
    yield found
    found.connection.close()


def variations(count: int) -> list[str]:
    return [f"{MATTER} {'now ' * (n % 3)}w{n}" for n in range(count)]


def related(count: int) -> list[str]:
    return [f"rotate the production database password of server{n}" for n in range(count)]


def test_variations_of_one_sender_take_half_of_a_page_where_others_have_results(
    senders: Senders,
) -> None:
    senders.send("ann", related(6))
    senders.send("carol", related(9)[6:])
    for n in range(10):
        senders.send("bob", variations(900)[n * 90 : n * 90 + 90], name=f"agent {n}")

    assert senders.places(MATTER, 10)["bob"] == 5
    assert senders.places(MATTER, 3)["bob"] == 2
    assert senders.places(MATTER, 50) == {"bob": 41, "ann": 6, "carol": 3}
    assert senders.places(MATTER, 10, success_only=False)["bob"] == 5


def test_traces_in_the_name_of_another_agent_take_half_of_what_is_filtered_by_it(
    senders: Senders,
) -> None:
    senders.send("ann", related(6))
    senders.send("bob", variations(300), name="ann")

    assert senders.places(MATTER, 10, agent="ann") == {"bob": 5, "ann": 5}
    assert senders.places(MATTER, 10, agents=["ann"]) == {"ann": 6}
    assert senders.places(MATTER, 10, agents=["ann", "bob"]) == {"bob": 5, "ann": 5}


def test_copies_of_one_sender_hide_no_trace_of_others(senders: Senders) -> None:
    def copy(number: int) -> str:
        letters = (c.upper() if number >> n & 1 else c for n, c in enumerate(MATTER))
        return "".join(letters) + "!" * (number % 7)

    senders.send("bob", map(copy, range(300)))
    senders.send("ann", related(4))

    assert senders.places(MATTER, 5) == {"bob": 2, "ann": 3}
    assert senders.places(MATTER, 10) == {"bob": 2, "ann": 4}


def test_a_text_that_one_sender_recorded_before_another_hides_nothing_of_it(
    senders: Senders,
) -> None:
    (text,) = related(1)
    senders.send("bob", [text, *variations(300)])
    senders.send("ann", [text])

    assert senders.places(MATTER, 10)["ann"] == 1


def test_a_store_of_one_sender_is_recalled_as_if_there_were_no_keys(
    senders: Senders, tmp_path: Path
) -> None:
    without_keys = Senders(str(tmp_path / "without keys"))
    tasks = [*variations(60), *(f"refund order {n}" for n in range(30)), "explain C#", "explain C"]
    senders.send("bob", tasks)
    without_keys.send(None, tasks)

    for query, limit in ((MATTER, 10), (MATTER, 50), ("refund order 17", 20), ("explain C", 2)):
        found = senders.recall(query, limit)
        assert len(found) == limit
        assert [each.task for each in found] == [
            each.task for each in without_keys.recall(query, limit)
        ]


def test_who_alone_knows_of_a_matter_keeps_the_page(senders: Senders) -> None:
    senders.send("bob", variations(300))
    senders.send("ann", (f"bake bread with flour{n} oven{n} salt{n}" for n in range(5)))

    assert senders.places(MATTER, 10) == {"bob": 10}


def test_programs_on_the_store_s_machine_are_not_held_to_a_half(senders: Senders) -> None:
    senders.send(None, variations(100))
    senders.send("ann", related(6))

    assert senders.places(MATTER, 10) == {None: 10}


def test_what_another_process_has_stored_since_is_not_crowded_out(
    senders: Senders, store: str
) -> None:
    senders.send("bob", variations(300))
    assert senders.places(MATTER, 10) == {"bob": 10}

    with another_process(store) as other:
        for n, text in enumerate(related(3), start=1):
            other("record", [text])
            assert senders.places(MATTER, 10) == {"bob": 10 - n, None: n}
