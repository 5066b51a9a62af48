"""A reader sees what other processes have stored, and does not load Chroma's index anew for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autotrace
from autotrace import task
from autotrace.store import task_index
from autotrace.store.connection import connect
from autotrace.store.text_keys import key_of
from autotrace.traces.reader import Reader
from tests.embedders import SmallEmbedder
from tests.faults.processes import MARK, kill_storekeepers
from tests.store import others
from tests.store.others import Other, another_process

Recall = Callable[..., list[str]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often this process has opened Chroma."""
    import chromadb

    really = chromadb.PersistentClient
    times: list[float] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        times.append(time.monotonic())
        return really(*args, **kwargs)

    monkeypatch.setattr(chromadb, "PersistentClient", counting)
    return lambda: len(times)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def other(store: str) -> Iterator[Other]:
    with another_process(store) as process:
        yield process


@pytest.fixture
def recalled(store: str) -> Iterator[Recall]:
    """Recall in this process, which only reads; returns tasks."""
    connection = connect(store, space=SmallEmbedder.space)
    reader = Reader(connection, SmallEmbedder())
    yield lambda *args, **options: [found.task for found in reader.recall(*args, **options)]
    connection.close()


def epoch_file(store: str) -> Path:
    (path,) = Path(store).glob("recent-*")
    return path


def catch_up(store: str) -> None:
    """Do without the rest that readers keep between one opening and the next."""
    connect(store, space=SmallEmbedder.space).refresh()


