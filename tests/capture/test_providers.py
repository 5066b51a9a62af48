"""Which tracer provider makes the spans, and which ones they are sent to."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import autotrace
from autotrace import step, task, tool
from autotrace.otlp.export import described_provider
from autotrace.worker.span_processor import SpoolSpanProcessor
from tests.capture.spans import Spans
from tests.conftest import Configure


@tool
def search(query: str, limit: int = 10) -> dict[str, Any]:
    return {"query": query, "hits": ["x" * 10] * limit}


def processors_of(provider: TracerProvider) -> list[SpanProcessor]:
    return [
        processor
        for processor in provider._active_span_processor._span_processors
        if isinstance(processor, SpoolSpanProcessor)
    ]


def test_a_given_provider_is_used_and_gets_one_processor_however_often(
    configure: Configure, provider: TracerProvider
) -> None:
    spans = Spans(provider)
    for _ in range(3):
        configure(tracer_provider=provider)
    with task("x") as t:
        search("tea")
    assert len(processors_of(provider)) == 1
    assert [span.name for span in spans.ended] == ["execute_tool search", "invoke_agent"]
    assert autotrace.flush()
    found = autotrace.get_trace(t.trace_id)
    assert found.tool_calls[0].arguments == {"query": "tea", "limit": 10}
    assert len(found.tool_calls) == 1


def test_what_is_recorded_reads_the_same_with_either_kind_of_spans(
    configure: Configure, provider: TracerProvider, tmp_path: Path
) -> None:
    def record() -> Any:
        with task("x", session_id="s") as t, step("y") as s:
            s.observe("seen")
            search("tea", 1)
            with pytest.raises(ZeroDivisionError):
                tool(name="fails")(lambda: 1 / 0)()
            t.complete({"done": True}, success=False)
        assert autotrace.flush()
        found = autotrace.get_trace(t.trace_id).model_dump(mode="json")
        return json.loads(json.dumps(found), object_hook=_without_ids_and_times)

    configure()
    ours = record()
    autotrace.shutdown()
    configure(tracer_provider=provider)
    theirs = record()
    assert ours == theirs


def _without_ids_and_times(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if key.endswith(("_id", "_at", "_ms")) else item for key, item in value.items()
    }


PROGRAM = """
    import json, sys
    import autotrace
    from autotrace import task, tool
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    def set_provider():
        provider = TracerProvider(resource=Resource({"service.name": "vendor"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)

    @tool
    def search(query): return query

    def record(text):
        with task(text) as t:
            search(text)
        return t.trace_id

    def configure(**settings):
        embed = lambda texts: [[1.0, 0.0]] * len(texts)
        autotrace.configure(sys.argv[1], embedder=embed, **settings)

    def record_around_a_span_of_the_provider():
        with task("outer") as t:
            with trace.get_tracer("vendor").start_as_current_span("chain"):
                search("inner")
        return t.trace_id

    ids = []
    for action in sys.argv[2].split():
        if action == "set": set_provider()
        elif action == "tool": search("alone")
        elif action == "configure": configure()
        elif action == "give": configure(tracer_provider=trace.get_tracer_provider())
        elif action == "refuse": configure(tracer_provider=False)
        elif action == "around": ids.append(record_around_a_span_of_the_provider())
        else: ids.append(record(action))
    assert autotrace.flush(200)
    print(json.dumps({
        "app": [span.name for span in exporter.get_finished_spans()],
        "store": [len(autotrace.get_trace(id).tool_calls) for id in ids],
        "global": type(trace.get_tracer_provider()).__name__,
        "notes": autotrace.health().notes,
    }))
"""


def run(actions: str, folder: Path) -> dict[str, Any]:
    """Set the global provider, configure and record in the given order, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder / "store"), actions],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"log": done.stderr.splitlines()}


BOTH = ["execute_tool search", "invoke_agent"]


SENT = "spans of autotrace also go to the tracer provider of service 'vendor' (InMemory"
KEPT = "no spans of autotrace go to the tracer provider of service 'vendor' (InMemorySpanExporter)"


@pytest.mark.parametrize(
    "actions", ["configure first tool set second tool configure third", "set configure first"]
)
def test_a_global_provider_gets_nothing_unless_it_is_given_and_the_log_says_so_once(
    tmp_path: Path, actions: str
) -> None:
    found = run(actions, tmp_path)

    assert found["app"] == []
    assert set(found["store"]) == {1}
    assert found["notes"] == found["log"]
    (note,) = found["notes"]
    assert note.startswith(KEPT)
    assert "tracer_provider=opentelemetry.trace.get_tracer_provider()" in note


