"""`autotrace.rebuild()`: the configured store, rebuilt by the program itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import autotrace
from autotrace import decision, task, tool
from tests.embedders import HashEmbedder

LONG_S = 240
"""A bound for a machine that does other work, too."""


class Refusing(HashEmbedder):
    """Gives poisoned texts vectors that Chroma refuses; of the same space as the right one."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        rows = super().embed(texts)
        return [r[:3] if "poison" in t else r for t, r in zip(texts, rows, strict=True)]


@tool
def pour(cups: int) -> int:
    return cups


@pytest.fixture(autouse=True)
def _shut_down() -> Iterator[None]:
    yield
    autotrace.shutdown(timeout=5)


def record(text: str) -> str:
    with task(text) as t:
        pour(1)
    return t.trace_id


def test_rebuild_without_configure_names_the_fix() -> None:
    with pytest.raises(autotrace.NotConfiguredError, match=r"rebuild\(\).*autotrace\.configure"):
        autotrace.rebuild()


@pytest.mark.parametrize("storing", ["process", "thread"])
def test_rebuild_changes_the_embedder_of_a_store_in_use(tmp_path: Path, storing: str) -> None:
    autotrace.configure(tmp_path, embedder="tests.embedders:SmallEmbedder", storing=storing)
    first = record("pour green tea")
    with decision("tea.pour", actor="host"):
        pass
    assert autotrace.flush(LONG_S)
    autotrace.configure(tmp_path, embedder="tests.embedders:HashEmbedder", storing=storing)
    second = record("pour black tea")
    with pytest.raises(autotrace.EmbeddingSpaceError):
        autotrace.recall("pour green tea")
    progress: list[tuple[int, int]] = []

    done = autotrace.rebuild(lambda finished, total: progress.append((finished, total)))

    assert (done.store, done.space) == (str(tmp_path), HashEmbedder.space)
    # The second task waits in the spool while the store refuses the new embedder.
    assert (done.traces, done.tool_calls, done.decisions) == (1, 1, 1)
    assert (done.retried, done.set_aside, done.set_aside_reason) == (0, 0, None)
    assert progress[-1][0] == progress[-1][1] > 0
    assert autotrace.flush(LONG_S)
    assert autotrace.recall("pour green tea", limit=1)[0].trace_id == first
    assert autotrace.recall("pour black tea", limit=1)[0].trace_id == second
    assert autotrace.tool_stats()[0].call_count == 2
    assert record("pour white tea")
    assert autotrace.flush(LONG_S)
    assert autotrace.recall("pour white tea", limit=1)[0].task == "pour white tea"


def test_rebuild_retries_records_that_the_store_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotrace.worker.loop.FIRST_BACKOFF_S", 0.001)
    autotrace.configure(tmp_path, embedder=Refusing())
    trace_id = record("poison in the cup")
    record("clean water")
    assert not autotrace.flush(LONG_S)

    autotrace.configure(tmp_path, embedder=HashEmbedder())
    done = autotrace.rebuild()

    assert (done.retried, done.set_aside, done.set_aside_reason) == (1, 0, None)
    assert autotrace.recall("poison in the cup", limit=1)[0].trace_id == trace_id
    assert autotrace.health().problems == []
