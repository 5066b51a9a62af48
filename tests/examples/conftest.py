"""Runs the examples as a user does: as programs, in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.examples.made_runs import make_airline, make_coding_runs

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
DATA = REPOSITORY.parent / "shared" / "data"
EXAMPLE_TIMEOUT_S = 500
NOT_INHERITED = ("OTEL_", "AUTOTRACE_")
WOULD_COLOUR = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class RunExample(Protocol):
    """Runs an example in a folder, and returns how it ended and what it printed."""

    def __call__(
        self, name: str, *arguments: str | Path, folder: Path, environment: dict[str, str] = ...
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def run_example() -> RunExample:
    def run(
        name: str, *arguments: str | Path, folder: Path, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
            env=inherited_environment() | (environment or {}),
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            timeout=EXAMPLE_TIMEOUT_S,
        )

    return run


def inherited_environment() -> dict[str, str]:
    """Return the environment without what would change what an example does or prints."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(NOT_INHERITED) and key not in WOULD_COLOUR
    }
    # Wide, so that what a test looks for is not broken into two lines.
    return inherited | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", "PYTHONUTF8": "1"}


READER = """
import json, sys, autotrace
autotrace.configure(sys.argv[1])
summaries = autotrace.list_traces(limit=1000)
traces = [autotrace.get_trace(summary.trace_id) for summary in summaries]
json.dump([trace.model_dump(mode="json") for trace in traces], sys.stdout)
"""


def traces_in(store: Path) -> list[dict[str, Any]]:
    """Return all traces of a store, newest first, as a program of its own reads them."""
    command = [sys.executable, "-c", READER, str(store)]
    return json.loads(subprocess.check_output(command, env=inherited_environment(), text=True))


def runs_of(name: str) -> list[Any]:
    """Return the sources of runs: made here, and recorded ones where they are at hand."""
    path = DATA / name
    return [None, *([pytest.param(path, marks=pytest.mark.full_size)] if path.exists() else [])]


def source_of(path: Path | None) -> str:
    return "recorded" if path else "made"


@pytest.fixture(
    scope="session", params=runs_of("tau_bench/airline_trajectories.jsonl"), ids=source_of
)
def airline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with runs of an airline's agent, with tasks of a shop beside it."""
    return request.param or make_airline(tmp_path_factory.mktemp("airline-runs"))


@pytest.fixture(scope="session", params=runs_of("swe_agent"), ids=source_of)
def swe_agent(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of a coding agent."""
    return request.param or make_coding_runs(tmp_path_factory.mktemp("coding-runs"))


def succeed(example: subprocess.CompletedProcess[str]) -> str:
    """Return what an example printed, which has ended well and without a word of warning."""
    assert example.returncode == 0, example.stdout + example.stderr
    assert example.stderr == ""
    return example.stdout
