"""How often Chroma persists follows the size of a collection."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import autotrace
from autotrace.store import persist_interval
from autotrace.store.persist_interval import records_between
from autotrace.store.schema import PERSIST_AFTER
from tests.embedders import HashEmbedder


def persisted_after(store: Path) -> dict[str, int]:
    """Ask Chroma itself, in a client of its own."""
    import chromadb

    client = chromadb.PersistentClient(str(store / "chroma"))
    try:
        return {
            collection.name: collection.configuration_json["hnsw"]["sync_threshold"]
            for collection in client.list_collections()
        }
    finally:
        client.close()


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_larger_collection_waits_for_more_and_never_for_many_of_its_own_size(
    one: int, other: int
) -> None:
    smaller, larger = sorted((one, other))

    assert PERSIST_AFTER <= records_between(smaller) <= records_between(larger)
    assert records_between(larger) <= max(PERSIST_AFTER, larger / 300)
    # The list of ids is written once for so many records at least.
    assert larger / records_between(larger) < 600


def test_a_store_that_grows_is_persisted_less_often_and_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persist_interval, "_LOOK_EVERY", 50)
    monkeypatch.setattr(persist_interval, "_RECORDS_PER_STEP", 0.1)  # 40 records are two steps
    store = tmp_path / "store"
    autotrace.configure(store, embedder=HashEmbedder(), storing="thread")

    recorded: list[str] = []
    for _ in range(4):
        for _ in range(30):
            with autotrace.task(f"task {len(recorded)}") as task:
                pass
            recorded.append(task.trace_id)
        assert autotrace.flush()
    listed = [trace.trace_id for trace in autotrace.list_traces(limit=1000)]
    found = [autotrace.recall(f"task {n}", limit=1)[0].trace_id for n in (0, 59, 119)]
    autotrace.shutdown()

    assert listed == recorded[::-1]
    assert found == [recorded[0], recorded[59], recorded[119]]
    after = persisted_after(store)
    assert after["autotrace-log"] > PERSIST_AFTER
    assert after["autotrace-summaries"] > PERSIST_AFTER
    assert after["autotrace-state"] == PERSIST_AFTER