@pytest.mark.parametrize("actions", ["set give first", "configure set give first"])
def test_a_provider_that_is_given_gets_spans(tmp_path: Path, actions: str) -> None:
    found = run(actions, tmp_path)

    assert (found["app"], found["store"], found["global"]) == (BOTH, [1], "TracerProvider")
    assert found["notes"][0].startswith(SENT)
    assert found["log"] == []  # at INFO


@pytest.mark.parametrize("actions", ["refuse set first", "set refuse first"])
def test_a_provider_that_is_refused_gets_nothing_and_no_warning(
    tmp_path: Path, actions: str
) -> None:
    found = run(actions, tmp_path)

    assert (found["app"], found["store"], found["log"]) == ([], [1], [])
    assert found["notes"][0].startswith(KEPT)


def test_spans_of_the_global_provider_lie_between_ours(tmp_path: Path) -> None:
    for actions in ("configure set around around", "set configure around around"):
        found = run(actions, tmp_path)
        assert (found["app"], found["store"]) == (["chain"] * 2, [1, 1])


def test_the_global_place_is_left_free_for_the_application(tmp_path: Path) -> None:
    found = run("configure first", tmp_path)

    assert (found["app"], found["store"]) == ([], [1])
    assert (found["global"], found["notes"], found["log"]) == ("ProxyTracerProvider", [], [])


def test_a_note_names_hosts_and_nothing_else_of_a_url(provider: TracerProvider) -> None:
    for endpoint in (
        "https://me:secret@otel.example:4318/v1/traces?key=secret",
        "grpc.example:4317",
    ):
        exporter = InMemorySpanExporter()
        exporter._endpoint = endpoint  # pyright: ignore[reportAttributeAccessIssue] - as the OTLP exporters have it
        provider.add_span_processor(SimpleSpanProcessor(exporter))

    text = described_provider(provider)
    assert "to otel.example:4318, InMemorySpanExporter to grpc.example:4317)" in text
    assert "secret" not in text


# --- samplers and limits of the application


@pytest.fixture
def dropping() -> Iterator[TracerProvider]:
    made = TracerProvider(sampler=sampling.ALWAYS_OFF, shutdown_on_exit=False)
    yield made
    made.shutdown()


def test_what_the_applications_sampler_drops_is_counted_and_changes_nothing_for_the_user(
    configure: Configure, dropping: TracerProvider, counted: Callable[[], Counter[str]]
) -> None:
    configure(tracer_provider=dropping)
    before = otel_trace.get_current_span()
    with task("x") as t, step("y") as s:
        assert search("tea", 1)["query"] == "tea"
        assert list(tool(lambda: iter("ab"))()) == ["a", "b"]
        s.observe("seen")
        t.complete("done")
        with pytest.raises(ZeroDivisionError):
            tool(lambda: 1 / 0)()
    assert otel_trace.get_current_span() is before
    assert counted() == {"not_sampled": 5}
    assert autotrace.flush()
    assert autotrace.list_traces() == []


def test_a_sampler_that_raises_does_not_reach_the_user(
    configure: Configure, counted: Callable[[], Counter[str]]
) -> None:
    class Broken(sampling.Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("broken sampler")

        def get_description(self) -> str:
            return "broken"

    broken = TracerProvider(sampler=Broken(), shutdown_on_exit=False)
    configure(tracer_provider=broken)
    with task("x"):
        assert search("tea", 1)["query"] == "tea"
    assert counted() == {"capture_errors": 2}
    assert "broken sampler" in str(autotrace.health().last_error)
    broken.shutdown()


def test_a_limit_of_the_application_that_cuts_json_leaves_a_readable_trace(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    limited = TracerProvider(
        span_limits=SpanLimits(max_span_attribute_length=64), shutdown_on_exit=False
    )
    configure(tracer_provider=limited)
    with task("x" * 100) as t:
        search("tea", 20)
    assert autotrace.flush()
    found = autotrace.get_trace(t.trace_id)
    caplog.clear()  # the SDK says that it cuts
    assert found.task == "x" * 64
    (call,) = found.tool_calls
    assert call.arguments == {"query": "tea", "limit": 20}
    assert call.result.startswith('{"query":"tea"')
    limited.shutdown()
