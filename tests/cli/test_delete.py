"""`autotrace delete`: asks first, and what is deleted is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import autotrace
from autotrace import task
from autotrace.cli.commands import app
from tests.embedders import HashEmbedder

from .conftest import EMBEDDER, REPOSITORY


@pytest.fixture
def recorded_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("AUTOTRACE_STORE", str(tmp_path / "store"))
    autotrace.configure(embedder=HashEmbedder(), flush_interval_ms=0)
    ids: list[str] = []
    for text in ("a slip of the tongue", "what may be kept"):
        with task(text) as t:
            ids.append(t.trace_id)
    autotrace.shutdown()
    return ids


def run(*arguments: str, answer: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*arguments, *EMBEDDER], input=answer)
    return result.exit_code, result.stdout, result.stderr


def listed() -> list[str]:
    return [trace["trace_id"] for trace in json.loads(run("traces", "--json")[1])["traces"]]


def test_it_is_deleted_after_a_yes_and_not_after_a_no(recorded_ids: list[str]) -> None:
    slip, kept = recorded_ids

    code, _, asked = run("delete", slip, answer="n\n")
    assert (code, listed()) == (1, [kept, slip])
    assert "a slip of the tongue" in asked
    code, _, _ = run("delete", slip)  # nobody is there to be asked
    assert (code, listed()) == (1, [kept, slip])

    code, said, _ = run("delete", slip, answer="y\n")

    assert (code, said.splitlines()[-1]) == (0, f"{slip} is deleted")
    assert listed() == [kept]
    assert run("show", slip)[0] == 1


def test_it_does_not_ask_when_told_so_and_takes_the_beginning_of_an_id(
    recorded_ids: list[str],
) -> None:
    slip, kept = recorded_ids

    code, said, complaint = run("delete", slip[:20], "--yes", "--json")

    assert (code, json.loads(said), complaint) == (0, {"deleted": slip}, "")
    assert listed() == [kept]
    code, _, complaint = run("delete", slip, "--yes")
    assert code == 1
    assert f"no trace '{slip}'" in complaint
