"""Deleting a trace, as every store must do it: through the public API, and in what is stored."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace import step, task, tool_call
from autotrace.doctor import diagnose
from autotrace.settings import load_settings
from autotrace.spool.span_roles import role_of
from autotrace.store import reset as repair
from autotrace.store import schema
from autotrace.store.trace_log import read_records
from autotrace.traces.deletion import erase_trace
from autotrace.traces.tool_calls import call_of
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import open_connection
from tests.embedders import HashEmbedder
from tests.recount import recount

SECRET = "xyzzy"
"""Is in everything that is recorded in a trace that is deleted, and in nothing else."""
LONG = f"{SECRET} " * 400
"""So long that it is stored compressed."""


@pytest.fixture
def settings(store_settings: dict[str, str]) -> Iterator[dict[str, Any]]:
    options: dict[str, Any] = store_settings | {
        "embedder": HashEmbedder(),
        "flush_interval_ms": 0,
        "agent": "porter",
    }
    autotrace.configure(**options)
    yield options
    autotrace.shutdown()


@contextlib.contextmanager
def opened(options: dict[str, Any]) -> Iterator[Any]:
    named = {key: value for key, value in options.items() if key != "embedder"}
    connection = open_connection(load_settings(**named), None)
    try:
        with connection.writing() as collections:
            yield collections
    finally:
        connection.close()


def stored_text(options: dict[str, Any]) -> str:
    """Return all that the records of a store say, in words."""
    found: list[Any] = []
    with opened(options) as collections:
        for of_client in collections.client.list_collections():
            collection = collections.client.get_or_create_collection(
                of_client.name, embedding_function=None
            )
            got = collection.get(include=["metadatas"])
            for metadata in got["metadatas"]:
                found.append(metadata)
                if schema.JSON_KEY in metadata or schema.COMPRESSED_KEY in metadata:
                    found.append(schema.document_of(metadata))
    return json.dumps(found)


def recounted(options: dict[str, Any]) -> list[autotrace.ToolStats]:
    with opened(options) as collections:
        records = [
            record
            for trace in repair.logged_traces(collections.log)
            for record in read_records(collections.log, trace)
        ]
    return recount(call_of(record) for record in records if role_of(record) == "tool")


def record(text: str = "carry a parcel", *, words: str = "plain", success: bool = True) -> str:
    """Record a trace that has a bit of everything, with words of its own in each."""
    with task(text, session_id=f"session {words}") as t:
        with step(f"thought {words}", action=words, observations=[words]):
            with tool_call("lift", {"what": words}) as call:
                call.set_result({"lifted": words})
            with contextlib.suppress(ValueError), tool_call("drop", {"what": words}):
                raise ValueError(words)
        with tool_call("whistle", {}):
            pass
        t.complete(f"outcome {words}", success=success)
    return t.trace_id


def seen() -> dict[str, Any]:
    """Return all that can be asked of a store."""
    listed = autotrace.list_traces(limit=1000)
    return {
        "listed": listed,
        "traces": [autotrace.get_trace(trace.trace_id) for trace in listed],
        "agent": autotrace.list_traces(agent="porter"),
        "completed": autotrace.list_traces(status="completed"),
        "recalled": autotrace.recall("carry a parcel", success_only=False, limit=50),
        "stats": autotrace.tool_stats(),
    }


def assert_gone(trace_id: str) -> None:
    with pytest.raises(autotrace.TraceNotFoundError):
        autotrace.get_trace(trace_id)
    answers = seen()
    for name in ("listed", "agent", "completed", "recalled"):
        assert trace_id not in [found.trace_id for found in answers[name]]
    with pytest.raises(autotrace.TraceNotFoundError):
        autotrace.list_traces(after=trace_id)


def test_what_is_deleted_is_as_if_it_had_never_been_recorded(settings: dict[str, Any]) -> None:
    for n in range(3):
        record(f"carry parcel {n}", success=n != 1)
    autotrace.flush()
    before = seen()
    ids = [record(f"carry {SECRET}", words=SECRET), record(words=LONG, success=False)]

    for trace_id in ids:
        autotrace.delete_trace(trace_id)

    for trace_id in ids:
        assert_gone(trace_id)
        with pytest.raises(autotrace.TraceNotFoundError):
            autotrace.delete_trace(trace_id)
    assert seen() == before
    assert autotrace.tool_stats() == recounted(settings)
    assert autotrace.recall(f"carry {SECRET}", limit=1)[0].similarity < 0.99
    autotrace.shutdown()
    assert SECRET not in stored_text(settings)
    autotrace.configure(**settings)
    assert seen() == before


@pytest.mark.parametrize("unknown", ["", "nonsense", "trace-" + "0" * 32 + "-" + "0" * 16])
def test_what_is_not_there_cannot_be_deleted(settings: dict[str, Any], unknown: str) -> None:
    record()

    with pytest.raises(autotrace.TraceNotFoundError):
        autotrace.delete_trace(unknown)

    assert len(autotrace.list_traces()) == 1


def test_traces_of_the_same_text_are_recalled_as_long_as_there_is_one(
    settings: dict[str, Any],
) -> None:
    ids = [record("water the plants") for _ in range(6)]
    other = record("feed the cat")
    autotrace.flush()

    def recalled() -> list[str]:
        return [r.trace_id for r in autotrace.recall("water the plants", limit=3)]

    # The first, which the vector names; the newest, which would be recalled before the others.
    for deleted in (ids[0], *ids[3:]):
        autotrace.delete_trace(deleted)
    assert recalled() == [ids[2], ids[1], other]
    autotrace.delete_trace(ids[1])
    autotrace.delete_trace(ids[2])
    assert recalled() == [other]
    again = record("water the plants")
    twice = record("water the plants")
    autotrace.flush()
    assert recalled() == [twice, again, other]


def test_tasks_above_and_below_stay_and_still_say_where_they_belong(
    settings: dict[str, Any],
) -> None:
    with task("outer") as outer:
        with tool_call("before", {}):
            pass
        with task(f"middle {SECRET}") as middle, step(SECRET):
            with task("inner") as inner, step("kept"), tool_call("below", {"n": 1}):
                pass
            with tool_call("gone", {"what": SECRET}):
                pass
    autotrace.flush()
    before = {i: autotrace.get_trace(i) for i in (outer.trace_id, inner.trace_id)}

    autotrace.delete_trace(middle.trace_id)

    assert {i: autotrace.get_trace(i) for i in before} == before
    assert before[inner.trace_id].parent_trace_id == middle.trace_id
    assert [s.tool_name for s in autotrace.tool_stats()] == ["before", "below"]
    assert SECRET not in stored_text(settings)


def test_an_active_trace_is_deleted_and_what_follows_in_it_is_not_kept(
    settings: dict[str, Any],
) -> None:
    with task(f"go on {SECRET}") as running:
        with tool_call("lift", {"what": SECRET}):
            pass
        with step(f"begun {SECRET}"):
            autotrace.flush()
            autotrace.delete_trace(running.trace_id)
            assert_gone(running.trace_id)
            with tool_call("lift", {"what": SECRET}):
                pass
        with task("a task of its own") as inner, tool_call("lift", {}):
            pass
        running.complete(SECRET, success=True)
    autotrace.flush()

    assert_gone(running.trace_id)
    assert autotrace.get_trace(inner.trace_id).parent_trace_id == running.trace_id
    assert [s.trace_id for s in autotrace.list_traces()] == [inner.trace_id]
    (lift,) = autotrace.tool_stats()
    assert lift.call_count == 1
    assert SECRET not in stored_text(settings)


def test_decisions_made_in_it_stay(settings: dict[str, Any]) -> None:
    with task("decide") as t, autotrace.decision("which way to go") as d:
        pass

    autotrace.delete_trace(t.trace_id)

    assert_gone(t.trace_id)
    assert autotrace.decisions.get(d.decision_id).intent == "which way to go"


def test_what_is_delivered_again_brings_nothing_back(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    spool = load_settings(**{k: v for k, v in settings.items() if k != "embedder"}).spool_path
    autotrace.shutdown()
    # A store that is refused takes nothing in, so that the spool can be copied whole.
    other = HashEmbedder()
    other.space = "another"
    with opened(settings | {"embedder": None}) as collections:
        schema.add(collections.state, {"store": {"schema_version": 2, "space": "test-hash"}})
    autotrace.configure(**settings | {"embedder": other})
    deleted, kept = record(words=SECRET), record()
    autotrace.shutdown()
    shutil.copytree(spool, tmp_path / "copy")
    autotrace.configure(**settings)
    assert autotrace.flush(timeout=500)
    autotrace.delete_trace(deleted)
    before = seen()
    assert [s.trace_id for s in before["listed"]] == [kept]
    autotrace.shutdown()

    for process in (tmp_path / "copy").iterdir():
        if process.is_dir():
            shutil.copytree(process, spool / f"again-{process.name}")
    autotrace.configure(**settings)
    assert autotrace.flush(timeout=500)

    assert seen() == before
    assert SECRET not in stored_text(settings)


class Stopped(Exception):
    """Stands for the death of the process that deletes."""


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Stop at the n-th moment before or after a write to Chroma; None: never again."""
    from chromadb.api.models.Collection import Collection

    left: list[int] = []

    def tick() -> None:
        if left:
            left[0] -= 1
            if left[0] < 0:
                left.clear()
                raise Stopped

    def stopping(real: Any) -> Any:
        def write(*args: Any, **kwargs: Any) -> Any:
            tick()
            done = real(*args, **kwargs)
            tick()
            return done

        return write

    for name in ("add", "upsert", "update", "delete"):
        monkeypatch.setattr(Collection, name, stopping(getattr(Collection, name)))

    def at(moment: int | None) -> None:
        left[:] = [] if moment is None else [moment]

    return at


