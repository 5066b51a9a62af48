"""Copies of one text do not fill a recall, and fill what nothing else that is related does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import autotrace
from autotrace import task
from tests.embedders import HashEmbedder


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Iterator[None]:
    autotrace.configure(tmp_path / "store", embedder=HashEmbedder(), flush_interval_ms=0)
    yield
    autotrace.shutdown()


def record(text: str, outcome: str = "", session: str | None = None) -> None:
    with task(text, session_id=session) as t:
        t.complete(outcome)


def recalled(query: str, **options: object) -> list[str]:
    assert autotrace.flush()
    return [found.task for found in autotrace.recall(query, **options)]  # type: ignore[arg-type]


NIGHTLY = "back up the customer database"
RELATED = [f"back up the {what} database" for what in ("order", "mail", "stock")]


def test_a_task_of_every_night_leaves_room_for_related_ones() -> None:
    for text in RELATED:
        record(text)
    for number in range(40):
        record(NIGHTLY, session=f"night {number}")

    assert sorted(recalled(NIGHTLY, limit=5)) == sorted([NIGHTLY] * 2 + RELATED)
    assert sorted(recalled(NIGHTLY, limit=10)) == sorted([NIGHTLY] * 7 + RELATED)
    assert recalled(NIGHTLY, limit=3)[:2] == [NIGHTLY] * 2
    assert recalled(NIGHTLY, limit=3)[2] in RELATED


def test_case_and_punctuation_make_no_other_text() -> None:
    record(RELATED[0])
    for number in range(40):
        record(NIGHTLY if number % 2 else NIGHTLY.capitalize() + "!")

    assert recalled(NIGHTLY, limit=3)[-1] == RELATED[0]


def test_copies_come_before_what_is_not_related() -> None:
    record("translate a letter")
    for number in range(5):
        record(NIGHTLY, str(number))
    assert autotrace.flush()

    found = autotrace.recall(NIGHTLY, limit=4)

    assert [(each.task, each.outcome) for each in found] == [
        (NIGHTLY, str(number)) for number in (4, 3, 2, 1)
    ]


def test_copies_in_a_session_leave_room_for_related_ones_of_it() -> None:
    for text in RELATED:
        record(text, session="mine")
        record(f"{text} now", session="other")
    for _ in range(40):
        record(NIGHTLY, session="mine")

    found = recalled(NIGHTLY, limit=5, session_id="mine")
    assert sorted(found) == sorted([NIGHTLY] * 2 + RELATED)
