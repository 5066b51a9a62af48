"""Whatever is sent, the answer says what is wrong with it, and what is stored can be read."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
import struct
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from autotrace.server.auth.principal import Principal
from autotrace.server.otlp import JSON, PROTOBUF
from autotrace.server.request_body import MCP_PATHS

from .serving import TRACES, App, Client, application, completed_trace

fuzzing = settings(
    # FUZZ_EXAMPLES=5000 looks longer.
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "30")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with application(tmp_path_factory.mktemp("fuzz") / "store") as running:
        yield running
        everything_can_be_read(running)


@pytest.fixture(autouse=True)
def _nothing_is_unexpected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error that nobody expected is logged with where it came from, whatever was answered."""
    with caplog.at_level(logging.WARNING):
        yield
        records = caplog.get_records("call")
    assert [r.getMessage() for r in records if r.exc_info or r.levelno >= logging.ERROR] == []


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    return app.client(role="admin")


@pytest.fixture(scope="module")
def known(client: Client) -> list[str]:
    """Ids of a trace that is completed and of one that is open, and of a step of it."""
    trace_id = client.post(f"{TRACES}/start", {"task": "open", "session_id": "s"}).json()[
        "trace_id"
    ]
    told = client.post(f"{TRACES}/{trace_id}/step", {"thought": "a", "action": "b"})
    return [completed_trace(client, "done"), trace_id, told.json()["step_id"]]


def everything_can_be_read(app: App) -> None:
    """Check that nothing that was taken in keeps anything from being stored, or read."""
    client = app.client(role="admin")
    listed = client.get(TRACES, params={"limit": 50})
    assert listed.status_code == 200, listed.text
    for trace in listed.json()["traces"]:
        shown = client.get(f"{TRACES}/{trace['trace_id']}")
        assert shown.status_code == 200, shown.text
    recalled = client.post(f"{TRACES}/recall", {"query": "anything", "success_only": False})
    assert recalled.status_code == 200, recalled.text
    with app.served.tenants.lease("default") as tenant:
        health = tenant.memory.health()
        assert tenant.memory.catch_up(60)
        tenant.traces.tool_stats(by=Principal("local", "admin", "default", "admin"))
    assert health.set_aside_records == 0, health
    assert "export_failures" not in health.counters, health


def check(response: httpx.Response, seen: Counter[bool]) -> None:
    """Check an answer: one that says what is wrong, and nothing of the inside."""
    seen[response.is_success and '"error"' not in response.text] += 1
    assert response.status_code < 500, response.text
    assert "Traceback" not in response.text
    assert "autotrace/" not in response.text
    if response.content and response.headers["content-type"].startswith("application/json"):
        response.json()


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", "\x00", "\ud800", "a" * 5000, "trace-" + "0" * 32 + "-" + "0" * 16, "__proto__", "null"]
)
NUMBERS = (
    st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**400, 1e308])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def like(valid: Any) -> st.SearchStrategy[Any]:
    """Return what is more or less as a valid value: parts left out, added, or anything at all."""

    @st.composite
    def changed(draw: st.DrawFn) -> Any:
        if not draw(st.integers(0, 14)):
            return draw(VALUES)
        if isinstance(valid, dict):
            made = {
                key: draw(like(value)) for key, value in valid.items() if draw(st.integers(0, 14))
            }
            extra = st.dictionaries(TEXTS, VALUES, max_size=1)
            return made if draw(st.integers(0, 3)) else made | draw(extra)
        if isinstance(valid, list):
            return [draw(like(item)) for item in valid] * draw(st.sampled_from([1, 1, 1, 0, 2]))
        return valid

    return changed()


