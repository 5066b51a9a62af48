"""An agent waits in one terminal; a person answers in another, with the command it has printed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import EXAMPLE_TIMEOUT_S, EXAMPLES, inherited_environment, traces_in


@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_the_agent_goes_on_as_soon_as_it_is_answered(answer: str, tmp_path: Path) -> None:
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "approve_refund.py"), "store"],
        cwd=tmp_path, env=inherited_environment(), text=True, stdout=subprocess.PIPE,
    ) as agent:  # fmt: skip
        assert agent.stdout is not None
        for line in agent.stdout:
            said.append(line)
            if f" decisions {answer} " in line:
                typed(line, tmp_path)
    assert agent.returncode == 0

    small, middle, large = reversed(traces_in(tmp_path / "store"))
    assert (small["outcome"], small["success"]) == ("paid 20 back for order 1", True)
    assert middle["success"] is (answer == "approve")
    assert ("not this time" in middle["outcome"]) is (answer == "reject")
    assert (large["success"], "more than 500" in large["outcome"]) == (False, True)
    paid = [trace["steps"][0]["tool_calls"] for trace in (small, middle, large) if trace["steps"]]
    amounts = [call["arguments"]["amount"] for calls in paid for call in calls]
    assert amounts == ([20, 120] if answer == "approve" else [20])
    assert [trace["decisions"][0]["status"] for trace in (small, middle, large)] == [
        "committed", "committed" if answer == "approve" else "aborted", "aborted",
    ]  # fmt: skip
    assert sum("its history verifies" in line for line in said) == 3


def typed(command: str, folder: Path) -> None:
    """Type a command in another terminal, in another folder."""
    program, *arguments = shlex.split(command)
    answered = subprocess.run(
        [sys.executable, program, *arguments],
        cwd=folder.parent, env=inherited_environment(), text=True, capture_output=True,
        timeout=EXAMPLE_TIMEOUT_S,
    )  # fmt: skip
    assert (answered.returncode, answered.stderr) == (0, "")
