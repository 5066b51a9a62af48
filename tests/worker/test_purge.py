"""After a purge no byte of what was erased is in any file of the store's folder."""

from __future__ import annotations

import base64
import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import orjson
import pytest
from chromadb.config import Settings as ChromaSettings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import autotrace
from autotrace import decision, step, task, tool_call
from autotrace.base.health_counters import HealthCounters
from autotrace.doctor import diagnose
from autotrace.errors import StoreUnavailableError
from autotrace.settings import load_settings
from autotrace.spool.cursor import CURSOR_FILE
from autotrace.store import file_purge
from autotrace.store.connection import PurgeLimits
from autotrace.worker.purge import IDLE_LIMITS, Purger
from autotrace.worker.wiring import open_connection
from tests.embedders import HashEmbedder

_WINDOW = 12
"""Numbers by which a vector is recognised."""
_NEAR = 1e-5
LONG = 3_000
"""Characters of a text that is stored compressed."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    configure(tmp_path / "store")
    yield tmp_path / "store"
    autotrace.shutdown()


def configure(store: Path, **more: Any) -> None:
    options: dict[str, Any] = {"embedder": HashEmbedder(), "storing": "thread"} | more
    autotrace.configure(store=str(store), agent="bot", flush_interval_ms=0, **options)


def texts_in(store: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of every file, and what is compressed in them, as far as it can be read."""
    for path in sorted(store.rglob("*")):
        if not path.is_file():
            continue
        data, name = path.read_bytes(), str(path.relative_to(store))
        yield name, data
        for found in re.finditer(rb"eA[EFGH][A-Za-z0-9+/]{20,}={0,2}", data):
            packed = found[0][: len(found[0]) // 4 * 4]
            with contextlib.suppress(zlib.error, ValueError):  # a part of a text that looks like it
                yield (
                    f"{name} (compressed)",
                    zlib.decompressobj().decompress(base64.b64decode(packed)),
                )


def holding(store: Path, *what: bytes, vectors: Sequence[str] = ()) -> set[str]:
    """Return the files that hold any of these bytes, or the vector of any of these texts."""
    rows = [np.asarray(row, dtype=np.float32) for row in HashEmbedder().embed(list(vectors))]
    return {
        name
        for name, data in texts_in(store)
        if any(w in data for w in what) or any(holds_vector(data, row) for row in rows)
    }


def holds_vector(data: bytes, row: Any) -> bool:
    """Tell whether a vector is somewhere in a file; an index has scaled it to length 1 again."""
    start = row[:_WINDOW] / np.linalg.norm(row)
    for shift in range(4):
        floats = np.frombuffer(data[shift : shift + max(0, len(data) - shift) // 4 * 4], "<f4")
        with np.errstate(all="ignore"):
            places = np.flatnonzero(np.abs(floats - start[0]) < _NEAR)
            for place in places:
                window = floats[place : place + _WINDOW]
                if len(window) == _WINDOW and np.all(np.abs(window - start) < _NEAR):
                    return True
    return False


def purge_by_doctor(store: Path) -> str:
    """Run the doctor; return what it says of the purge."""
    checks = list(diagnose(load_settings(store=str(store)), HashEmbedder()))
    assert {check.status for check in checks} == {"ok"}, checks
    (detail,) = [check.detail for check in checks if check.name == "erased content"]
    return detail


def purger_of(store: Path) -> Purger:
    named = load_settings(store=str(store))
    return Purger(named, open_connection(named, None), HealthCounters().add)


def record(words: str) -> str:
    with task(f"{words} task", session_id=f"{words} session") as t:
        with step(f"{words} thought", action=f"{words} action", observations=[f"{words} seen"]):
            with tool_call("lift", {"what": f"{words} argument"}) as call:
                call.set_result(f"{words} result " + "x" * LONG)
            with contextlib.suppress(ValueError), tool_call("drop", {"what": 1}):
                raise ValueError(f"{words} error")
        t.complete(f"{words} outcome")
    return t.trace_id


def decide(words: str) -> str:
    with decision("pay.bill", automation_mode="approve", actor="bot", metadata={"m": words}) as d:
        d.add_context({"x": f"{words} {'y' * LONG}"}, summary=f"{words} summary")
        d.request_approval(title=f"{words} title", message=f"{words} message")
        autotrace.decisions.approve(d.decision_id, approver="ada", rationale=f"{words} why")
        d.wait(timeout=5)
    return d.decision_id


def seen() -> dict[str, Any]:
    listed = autotrace.list_traces(limit=1000)
    decisions = autotrace.decisions.list(limit=100)
    return {
        "traces": [autotrace.get_trace(trace.trace_id) for trace in listed],
        "recalled": autotrace.recall("kept 3 task", success_only=False, limit=50),
        "stats": autotrace.tool_stats(),
        "decisions": decisions,
        "verified": [autotrace.decisions.verify(d.decision_id) for d in decisions],
        "found": autotrace.decisions.search("kept title"),
    }


def test_nothing_of_what_was_erased_is_in_any_file_and_the_rest_is_as_it_was(store: Path) -> None:
    for n in range(5):
        record(f"kept {n}")
    decide("kept")
    autotrace.flush()
    trace_id, decision_id = record("xyzzy"), decide("plugh")
    autotrace.flush()
    secrets = (b"xyzzy", b"plugh")
    vectors = ["xyzzy task"]
    assert len(holding(store, *secrets, vectors=vectors)) >= 4

    autotrace.delete_trace(trace_id)
    autotrace.decisions.erase(decision_id, by="dpo", reason="asked for")
    autotrace.flush()
    before = seen()
    assert holding(store, *secrets, vectors=vectors)  # free pages, queues, the index and the spool
    said = purge_by_doctor(store)

    assert said.startswith("purged from the files")
    assert holding(store, *secrets, vectors=vectors) == set()
    assert seen() == before
    assert purge_by_doctor(store) == "nothing waits to be purged from the files"
    later = record("later")
    autotrace.flush()
    assert autotrace.get_trace(later).task == "later task"
    assert autotrace.recall("later task", limit=1)[0].trace_id == later
    assert autotrace.recall("kept 3 task", limit=1)[0].task == "kept 3 task"


def test_the_vector_of_an_erased_decision_is_gone(store: Path) -> None:
    with decision("pay.bill", automation_mode="approve", actor="bot") as d:
        d.request_approval(title="plugh", message="xyzzy")
        d.abort("no")
    autotrace.flush()
    text = "pay bill\nplugh\nxyzzy"
    assert holding(store, vectors=[text])

    autotrace.decisions.erase(d.decision_id, by="dpo")
    autotrace.flush()
    purge_by_doctor(store)

    assert holding(store, b"plugh", vectors=[text]) == set()
    (found,) = autotrace.decisions.search("pay", limit=1)
    assert found.decision_id == d.decision_id


def test_what_a_task_records_after_its_deletion_is_purged_too(store: Path) -> None:
    with task("xyzzy task") as t:
        autotrace.flush()
        autotrace.delete_trace(t.trace_id)
        purge_by_doctor(store)
        assert holding(store, b"xyzzy") == set()
        with tool_call("lift", {"what": "xyzzy again"}):
            pass
        t.complete("xyzzy outcome")
    record("kept")
    autotrace.flush()
    assert holding(store, b"xyzzy")

    purge_by_doctor(store)

    assert holding(store, b"xyzzy") == set()
    assert [trace.task for trace in autotrace.list_traces()] == ["kept task"]


def test_a_purged_spool_is_read_again_without_harm(store: Path) -> None:
    gone, kept = record("xyzzy"), record("kept")
    autotrace.flush()
    autotrace.delete_trace(gone)
    purge_by_doctor(store)
    record("later")
    autotrace.flush()
    before = seen()
    # Counters are the process's: other tests may have damaged records of their own.
    damaged = autotrace.health().counters.get("damaged_records", 0)

    autotrace.shutdown()
    (store / "spool" / CURSOR_FILE).unlink()
    configure(store)
    autotrace.flush()

    assert seen() == before
    assert kept in [trace.trace_id for trace in autotrace.list_traces()]
    assert autotrace.health().counters.get("damaged_records", 0) == damaged


def test_what_was_set_aside_of_a_deleted_trace_goes_and_the_rest_stays(store: Path) -> None:
    gone, kept = record("xyzzy"), record("kept")
    autotrace.flush()
    bad = store / "spool" / "bad"
    bad.mkdir()
    lines: dict[str, bytes] = {}
    for trace_id, words in ((gone, "xyzzy"), (kept, "kept")):
        _, trace, span = trace_id.split("-")
        late = {"trace": trace, "id": "ab" * 8, "parent": span, "start_ns": 1, "end_ns": 2}
        lines[words] = orjson.dumps(late | {"name": words, "attributes": {"a": words}}) + b"\n"
    (bad / "unstored.log").write_bytes(b"".join(lines.values()))
    (bad / "damaged.log").write_bytes(b"00000000 xyzzy of whom\n")

    autotrace.delete_trace(gone)
    purge_by_doctor_in_spite_of_what_is_set_aside(store)

    assert holding(store, b"xyzzy") == set()
    assert (bad / "unstored.log").read_bytes() == lines["kept"]
    assert not (bad / "damaged.log").exists()


def purge_by_doctor_in_spite_of_what_is_set_aside(store: Path) -> None:
    checks = {check.name: check for check in diagnose(load_settings(store=str(store)))}
    assert checks["erased content"].status == "ok"


STAGES = [
    ("_copy", True, 1),
    ("_drop_leftovers", False, 2),  # copies have taken their places
    ("_clean_queue", True, 1),
    ("clean", True, 1),
    ("set_marks", False, 2),  # the traces are purged, the decisions not yet
]
"""Where a purge is killed: function, whether after it, and at which call of it."""


def _die(name: str, after: bool, nth: int) -> None:
    inner: Any = getattr(file_purge, name)
    left = nth

    def dying(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = inner(*args)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(file_purge, name, dying)


def _purge_and_die(store: str, name: str, after: bool, nth: int) -> None:
    _die(name, after, nth)
    purger_of(Path(store)).purge()


@pytest.mark.parametrize(("name", "after", "nth"), STAGES)
def test_a_purge_that_is_killed_loses_nothing_and_is_done_again(
    tmp_path: Path, name: str, after: bool, nth: int
) -> None:
    store = tmp_path / "store"
    configure(store)
    try:
        record("kept 1")
        gone, decision_id = record("xyzzy"), decide("plugh")
        autotrace.flush()
        autotrace.delete_trace(gone)
        autotrace.decisions.erase(decision_id, by="dpo")
        autotrace.flush()
        before = seen()
        autotrace.shutdown()

        spawned = multiprocessing.get_context("spawn").Process(
            target=_purge_and_die, args=(str(store), name, after, nth)
        )
        spawned.start()
        spawned.join(500)
        assert spawned.exitcode == -signal.SIGKILL

        configure(store)
        assert seen() == before
        purge_by_doctor(store)
        assert holding(store, b"xyzzy", b"plugh", vectors=["xyzzy task"]) == set()
        assert seen() == before
    finally:
        autotrace.shutdown()


operations = st.lists(
    st.tuples(st.sampled_from(["add", "upsert", "delete", "update"]), st.integers(0, 5)),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(operations, min_size=1, max_size=3), persist_after=st.sampled_from([3, 50]))
def test_a_cleaned_queue_gives_the_same_index(
    tmp_path_factory: pytest.TempPathFactory, batches: Any, persist_after: int
) -> None:
    folder = tmp_path_factory.mktemp("chroma")
    clock = iter(range(1, 1000))
    batches[0].insert(0, ("add", 9))  # what precedes it is never applied
    for batch in batches:
        with _collection(folder, persist_after) as collection:
            for operation, number in batch:
                value = float(next(clock))
                vector, metadata = [[value, 1.0, number]], [{"json": f"value {value} of it"}]
                if operation == "delete":
                    collection.delete([str(number)])
                elif operation == "update":
                    collection.update([str(number)], metadatas=metadata)
                else:
                    getattr(collection, operation)(
                        [str(number)], embeddings=vector, metadatas=metadata
                    )
            held = _all_of(collection)
        file_purge.clean(folder)
        data = b"".join(p.read_bytes() for p in folder.rglob("*.sqlite3"))
        told = {m["json"].encode() for m in held["metadatas"]}
        written = {b"value %d.0 of it" % n for n in range(1000)}
        assert not {w for w in written - told if w in data}
        with _collection(folder, persist_after) as collection:
            assert _all_of(collection) == held


@contextlib.contextmanager
def _collection(folder: Path, persist_after: int) -> Generator[Any]:
    client: Any = chromadb.PersistentClient(
        str(folder), settings=ChromaSettings(anonymized_telemetry=False)
    )
    try:
        yield client.get_or_create_collection(
            "some",
            configuration={"hnsw": {"batch_size": 2, "sync_threshold": persist_after}},
            embedding_function=None,
        )
    finally:
        client.close()


def _all_of(collection: Any) -> dict[str, Any]:
    got = collection.get(include=["embeddings", "metadatas"])
    order = np.argsort(got["ids"])
    near = {
        got["ids"][n]: collection.query(query_embeddings=[got["embeddings"][n]], n_results=1)["ids"]
        for n in order
    }
    return {
        "ids": [got["ids"][n] for n in order],
        "embeddings": [list(got["embeddings"][n]) for n in order],
        "metadatas": [got["metadatas"][n] for n in order],
        "near": near,
    }


def test_a_large_store_is_left_for_the_doctor(store: Path) -> None:
    gone, first = record("xyzzy"), record("first")
    record("kept")
    autotrace.flush()
    autotrace.delete_trace(first)
    purge_by_doctor(store)  # from now on the index is in files
    autotrace.delete_trace(gone)
    purger = purger_of(store)

    assert not purger.purge(PurgeLimits(vectors=0, bytes=1))
    assert holding(store, b"xyzzy")
    assert not purger.purge(PurgeLimits(vectors=0, bytes=IDLE_LIMITS.bytes))
    assert purger.due()
    assert not holding(store, b"xyzzy")
    assert holding(store, vectors=["xyzzy task"])
    assert purger.purge()
    assert not holding(store, vectors=["xyzzy task"])


def test_a_purge_without_room_changes_nothing_and_says_what_it_takes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = record("xyzzy"), record("kept")
    autotrace.flush()
    autotrace.delete_trace(gone)

    class Full:
        free = 10

    def disk_usage(_path: Path) -> type[Full]:
        return Full

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    purger = purger_of(store)

    with pytest.raises(StoreUnavailableError, match="free bytes, and the disk has 10: make room"):
        purger.purge()

    assert purger.due()
    assert autotrace.get_trace(kept).task == "kept task"


def test_the_storekeeper_purges_when_it_is_idle(tmp_path: Path) -> None:
    store = tmp_path / "store"
    configure(store, storing="process", embedder="tests.embedders:HashEmbedder")
    try:
        gone = record("xyzzy")
        record("kept")
        autotrace.flush()
        autotrace.delete_trace(gone)
        assert (store / file_purge.MARK_FILE).is_file()
        for _ in range(600):
            if not (store / file_purge.MARK_FILE).exists():
                break
            multiprocessing.Event().wait(0.05)
        assert holding(store, b"xyzzy", vectors=["xyzzy task"]) == set()
        assert [trace.task for trace in autotrace.list_traces()] == ["kept task"]
        record("later")
        autotrace.flush()
        assert len(autotrace.list_traces()) == 2
    finally:
        autotrace.shutdown()
