"""Slot lists: whoever appends, and however often, nothing is lost and the end is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.errors import StoreUnavailableError
from autotrace.store import paged_lists
from autotrace.store.paged_lists import Appender
from autotrace.store.schema import Collection


class Table:
    """What slot lists need of Chroma: `add` leaves an id that exists as it is."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}
        self.gets = 0

    def add(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        for record_id, metadata in zip(ids, metadatas, strict=True):
            self.rows.setdefault(record_id, metadata)

    def get(self, ids: list[str], include: Sequence[str] = ()) -> dict[str, Any]:
        self.gets += 1
        found = [i for i in ids if i in self.rows]
        return {"ids": found, "metadatas": [self.rows[i] for i in found]}


def table() -> Any:
    return cast("Collection", Table())


def appender(writer: str, batch: int, *, exclusive: bool = True) -> Appender:
    return Appender(writer, batch, exclusive, max_batch=1000)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=40))
def test_entries_are_read_in_the_order_in_which_they_were_appended(
    appends: list[tuple[str, int]],
) -> None:
    lists = table()
    expected: dict[str, list[list[int]]] = {"a": [], "b": [], "c": []}
    for batch, (name, count) in enumerate(appends):
        entries = [(batch, n) for n in range(count)]
        expected[name] += [list(entry) for entry in entries]
        appender("w", batch).add(lists, {name: entries})

    assert paged_lists.read(lists, ["a", "b", "c"]) == expected


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 5000])
def test_the_end_and_the_newest_are_found_in_a_few_look_ups(length: int) -> None:
    lists = table()
    for number in range(length):
        lists.rows[f"x/{number}"] = {"json": f'{{"entries":[[{number}]]}}'}

    assert paged_lists.lengths(lists, ["x", "other"]) == {"x": length, "other": 0}
    newest = paged_lists.read_newest(lists, ["x", "other"], 20)

    assert newest["x"][-20:] == [[n] for n in range(max(0, length - 20), length)]
    assert newest["other"] == []
    assert lists.gets <= 12


def test_all_entries_are_given_when_fewer_than_asked_for_exist() -> None:
    lists = table()
    for batch in range(100):
        appender("w", batch).add(lists, {"x": [(batch,)]})

    assert paged_lists.read_newest(lists, ["x"], 1000)["x"] == [[n] for n in range(100)]


def test_a_writer_that_comes_second_takes_the_next_slot() -> None:
    class Raced(Table):
        """Another writer adds the same slot first, twice."""

        def add(self, ids: list[str], **values: Any) -> None:
            if len(self.rows) < 2:
                other = {"json": '{"writer":"other","batch":1,"entries":[["theirs"]]}'}
                super().add(ids, embeddings=None, metadatas=[other] * len(ids))
            super().add(ids, **values)

    lists: Any = Raced()
    appender("w", 1, exclusive=False).add(lists, {"x": [("ours",)]})

    assert paged_lists.read(lists, ["x"]) == {"x": [["theirs"], ["theirs"], ["ours"]]}


def test_a_list_that_others_always_append_to_first_is_given_up_for_now() -> None:
    class Contended(Table):
        def add(self, ids: list[str], **values: Any) -> None:
            other = {"json": '{"writer":"other","batch":1,"entries":[]}'}
            super().add(ids, embeddings=None, metadatas=[other] * len(ids))

    with pytest.raises(StoreUnavailableError, match="contended"):
        appender("w", 1, exclusive=False).add(cast("Any", Contended()), {"x": [(1,)]})
