"""A store with a few traces in it, and the command line over it: in this process, or in one of its
own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from typer.testing import CliRunner, Result

import autotrace
from autotrace import step, task, tool, tool_call
from autotrace.cli.commands import app
from tests.embedders import HashEmbedder

REPOSITORY = Path(__file__).parents[2]
EMBEDDER = ("--embedder", "tests.embedders:HashEmbedder")
HOSTILE = "\x1b[31mred\x1b[0m \x07 \x9b2J [bold]loud[/bold] :smile: \u202egnp.exe"
"""Colours, a bell, clearing the screen, markup, and a name that reads backwards."""


@tool
def web_search(query: str, limit: int = 10) -> dict[str, list[str]]:
    rank(query)
    return {"results": ["Trattoria Milano", "Perbacco"]}


@tool
def rank(query: str) -> int:
    return len(query)


@tool
def place_order(table: int) -> None:
    raise ValueError(f"no table for {table}")


@tool
def track(parcel: str) -> None:
    raise TimeoutError("the carrier is silent")


@dataclass
class Recorded:
    """What the store holds."""

    store: Path
    ids: dict[str, str] = field(default_factory=dict[str, str])


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    made = Recorded(tmp_path_factory.mktemp("cli") / "store")
    autotrace.configure(made.store, embedder=HashEmbedder(), flush_interval_ms=0)
    with task("find a restaurant near the venue", session_id="s1", agent="concierge") as t:
        made.ids["found"] = t.trace_id
        with step("I need to search first", action="call web_search") as s:
            web_search("italian near the venue", limit=3)
            s.observe("found 15 results")
        t.complete("Trattoria Milano it is", success=True)
    with contextlib.suppress(ValueError), task("book a table", agent="booker") as t:
        made.ids["failed"] = t.trace_id
        place_order(8)
    with task("where is the parcel", session_id="s2", triggered_by_memory_id="mem-7") as t:
        made.ids["late"] = t.trace_id
        with pytest.raises(TimeoutError):
            track("77")
        t.complete("asked in vain \u6f22\u5b57", success=False)
    with task(f"steer {HOSTILE}", agent=HOSTILE, session_id=HOSTILE) as t:
        made.ids["hostile"] = t.trace_id
        with step(HOSTILE, action=HOSTILE, observations=[HOSTILE]):
            with tool_call(HOSTILE, {HOSTILE: HOSTILE}):
                pass
            with pytest.raises(RuntimeError), tool_call("raiser", {}):
                raise RuntimeError(HOSTILE)
        t.complete(HOSTILE)
    assert autotrace.flush()
    autotrace.shutdown()
    return made


class Command(Protocol):
    """Runs one command in this process over the recorded store."""

    def __call__(
        self,
        *arguments: str,
        store: Path | None = None,
        embedder: tuple[str, ...] = EMBEDDER,
        **environment: str,
    ) -> Result: ...


@pytest.fixture
def command(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(REPOSITORY)
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)

    def run(
        *arguments: str,
        store: Path | None = None,
        embedder: tuple[str, ...] = EMBEDDER,
        **environment: str,
    ) -> Result:
        where = ("--store", str(store or recorded.store))
        return CliRunner().invoke(app, [*arguments, *where, *embedder], env=environment)

    return run


class Answer(Protocol):
    """Runs one command with `--json` and returns the document."""

    def __call__(self, *arguments: str) -> Any: ...


@pytest.fixture
def answer(command: Command) -> Answer:
    def run(*arguments: str) -> Any:
        result = command(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def environment(**changes: str) -> dict[str, str]:
    """Return what a process of the command line is started with."""
    own = ("OTEL_", "AUTOTRACE_", "FORCE_COLOR", "NO_COLOR", "COLUMNS")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    return inherited | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"} | changes


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own, its output into a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "autotrace.cli", *arguments],
        **{"env": environment(), "cwd": REPOSITORY, "capture_output": True} | options,
        encoding="utf-8",
        timeout=500,
    )
