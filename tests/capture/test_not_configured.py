"""Before `autotrace.configure()`: nothing is recorded or written, and it is said once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace import (
    NotConfiguredError,
    NotConfiguredWarning,
    current_task,
    step,
    task,
    tool,
    tool_call,
)
from autotrace.capture import not_configured_warning
from autotrace.testing import recording

PROGRAM = """
    import asyncio, os, sys, threading, warnings
    import autotrace
    from autotrace import step, task, tool, tool_call

    @tool
    def double(x): return 2 * x

    @tool
    async def double_async(x): return 2 * x

    @tool
    def count(n): yield from range(n)

    @task
    def run(text): return double(2)

    @step
    def think(): return double(3)

    with task("x", session_id="s") as t, step("y") as s, tool_call("z", {}) as call:
        assert (t.trace_id, s.step_id, call.tool_call_id) == ("", "", "")
        t.complete("done"); s.observe("seen"); call.set_result(1); call.set_error("e")
        assert double(1) == 2
        assert asyncio.run(double_async(1)) == 2
        assert list(count(2)) == [0, 1]
        assert run("z") == 4 and think() == 6
    assert autotrace.flush() and autotrace.shutdown()
    assert autotrace.inject() == {}
    with autotrace.attach({}): pass
    assert not autotrace.health().configured
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    assert os.listdir() == []
    print("fine")
"""


def run(program: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder of its own."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={"PYTHONPATH": str(Path(autotrace.__file__).parents[1]), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_nothing_is_recorded_written_or_started_and_it_is_said_once(tmp_path: Path) -> None:
    done = run(PROGRAM, tmp_path)
    assert done.stdout == "fine\n", done.stderr
    assert done.stderr.count("NotConfiguredWarning") == 1
    assert "call autotrace.configure() once, before the first task" in done.stderr
    line = 1 + PROGRAM[: PROGRAM.index("with task(")].count("\n")
    assert f"<string>:{line}: " in done.stderr


@pytest.mark.parametrize("options", [("-W", "error"), ("-W", "ignore")])
def test_it_never_raises_whatever_becomes_of_warnings(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(PROGRAM, tmp_path, *options)
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.fixture
def not_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which no task was opened before."""
    monkeypatch.setattr(not_configured_warning, "_warned", threading.Lock())


def with_block() -> None:
    with task("x"):
        pass


def async_block() -> None:
    async def main() -> None:
        async with task("x"):
            pass

    asyncio.run(main())


def decorated() -> None:
    task(lambda: None)()


def decorated_async() -> None:
    @task
    async def main() -> None: ...

    asyncio.run(main())


@pytest.mark.usefixtures("not_said_yet")
@pytest.mark.parametrize("first", [with_block, async_block, decorated, decorated_async])
def test_the_warning_points_at_the_code_that_opened_the_task(first: Callable[[], None]) -> None:
    with pytest.warns(NotConfiguredWarning) as caught:
        first()
    (warning,) = caught
    assert warning.filename == __file__
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        first()
    assert not again


@pytest.mark.usefixtures("not_said_yet")
def test_tools_and_steps_alone_say_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with step("x"), tool_call("y"):
            tool(lambda: None)()
        step(lambda: None)()
    assert not caught


@pytest.mark.usefixtures("not_said_yet")
def test_a_hook_for_warnings_that_raises_does_not_reach_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken hook")

    monkeypatch.setattr(warnings, "showwarning", broken)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with task("x"):
            pass


def test_functions_may_be_decorated_before_and_after_and_are_recorded_only_meanwhile() -> None:
    before = tool(name="before")(lambda: 1)
    assert before() == 1
    with recording() as recorded:
        after = tool(name="after")(lambda: 2)
        assert (before(), after()) == (1, 2)
    assert (before(), after()) == (1, 2)
    assert [record["name"] for record in recorded.records] == [
        "execute_tool before",
        "execute_tool after",
    ]


def test_a_block_that_was_entered_before_stays_unrecorded() -> None:
    block = task("x")
    block.__enter__()
    with recording() as recorded:
        assert current_task() is None
        block.__exit__(None, None, None)
    assert recorded.records == []


@pytest.mark.parametrize(
    "read",
    [
        lambda: autotrace.get_trace("trace-x"),
        autotrace.list_traces,
        lambda: autotrace.recall("x"),
        autotrace.tool_stats,
    ],
)
def test_reading_says_what_to_do(read: Callable[[], object]) -> None:
    with pytest.raises(NotConfiguredError, match=r"autotrace\.configure\(\)"):
        read()
