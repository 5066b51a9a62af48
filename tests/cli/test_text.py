"""Values as a person reads them."""

from __future__ import annotations

import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.cli import formatting

TEXTS = st.text(alphabet=st.characters(), max_size=400)
"""Any characters at all, lone surrogates among them."""


def steers(character: str) -> bool:
    """Tell whether a terminal might obey a character, or cannot be sent it."""
    return character not in "\n\t" and (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF")
        or unicodedata.bidirectional(character) in ("LRI", "RLI", "FSI", "PDI")
    )


@given(TEXTS)
def test_nothing_that_steers_a_terminal_is_left_visible(given_text: str) -> None:
    assert not [c for c in formatting.visible(given_text) if steers(c)]
    assert not [c for c in formatting.block(given_text) if steers(c)]


@given(TEXTS)
def test_one_line_is_one_harmless_line_of_bounded_length(given_text: str) -> None:
    line = formatting.one_line(given_text, 50)

    assert len(line) <= 50
    assert not [c for c in line if steers(c) or c in "\n\t"]


@given(st.text(alphabet="abc äß漢字", max_size=50))
def test_one_line_leaves_a_short_line_as_it_is(given_text: str) -> None:
    assert formatting.one_line(given_text, 50) == " ".join(given_text.split())


def test_what_is_cut_says_so() -> None:
    assert formatting.one_line("a" * 51, 50) == "a" * 49 + "…"
    assert formatting.one_line(" " * 1000 + "a", 50).endswith("…")


def test_what_steers_is_written_out() -> None:
    assert formatting.visible("\x1b[31m \x9b \u202e \r\n \r") == "\\x1b[31m \\x9b \\u202e \n \\x0d"


@pytest.mark.parametrize(
    ("duration_ms", "expected"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (999.6, "1.0 s"),
        (1000, "1.0 s"),
        (59_940, "59.9 s"),
        (59_960, "1 min 0 s"),
        (192_000, "3 min 12 s"),
        (3_599_700, "1 h 0 min"),
        (7_500_000, "2 h 5 min"),
        (86_400_000, "1 d 0 h"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_a_duration_is_in_the_units_a_person_would_use(duration_ms: float, expected: str) -> None:
    assert formatting.duration(duration_ms) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"query": "x", "limit": 3}, 'search(query="x", limit=3)'),
        ({}, "search()"),
        (None, "search"),
        ([1, 2], "search([1,2])"),
        ("cut short", 'search("cut short")'),
        ({"a": "\x1b"}, 'search(a="\\u001b")'),
    ],
)
def test_a_call_reads_like_code(arguments: object, expected: str) -> None:
    assert "".join(formatting.call("search", arguments)) == expected


@given(st.recursive(st.none() | st.booleans() | TEXTS, st.lists, max_leaves=20))
def test_any_value_fits_on_a_line(value: object) -> None:
    try:
        orjson.dumps(value)
    except TypeError:  # a lone surrogate never comes out of the store
        return
    assert len(formatting.json_line(value, 80)) <= 80


def test_a_tool_that_is_called_again_is_counted() -> None:
    assert formatting.tools(["search", "search", "rank", "search"]) == "search x2, rank, search"
