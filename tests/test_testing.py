"""What users' tests use: recording into memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from autotrace import InvalidArgumentError, step, task, tool
from autotrace.capture.recorder import current
from autotrace.testing import recording


@tool
def search(query: str, api_key: str = "k") -> list[str]:
    return [query]


def answer(question: str) -> str:
    with task(question) as t:
        with step("look it up"):
            found = search(question)
        t.complete(found[0])
    return found[0]


def test_what_an_agent_did_can_be_asserted_without_a_store() -> None:
    with recording() as recorded:
        answer("tea?")
    (call,) = recorded.trace.tool_calls
    assert (call.tool_name, call.result) == ("search", ["tea?"])
    assert call.arguments == {"query": "tea?", "api_key": "[REDACTED]"}
    assert recorded.counters == {"redacted": 1}
    assert recorded.last_error is None


def test_several_traces_are_given_oldest_first_and_no_single_one() -> None:
    with recording() as recorded:
        answer("first")
        answer("second")
    assert [trace.task for trace in recorded.traces] == ["first", "second"]
    with pytest.raises(AssertionError, match=r"there are 2: \['first', 'second'\]"):
        _ = recorded.trace


def test_what_is_configured_outside_is_left_alone_and_comes_back() -> None:
    with recording() as outer:
        with recording() as inner:
            answer("inside")
        answer("outside")
    assert current.recorder is None
    assert (inner.trace.task, outer.trace.task) == ("inside", "outside")


def test_settings_of_capture_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTRACE_CAPTURE_RESULT", "false")
    with recording(capture_arguments=False, agent="tester") as recorded:
        answer("tea?")
    (call,) = recorded.trace.tool_calls
    assert (call.arguments, call.result, recorded.trace.agent) == (None, None, "tester")
    with pytest.raises(InvalidArgumentError), recording(no_such_setting=1):
        raise NotImplementedError


TEST = """
from autotrace import task

def test_it(autotrace_recording):
    with task("x"):
        pass
    assert autotrace_recording.trace.task == "x"
"""


def test_the_plugin_gives_the_same_as_a_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "autotrace.pytest_plugin", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
