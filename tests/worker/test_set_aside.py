"""Records that the store refuses for what they hold: said, kept, and tried again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import autotrace
from autotrace import task, tool
from autotrace.cli.commands import app
from tests.embedders import HashEmbedder


class Short(HashEmbedder):
    """Gives poisoned texts vectors that Chroma refuses; of the same space as the right one."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        rows = super().embed(texts)
        return [r[:3] if "poison" in t else r for t, r in zip(texts, rows, strict=True)]


@tool
def work(number: int) -> int:
    return number + 1


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("autotrace.worker.loop.FIRST_BACKOFF_S", 0.001)
    yield
    autotrace.shutdown(timeout=5)


def record(store: Path, *texts: str) -> list[str]:
    """Record tasks with the broken embedder; return their ids."""
    ids: list[str] = []
    autotrace.configure(store, embedder=Short())
    for number, text in enumerate(texts):
        with task(text) as t:
            work(number)
        ids.append(t.trace_id)
    return ids


def rebuild(store: Path) -> dict[str, int]:
    arguments = ("--store", str(store), "--embedder", "tests.embedders:HashEmbedder")
    result = CliRunner().invoke(app, ["rebuild", "--json", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_flush_during_which_the_store_refused_something_says_so_with_the_fix(
    tmp_path: Path,
) -> None:
    record(tmp_path, "clean tea")
    assert autotrace.flush() is True
    record(tmp_path, "poison in the cup")
    assert autotrace.flush() is False
    health = autotrace.health()
    assert health.set_aside_records == 1
    assert health.counters["unstored_records"] >= 1  # the counters are the process's
    (problem,) = health.problems
    assert "1 record, which is" in problem
    assert f"autotrace rebuild --store {tmp_path}" in problem
    assert f"autotrace rebuild --store {tmp_path}" in str(health.last_error)

    record(tmp_path, "clean water")
    assert autotrace.flush() is True
    assert autotrace.recall("water")[0].task == "clean water"


def test_a_rebuild_stores_what_was_refused_once_the_cause_is_gone(tmp_path: Path) -> None:
    ids = record(tmp_path, "poison in the cup", "clean water")
    assert autotrace.flush() is False
    autotrace.shutdown()

    done = rebuild(tmp_path)
    assert (done["retried"], done["set_aside"]) == (1, 0)

    autotrace.configure(tmp_path, embedder=HashEmbedder())
    assert autotrace.health().problems == []
    for trace_id, text in zip(ids, ("poison in the cup", "clean water"), strict=True):
        assert autotrace.get_trace(trace_id).status == "completed"
        assert autotrace.recall(text, limit=1)[0].trace_id == trace_id
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 2


def test_what_is_refused_again_is_kept_and_does_not_keep_the_rest(tmp_path: Path) -> None:
    (trace_id,) = record(tmp_path, "clean water")
    autotrace.flush()
    segment = next((tmp_path / "spool").rglob("*.log"))
    good = [line[9:] for line in segment.read_bytes().rstrip(b"\0").splitlines(keepends=True)[1:]]
    autotrace.shutdown()
    unstored = tmp_path / "elsewhere" / "spool" / "bad" / "unstored.log"
    unstored.parent.mkdir(parents=True)
    without_a_start = (
        b'{"trace":"' + b"1" * 32 + b'","id":"x","attributes":{"autotrace.kind":"task"}}\n'
    )
    unstored.write_bytes(without_a_start + b'{"cut short\n' + b"".join(good))
    store = tmp_path / "elsewhere"
    autotrace.configure(store, embedder=HashEmbedder())
    with task("so that there is a store"):
        pass
    autotrace.flush()
    autotrace.shutdown()

    done = rebuild(store)

    assert (done["retried"], done["set_aside"]) == (len(good), 2)
    assert unstored.read_bytes().count(b"\n") == 2
    autotrace.configure(store, embedder=HashEmbedder())
    assert autotrace.health().set_aside_records == 2
    assert autotrace.get_trace(trace_id).status == "completed"
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 1