STEPS = {"again": 7, "recorded": 11, "rebuilt": 17}
"""Not every moment, as each takes a while: in memory all are tried (test_erase_property.py)."""


@pytest.mark.parametrize("then", STEPS)
def test_stopped_at_any_write_it_is_done_again(
    settings: dict[str, Any], stop_at: Callable[[int | None], None], then: str
) -> None:
    named = {key: value for key, value in settings.items() if key != "embedder"}
    first = record()
    autotrace.flush()
    before = seen()
    connection = open_connection(load_settings(**named), "test-hash")
    moment, finished = 0, False
    while not finished:
        trace_id = record(words=SECRET)
        assert autotrace.flush(timeout=500)
        stop_at(moment)
        try:
            erase_trace(connection, HashEmbedder(), trace_id)
            finished = True
        except (Stopped, autotrace.StoreUnavailableError):
            pass
        stop_at(None)
        if then == "rebuilt":
            autotrace.shutdown()
            rebuild(
                open_connection(load_settings(**named), None),
                HashEmbedder(),
                load_settings(**named).spool_path,
            )
            autotrace.configure(**settings)
        if then == "recorded" and trace_id not in [s.trace_id for s in autotrace.list_traces()]:
            with autotrace.attach(carrier_of(trace_id)), tool_call("lift", {"what": SECRET}):
                pass
            assert autotrace.flush(timeout=500)
        with contextlib.suppress(autotrace.TraceNotFoundError):
            autotrace.delete_trace(trace_id)

        assert_gone(trace_id)
        assert seen() == before
        moment += STEPS[then]
    connection.close()
    assert moment > 10
    assert autotrace.tool_stats() == recounted(settings)
    assert SECRET not in stored_text(settings)
    checks = diagnose(load_settings(**named), HashEmbedder())
    assert [c for c in checks if c.status == "error"] == []
    autotrace.delete_trace(first)
    assert seen()["stats"] == []


