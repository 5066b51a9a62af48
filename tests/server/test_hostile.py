"""A hostile sender beside an honest one: nothing of his is lost, late, or cannot be read."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotrace.errors import StoreUnavailableError
from autotrace.server import consistent_reads
from autotrace.server.rest import operations
from autotrace.traces.ingest import Ingestor
from tests.traces.hostile import batches

from .serving import TRACES, App, Client, application, completed_trace

fuzzing = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "12")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with application(tmp_path / "store", storing="thread") as running:
        yield running


def a_span(trace: str, text: str, **more: Any) -> dict[str, Any]:
    """Return a span of a task that has ended."""
    now = time.time_ns()
    attributes = {"autotrace.kind": "task", "autotrace.task": text}
    return {
        "traceId": trace,
        "spanId": "ab" * 8,
        "name": "invoke_agent",
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 1),
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
    } | more


def send(client: Client, *spans: dict[str, Any]) -> Any:
    scope = {"scope": {"name": "autotrace"}, "spans": list(spans)}
    return client.post("/v1/traces", {"resourceSpans": [{"scopeSpans": [scope]}]})


def read_everything(client: Client) -> dict[str, Any]:
    """Return what every trace of the first page says, by id, once all that can be read is read."""
    listed = client.get(TRACES, params={"limit": 200})
    recalled = client.post(f"{TRACES}/recall", {"query": "task", "success_only": False})
    counted = client.get(f"{TRACES}/tool_stats")
    for answer in (listed, recalled, counted):
        assert answer.status_code == 200, answer.text
    found: dict[str, Any] = {}
    for trace in listed.json()["traces"]:
        shown = client.get(f"{TRACES}/{trace['trace_id']}")
        assert shown.status_code == 200, shown.text
        assert shown.json()["task"] == trace["task"]
        found[trace["trace_id"]] = shown.json()
    return found


def test_an_honest_sender_loses_nothing_to_any_span(app: App) -> None:
    honest, hostile = app.client("ann"), app.client("mallory")
    expected: dict[str, str] = {}

    @fuzzing
    @given(data=st.data())
    def beside(data: st.DataObject) -> None:
        trace = secrets.token_hex(16)
        body = data.draw(batches(trace=trace))
        sent = hostile("POST", "/v1/traces", content=json.dumps(body), headers=JSON)
        assert sent.status_code == 200, sent.text
        task = f"task {len(expected)}"
        expected[completed_trace(honest, task)] = task
        trace = secrets.token_hex(16)
        assert send(honest, a_span(trace, task)).json() == {}
        expected[f"trace-{trace}-{'ab' * 8}"] = task
        found = read_everything(honest)
        for trace_id, text in list(expected.items())[-2:]:
            assert (found[trace_id]["task"], found[trace_id]["status"]) == (text, "completed")

    beside()

    for trace_id, task in expected.items():
        shown = honest.get(f"{TRACES}/{trace_id}").json()
        assert (shown["task"], shown["status"]) == (task, "completed")
    with app.served.tenants.lease("default") as tenant:
        health = tenant.memory.health()
    assert (health.set_aside_records, health.counters.get("export_failures")) == (0, None)


JSON = {"Content-Type": "application/json"}


def test_a_record_that_is_refused_for_a_reason_nobody_foresaw_costs_itself_alone(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = Ingestor.ingest, list[int]()

    def failing(self: Ingestor, records: Any, **options: Any) -> None:
        seen.append(len(records))
        if any(record.get("message") == "unforeseen" for record in records):
            raise ZeroDivisionError
        real(self, records, **options)

    monkeypatch.setattr(Ingestor, "ingest", failing)
    monkeypatch.setattr("autotrace.worker.loop.FIRST_BACKOFF_S", 3600.0)
    honest, hostile = app.client("ann"), app.client("mallory")
    first = completed_trace(honest, "before")
    mixed = [a_span("cd" * 16, f"task {n}", spanId=f"{n:016x}") for n in range(1, 6)]
    mixed[2]["status"] = {"code": 2, "message": "unforeseen"}
    assert send(hostile, *mixed).status_code == 200
    second = completed_trace(honest, "after")

    found = read_everything(honest)

    ids = {f"trace-{'cd' * 16}-{n:016x}" for n in (1, 2, 4, 5)}
    assert found.keys() == {first, second, *ids}
    assert app.http.get("/health").json()["status"] == "ok"
    with app.served.tenants.lease("default") as tenant:
        health = tenant.memory.health()
    assert (health.set_aside_records, health.counters["unstored_records"]) == (1, 1)


def test_while_storing_fails_nobody_gets_an_old_answer(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.client("ann")
    completed_trace(client, "before")
    read_everything(client)
    down = True

    def failing(*_: Any, **__: Any) -> None:
        if down:
            raise StoreUnavailableError("down")

    real = Ingestor.ingest
    monkeypatch.setattr(
        Ingestor,
        "ingest",
        lambda *a, **k: (failing(), real(*a, **k)),  # type: ignore[misc]
    )
    monkeypatch.setattr(consistent_reads, "_ASK_AFTER_S", 0.01)
    monkeypatch.setattr(operations, "_BEHIND_AFTER_S", 0.0)
    monkeypatch.setattr("autotrace.worker.loop.FIRST_BACKOFF_S", 0.01)
    with app.served.tenants.lease("default") as tenant:
        monkeypatch.setattr(tenant.traces, "_wait_s", 0.02)
    trace_id = completed_trace(client, "during")

    answers = [
        client.get(TRACES),
        client.post(f"{TRACES}/recall", {"query": "task"}),
        client.get(f"{TRACES}/tool_stats"),
        client.get(f"{TRACES}/{trace_id}"),
    ]
    assert [(a.status_code, a.headers.get("Retry-After")) for a in answers] == [(503, "1")] * 4
    decided = {"intent": "x.y", "automation_mode": "propose", "trace_id": trace_id}
    for tool, arguments in {
        "trace_recall": {"query": "task"},
        "tool_stats": {},
        "decision_create": decided,
    }.items():
        called = client.post(
            "/mcp",
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": tool, "arguments": arguments},
            },
        ).json()
        assert called.keys() == {"jsonrpc", "id", "error"}
        assert "ask again" in str(called["error"])
    health = app.http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert app.http.get("/health/live").json() == {"status": "ok"}

    down = False
    with app.served.tenants.lease("default") as tenant:
        monkeypatch.setattr(tenant.traces, "_wait_s", 30.0)
    assert trace_id in read_everything(client)
    assert app.http.get("/health").json()["status"] == "ok"


def test_a_trace_from_the_future_stands_before_others_for_five_minutes_at_most(app: App) -> None:
    client = app.client("ann")
    last = str(2**63 - 1)
    answer = send(
        client, a_span("ee" * 16, "far", startTimeUnixNano=last, endTimeUnixNano=last)
    ).json()
    assert answer["partialSuccess"]["rejectedSpans"] == "0"
    assert "five minutes" in answer["partialSuccess"]["errorMessage"]
    (listed,) = client.get(TRACES).json()["traces"]
    latest = datetime.now(UTC) + timedelta(minutes=5)
    times = [datetime.fromisoformat(listed[name]) for name in ("created_at", "completed_at")]
    assert all(latest - timedelta(minutes=1) < at <= latest for at in times)


def test_a_trace_from_long_ago_is_listed_last(app: App) -> None:
    client = app.client("ann")
    recent = completed_trace(client, "recent")
    assert send(client, a_span("ee" * 16, "old", startTimeUnixNano="1")).json() == {}
    listed = client.get(TRACES).json()["traces"]
    assert [t["task"] for t in listed] == ["recent", "old"]
    assert listed[0]["trace_id"] == recent
    assert listed[1]["created_at"] == "1970-01-01T00:00:00Z"
