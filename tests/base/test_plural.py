"""Numbers with their nouns."""

from __future__ import annotations

from autotrace.base.plural import counted


def test_numbers_have_their_nouns() -> None:
    assert [counted(number, "step") for number in (0, 1, 1200)] == [
        "0 steps",
        "1 step",
        "1,200 steps",
    ]
