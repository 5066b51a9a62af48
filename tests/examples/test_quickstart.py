"""The first program that a new user runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import RunExample, succeed

pytestmark = pytest.mark.xdist_group("quickstart")
"""Of one worker, which makes what they share once."""

FAILING = ["city_map", "live_rates", "book_online", "phone_restaurant"]
WORKING = ["city_guide", "bank_rates", "ask_front_desk"]
NEW = [
    "Find an Italian restaurant near the conference venue",
    "Convert the hotel bill of 240 euros to US dollars",
    "Book a table for twelve people tonight",
]
REWORDED = [
    "Where can we eat pasta close to the convention centre?",
    "How much is an invoice of 99 EUR in American money?",
    "Reserve dinner for a dozen guests this evening",
]


@pytest.fixture(scope="module")
def printed(run_example: RunExample, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What two runs with the same store print."""
    folder = tmp_path_factory.mktemp("quickstart")
    return [succeed(run_example("quickstart.py", "store", folder=folder)) for _ in range(2)]


def test_a_new_request_calls_tools_that_fail(printed: list[str]) -> None:
    assert tools_called(printed[0], NEW[0]) == ["city_map error", "city_guide success"]
    assert tools_called(printed[0], NEW[1]) == ["live_rates timeout", "bank_rates success"]
    assert tools_called(printed[0], NEW[2]) == ["book_online error", "phone_restaurant timeout"]
    assert lines_of(printed[0], NEW[2], "outcome") == ["Gave up after two tools"]


def test_the_same_in_other_words_recalls_it_and_avoids_what_failed(printed: list[str]) -> None:
    for reworded, original, works in zip(REWORDED, NEW, WORKING, strict=True):
        (recalled,) = lines_of(printed[0], reworded, "recalls")
        assert recalled.startswith(original)
        assert tools_called(printed[0], reworded) == [f"{works} success"]


def test_a_second_run_knows_from_the_start(printed: list[str]) -> None:
    for request, works in zip(NEW + REWORDED, WORKING * 2, strict=True):
        assert tools_called(printed[1], request) == [f"{works} success"]


def test_the_statistics_count_the_calls_of_all_runs(printed: list[str]) -> None:
    failed = dict.fromkeys(FAILING, (1, 0))

    assert statistics(printed[0]) == failed | {
        "city_guide": (2, 100),
        "bank_rates": (2, 100),
        "ask_front_desk": (1, 100),
    }
    assert statistics(printed[1]) == failed | {
        "city_guide": (4, 100),
        "bank_rates": (4, 100),
        "ask_front_desk": (3, 100),
    }


def test_nothing_is_coloured_where_the_output_is_no_terminal(printed: list[str]) -> None:
    assert "\x1b" not in printed[0]


@pytest.mark.parametrize(
    "environment", [{}, {"AUTOTRACE_STORE": "elsewhere"}], ids=["default", "environment"]
)
def test_the_store_is_the_default_one_and_is_left_there_to_look_around_in(
    run_example: RunExample, tmp_path: Path, environment: dict[str, str]
) -> None:
    store = tmp_path / environment.get("AUTOTRACE_STORE", ".autotrace")

    text = succeed(run_example("quickstart.py", folder=tmp_path, environment=environment))

    assert [path.name for path in tmp_path.iterdir()] == [store.name]
    assert f"AUTOTRACE_STORE={store}" in text


def test_help_makes_no_store(run_example: RunExample, tmp_path: Path) -> None:
    assert "usage" in succeed(run_example("quickstart.py", "--help", folder=tmp_path))
    assert not list(tmp_path.iterdir())


def lines_of(printed: str, request: str, label: str) -> list[str]:
    """Return what stands behind a label below a request."""
    below = printed.partition(f"{request}\n")[2].partition("\n\n")[0]
    return re.findall(rf"^  {label} +(.+)$", below, re.MULTILINE)


def tools_called(printed: str, request: str) -> list[str]:
    return [call.partition(":")[0] for call in lines_of(printed, request, "calls")]


def statistics(printed: str) -> dict[str, tuple[int, int]]:
    """Return calls and success rate in percent by tool, from the table."""
    rows = re.findall(r"^│ (\w+) +│ (\d+) +│ (\d+)% ", printed, re.MULTILINE)
    return {tool: (int(calls), int(rate)) for tool, calls, rate in rows}
