"""The pipeline: a store that is down, forks, exits, other doors in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import autotrace
from autotrace import ChromaSpanExporter, task, tool
from tests.embedders import HashEmbedder
from tests.servers import ChromaServer

ROOT = Path(__file__).parents[2]


@tool
def work(number: int) -> int:
    return number + 1


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    autotrace.shutdown(timeout=5)


def configure(store: str, **settings: Any) -> None:
    autotrace.configure(store, embedder=HashEmbedder(), flush_interval_ms=0, **settings)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


SETUP = """
import os, sys, autotrace
from autotrace import task, tool
from tests.embedders import HashEmbedder

@tool
def work(number): return number + 1
"""


def test_a_server_that_is_down_costs_nothing_and_gets_everything_when_it_is_up(
    tmp_path: Path,
) -> None:
    server = ChromaServer(tmp_path / "chroma")
    configure(server.url, spool=str(tmp_path / "spool"))
    with task("while the server is down") as t:
        assert work(1) == 2
    for _ in range(100):
        assert autotrace.flush(timeout=0.2) is False
        # The last error is the process's, and may be that of an earlier test.
        if server.url in str((health := autotrace.health()).last_error):
            break
    assert health.backlog_bytes > 0
    assert server.url in str(health.last_error)
    with pytest.raises(autotrace.StoreUnavailableError):
        autotrace.get_trace(t.trace_id)

    server.start()
    try:
        assert autotrace.flush(timeout=500) is True
        assert autotrace.get_trace(t.trace_id).tool_calls[0].result == 2
        assert autotrace.health().backlog_bytes == 0
        server.stop(kill=True)
        with task("while it is down again") as again:
            work(2)
        server.start()
        assert autotrace.flush(timeout=500) is True
        assert autotrace.get_trace(again.trace_id).status == "completed"
    finally:
        autotrace.shutdown(timeout=10)
        server.stop()


def test_the_exporter_works_alone_under_a_stock_batch_processor(store: str) -> None:
    provider = TracerProvider()
    exporter = ChromaSpanExporter(store, embedder=HashEmbedder())
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("somebody")
    with tracer.start_as_current_span(
        "invoke_agent", attributes={"autotrace.kind": "task", "autotrace.task": "by hand"}
    ) as root:
        tool_attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}
        with tracer.start_as_current_span("execute_tool t", attributes=tool_attributes):
            pass
    context = root.get_span_context()
    assert provider.force_flush() is True
    assert exporter.force_flush() is True
    provider.shutdown()

    configure(store)
    trace = autotrace.get_trace(f"trace-{context.trace_id:032x}-{context.span_id:016x}")
    assert (trace.task, [call.tool_name for call in trace.tool_calls]) == ("by hand", ["t"])


def test_a_span_that_comes_by_two_ways_is_one(store: str) -> None:
    provider = TracerProvider()
    exporter = ChromaSpanExporter(store, embedder=HashEmbedder())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    configure(store, tracer_provider=provider)
    with task("twice") as t:
        work(1)
    assert autotrace.flush()
    assert exporter.force_flush()

    assert len(autotrace.get_trace(t.trace_id).tool_calls) == 1
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 1
    provider.shutdown()


def test_an_applications_provider_is_kept_and_gets_our_processor_once(store: str) -> None:
    seen = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    for _ in range(3):
        configure(store, tracer_provider=provider)
    with task("shared"):
        work(1)
    autotrace.flush()

    assert [span.name for span in seen.get_finished_spans()] == [
        "execute_tool work",
        "invoke_agent",
    ]
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 1


def test_without_a_provider_none_is_made_global(store: str) -> None:
    configure(store)
    with task("x"):
        assert otel_trace.get_current_span().is_recording()

    assert not hasattr(otel_trace.get_tracer_provider(), "add_span_processor")


def test_a_program_that_seeds_its_random_numbers_gets_new_ids_each_run(store: str) -> None:
    code = SETUP + (
        "import random\n"
        "autotrace.configure(sys.argv[1], embedder=HashEmbedder())\n"
        "random.seed(0)\n"
        "with task('seeded') as t: work(1)\n"
        "autotrace.flush(); print(t.trace_id)"
    )
    ids = {run(code, store).stdout.strip() for _ in range(2)}

    configure(store)
    assert {s.trace_id for s in autotrace.list_traces()} == ids
    assert len(ids) == 2


def test_what_is_left_at_exit_is_there_at_the_next_start(store: str) -> None:
    done = run(
        SETUP
        + "autotrace.configure(sys.argv[1], embedder=HashEmbedder())\n"
        + "with task('short') as t: work(1)\n"
        + "print(t.trace_id)",
        store,
    )
    assert (done.returncode, done.stderr) == (0, "")

    configure(store)
    assert autotrace.flush(timeout=500)
    assert autotrace.get_trace(done.stdout.strip()).status == "completed"


@pytest.mark.parametrize("ending", ["os._exit(3)", "sys.exit(3)", "raise SystemExit(3)"])
def test_the_exit_code_is_the_programs_and_nothing_is_lost(store: str, ending: str) -> None:
    done = run(
        SETUP
        + "autotrace.configure(sys.argv[1], embedder=HashEmbedder(), flush_interval_ms=0)\n"
        + "with task('t') as t: work(1)\n"
        + "print(t.trace_id, flush=True)\n"
        + ending,
        store,
    )
    assert (done.returncode, done.stderr) == (3, "")

    configure(store)
    assert autotrace.flush(timeout=500)
    assert len(autotrace.get_trace(done.stdout.strip()).tool_calls) == 1


def test_forked_children_record_beside_their_parent(store: str) -> None:
    code = SETUP + (
        "autotrace.configure(sys.argv[1], embedder=HashEmbedder(), flush_interval_ms=0)\n"
        "with task('parent'):\n"
        "    work(0)\n"
        "    autotrace.flush()\n"  # the parent's Chroma client and thread are at work
        "    children = []\n"
        "    for n in range(3):\n"
        "        pid = os.fork()\n"
        "        if pid == 0:\n"
        "            work(n)\n"
        "            ok = autotrace.flush(timeout=500)\n"
        "            os._exit(0 if ok else 1)\n"
        "        children.append(pid)\n"
        "    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]\n"
        "    work(9)\n"
        "print(codes, autotrace.flush(timeout=500))\n"
    )
    done = run(code, store)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[0, 0, 0] True", "")

    configure(store)
    assert autotrace.flush(timeout=500)
    (summary,) = autotrace.list_traces()
    assert (summary.status, summary.tool_call_count) == ("completed", 5)
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 5


def test_the_export_thread_is_never_traced(store: str) -> None:
    class TracedEmbedder(HashEmbedder):
        @tool
        def embed(self, texts: Any) -> Any:
            return super().embed(texts)

    autotrace.configure(store, embedder=TracedEmbedder(), flush_interval_ms=0)
    with task("x"):
        work(1)
    autotrace.flush()

    assert [stats.tool_name for stats in autotrace.tool_stats()] == ["work"]


def test_a_thread_is_there_only_once_something_is_recorded(store: str) -> None:
    code = SETUP + (
        "import threading\n"
        "autotrace.configure(sys.argv[1], embedder=HashEmbedder())\n"
        "print([t.name for t in threading.enumerate()])"
    )

    assert run(code, store).stdout.strip() == "['MainThread']"


def test_configuring_again_with_other_arguments_begins_anew(tmp_path: Path) -> None:
    configure(str(tmp_path / "one"))
    with task("in the first"):
        work(1)
    configure(str(tmp_path / "two"))
    with task("in the second"):
        work(1)
    autotrace.flush()
    assert [s.task for s in autotrace.list_traces()] == ["in the second"]

    configure(str(tmp_path / "one"))
    assert [s.task for s in autotrace.list_traces()] == ["in the first"]


def test_reading_before_configure_says_what_to_do() -> None:
    autotrace.shutdown()
    for read in (autotrace.list_traces, autotrace.tool_stats, lambda: autotrace.recall("x")):
        with pytest.raises(autotrace.NotConfiguredError) as caught:
            read()
        assert "autotrace.configure()" in str(caught.value)


def test_spans_that_are_not_about_agents_are_kept_as_places_alone(store: str) -> None:
    provider = TracerProvider()
    configure(store, tracer_provider=provider)
    foreign = provider.get_tracer("database")
    with (
        task("query") as t,
        foreign.start_as_current_span("SELECT", attributes={"db.statement": "secret rows"}),
    ):
        work(1)
    autotrace.flush()

    assert len(autotrace.get_trace(t.trace_id).tool_calls) == 1
    stored = b"".join(p.read_bytes() for p in Path(store).rglob("*") if p.is_file())
    assert b"secret rows" not in stored


def test_configured_again_an_applications_provider_still_has_one_processor_of_ours(
    tmp_path: Path,
) -> None:
    provider = TracerProvider()
    for n in range(3):
        configure(str(tmp_path / str(n)), tracer_provider=provider)
        with task(f"run {n}"):
            work(n)
        autotrace.shutdown()

    configure(str(tmp_path / "2"))
    assert [s.task for s in autotrace.list_traces()] == ["run 2"]
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 1
    processors: Any = provider._active_span_processor._span_processors
    assert len(processors) == 1


@pytest.mark.parametrize("store", ["", "   ", "a file", "nul\0byte"])
def test_a_store_that_can_be_none_is_refused_before_anything_begins(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("x")

    with pytest.raises(autotrace.InvalidArgumentError) as caught:
        configure(store)

    assert caught.value.field == "store"
    assert autotrace.health().configured is False


def test_an_empty_outcome_is_an_outcome(store: str) -> None:
    configure(store)
    with task("x") as t:
        t.complete("")
    autotrace.flush()

    assert autotrace.get_trace(t.trace_id).outcome == ""


def test_what_the_dead_left_is_stored_though_another_process_was_at_it_for_long(store: str) -> None:
    program = "autotrace.configure(sys.argv[1], embedder=HashEmbedder())\nwith task('x'): work(1)\n"
    assert run(SETUP + program + "os._exit(1)", store).returncode == 1
    spool = Path(store, "spool")
    (left,) = (entry for entry in spool.iterdir() if entry.is_dir())

    with FileLock(spool / "drain.lock"):
        configure(store)
        assert autotrace.flush(timeout=2) is False  # longer than a thread with no work looks on

    while left.exists():  # though nobody asks again
        time.sleep(0.01)
    assert [s.task for s in autotrace.list_traces()] == ["x"]


def test_what_the_dead_left_is_stored_though_looking_for_it_failed_once(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "autotrace.configure(sys.argv[1], embedder=HashEmbedder())\nwith task('x'): work(1)\n"
    assert run(SETUP + program + "os._exit(1)", store).returncode == 1
    fails = [FileNotFoundError(2, "No such file or directory", "vanished")]

    def looks(directory: Path) -> bool:
        if fails:
            raise fails.pop()
        return False

    monkeypatch.setattr("autotrace.worker.store_thread.is_of_newer_version", looks)
    with FileLock(Path(store, "spool", "drain.lock")):
        configure(store)
        while fails:
            time.sleep(0.01)

    assert autotrace.flush(timeout=500) is True
    assert "vanished" in str(autotrace.health().last_error)
    assert len(autotrace.list_traces()) == 1
