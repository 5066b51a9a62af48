"""Print the figures of docs/explanation/guarantees.md at the end of the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import autotrace
from tests.faults.agents import STORING
from tests.faults.processes import LINUX, MARK, kill_storekeepers

Figure = Callable[[str], None]
Counted = Callable[[], Counter[str]]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Keep a sentence with a figure for the summary."""
    return lambda sentence: record_property("figure", sentence)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    figures = [
        (report.nodeid.rpartition("/")[2], value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "figure"
    ]
    if figures and terminalreporter.config.getoption("verbose") >= 0:
        terminalreporter.section("figures")
        for test, sentence in sorted(figures):
            terminalreporter.write_line(f"{test}: {sentence}")


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    """What `autotrace.health()` has counted since the test began; counters are the process's."""
    autotrace.configure(tmp_path / "nothing is recorded here")
    before = Counter(autotrace.health().counters)
    autotrace.shutdown()
    return lambda: Counter(autotrace.health().counters) - before


by_a_thread = pytest.mark.parametrize(
    "storing", ["thread", pytest.param("process", marks=pytest.mark.full_size)], indirect=True
)
"""What stores has little to do with the fault: `make full` tries the process as well."""


@pytest.fixture(params=["thread", "process"])
def storing(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """What stores in every program of the test: a thread of it, or a process of its own."""
    monkeypatch.setenv(STORING, request.param)
    monkeypatch.setenv(MARK, str(tmp_path))
    yield request.param
    if LINUX:  # elsewhere they take some seconds to end by themselves
        kill_storekeepers(str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A place for a store, closed afterwards if the test has opened it."""
    yield tmp_path / "store"
    autotrace.shutdown()