def test_what_another_process_stores_is_recalled_at_once_and_nothing_is_opened_anew(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    other("record", ["water the roses in the garden", "feed the cat"])
    assert recalled("water the garden", limit=1) == ["water the roses in the garden"]

    for n in range(3):
        other("record", [f"water the garden {n}", f"mow lawn number {n}"])
        assert recalled(f"water the garden {n}", limit=1) == [f"water the garden {n}"]
        assert recalled(f"mow my lawn number {n}", limit=1) == [f"mow lawn number {n}"]

    assert len(recalled("water the garden", limit=50)) == 8
    assert opened() == 1


def test_what_the_storekeeper_stores_is_recalled_after_a_flush_and_nothing_is_opened_anew(
    store: str,
    recalled: Recall,
    opened: Callable[[], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    autotrace.configure(store, embedder="tests.embedders:SmallEmbedder", flush_interval_ms=0)
    try:
        for n in range(4):
            with task(f"water plant number {n}") as t:
                pass
            with task(f"break pot number {n}") as failed:
                failed.complete("broken", success=False)
            assert autotrace.flush(timeout=500)

            first = autotrace.recall(f"water plant number {n}", limit=1)
            assert [found.trace_id for found in first] == [t.trace_id]
            both = recalled("break pot number", success_only=False, limit=50)
            assert len(both) == 2 * (n + 1)

        assert opened() == 1
    finally:
        autotrace.shutdown()
        kill_storekeepers(str(tmp_path))


def test_where_no_trace_had_failed_the_first_that_does_is_recalled(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    """Chroma has no index for a collection that is empty, and fails once others fill it."""
    other("record", ["water the garden"])
    assert recalled("water the garden", success_only=False) == ["water the garden"]

    other("record", ["mow the lawn"], success=False)

    assert recalled("mow the lawn", success_only=False, limit=1) == ["mow the lawn"]
    assert recalled("mow the lawn") == ["water the garden"]
    assert opened() == 1


def test_a_reader_of_an_empty_store_sees_the_first_texts_of_others(
    store: str, recalled: Recall, other: Other
) -> None:
    with connect(store, space=SmallEmbedder.space).writing():
        pass
    assert recalled("water the garden") == []

    other("record", ["water the garden"])
    catch_up(store)

    assert recalled("water") == ["water the garden"]


def test_traces_of_an_agent_are_compared_though_others_have_just_stored_them(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    """Chroma takes the vectors of records from the index as well, and fails for later ones."""
    other("record", [f"task number {n}" for n in range(50)])
    recalled("task")
    other("record", ["something quite different"], agent="rare")
    other("record", ["water the garden"])

    assert recalled("task number 1", limit=1, agent="rare") == ["something quite different"]
    assert len(recalled("sea and sand", limit=50, agent="other")) == 50
    assert opened() == 1


def test_a_reader_opens_anew_once_when_another_epoch_has_begun(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    other("keep_at_most", 8 * (1 + 24 + 4 * SmallEmbedder.dimensions))
    other("record", ["the first text"])
    recalled("text")
    before = epoch_file(store)
    other("record", [f"text number {n}" for n in range(7)])
    assert len(recalled("text", limit=50)) == 8
    assert opened() == 1

    other("record", [f"later text {n}" for n in range(7)])
    catch_up(store)

    assert len(recalled("text", limit=50)) == 15
    assert recalled("later text 3", limit=1) == ["later text 3"]
    assert opened() == 2
    assert epoch_file(store) != before
    other("record", ["the very last"])
    assert recalled("the very last", limit=1) == ["the very last"]
    assert opened() == 2


@pytest.mark.parametrize("part", [1, 24, 60])
def test_what_a_dead_writer_has_half_written_is_cut_off(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int], part: int
) -> None:
    other("record", ["water the garden"])
    recalled("water")
    with epoch_file(store).open("ab") as file:
        file.write(b"s" + bytes(range(part)))
    assert recalled("water the garden") == ["water the garden"]

    other("record", ["mow the lawn", "trim the hedge"])

    assert recalled("mow the lawn", limit=1) == ["mow the lawn"]
    assert recalled("trim the hedge", limit=1) == ["trim the hedge"]
    assert opened() == 1


def test_what_was_written_down_and_never_stored_is_not_recalled(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    other("record", ["water the garden"])
    recalled("water")
    with pytest.raises(EOFError):
        other("die_in_add", "mow the lawn")

    assert recalled("mow the lawn") == ["water the garden"]
    with another_process(store) as heir:  # takes over what the dead one had recorded
        heir("record", ["trim the hedge"])
    assert sorted(recalled("mow the lawn", limit=1)) == ["mow the lawn"]
    assert len(recalled("garden", limit=50)) == 3
    assert opened() == 1


def test_what_an_older_version_stores_is_recalled_after_opening_anew(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    other("record", ["water the garden"])
    recalled("water")
    other.end()  # or it would store for the others
    with another_process(store) as older:
        older("become_older")
        older("record", ["mow the lawn"])
        catch_up(store)
        assert recalled("mow the lawn", limit=1) == ["mow the lawn"]
        assert opened() == 2
        older("record", ["trim the hedge"])
    with another_process(store) as present:
        present("record", ["rake the leaves"])
        catch_up(store)

        assert recalled("trim the hedge", limit=1) == ["trim the hedge"]
        assert recalled("rake the leaves", limit=1) == ["rake the leaves"]
        assert opened() == 3
        present("record", ["sweep the path"])
        assert recalled("sweep the path", limit=1) == ["sweep the path"]
        assert opened() == 3


def test_a_reader_goes_on_after_another_process_has_rebuilt_the_store(
    store: str,
    recalled: Recall,
    other: Other,
    opened: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It knows, and does not have to meet with an error first."""
    met = Mock()
    monkeypatch.setattr(connect(store, space=SmallEmbedder.space), "invalidate", met)
    other("record", [f"water plant {n}" for n in range(5)])
    recalled("water")
    other("record", ["mow the lawn"])

    assert other("build_anew") == 6

    catch_up(store)
    assert len(recalled("water plant", limit=50)) == 6
    other("record", ["trim the hedge"])
    assert recalled("trim the hedge", limit=1) == ["trim the hedge"]
    assert opened() == 2
    met.assert_not_called()


def test_a_reader_opens_anew_when_the_file_has_been_deleted(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    other("record", ["water the garden"])
    recalled("water")
    other("record", ["mow the lawn"])
    epoch_file(store).unlink()
    catch_up(store)

    assert recalled("mow the lawn", limit=1) == ["mow the lawn"]
    assert opened() == 2
    other("record", ["trim the hedge"])
    catch_up(store)
    assert recalled("trim the hedge", limit=1) == ["trim the hedge"]


def test_thousands_of_texts_of_another_process_are_found_by_a_reader_that_stays_open(
    store: str, recalled: Recall, other: Other, opened: Callable[[], int]
) -> None:
    """Chroma writes its index to files meanwhile, and empties its queue."""
    other("record", [f"text {n}" for n in range(20)])
    recalled("text")
    other("record", [f"parcel {n} to door {n % 7}" for n in range(2500)])

    for n in range(0, 2500, 250):
        query = f"parcel {n} to another door"
        (vector,) = SmallEmbedder().embed([query])
        assert [key_of(task) for task in recalled(query, limit=3)] == [
            key for key, _ in other("nearest", vector, 3)
        ]
    assert opened() == 1


@pytest.fixture(scope="module")
def writer() -> Iterator[Other]:
    with another_process("") as process:
        yield process


chunks = st.lists(
    st.tuples(st.sampled_from(["another process", "this process"]), st.integers(0, 12)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(0, 20), chunks, st.integers(1, 30))
def test_an_answer_is_that_of_a_client_opened_now_whoever_has_stored_what_and_when(
    tmp_path_factory: pytest.TempPathFactory,
    writer: Other,
    seed: int,
    before: int,
    later: list[tuple[str, int]],
    limit: int,
) -> None:
    random = np.random.default_rng(seed)
    writer.store = store = str(tmp_path_factory.mktemp("example") / "store")
    connection = connect(store, space=SmallEmbedder.space)
    keys = (f"{n:024x}" for n in range(100))

    def new(number: int) -> tuple[list[str], Any]:
        return list(islice(keys, number)), random.normal(size=(number, 16)).tolist()

    writer("add", *new(before))
    for who, number in [("nobody", 0), *later]:
        if who == "another process":
            writer("add", *new(number))
        elif who == "this process":
            others.add(store, *new(number), keep_open=True)
        connection.refresh()
        query = random.normal(size=16).tolist()
        with connection.reading(fresh=True) as collections:
            found = task_index.nearest(
                task_index.of_tasks(collections, success=True), query, limit=limit
            )

        keys_and_similarities = writer("nearest", query, limit)
        assert [t.key for t in found] == [key for key, _ in keys_and_similarities]
        assert [t.similarity for t in found] == pytest.approx(
            [similarity for _, similarity in keys_and_similarities], abs=1e-6
        )
    connection.close()


@pytest.mark.parametrize("lately", [False, True], ids=["in the index", "in the journal"])
def test_what_another_process_deletes_is_recalled_no_more(
    store: str, other: Other, recalled: Recall, lately: bool
) -> None:
    first = ["water the garden", "feed the cat", "water the lawn"]
    other("record", first[:2] if lately else first)
    assert "feed the cat" in recalled("water the lawn")
    if lately:
        other("record", first[2:])
        assert recalled("water the lawn", limit=1) == ["water the lawn"]

    other("delete", "water the lawn")

    assert sorted(recalled("water the lawn")) == ["feed the cat", "water the garden"]
    assert key_of("water the lawn").encode() not in epoch_file(store).read_bytes()
    catch_up(store)
    assert sorted(recalled("water the lawn")) == ["feed the cat", "water the garden"]
