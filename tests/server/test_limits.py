"""Bounds on what a client sends, and on how often; and what others notice of it: nothing."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from autotrace import semconv
from autotrace.base.json_text import is_too_deep
from autotrace.errors import LimitExceededError
from autotrace.otlp.decode import Batch, read_json
from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.limits import Held, RateLimiter
from autotrace.server.request_body import BATCH_PATH
from autotrace.settings import load_settings

from .serving import TRACES, App, Client, ServerProcess, application, problem, serving

MAX_BODY = 65_536
MAX_CONNECTIONS = 120


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application with narrow limits."""
    with application(
        tmp_path_factory.mktemp("bounded") / "store",
        max_body_bytes=MAX_BODY,
        max_json_depth=8,
        requests_per_second=0.001,
        request_burst=4,
        max_open_traces=2,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that does not wait long for a request."""
    folder = tmp_path_factory.mktemp("impatient")
    with serving(
        folder / "store",
        folder / "log",
        AUTOTRACE_SERVER_REQUEST_TIMEOUT_MS="1000",
        AUTOTRACE_SERVER_MAX_CONNECTIONS=str(MAX_CONNECTIONS),
        AUTOTRACE_SERVER_MAX_BODY_BYTES=str(MAX_BODY),
    ) as server:
        server.first_key()
        yield server


# --- how large, how deep


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused(app: App, declared: bool) -> None:
    size = app.served.server.max_body_bytes
    body = b'{"task": "' + b"x" * size + b'", "session_id": "s"}'
    sent: Any = body if declared else iter([body[: size // 2], body[size // 2 :]])

    answer = app.client()("POST", f"{TRACES}/start", content=sent)

    assert (answer.status_code, problem(answer)["type"]) == (413, "body_too_large")
    assert str(size) in problem(answer)["msg"]


def test_a_body_as_large_as_allowed_is_taken(app: App) -> None:
    body = json.dumps({"task": "t", "session_id": "s", "x": ""})
    body = body[:-2] + "x" * (app.served.server.max_body_bytes - len(body)) + body[-2:]

    answer = app.client()(
        "POST", f"{TRACES}/start", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 200


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(("depth", "status"), [(62, 200), (63, 422), (100_000, 422)])
def test_json_that_is_nested_too_deep_is_refused(app: App, depth: int, status: int) -> None:
    ann = app.client()
    trace_id = ann.post(f"{TRACES}/start", {"task": "t", "session_id": "s"}).json()["trace_id"]
    body = (
        '{"tool_name": "t", "duration_ms": 1, "status": "success", "result": 1, '
        f'"arguments": {{"a": {nested(depth)}}}}}'
    )

    answer = ann(
        "POST",
        f"{TRACES}/{trace_id}/tool_call",
        content=body,
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == status
    if status == 422:
        assert problem(answer)["type"] == "json_too_deep"


@pytest.mark.parametrize(
    ("body", "is_deep"),
    [
        (b"", False),
        (b"[[[]]]", False),
        (b"[[[[]]]]", True),
        (b'{"a": {"b": {"c": {}}}}', True),
        (b"[" + b"[]," * 100 + b"1]", False),
        (b'["[[[[[[", "]]]]]]"]', False),
        (b'["\\"[[[[[[", "]]]]]]"]', False),
        (b'["\\\\", [[[1]]]]', True),
        (b"]]]][[[[[[[[", True),
    ],
)
def test_depth_is_that_of_the_json_and_not_of_its_texts(body: bytes, is_deep: bool) -> None:
    assert is_too_deep(body, 3) is is_deep


@pytest.mark.parametrize("end", [b"", b"\\", b'\\"'])
def test_to_look_at_a_string_that_does_not_end_takes_no_longer_than_at_others(end: bytes) -> None:
    body = b"[" * 10 + b'"' + b'\\"' * 50_000 + end
    began_s = time.thread_time()
    assert is_too_deep(body, 3)
    assert time.thread_time() - began_s < 2  # each quote tried as a beginning: 13 s


# --- how often


def test_a_key_that_asks_too_often_is_told_when_to_come_back(bounded: App) -> None:
    eager, other = bounded.client("eager"), bounded.client("other")
    answers = [eager.get(f"{TRACES}/tool_stats") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
    assert problem(answers[-1])["type"] == "limit_exceeded"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 1000
    assert other.get(f"{TRACES}/tool_stats").status_code == 200


def test_the_log_names_the_key_that_asks_too_often(
    bounded: App, caplog: pytest.LogCaptureFixture
) -> None:
    eager = bounded.client("eager, too")
    with caplog.at_level(logging.INFO, "autotrace.access"):
        statuses = [eager.get(f"{TRACES}/tool_stats").status_code for _ in range(5)]

    seen = [(r.status, r.key_id) for r in caplog.records if r.getMessage() == "request"]  # type: ignore[attr-defined] # of `extra`
    assert seen == [(status, eager.key.split("_")[1]) for status in statuses]
    assert statuses[-1] == 429


def test_traces_under_way_are_bounded_for_each_key(bounded: App) -> None:
    busy, idle = bounded.client("busy"), bounded.client("idle")
    body = {"task": "t", "session_id": "s"}
    first, _ = (busy.post(f"{TRACES}/start", body).json()["trace_id"] for _ in range(2))

    refused = busy.post(f"{TRACES}/start", body)

    assert (refused.status_code, problem(refused)["type"]) == (429, "limit_exceeded")
    assert int(refused.headers["Retry-After"]) >= 1
    assert idle.post(f"{TRACES}/start", body).status_code == 200
    # Another key of the same agent, since this one has asked as often as it may.
    same = bounded.served.keys.create("busy", "default", "agent").key
    headers = {"Authorization": f"Bearer {same}"}
    done = {"outcome": "x", "success": True}
    completed = bounded.http.post(f"{TRACES}/{first}/complete", json=done, headers=headers)
    assert completed.status_code == 200
    assert busy.post(f"{TRACES}/start", body).status_code == 200


def test_requests_are_counted_in_a_bucket_that_fills_steadily() -> None:
    now = [0.0]
    rates = RateLimiter(2.0, 3, clock_s=lambda: now[0])

    for elapsed_s, allowed in ((0.0, 3), (1.0, 2), (1000.0, 3)):
        now[0] += elapsed_s
        for _ in range(allowed):
            rates.take("k")
        with pytest.raises(LimitExceededError) as caught:
            rates.take("k")
        assert caught.value.retry_after_s == pytest.approx(0.5)


def test_what_a_request_costs_beyond_itself_delays_the_next_of_the_key() -> None:
    now = [0.0]
    rates = RateLimiter(2.0, 3, clock_s=lambda: now[0])
    rates.take("k")
    rates.spend("k", 10)

    for refuse in (rates.take, rates.check):
        with pytest.raises(LimitExceededError) as caught:
            refuse("k")
        assert caught.value.retry_after_s == pytest.approx(4.5)
    rates.take("another")
    now[0] += 4.5
    rates.check("k")
    rates.take("k")


def test_bytes_sent_unpacked_and_answered_and_spans_count_as_requests(tmp_path: Path) -> None:
    settings = {"requests_per_second": 0.001, "request_burst": 100, "bytes_per_request": 1000}
    spans = [{"traceId": f"{n:032x}"} for n in range(1, 501)]
    request = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    batch = gzip.compress(json.dumps(request).encode())
    text = json.dumps({"task": "x" * 5_000, "session_id": "s"})
    with application(tmp_path / "store", **settings) as app:

        def cost(agent: str, path: str, **options: Any) -> int:
            client = app.client(agent)
            client("POST", path, **options)
            left = app.served.rates._tokens(client.key.split("_")[1])
            return round(100 - left)

        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        sent, unpacked = len(batch), len(gzip.decompress(batch))
        assert cost("ann", BATCH_PATH, content=batch, headers=headers) == (
            1 + sent // 1000 + (unpacked - sent) // 1000 + 500 // 50
        )
        plain = {"Content-Type": "application/json"}
        assert cost("bob", f"{TRACES}/start", content=text, headers=plain) == 1 + 5 + 5
        assert cost("eve", BATCH_PATH, json=_spans("task")) == 40 + cost(
            "fay", BATCH_PATH, json=_spans("step")
        )
        assert cost("cid", f"{TRACES}/start", json={"task": "t", "session_id": "s"}) == 1
        bomb = gzip.compress(b"0" * 40_000_000)
        assert cost("dan", BATCH_PATH, content=bomb, headers=headers) > 30_000  # which is refused
        # At most 1 MiB is unpacked of a body that is not a batch.
        assert 1_000 < cost("eli", f"{TRACES}/start", content=bomb, headers=headers) < 1_200
        for agent, encoding in (("kim", "zstd"), ("lea", "gzip, gzip"), ("mia", "gzip")):
            unread = headers | {"Content-Encoding": encoding}
            assert cost(agent, BATCH_PATH, content=b"not packed so", headers=unread) == 1


def _spans(kind: str) -> dict[str, Any]:
    """Return a body of 40 spans of a kind; what it costs as bytes and spans is the same for all."""
    texts = {semconv.KIND: kind, semconv.TASK: "find"}
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()]
    spans = [
        {
            "traceId": f"{number:032x}",
            "spanId": f"{number:016x}",
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2",
            "attributes": attributes,
        }
        for number in range(1, 41)
    ]
    scope = {"scope": {"name": semconv.SCOPE}, "spans": spans}
    return {"resourceSpans": [{"scopeSpans": [scope]}]}


def test_without_a_rate_there_is_no_bound() -> None:
    rates = RateLimiter(0.0, 1)
    rates.spend("k", 1_000)
    rates.check("k")
    for _ in range(100):
        rates.take("k")


@pytest.mark.parametrize("begun", [b"GET /", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: "])
def test_a_head_that_is_too_large_is_not_read_to_its_end(
    impatient: ServerProcess, begun: bytes
) -> None:
    with connected(impatient) as stranger, pytest.raises(OSError, match=r"pipe|reset"):
        stranger.sendall(begun + b"x" * 64 * 1024**2)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_trailers_are_not_kept(impatient: ServerProcess) -> None:
    status = Path(f"/proc/{impatient.process.pid}/status")

    def used_kib() -> int:
        return next(
            int(line.split()[1])
            for line in status.read_text("utf-8").splitlines()
            if line.startswith("VmRSS:")
        )

    requests.get(f"{impatient.url}/health", timeout=500)
    before = used_kib()
    with connected(impatient) as stranger:
        stranger.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        with contextlib.suppress(OSError):
            stranger.sendall((b"X-T: " + b"x" * 8000 + b"\r\n") * 15_000)
        assert used_kib() - before < 60 * 1024


# --- how slowly


def connected(server: ServerProcess) -> socket.socket:
    where = urlsplit(server.url)
    assert where.hostname is not None
    assert where.port is not None
    return socket.create_connection((where.hostname, where.port), timeout=500)


def test_a_client_that_does_not_finish_its_head_is_let_go(impatient: ServerProcess) -> None:
    with connected(impatient) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert slow.recv(1024) == b""


def test_so_is_one_that_says_nothing(impatient: ServerProcess) -> None:
    with connected(impatient) as silent:
        assert silent.recv(1024) == b""


def test_a_client_that_does_not_finish_its_body_is_told_so(impatient: ServerProcess) -> None:
    head = (
        f"POST {TRACES}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {impatient.first_key()}\r\nContent-Length: 100\r\n\r\n"
    )
    with connected(impatient) as slow:
        slow.sendall(head.encode() + b'{"task"')
        said = slow.makefile("rb").read()

    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in said


def test_slow_clients_and_large_bodies_stop_nobody(impatient: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {impatient.first_key()}"}
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            slow = stack.enter_context(connected(impatient))
            slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n")
        for _ in range(10):
            large = requests.post(
                f"{impatient.url}{TRACES}/start",
                data=b"x" * (2 * MAX_BODY),
                headers=headers,
                timeout=500,
            )
            assert large.status_code == 413
            stats = requests.get(
                f"{impatient.url}{TRACES}/tool_stats", headers=headers, timeout=500
            )
            assert stats.status_code == 200


def test_a_client_that_goes_away_amid_its_body_leaves_nothing(impatient: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {impatient.first_key()}"}
    body = json.dumps({"task": "gone", "session_id": "s"}).encode()
    head = (
        f"POST {TRACES}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {impatient.first_key()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(20):
        with connected(impatient) as leaving:
            leaving.sendall(head.encode() + body[:-1])

    found = requests.get(f"{impatient.url}{TRACES}", headers=headers, timeout=500).json()
    assert "gone" not in {trace["task"] for trace in found["traces"]}
    assert not [line for line in impatient.log() if line["level"] in ("error", "critical")]


def test_a_key_that_floods_the_server_stops_no_other(tmp_path: Path) -> None:
    bounds = {
        "AUTOTRACE_SERVER_REQUESTS_PER_SECOND": "20",
        "AUTOTRACE_SERVER_REQUEST_BURST": "100",
    }
    settings = load_settings(store=str(tmp_path / "store"))
    ring = KeyRing.of(settings)
    eager, other = (ring.create(name, "default", "agent").key for name in ("eager", "other"))
    ring.close()
    answers: Counter[int] = Counter()
    stopped = threading.Event()

    def flood() -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {eager}"
            while not stopped.is_set():
                answers[session.get(f"{server.url}{TRACES}", timeout=500).status_code] += 1

    with serving(tmp_path / "store", tmp_path / "log", **bounds) as server:
        floods = [threading.Thread(target=flood) for _ in range(8)]
        for thread in floods:
            thread.start()
        try:
            with requests.Session() as session:
                session.headers["Authorization"] = f"Bearer {other}"
                for number in range(30):
                    task = {"task": f"{number}", "session_id": "s"}
                    one = session.post(f"{server.url}{TRACES}/start", json=task, timeout=500)
                    assert one.status_code == 200, one.text
                    url = f"{server.url}{TRACES}/{one.json()['trace_id']}/complete"
                    done = {"outcome": "x", "success": True}
                    assert session.post(url, json=done, timeout=500).status_code == 200
                while not answers[429]:
                    assert session.get(f"{server.url}/health/live", timeout=500).status_code == 200
        finally:
            stopped.set()
            for thread in floods:
                thread.join()
    assert {200, 429} <= set(answers) <= {200, 429, 503}  # a busy machine may answer 503


def test_slow_batches_of_one_key_delay_no_other(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_ones_may_end = threading.Event()
    answered: list[str] = []

    def read(body: bytes) -> Batch:
        if b"slow" in body:
            assert slow_ones_may_end.wait(500)
        return read_json(body)

    def send(client: Client, name: str) -> None:
        assert client.post(BATCH_PATH, {"resourceSpans": [], "name": name}).status_code == 200
        answered.append(name)

    monkeypatch.setattr("autotrace.server.otlp.read_json", read)
    slow, other = app.client("slow"), app.client("quick", tenant="another")
    senders = [threading.Thread(target=send, args=(slow, "slow")) for _ in range(6)]
    for sender in senders:
        sender.start()
    try:
        for _ in range(3):
            send(other, "other")
        assert answered == ["other"] * 3
    finally:
        slow_ones_may_end.set()
        for sender in senders:
            sender.join()
    assert answered == ["other"] * 3 + ["slow"] * 6


def test_bodies_that_the_requests_of_a_key_hold_are_bounded_together() -> None:
    held = Held(100)
    with held.by("k") as first, held.by("k") as second, held.by("another") as other:
        first(60)
        second(40)
        with pytest.raises(LimitExceededError):
            first(1)
        other(100)
    with held.by("k") as third:
        third(100)


def test_connections_that_ask_nothing_make_room_for_those_that_do(
    impatient: ServerProcess,
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            for _ in range(MAX_CONNECTIONS + 20):
                stack.enter_context(connected(impatient))
            answer = requests.get(f"{impatient.url}/health/live", timeout=500)
            assert answer.status_code == 200


def test_a_connection_too_many_is_told_so(impatient: ServerProcess) -> None:
    head = (
        f"POST {TRACES}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {impatient.first_key()}\r\nContent-Length: 100\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # as those that do not go on are let go after a while
            for _ in range(MAX_CONNECTIONS):
                asking = stack.enter_context(connected(impatient))
                asking.sendall(head.encode())
            refused = requests.get(f"{impatient.url}/health/live", timeout=500)
            if refused.status_code == 503:
                break
    assert refused.status_code == 503


def test_of_spans_without_a_parent_tasks_alone_cost_what_a_trace_does(tmp_path: Path) -> None:
    settings = {"requests_per_second": 0.001, "request_burst": 1000, "spans_per_request": 50}

    def spans(number: int, **attributes: str) -> dict[str, Any]:
        said = [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
        made = [
            {"traceId": f"{n:032x}", "spanId": f"{n:016x}", "name": "x", "attributes": said}
            | {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
            for n in range(1, number + 1)
        ]
        return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "s"}, "spans": made}]}]}

    with application(tmp_path / "store", **settings) as app:

        def cost(agent: str, batch: dict[str, Any]) -> int:
            client = app.client(agent)
            assert client.post(BATCH_PATH, batch).status_code == 200
            return round(1000 - app.served.rates._tokens(client.key.split("_")[1]))

        assert cost("ann", spans(100, **{"gen_ai.operation.name": "execute_tool"})) == 1 + 2
        assert cost("bob", spans(100)) == 1 + 2
        assert cost("cid", spans(100, **{"gen_ai.operation.name": "invoke_agent"})) == 1 + 2 + 100
