"""What a reader would not see, or would be misled by, is written out."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.base.visible_text import escaped, is_visible, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("a\u200bb\u2060", "a\\u200bb\\u2060"),
        ("\x1b[2K\r", "\\x1b[2K\\x0d"),
        ("\U000e0041", "\\U000e0041"),
        ("\u3164", "\\u3164"),
        ("a\ufe0f", "a\\ufe0f"),
        ("\u26a0\ufe0f \U0001f469\u200d\U0001f4bb", "\u26a0\ufe0f \U0001f469\u200d\U0001f4bb"),
        ("two\nlines\tand 5\u202f\u20ac", "two\nlines\tand 5\u202f\u20ac"),
    ],
)
def test_invisible_characters_are_written_out_and_prose_stays(text: str, seen: str) -> None:
    assert visible(text) == seen


@given(st.text())
def test_no_control_or_format_character_is_left(text: str) -> None:
    left = {unicodedata.category(c) for c in visible(text) if c not in "\n\t\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@given(st.text("a\\\\xu0\u200b\u00a0\x1b"), st.text("a\\\\xu0\u200b\u00a0\x1b"))
def test_no_two_texts_are_escaped_alike(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)
    assert is_visible(escaped(one))


def test_spaces_that_push_text_out_of_sight_are_counted_and_indentation_stays() -> None:
    pushed = "ls" + " " * 2_400 + "; rm -rf /"
    assert (is_visible(pushed), escaped(pushed)) == (False, "ls\\x20{2400}; rm -rf /")
    assert is_visible("\n" + " " * 63 + "return")
    assert escaped("\\x20{64}") == "\\\\x20{64}"
    assert escaped(" " * 64) != escaped(" " * 65)
    assert not is_visible("\U00013430")
