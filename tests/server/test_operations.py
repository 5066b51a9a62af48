"""For those who run the server, and for their browsers: health, metrics, headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotrace.errors import StoreUnavailableError
from autotrace.server.logs import without_keys

from .serving import TRACES, App, application, problem


def test_health_says_that_the_store_answers(app: App) -> None:
    answer = app.http.get("/health")

    assert answer.status_code == 200
    assert answer.json() | {"version": ""} == {
        "status": "ok",
        "store": "reachable",
        "version": "",
    }


def test_a_store_that_does_not_answer_is_said_and_asked_for_again(
    tmp_path: Path, server: Any
) -> None:
    with application(server.url, spool=str(tmp_path), chroma_timeout_ms=5_000) as app:
        client = app.client("ann")
        assert app.http.get("/health").status_code == 200
        server.stop()
        try:
            app.served.store_check._checked_s = float("-inf")
            health = app.http.get("/health")
            live = app.http.get("/health/live")
            refused = client.get(f"{TRACES}/tool_stats")
        finally:
            server.start()

    assert (health.status_code, health.json()["store"]) == (503, "unreachable")
    assert live.status_code == 200
    assert (refused.status_code, problem(refused)["type"]) == (503, "store_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in refused.text


def test_that_uses_of_keys_cannot_be_stored_ends_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("no room")

    with application(tmp_path / "store") as app:
        assert app.client().get(TRACES).status_code == 200
        monkeypatch.setattr(app.served.keys, "save_uses", fails)

    assert "when keys were used is not stored yet: no room" in caplog.text


def test_metrics_count_requests_by_route_and_never_by_who_asks(app: App) -> None:
    ann = app.client("ann-the-counted")
    ann.get(f"{TRACES}/trace-unknown")
    ann.get("/no/such/path")
    app.http.request("MADEUP", "/health")

    text = app.client("operator", "admin").get("/metrics").text

    assert f'{{method="GET",route="{TRACES}/{{trace_id}}",status="404"}}' in text
    assert '{method="GET",route="unmatched",status="404"}' in text
    assert "MADEUP" not in text
    assert "trace-unknown" not in text
    assert "ann-the-counted" not in text


def test_metrics_count_spans_that_were_recorded_rejected_and_cut(app: App) -> None:
    pair = {"key": "gen_ai.a", "value": {"boolValue": True}}
    good = {"traceId": "0a" * 16, "spanId": "0b" * 8, "attributes": [pair] * 130}
    good |= {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [good, {}, {}]}]}]}

    assert app.client("ann", tenant="metrics").post("/v1/traces", body).status_code == 200

    text = app.client("operator", "admin").get("/metrics").text
    assert 'autotrace_spans_total{outcome="recorded"} 1.0' in text
    assert 'autotrace_spans_total{outcome="rejected"} 2.0' in text
    assert "autotrace_span_parts_left_out_total 2.0" in text


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/nothing"), ("PUT", TRACES), ("POST", TRACES)]
)
def test_every_response_tells_browsers_to_be_careful(app: App, method: str, path: str) -> None:
    headers = app.http.request(method, path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Request-Id"]
    assert "Server" not in headers


def test_a_failure_says_nothing_about_itself(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr(app.served.tenants, "lease", fail)
    answer = app.client().get(f"{TRACES}/tool_stats")

    assert (answer.status_code, problem(answer)["type"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pages_of_other_origins_may_not_call_unless_they_are_named(
    app: App, tmp_path: Path
) -> None:
    asked = {
        "Origin": "https://dashboard.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    refused = app.http.options(f"{TRACES}/start", headers=asked)
    assert refused.status_code == 405
    assert "Access-Control-Allow-Origin" not in refused.headers

    with application(tmp_path / "store", cors_origins=[asked["Origin"]]) as open_one:
        allowed = open_one.http.options(f"{TRACES}/start", headers=asked)
        other = open_one.http.options(
            f"{TRACES}/start", headers=asked | {"Origin": "https://elsewhere.example.com"}
        )
    assert allowed.headers["Access-Control-Allow-Origin"] == asked["Origin"]
    assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize(
    ("path", "allowed"), [(f"{TRACES}/trace-1", "GET, DELETE"), ("/", "POST"), ("/mcp", "POST")]
)
def test_what_a_path_allows_is_named_whole(app: App, path: str, allowed: str) -> None:
    answer = app.http.put(path)

    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert problem(answer)["msg"] == f"not with PUT: this path takes {allowed}"


def test_a_path_that_is_none_says_where_to_look(app: App) -> None:
    answer = app.client().get("/api/v1/tracse")

    assert answer.status_code == 404
    assert "/openapi.json" in problem(answer)["msg"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("the key atk_0123456789ab_AbC-d_e was", "the key atk_0123456789ab_[REDACTED] was"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [REDACTED]"),
        ("authorization=agent abcdefgh12345=", "authorization=agent [REDACTED]"),
        ("an agent booked a table", "an agent booked a table"),
    ],
)
def test_what_opens_something_is_left_out_of_logs(text: str, kept: str) -> None:
    assert without_keys(text) == kept


def test_an_error_of_the_store_names_no_place() -> None:
    from autotrace.server.http_errors import message_of

    error = StoreUnavailableError("the Chroma server http://10.0.0.7:8000 does not answer")
    assert "10.0.0.7" not in message_of(error)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/openapi.json", TRACES])
def test_head_is_answered_as_get_without_a_body(app: App, path: str) -> None:
    client = app.client()
    got, head = client.get(path), client("HEAD", path)

    told = ("content-type", "content-length", "cache-control")
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert [head.headers[name] for name in told] == [got.headers[name] for name in told]


def test_head_is_refused_where_there_is_no_get(app: App) -> None:
    refused = app.client()("HEAD", "/mcp")

    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")
