"""Configuring again: with the same, spelled in another way, and with something else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import autotrace
from autotrace import step, task, tool
from autotrace.runtime import runtime_or_raise
from tests.embedders import HashEmbedder


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    autotrace.shutdown(timeout=5)


def configure(store: str | Path, **settings: Any) -> None:
    autotrace.configure(store, **{"embedder": HashEmbedder(), "flush_interval_ms": 0} | settings)


def runtime() -> object:
    return runtime_or_raise("a test")


@pytest.mark.parametrize("spelling", ["x/store", "./x/../x/store", "~/x/store", "x/store/", "link"])
def test_the_same_store_in_another_spelling_changes_nothing(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x" / "store").mkdir(parents=True)
    (tmp_path / "link").symlink_to("x/store")
    configure(tmp_path / "x" / "store")
    before = runtime()

    configure(spelling)

    assert runtime() is before


def test_the_same_server_in_another_spelling_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configure("http://127.0.0.1:9")
    before = runtime()
    configure("HTTP://127.0.0.1:9/")

    assert runtime() is before


def test_a_new_embedder_of_the_same_space_and_type_changes_nothing(tmp_path: Path) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0]] * len(texts)

    for make in (HashEmbedder, lambda: embed, lambda: "tests.embedders:HashEmbedder"):
        configure(tmp_path, embedder=make())
        before = runtime()
        configure(tmp_path, embedder=make())
        assert runtime() is before


def test_what_is_really_different_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(HashEmbedder):
        pass

    configure(tmp_path)
    seen = [runtime()]
    for changed in (
        {"agent": "concierge"},
        {"embedder": Other()},
        {"embedder": "tests.embedders:HashEmbedder"},
        {"redact": lambda path, value: value},  # pyright: ignore[reportUnknownLambdaType] - any hook
        {"spool": str(tmp_path / "elsewhere")},
    ):
        configure(tmp_path, **changed)
        assert runtime() not in seen
        seen.append(runtime())

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    configure("store")
    monkeypatch.chdir(tmp_path / "two")
    configure("store")
    assert autotrace.health().store == str(tmp_path / "two" / "store")


# --- what is under way when it is configured again


@tool
def work(number: int) -> int:
    return number + 1


@tool
def slow(before_it_ends: Callable[[], None]) -> str:
    before_it_ends()
    return "done"


@pytest.fixture(params=["our spans", "the application's spans"])
def spans_of(request: pytest.FixtureRequest, provider: TracerProvider) -> dict[str, Any]:
    return {} if request.param == "our spans" else {"tracer_provider": provider}


def test_a_task_that_is_open_while_the_same_store_is_configured_anew_is_completed(
    tmp_path: Path, spans_of: dict[str, Any]
) -> None:
    configure(tmp_path, **spans_of)
    with task("a cell that runs for long") as t:
        work(1)
        configure(tmp_path, agent="other", **spans_of)
        work(2)
        t.complete("well ended")
    assert autotrace.flush()

    trace = autotrace.get_trace(t.trace_id)
    assert (trace.status, trace.outcome) == ("completed", "well ended")
    assert [call.arguments for call in trace.tool_calls] == [{"number": 1}, {"number": 2}]
    assert [found.trace_id for found in autotrace.recall("a cell that runs")] == [t.trace_id]


def test_what_is_under_way_while_another_store_is_configured_ends_in_its_own(
    tmp_path: Path, spans_of: dict[str, Any]
) -> None:
    configure(tmp_path / "one", **spans_of)
    with task("begun in the first") as t, step("think"):
        slow(lambda: configure(tmp_path / "two", **spans_of))
    with task("begun in the second"):
        pass
    assert autotrace.flush()
    assert [found.task for found in autotrace.list_traces()] == ["begun in the second"]
    assert autotrace.tool_stats() == []

    configure(tmp_path / "one", **spans_of)
    assert autotrace.flush()
    trace = autotrace.get_trace(t.trace_id)
    assert (trace.status, trace.success) == ("completed", True)
    assert trace.steps[0].completed_at is not None
    assert [(call.result, call.status) for call in trace.tool_calls] == [("done", "success")]


def test_what_is_under_way_at_shutdown_is_whole_at_the_next_start(
    tmp_path: Path, spans_of: dict[str, Any]
) -> None:
    configure(tmp_path, **spans_of)
    with task("outlives the recording") as t:
        slow(autotrace.shutdown)
        work(2)  # nothing records any more
    if "tracer_provider" in spans_of:
        foreign = spans_of["tracer_provider"].get_tracer("somebody")
        with foreign.start_as_current_span("x", attributes={"gen_ai.operation.name": "chat"}):
            pass
    spool = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*.log"))
    assert b"execute_tool slow" in spool
    assert b"execute_tool work" not in spool
    assert b"chat" not in spool

    configure(tmp_path, **spans_of)
    assert autotrace.flush()
    trace = autotrace.get_trace(t.trace_id)
    assert trace.status == "completed"
    assert [call.tool_name for call in trace.tool_calls] == ["slow"]
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 1


def test_a_task_that_ends_once_its_store_is_open_again_is_stored_at_once(tmp_path: Path) -> None:
    configure(tmp_path)
    with task("ends at last") as t:
        autotrace.shutdown()
        configure(tmp_path)
        assert autotrace.flush()
        assert autotrace.get_trace(t.trace_id).status == "interrupted"
    assert autotrace.flush()

    assert autotrace.get_trace(t.trace_id).status == "completed"


def test_a_fork_after_shutdown_records_what_ends_in_the_child_too(tmp_path: Path) -> None:
    configure(tmp_path)
    block = task("ends in the child")
    t = block.__enter__()
    autotrace.shutdown()
    pid = os.fork()
    if pid == 0:
        block.__exit__(None, None, None)
        os._exit(len([x for x in threading.enumerate() if x.name == "autotrace-export"]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    configure(tmp_path)
    assert autotrace.flush()
    assert autotrace.get_trace(t.trace_id).status == "completed"
    block.__exit__(None, None, None)
