"""The spans of an agent, received by Arize Phoenix, against the trace in autotrace's own store."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from .collector import Phoenix
from .conftest import REPOSITORY, RunAgent
from .expected import (
    ExpectedSpan,
    assert_children_within_parents,
    assert_same_spans,
    expected_spans,
    merge,
    otel_ids,
    own_span,
)
from .relay import OtlpRelay

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(400),  # the first test also waits for Phoenix to start
]

ENDPOINT_GIVEN: dict[str, Callable[[str], tuple[list[str], dict[str, str]]]] = {
    "by argument": lambda base: (["--otlp-endpoint", base], {}),
    "by OTEL_EXPORTER_OTLP_ENDPOINT": lambda base: ([], {"OTEL_EXPORTER_OTLP_ENDPOINT": base}),
    "by OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": lambda base: (
        [],
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{base}/v1/traces"},
    ),
    "by AUTOTRACE_OTLP_ENDPOINT": lambda base: ([], {"AUTOTRACE_OTLP_ENDPOINT": base}),
    "by argument and environment": lambda base: (
        ["--otlp-endpoint", base],
        {"OTEL_EXPORTER_OTLP_ENDPOINT": base},
    ),
}


@pytest.mark.parametrize("how", ENDPOINT_GIVEN)
def test_the_collector_holds_the_same_spans_as_the_store_and_got_each_once(
    how: str, phoenix: Phoenix, relay: OtlpRelay, project: str, run_agent: RunAgent
) -> None:
    arguments, environment = ENDPOINT_GIVEN[how](relay.endpoint)

    report = run_agent(*arguments, environment=environment)

    assert [run["trace"]["success"] for run in report["runs"]] == [True, False]
    for run in report["runs"]:
        otel_trace_id, _ = otel_ids(run["trace_id"])
        expected = expected_spans(run)
        collected = phoenix.spans(project, otel_trace_id, expect=expected)
        assert_same_spans(collected, expected)
        assert relay.times_sent(otel_trace_id) == dict.fromkeys(expected, 1)


def test_the_collector_shows_the_agent_and_its_tools_as_such(
    phoenix: Phoenix, project: str, run_agent: RunAgent
) -> None:
    run = run_agent("--otlp-endpoint", phoenix.http_endpoint)["runs"][0]

    otel_trace_id, task_span_id = otel_ids(run["trace_id"])
    collected = phoenix.spans(project, otel_trace_id, expect=expected_spans(run))
    tools = [span for span in collected.values() if span.collector_kind == "TOOL"]
    assert collected[task_span_id].collector_kind == "AGENT"
    assert collected[task_span_id].attributes["session.id"] == "s1"
    assert sorted(span.attributes["tool.name"] for span in tools) == [
        "book_table",
        "book_table",
        "fetch",
        "opening_hours",
        "web_search",
    ]


def test_a_redacted_argument_never_reaches_the_collector(
    phoenix: Phoenix, project: str, run_agent: RunAgent
) -> None:
    report = run_agent("--otlp-endpoint", phoenix.http_endpoint)

    run = report["runs"][0]
    otel_trace_id, _ = otel_ids(run["trace_id"])
    collected = phoenix.spans(project, otel_trace_id, expect=expected_spans(run))
    everything = json.dumps([[span.attributes, span.events] for span in collected.values()])
    assert "card_number" in everything
    assert report["card_number"] not in everything


def test_a_span_lies_within_its_parent(phoenix: Phoenix, project: str, run_agent: RunAgent) -> None:
    report = run_agent("--otlp-endpoint", phoenix.http_endpoint)

    for run in report["runs"]:
        otel_trace_id, _ = otel_ids(run["trace_id"])
        assert_children_within_parents(
            phoenix.spans(project, otel_trace_id, expect=expected_spans(run))
        )


def test_the_stock_protocol_variable_selects_grpc(
    phoenix: Phoenix, project: str, run_agent: RunAgent
) -> None:
    report = run_agent(
        environment={
            "OTEL_EXPORTER_OTLP_ENDPOINT": phoenix.grpc_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
    )

    for run in report["runs"]:
        otel_trace_id, _ = otel_ids(run["trace_id"])
        expected = expected_spans(run)
        assert_same_spans(phoenix.spans(project, otel_trace_id, expect=expected), expected)


@pytest.mark.parametrize("order", ["provider first", "configure first"])
@pytest.mark.parametrize("exporter_configured_by", ["argument", "environment"])
def test_an_app_with_its_own_provider_and_exporter_delivers_every_span_once(
    exporter_configured_by: str,
    order: str,
    phoenix: Phoenix,
    relay: OtlpRelay,
    project: str,
    run_agent: RunAgent,
) -> None:
    by_argument = exporter_configured_by == "argument"
    report = run_agent(
        "--own-exporter",
        "http",
        *(["--own-endpoint", relay.endpoint] if by_argument else []),
        *(["--configure-first"] if order == "configure first" else []),
        environment=None if by_argument else {"OTEL_EXPORTER_OTLP_ENDPOINT": relay.endpoint},
    )

    for otel_trace_id, expected in expected_in_own_provider(report).items():
        collected = phoenix.spans(project, otel_trace_id, expect=expected)
        assert_same_spans(collected, expected)
        assert relay.times_sent(otel_trace_id) == dict.fromkeys(expected, 1)


@pytest.mark.parametrize("exporter_configured_by", ["argument", "environment"])
def test_an_app_set_up_by_phoenix_register_keeps_its_exporter(
    exporter_configured_by: str,
    phoenix: Phoenix,
    relay: OtlpRelay,
    project: str,
    phoenix_client: Path,
    run_agent: RunAgent,
) -> None:
    by_argument = exporter_configured_by == "argument"
    report = run_agent(
        "--own-exporter",
        "phoenix",
        *(["--own-endpoint", relay.endpoint] if by_argument else []),
        environment={
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{phoenix_client}",
            "PHOENIX_PROJECT_NAME": project,
        }
        | ({} if by_argument else {"OTEL_EXPORTER_OTLP_ENDPOINT": relay.endpoint}),
    )

    for otel_trace_id, expected in expected_in_own_provider(report).items():
        collected = phoenix.spans(project, otel_trace_id, expect=expected)
        assert_same_spans(collected, expected)
        assert relay.times_sent(otel_trace_id) == dict.fromkeys(expected, 1)


def test_an_app_that_exports_over_grpc_delivers_its_spans_and_ours(
    phoenix: Phoenix, project: str, run_agent: RunAgent
) -> None:
    report = run_agent("--own-exporter", "grpc", "--own-endpoint", phoenix.grpc_endpoint)

    for otel_trace_id, expected in expected_in_own_provider(report).items():
        collected = phoenix.spans(project, otel_trace_id, expect=expected)
        assert_same_spans(collected, expected)


@pytest.mark.parametrize("listening", [False, True], ids=["refuses", "never answers"])
def test_a_collector_that_is_down_changes_neither_the_program_nor_the_store(
    listening: bool, run_agent: RunAgent
) -> None:
    with_no_collector = run_agent()
    with socket.create_server(("127.0.0.1", 0)) if listening else bound_socket() as taken:
        with_dead_collector = run_agent(
            "--otlp-endpoint", f"http://127.0.0.1:{taken.getsockname()[1]}"
        )

    assert timeless(with_dead_collector) == timeless(with_no_collector)


def test_flush_and_shutdown_keep_their_timeouts_when_a_collector_never_answers(
    run_agent: RunAgent,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run_agent(
            *("--otlp-endpoint", f"http://127.0.0.1:{silent.getsockname()[1]}"),
            *("--timeout-s", "5"),
            environment={"OTEL_EXPORTER_OTLP_TIMEOUT": "3600"},  # what they must not wait for
        )


def expected_in_own_provider(report: dict[str, Any]) -> dict[str, dict[str, ExpectedSpan]]:
    """Return the spans of an app that wraps the agent in a span of its own, by trace id."""
    request, afterwards = report["own_spans"]["request"], report["own_spans"]["afterwards"]
    agents = merge(expected_spans(run, request["span_id"]) for run in report["runs"])
    return {
        request["trace_id"]: {request["span_id"]: own_span("POST /dinner"), **agents},
        afterwards["trace_id"]: {afterwards["span_id"]: own_span("after autotrace.shutdown")},
    }


def bound_socket() -> socket.socket:
    """Return a socket that keeps a port to itself and refuses every connection to it."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def timeless(value: Any) -> Any:
    """Return a JSON value without what differs between two runs: ids, times and durations."""
    if isinstance(value, dict):
        return {
            key: timeless(item)
            for key, item in cast("dict[str, Any]", value).items()
            if not key.endswith(("_id", "_at")) and key != "duration_ms"
        }
    if isinstance(value, list):
        return [timeless(item) for item in cast("list[Any]", value)]
    return value