def bodies(valid: Any) -> st.SearchStrategy[bytes]:
    """Return bodies that are right, some that are nearly, and such that are not JSON."""
    right = st.just(json.dumps(valid).encode())
    # Lone surrogates, NaN and numbers of any size are in, as Python's json writes them.
    written = like(valid).map(lambda value: json.dumps(value).encode())
    cut = st.tuples(written, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    return right | written | right | written | cut | st.binary(max_size=60)


def test_rest_answers_whatever_is_sent(app: App, client: Client, known: list[str]) -> None:
    paths: dict[str, Any] = app.http.get("/openapi.json").json()["paths"]
    operations = [
        (method, path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith("/api/")
    ]
    assert len(operations) >= 12
    examples = {
        "task": "find a table",
        "session_id": "s1",
        "triggered_by_memory_id": None,
        "thought": "think",
        "action": "act",
        "observations": ["seen"],
        "tool_name": "search",
        "arguments": {"q": "x"},
        "result": {"found": [1]},
        "duration_ms": 12,
        "status": "success",
        "step_id": known[2],
        "outcome": "found",
        "success": True,
        "query": "find",
        "limit": 5,
        "rationale": "why",
    }
    ids = st.sampled_from(known) | TEXTS.filter(lambda text: text not in ("", ".", ".."))
    # A completed trace is as good as it was.
    ids_to_write = st.sampled_from(known[1:]) | st.sampled_from(known[1:]) | ids

    @fuzzing
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        method, path, operation = data.draw(st.sampled_from(operations))
        for part in operation.get("parameters", ()):
            if part["in"] == "path":
                named = data.draw(ids_to_write).encode("utf-8", "replace")
                path = path.replace(f"{{{part['name']}}}", quote(named, safe=""))
        queries = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
        params = {
            name: data.draw(VALUES.map(str) | TEXTS).encode("utf-8", "replace")
            for name in queries
            if data.draw(st.booleans())
        }
        options: dict[str, Any] = {}
        if "requestBody" in operation:
            options["content"] = data.draw(bodies(examples))
            options["headers"] = {
                "Content-Type": data.draw(
                    st.sampled_from(["application/json", "application/json", "text/plain", ""])
                )
            }
        check(client(method.upper(), path, params=params, **options), seen)

    seen: Counter[bool] = Counter()
    ask()
    assert min(seen[True], seen[False]) > 0.03 * seen.total(), seen


ACCEPTED = [
    *["*/*", "application/json, text/event-stream"] * 2,
    *("application/json", "text/event-stream", "text/html", ""),
]


def test_json_rpc_answers_whatever_is_sent(client: Client) -> None:
    def rpc(body: bytes, path: str = "/mcp", **headers: str) -> httpx.Response:
        sent = {"Content-Type": "application/json", "Accept": "*/*"} | headers
        return client("POST", path, content=body, headers=sent)

    listing = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    tools = {tool["name"]: tool for tool in rpc(listing).json()["result"]["tools"]}
    assert len(tools) > 10

    def call(tool: str, **arguments: Any) -> Any:
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return rpc(json.dumps(message).encode()).json()["result"]["structuredContent"]

    def new_ids() -> dict[str, str]:
        """Return ids of what is open: the calls that are made up soon end it."""
        trace_id = call("trace_start", task="open", session_id="s")["trace_id"]
        step_id = call("trace_step", trace_id=trace_id, thought="a", action="b")["step_id"]
        decision = call("decision_create", intent="x", automation_mode="propose")
        return {"trace_id": trace_id, "step_id": step_id, "decision_id": decision["decision_id"]}

    ids = new_ids()
    asked = itertools.count(1)

    def example(name: str, schema: dict[str, Any]) -> Any:
        if name in ids:
            return ids[name]
        kind = schema.get("enum") or schema.get("type")
        if isinstance(kind, list):
            kind = kind[0]
        found = {"string": "a word", "integer": 3, "number": 1.5, "boolean": True, "array": ["a"]}
        return found.get(kind, {"a": 1} if kind == "object" else kind)

    @fuzzing
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        tool = data.draw(st.sampled_from(sorted(tools)))
        if next(asked) % 10 == 0:
            ids.update(new_ids())
        schema = tools[tool]["inputSchema"]
        arguments = {
            name: example(name, of_name)
            for name, of_name in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or data.draw(st.booleans())
        }
        method = data.draw(
            st.sampled_from(["tools/call"] * 4 + ["initialize", "ping", "tools/list", "nothing"])
        )
        message = {
            "jsonrpc": "2.0",
            "id": data.draw(st.integers(0, 9)),
            "method": method,
            "params": {"name": tool, "arguments": arguments},
        }
        body = data.draw(bodies(message) | bodies(message) | bodies([message, message]))
        accepted = data.draw(st.sampled_from(ACCEPTED))
        response = rpc(body, data.draw(st.sampled_from(MCP_PATHS)), Accept=accepted)
        check(response, seen)

    seen: Counter[bool] = Counter()
    ask()
    assert min(seen[True], seen[False]) > 0.03 * seen.total(), seen


SPAN = {
    "traceId": "0a" * 16,
    "spanId": "0b" * 8,
    "parentSpanId": "0c" * 8,
    "name": "execute_tool search",
    "kind": 1,
    "startTimeUnixNano": "1700000000000000000",
    "endTimeUnixNano": "1700000000020000000",
    "attributes": [
        {"key": "autotrace.kind", "value": {"stringValue": "task"}},
        {"key": "autotrace.task", "value": {"stringValue": "a task"}},
        {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
        {"key": "gen_ai.tool.name", "value": {"stringValue": "search"}},
        {"key": "gen_ai.tool.call.arguments", "value": {"stringValue": "{}"}},
        {"key": "numbers", "value": {"arrayValue": {"values": [{"intValue": "5"}]}}},
        {"key": "nested", "value": {"kvlistValue": {"values": [{"key": "k", "value": {}}]}}},
    ],
    "events": [{"timeUnixNano": "1700000000010000000", "name": "exception", "attributes": []}],
    "status": {"code": 2, "message": "why"},
}
BATCH = {
    "resourceSpans": [
        {
            "resource": {"attributes": []},
            "scopeSpans": [{"scope": {"name": "any"}, "spans": [SPAN]}],
        }
    ]
}
IDS = st.sampled_from(["01", "02", "03", "ff"])


@st.composite
def several_spans(draw: st.DrawFn) -> dict[str, Any]:
    """Draw batches of which each span is one that might be sent."""
    spans: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        ids = {
            "traceId": draw(IDS) * 16,
            "spanId": draw(IDS) * 8,
            "parentSpanId": draw(st.just("") | IDS.map(lambda two: two * 8)),
        }
        kinds = [
            draw(st.sampled_from(["task", "step", "decision", "other"])),
            draw(st.sampled_from(["a task", "\U0001f600", "x" * 3000])),
        ]
        attributes = [
            {"key": "autotrace.kind", "value": {"stringValue": kinds[0]}},
            {"key": "autotrace.task", "value": {"stringValue": kinds[1]}},
        ]
        names = [
            *("gen_ai.tool.name", "gen_ai.agent.name", "gen_ai.conversation.id"),
            *("autotrace.success", "autotrace.outcome", "autotrace.step.observations"),
            *("autotrace.tool.status", "error.type", "autotrace.decision.id", "autotrace.told_ns"),
            *("gen_ai.operation.name", "gen_ai.tool.call.id", "autotrace.decision.event"),
        ]
        for name in draw(st.lists(st.sampled_from(names), max_size=6)):
            value = draw(
                st.one_of(
                    st.text(max_size=10).map(lambda text: {"stringValue": text}),
                    st.integers(-(2**63), 2**63 - 1).map(lambda n: {"intValue": str(n)}),
                    st.floats(allow_nan=False, allow_infinity=False).map(
                        lambda n: {"doubleValue": n}
                    ),
                    st.booleans().map(lambda flag: {"boolValue": flag}),
                    st.just({"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}]}}),
                    st.just({"kvlistValue": {"values": []}}),
                    st.just({"bytesValue": "AAEC"}),
                    st.just({"stringValue": "execute_tool"}),
                )
            )
            attributes.append({"key": name, "value": value})
        times = draw(st.tuples(*[st.integers(0, 2**64 - 1)] * 2))
        if draw(st.booleans()):
            times = (1_700_000_000_000_000_000 + times[0] % 10**9, 1_700_000_001_000_000_000)
        spans.append(
            SPAN
            | ids
            | {"attributes": attributes}
            | {"startTimeUnixNano": str(times[0]), "endTimeUnixNano": str(times[1])}
        )
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def test_otlp_answers_whatever_is_sent(client: Client) -> None:
    valid = json_format.ParseDict(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a name"}]}]}]},
        ExportTraceServiceRequest(),
    ).SerializeToString()

    def spliced(parts: tuple[bytes, int, bytes]) -> bytes:
        whole, place, patch = parts
        return whole[:place] + patch + whole[place + len(patch) :]

    def as_protobuf(batch: dict[str, Any]) -> bytes:
        for resource in batch["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    for name in ("traceId", "spanId", "parentSpanId"):
                        span[name] = b64encode(bytes.fromhex(span[name])).decode()
        return json_format.ParseDict(batch, ExportTraceServiceRequest()).SerializeToString()

    batches = several_spans()
    damaged = st.tuples(
        batches.map(as_protobuf) | st.just(valid), st.integers(0, 300), st.binary(max_size=8)
    )
    protobuf = st.binary(max_size=80) | damaged.map(spliced) | batches.map(as_protobuf)
    in_json = bodies(BATCH) | batches.map(lambda batch: json.dumps(batch).encode())

    @fuzzing
    @given(
        sent=st.tuples(st.just(PROTOBUF), protobuf) | st.tuples(st.just(JSON), in_json),
        packing=st.sampled_from(["", "", "gzip", "gzip damaged", "deflate", "br"]),
    )
    def send(sent: tuple[str, bytes], packing: str) -> None:
        kind, body = sent
        headers = {"Content-Type": kind}
        if packing:
            headers["Content-Encoding"] = packing.split()[0]
        if packing == "gzip":
            body = gzip.compress(body)
        elif packing == "gzip damaged":
            body = gzip.compress(body)[:-9] + struct.pack("<I", 7)
        check(client("POST", "/v1/traces", content=body, headers=headers), seen)

    seen: Counter[bool] = Counter()
    send()
    assert min(seen[True], seen[False]) > 0.1 * seen.total(), seen