def carrier_of(trace_id: str) -> dict[str, str]:
    """Return what another process gets to go on in a trace."""
    _, trace, span = trace_id.split("-")
    return {"traceparent": f"00-{trace}-{span}-01"}


def test_of_two_that_delete_the_same_trace_both_find_it_gone(settings: dict[str, Any]) -> None:
    named = {key: value for key, value in settings.items() if key != "embedder"}
    record()
    autotrace.flush()
    before = seen()
    connections = [open_connection(load_settings(**named), "test-hash") for _ in range(2)]
    for _ in range(3):
        with (
            task(f"outer {SECRET}") as outer,
            tool_call("lift", {"what": SECRET}),
            task(f"inner {SECRET}") as inner,
            tool_call("lift", {"what": SECRET}),
        ):
            pass
        assert autotrace.flush(timeout=500)
        start = threading.Barrier(2)
        failures: list[BaseException] = []

        def delete(
            connection: Any,
            ids: list[str],
            start: threading.Barrier = start,
            failures: list[BaseException] = failures,
        ) -> None:
            start.wait()
            for trace_id in ids:
                try:
                    erase_trace(connection, HashEmbedder(), trace_id)
                except autotrace.TraceNotFoundError:
                    pass
                except BaseException as error:
                    failures.append(error)

        ids = [outer.trace_id, inner.trace_id]
        threads = [
            threading.Thread(target=delete, args=(connection, order))
            for connection, order in zip(connections, (ids, ids[::-1]), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        after = seen()
        if not connections[0].exclusive:
            # Of two that delete the last uses of a tool at once, neither knows of the other.
            for answers in (before, after):
                answers["stats"] = [
                    s.model_copy(update={"last_used_at": None}) for s in answers["stats"]
                ]
        assert after == before
        assert SECRET not in stored_text(settings)
    for connection in connections:
        connection.close()


def test_it_is_deleted_while_another_process_stores(store_settings: dict[str, str]) -> None:
    options: dict[str, Any] = store_settings | {"embedder": "tests.embedders:HashEmbedder"}
    autotrace.configure(**options, flush_interval_ms=0)
    assert autotrace.flush(timeout=500)
    kept: list[str] = []
    for n in range(6):
        gone = record(f"gone {n % 2}", words=SECRET)
        kept.append(record(f"kept {n % 2}"))
        autotrace.delete_trace(gone)
    assert autotrace.flush(timeout=500)

    assert [found.trace_id for found in autotrace.list_traces()] == kept[::-1]
    assert len(autotrace.recall("kept 0", limit=50)) == len(kept)
    calls = autotrace.tool_stats()
    autotrace.shutdown()
    assert calls == recounted(store_settings)
    assert SECRET not in stored_text(store_settings)
