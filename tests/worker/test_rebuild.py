"""A rebuild makes everything anew from the log, however the rest was damaged."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import autotrace
from autotrace import step, task, tool_call
from autotrace.base.health_counters import HealthCounters
from autotrace.errors import (
    EmbeddingSpaceError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from autotrace.settings import Settings, load_settings
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of
from autotrace.spool.writer import SpoolWriter
from autotrace.store import reset as repair
from autotrace.store import schema, timeline, tool_stats
from autotrace.store import task_index as texts
from autotrace.store import trace_summaries as summaries
from autotrace.store.connection import connect
from autotrace.store.trace_log import read_records
from autotrace.traces.ingest import Ingestor
from autotrace.traces.tool_calls import call_of
from autotrace.worker import rebuild as rebuilding
from autotrace.worker.rebuild import Rebuilt
from autotrace.worker.spool_reader import Drainer
from autotrace.worker.wiring import open_connection
from tests.embedders import HashEmbedder
from tests.recount import recount

REPOSITORY = Path(__file__).parents[2]


class ShortEmbedder(HashEmbedder):
    """Another space, of another dimension."""

    space = "test-short"
    dimensions = 16


@contextlib.contextmanager
def configured(options: dict[str, Any], embedder: Any = None) -> Iterator[None]:
    autotrace.configure(**options, embedder=embedder or HashEmbedder(), flush_interval_ms=0)
    try:
        yield
        assert autotrace.flush()
    finally:
        autotrace.shutdown()


def record(count: int = 12) -> None:
    """Record tasks that succeed and fail, nest, and use tools; and tools outside any task."""
    for n in range(count):
        success = n % 3 != 0
        with task(f"carry parcel {n}", session_id=f"s{n % 2}", agent="porter") as t:
            with step(f"thought {n}", action="lift"), tool_call("lift", {"n": n}):
                pass
            with contextlib.suppress(ValueError), tool_call("drop", {"n": n}):
                raise ValueError(n)
            if n == 5:
                with task("a task inside another"):
                    pass
            t.complete(f"outcome {n}", success=success)
        with tool_call("whistle", {}):
            pass


def everything() -> dict[str, Any]:
    """Return all that can be asked of a store."""
    traces = autotrace.list_traces(limit=1000)
    return {
        "listed": traces,
        "traces": [autotrace.get_trace(trace.trace_id) for trace in traces],
        "agent": autotrace.list_traces(agent="porter"),
        "recalled": autotrace.recall("carry parcel 7", success_only=False, limit=50),
        "stats": autotrace.tool_stats(),
    }


def rebuild(options: dict[str, Any], embedder: Any = None, **more: Any) -> Rebuilt:
    settings = load_settings(**options)
    connection = open_connection(settings, None)
    return rebuilding.rebuild(connection, embedder or HashEmbedder(), settings.spool_path, **more)


def recounted(options: dict[str, Any]) -> list[autotrace.ToolStats]:
    """Return the statistics of every tool call in the log."""
    connection = open_connection(load_settings(**options), None)
    with connection.reading() as collections:
        records = [
            record
            for trace in repair.logged_traces(collections.log)
            for record in read_records(collections.log, trace)
        ]
    connection.close()
    return recount(call_of(record) for record in records if role_of(record) == "tool")


def damage(options: dict[str, Any], what: str) -> None:
    connection = open_connection(load_settings(**options), None)
    with connection.writing() as collections:
        if what == "state":
            collections.client.delete_collection("autotrace-state")
        elif what == "timeline":
            ids = collections.lists.get(include=[])["ids"]
            collections.lists.delete([i for i in ids if i.startswith("t")])
        elif what == "statistics":
            collections.state.delete([i for i in collections.state.get()["ids"] if i != "store"])
            ghost = tool_stats.ToolCounters("ghost")
            ghost.count(call_of(tool_span(1)))
            tool_stats.write_counters(collections.state, "nobody", [ghost])
        else:
            for name in ("summaries", "lists", "succeeded", "failed"):
                collections.client.delete_collection(f"autotrace-{name}")
    connection.close()


@pytest.mark.parametrize("what", ["index", "state", "timeline", "statistics", "nothing"])
def test_whatever_is_damaged_but_the_log_is_as_before(
    store_settings: dict[str, Any], what: str
) -> None:
    with configured(store_settings):
        record()
        autotrace.flush()
        before = everything()
    assert before["stats"] == recounted(store_settings)
    if what != "nothing":
        damage(store_settings, what)

    rebuilt = rebuild(store_settings)

    assert rebuilt == Rebuilt(traces=13, tool_calls=36, space="test-hash", refused_texts=0)
    with configured(store_settings):
        assert everything() == before


def test_another_embedder_is_refused_until_the_store_is_rebuilt_for_it(
    store_settings: dict[str, Any],
) -> None:
    with configured(store_settings):
        record()
        autotrace.flush()
        before = everything()
    autotrace.configure(**store_settings, embedder=ShortEmbedder())
    with pytest.raises(EmbeddingSpaceError) as refused:
        autotrace.tool_stats()
    autotrace.shutdown()

    rebuild(store_settings, ShortEmbedder())

    assert "'test-hash'" in str(refused.value)
    assert "'test-short'" in str(refused.value)
    assert "autotrace rebuild --store" in str(refused.value)
    with configured(store_settings, ShortEmbedder()):
        after = everything()
        with task("carry parcel 7 again"):
            pass
        autotrace.flush()
        assert autotrace.recall("carry parcel 7 again", limit=1)[0].similarity == 1.0
    assert {k: v for k, v in after.items() if k != "recalled"} == {
        k: v for k, v in before.items() if k != "recalled"
    }
    assert after["recalled"][0].task == "carry parcel 7"
    assert len(after["recalled"]) == len(before["recalled"])


def test_what_is_recorded_after_a_rebuild_adds_to_it(store_settings: dict[str, Any]) -> None:
    with configured(store_settings):
        record(4)
    rebuild(store_settings)

    with configured(store_settings):
        record(4)
        autotrace.flush()

        assert len(autotrace.list_traces()) == 8
        assert autotrace.tool_stats() == recounted(store_settings)
        assert {s.tool_name: s.call_count for s in autotrace.tool_stats()} == {
            "drop": 8, "lift": 8, "whistle": 8,
        }  # fmt: skip


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(
    store_settings: dict[str, Any],
) -> None:
    with configured(store_settings):
        record(1)
    settings = load_settings(**store_settings)
    connection = open_connection(settings, None)
    newer = {"schema_version": schema.SCHEMA_VERSION + 1, "space": "test-hash"}
    with connection.writing() as collections:
        schema.upsert(collections.state, {schema.STORE_RECORD_ID: newer})
    connection.close()

    with pytest.raises(StoreVersionError, match="pip install -U autotrace-agents"):
        rebuild(store_settings)
    autotrace.configure(**store_settings, embedder=HashEmbedder())
    with pytest.raises(StoreVersionError):
        autotrace.list_traces()
    autotrace.shutdown()

    with connection_past_the_check(settings) as collections:
        known = schema.documents(collections.state, [schema.STORE_RECORD_ID])
        assert known[schema.STORE_RECORD_ID] == newer
        assert collections.failed.count() == 1


@contextlib.contextmanager
def connection_past_the_check(settings: Settings) -> Iterator[schema.Collections]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        connection = open_connection(settings, None)
        with connection.reading() as collections:
            yield collections
        connection.close()


class Interrupted(BaseException):
    """As Ctrl-C is: nothing catches it on the way."""


FAULTS: list[tuple[Any, str]] = [
    (repair, "open_collections"),  # collections deleted, not made again
    (repair, "logged_traces"),
    (timeline, "add_timeline_entry"),
    (summaries, "put_summary"),
    (texts, "add_task"),
    (repair, "replace_stats"),
    (repair, "write_counters"),  # the old ones deleted
    (repair, "finish_reset"),
]


@pytest.mark.parametrize(("module", "name"), FAULTS, ids=[name for _, name in FAULTS])
def test_an_interrupted_rebuild_is_said_and_completed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    options = {"store": str(tmp_path / "store")}
    with configured(options):
        record()
        autotrace.flush()
        before = everything()
    damage(options, "index")

    with monkeypatch.context() as patch:
        patch.setattr(module, name, crash)
        with pytest.raises(Interrupted):
            rebuild(options)

    autotrace.configure(**options, embedder=HashEmbedder())
    for ask in (autotrace.list_traces, autotrace.tool_stats, lambda: autotrace.recall("x")):
        with pytest.raises(StoreError, match=r"run `autotrace rebuild --store .*store` again"):
            ask()
    autotrace.shutdown()
    rebuild(options)
    with configured(options):
        assert everything() == before


def test_a_rebuild_that_was_killed_is_completed_by_another(tmp_path: Path) -> None:
    options = {"store": str(tmp_path / "store")}
    with configured(options):
        record(80)
        autotrace.flush()
        before = everything()
    program = (
        "import os, sys\n"
        "from autotrace.worker.rebuild import rebuild\n"
        "from autotrace.settings import load_settings\n"
        "from autotrace.store.connection import connect\n"
        "from tests.embedders import HashEmbedder\n"
        "settings = load_settings(store=sys.argv[1])\n"
        "def die(done, total):\n"
        "    if done: os._exit(9)\n"
        "rebuild(connect(sys.argv[1], space=None), HashEmbedder(), settings.spool_path,\n"
        "        progress=die)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, options["store"]], cwd=REPOSITORY)

    assert killed.returncode == 9
    autotrace.configure(**options, embedder=HashEmbedder())
    with pytest.raises(StoreError, match="rebuild was interrupted"):
        autotrace.list_traces()
    autotrace.shutdown()
    rebuild(options)
    with configured(options):
        assert everything() == before


def tool_span(number: int) -> SpanRecord:
    return {
        "trace": f"{number:032x}",
        "id": f"{number:016x}",
        "parent": None,
        "name": "execute_tool hammer",
        "start_ns": 1_700_000_000_000_000_000,
        "end_ns": 1_700_000_000_005_000_000 + number * 1_000_000,
        "attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "hammer"},
    }


def crash(*_: Any, **__: Any) -> None:
    raise Interrupted


add_all = schema.add


def crash_halfway(log: schema.Collection, records: Mapping[str, Any], max_batch: int) -> None:
    """Add half of the records, as a write of several calls may."""
    add_all(log, dict(list(records.items())[: len(records) // 2]), max_batch)
    raise Interrupted


def spooled(spool: Path, numbers: range) -> None:
    """Leave what a process that called tools and has died leaves."""
    writer = SpoolWriter(spool, count=lambda _: None)
    for number in numbers:
        writer.write(tool_span(number))
    writer.close()


def drain(spool: Path, store: str) -> None:
    connection = connect(store, space="test-hash")
    ingestor = Ingestor(connection, HashEmbedder(), lambda _: None)
    drainer = Drainer(spool, ingestor, HealthCounters().add)
    assert drainer.acquire()
    try:
        while drainer.step():
            pass
    finally:
        drainer.release()
        connection.close()


@pytest.mark.parametrize(
    ("step", "crashing", "spool"),
    [
        ("autotrace.store.schema.add", crash_halfway, "own"),
        ("autotrace.store.tool_stats.write_counters", crash, "own"),
        ("autotrace.worker.spool_reader.Drainer._commit", crash, "own"),
        ("autotrace.worker.spool_reader.Drainer._commit", crash, "other"),
    ],
    ids=["own-amid-log", "own-before-statistics", "own-before-commit", "other-before-commit"],
)
def test_a_batch_under_way_when_its_drainer_died_is_counted_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    crashing: Callable[..., None],
    spool: str,
) -> None:
    options = {"store": str(tmp_path / "store")}
    own = load_settings(**options).spool_path
    spool_path = own if spool == "own" else tmp_path / "of another machine"
    spooled(spool_path, range(1, 4))
    drain(spool_path, options["store"])
    spooled(spool_path, range(4, 9))
    with monkeypatch.context() as patch:
        patch.setattr(step, crashing)
        with pytest.raises(Interrupted):
            drain(spool_path, options["store"])

    rebuilt = rebuild(options)
    drain(spool_path, options["store"])

    assert rebuilt.tool_calls == (5 if crashing is crash_halfway else 8)
    connection = open_connection(load_settings(**options), None)
    with connection.reading() as collections:
        counted = tool_stats.read_page(collections.state).tools
    connection.close()
    assert counted == recount(call_of(tool_span(number)) for number in range(1, 9))


def test_a_record_that_is_in_the_log_twice_is_counted_once(tmp_path: Path) -> None:
    options = {"store": str(tmp_path / "store")}
    with configured(options):
        with task("once"), tool_call("hammer", {}):
            pass
        autotrace.flush()
        before = everything()
    connection = open_connection(load_settings(**options), None)
    with connection.writing() as collections:
        (trace,) = repair.logged_traces(collections.log)
        part = schema.documents(collections.log, [f"{trace}/0"])[f"{trace}/0"]
        schema.add(collections.log, {f"{trace}/1": part | {"writer": "another"}})
    connection.close()

    rebuild(options)

    with configured(options):
        assert everything() == before


def test_a_recorder_at_work_in_another_process_goes_on_after_a_rebuild(
    store_settings: dict[str, Any],
) -> None:
    program = (
        "import json, sys\n"
        "from tests.worker.test_rebuild import rebuild\n"
        "print(rebuild(json.loads(sys.argv[1])).traces)\n"
    )
    with configured(store_settings):
        record(4)
        autotrace.flush()
        listed = autotrace.list_traces()

        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(store_settings)],
            cwd=REPOSITORY, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, f"{len(listed)}\n"), done.stderr

        record(4)
        assert autotrace.flush()
        assert autotrace.list_traces()[4:] == listed
        assert {s.tool_name: s.call_count for s in autotrace.tool_stats()} == {
            "drop": 8, "lift": 8, "whistle": 8,
        }  # fmt: skip


def test_a_store_that_another_process_stores_into_is_left_alone(tmp_path: Path) -> None:
    options = {"store": str(tmp_path / "store")}
    with configured(options):
        record(2)
    spool = load_settings(**options).spool_path

    with (
        FileLock(spool / "drain.lock"),
        pytest.raises(StoreUnavailableError, match="autotrace doctor"),
    ):
        rebuild(options, lock_timeout_s=0)

    with configured(options):
        assert len(autotrace.list_traces()) == 2


def test_an_embedder_that_fails_changes_nothing(tmp_path: Path) -> None:
    options = {"store": str(tmp_path / "store")}
    with configured(options):
        record(2)

    class Broken(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> list[list[float]]:
            raise ConnectionError("no route")

    with pytest.raises(StoreError, match="test-hash failed: ConnectionError: no route"):
        rebuild(options, Broken())

    with configured(options):
        assert len(autotrace.list_traces()) == 2


def test_progress_is_told_from_none_to_all(tmp_path: Path) -> None:
    options = {"store": str(tmp_path / "store")}
    with configured(options):
        record(40)
    told: list[tuple[int, int]] = []

    rebuild(options, progress=lambda done, total: told.append((done, total)))

    assert told[0] == (0, 80)
    assert told[-1] == (80, 80)
    assert told == sorted(told)
    assert len(told) > 2
