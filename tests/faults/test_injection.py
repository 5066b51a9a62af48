"""Every call that export makes to what is not its own fails once, wherever and in which thread.

As in `tests/capture/test_never_raises.py`, which does so for capture and for what runs where spans
end, the calls are not picked by hand: a run under a profiler finds them. Then each fails in turn.
"""

from __future__ import annotations

import errno
import gc
import itertools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import autotrace
from autotrace import step, task, tool
from tests.faults.agents import configure
from tests.faults.checks import check_nothing_is_twice, read_traces
from tests.faults.conftest import Figure

PACKAGE: Final = Path(autotrace.__file__).parent
OURS: Final = tuple(f"{PACKAGE / name}/" for name in ("worker", "spool", "traces"))
FALLIBLE: Final = (
    str(PACKAGE / "store"),
    str(PACKAGE / "embedding"),
    "site-packages",
    "pathlib.py",
    "shutil.py",
)
"""Where Python functions live that may fail when export calls them."""
FALLIBLE_MODULES: Final = {"posix", "time", "orjson", "io", "_io"}
"""C modules whose functions may fail."""

NOT_FAULTS: Final = {"monotonic", "monotonic_ns", "time_ns", "BufferedReader.__exit__"}
"""A clock does not fail, and a file that does not close would only be left open by the test."""

Site = tuple[str, str]
"""The function that calls, and the one that is called."""


class Injected(Exception):
    """What is raised in place of a call."""


class Profiler:
    """Sees the calls of export in the threads it is set for, and makes one of them fail once."""

    def __init__(self, failing: Site | None = None, error: BaseException | None = None) -> None:
        self.sites: dict[Site, None] = {}
        self.has_failed = False
        self._failing = failing
        self._error = error

    def __enter__(self) -> Profiler:
        sys.setprofile(self)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            caller = frame.f_back
            called = frame.f_code.co_qualname
            file = frame.f_code.co_filename
            if file.startswith(OURS) or not any(place in file for place in FALLIBLE):
                return
        elif event == "c_call":
            caller, called = frame, argument.__qualname__
            owner = getattr(argument, "__self__", None)
            if (argument.__module__ or type(owner).__module__) not in FALLIBLE_MODULES:
                return
        else:
            return
        if caller is None or not caller.f_code.co_filename.startswith(OURS):
            return
        if called in NOT_FAULTS:
            return
        site = (f"{Path(caller.f_code.co_filename).stem}.{caller.f_code.co_qualname}", called)
        self.sites[site] = None
        if site == self._failing and self._error is not None and not self.has_failed:
            self.has_failed = True
            raise self._error


@tool
def work(number: int) -> int:
    return number + 1


CALLS: Final = 4


def program() -> list[Any]:
    seen: list[Any] = []
    with task("work on it"), step("a step"):
        seen += [work(n) for n in range(CALLS)]
    with task("and fail", session_id="s") as t:
        t.complete("no", success=False)
    return seen


EXPECTED: Final = [1, 2, 3, 4]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    # For economy alone: nothing here depends on how long a pause between two attempts is.
    monkeypatch.setattr("autotrace.worker.loop.FIRST_BACKOFF_S", 0.01)


def counted_drops() -> int:
    counters = autotrace.health().counters
    return sum(n for name, n in counters.items() if name.startswith(("dropped", "bad", "unstored")))


def run(store: Path, profiler: Profiler) -> None:
    """Run the program in a new configuration, and see it stored."""
    threading.setprofile(profiler)  # for the thread that stores, which may begin to at once
    try:
        configure(str(store), flush_interval_ms=1)
        with profiler:
            assert program() == EXPECTED
            flushed = autotrace.flush(timeout=20)
            autotrace.health()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type] - as the documentation says
    assert flushed or autotrace.flush(timeout=20)


def failing_in_turn(store: Path, wanted: Callable[[Site], bool]) -> tuple[list[Site], int]:
    """Let each of the wanted calls fail; return those that did, and how many records it cost."""
    run(store, Profiler())  # what is imported or made at the first call is so by now
    autotrace.shutdown()
    found = Profiler()
    run(store, found)
    autotrace.shutdown()  # its thread goes on to look for work
    made, lost, dropped = 2 * CALLS, 0, counted_drops()
    failed: list[Site] = []
    errors = itertools.cycle([Injected(), OSError(errno.ENOSPC, "no space left"), MemoryError()])
    for site, error in zip(filter(wanted, list(found.sites)), errors, strict=False):
        autotrace.shutdown()
        profiler = Profiler(site, error)
        run(store, profiler)
        failed += [site] * profiler.has_failed
        made += CALLS
        missing = made - lost - sum(stats.call_count for stats in autotrace.tool_stats())
        dropped, before = counted_drops(), dropped
        assert 0 <= missing <= dropped - before, site
        lost += missing
    # Not by the statistics: a call whose task could not be recorded is in no trace.
    check_nothing_is_twice(read_traces())
    return failed, lost


ENDS_THE_THREAD: Final = {
    ("store_thread.StoreThread._run", "attach"),
    ("spool_reader.Drainer.release", "release"),
}
"""By caller, and by name alone: filelock has moved its methods between classes."""


@pytest.fixture(autouse=True)
def _without_files_that_failures_left_open() -> Iterator[None]:
    """Let go of files whose `with` a failure came before, here and not amid another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def by_name(site: Site) -> Site:
    return site[0], site[1].rpartition(".")[2]


def test_each_call_out_of_export_may_fail_once(store: Path, figure: Figure) -> None:
    failed, lost = failing_in_turn(store, lambda site: by_name(site) not in ENDS_THE_THREAD)

    assert len(failed) > 40
    figure(
        f"{len(failed)} calls out of export failed in turn: nobody felt it, and what was not "
        f"recorded ({lost} calls) was counted"
    )


@pytest.mark.parametrize("site", sorted(ENDS_THE_THREAD))
def test_the_thread_that_stores_outlives_every_failure(store: Path, site: Site) -> None:
    ended: list[Any] = []
    hook, threading.excepthook = threading.excepthook, ended.append
    try:
        failing_in_turn(store, lambda found: by_name(found) == site)
        autotrace.shutdown()
    finally:
        threading.excepthook = hook
    assert ended == []


def test_health_names_what_it_cannot_count(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise Injected

    configure(str(store), flush_interval_ms=1)
    monkeypatch.setattr("autotrace.worker.spool_reader.backlog_bytes", fail)

    health = autotrace.health()

    assert health.backlog_bytes == 0
    assert health.problems == ["what waits to be stored cannot be counted: Injected()"]
