"""OTLP in: batches of spans over HTTP, from any SDK."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from autotrace.otlp.decode import (
    Batch,
    MalformedBatchError,
    read_json,
    read_protobuf,
)
from autotrace.otlp.span import MAX_TEXT_CHARS
from autotrace.server.content import ContentError, unpacked
from autotrace.settings import load_settings
from autotrace.traces.reader import Reader
from autotrace.worker.wiring import open_connection
from tests.dialects.dialect_runs import RUNS, TASK
from tests.embedders import HashEmbedder
from tests.server.serving import (
    REPOSITORY,
    TRACES,
    App,
    Client,
    ServerProcess,
    application,
    environment,
)

PATH = "/v1/traces"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TRACE, SPAN = "0a" * 16, "0b" * 8


def span(**changes: Any) -> dict[str, Any]:
    made = {
        "traceId": TRACE,
        "spanId": SPAN,
        "name": "execute_tool search",
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000020000000",
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
            {"key": "gen_ai.tool.name", "value": {"stringValue": "search"}},
        ],
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def batch(*spans: dict[str, Any], scope: str = "any") -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": scope}, "spans": list(spans)}]}]}


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def in_protobuf(request: dict[str, Any]) -> bytes:
    """Encode a request of OTLP's JSON in protobuf."""
    import base64

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else with_base64(item)
            for key, item in value.items()
        }

    message = json_format.ParseDict(with_base64(request), ExportTraceServiceRequest())
    return message.SerializeToString()


@pytest.fixture
def client(app: App) -> Client:
    """A key of a tenant that no other test uses."""
    tenant = f"otlp-{len(app.clients)}"
    return app.client("ann", "agent", tenant)


def calls(client: Client) -> dict[str, int]:
    found = client.get(f"{TRACES}/tool_stats").json()["tool_stats"]
    return {tool["tool_name"]: tool["call_count"] for tool in found}


# --- secrets


def test_a_token_in_a_span_of_any_program_is_not_stored(client: Client) -> None:
    token = "hf_" + "aB3d" * 9
    agent = span(
        spanId="0d" * 8,
        name="invoke_agent x",
        attributes=[attribute("gen_ai.operation.name", stringValue="invoke_agent")],
    )
    sent = span(
        parentSpanId="0d" * 8,
        status={"code": 2, "message": f"401 for {token}"},
        attributes=[
            attribute("gen_ai.operation.name", stringValue="execute_tool"),
            attribute("gen_ai.tool.name", stringValue="fetch"),
            attribute("gen_ai.tool.call.arguments", stringValue=json.dumps({"url": token})),
            attribute("gen_ai.tool.call.result", stringValue=f"saw {token}"),
        ],
    )
    assert client.post(PATH, batch(agent, sent)).status_code == 200

    listed = client.get(f"{TRACES}?limit=10").json()["traces"]
    stored = json.dumps([client.get(f"{TRACES}/{each['trace_id']}").json() for each in listed])
    assert "[REDACTED]" in stored
    assert token not in stored


# --- the same as in the process itself


def test_what_a_stock_sdk_sends_gives_the_same_traces_as_recording_in_process(
    running: ServerProcess, tmp_path: Path
) -> None:
    key = running.first_key()
    stock = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": running.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{key}",
    }
    subprocess.run(
        [sys.executable, "-m", "tests.server.otlp_agent", str(tmp_path / "store")],
        env=environment(**stock),
        cwd=REPOSITORY,
        check=True,
        timeout=500,
    )
    connection = open_connection(load_settings(store=str(tmp_path / "store")), HashEmbedder.space)
    reader = Reader(connection, HashEmbedder())
    listed = reader.list_traces(limit=100)
    in_process = [reader.get_trace(trace.trace_id) for trace in listed]

    assert {trace.task for trace in in_process} >= {"Find a place", "A part of it", "Fail", "Ask"}
    over_otlp = [_get(running, key, f"{TRACES}/{trace.trace_id}") for trace in listed]
    by_key = {"recorded_by": agent_of(over_otlp)}
    assert over_otlp == [trace.model_dump(mode="json") | by_key for trace in in_process]
    told = _get(running, key, f"{TRACES}?limit=1000")["traces"]
    mine = [trace.model_dump(mode="json") | by_key for trace in listed]
    assert [each for each in told if each in mine] == mine
    statistics = [tool.model_dump(mode="json") for tool in reader.tool_stats()]
    assert len(statistics) == 6
    over_otlp = _get(running, key, f"{TRACES}/tool_stats")["tool_stats"]
    assert [tool for tool in over_otlp if tool in statistics] == statistics
    connection.close()


def agent_of(traces: list[Any]) -> str:
    """Return the agent of the key with which all of them came."""
    (agent,) = {trace["recorded_by"] for trace in traces}
    assert agent
    return agent


def _get(server: ServerProcess, key: str, path: str) -> Any:
    import urllib.request

    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=500) as response:
        return json.load(response)


def test_both_encodings_of_a_batch_give_the_same_records() -> None:
    request = batch(
        span(
            parentSpanId="0c" * 8,
            flags=0x300,
            status={"code": 2, "message": "no"},
            events=[
                {
                    "name": "exception",
                    "timeUnixNano": "1700000000000000001",
                    "attributes": [attribute("exception.message", stringValue="no")],
                }
            ],
            attributes=[
                attribute("gen_ai.a", stringValue="Zoë 🎉"),
                attribute("b", intValue="-9007199254740993"),
                attribute("c", doubleValue=0.5),
                attribute("d", boolValue=True),
                attribute("e", bytesValue="AP8="),
                attribute("f", arrayValue={"values": [{"intValue": "1"}, {"stringValue": "x"}]}),
                attribute("g", kvlistValue={"values": [attribute("h", boolValue=False)]}),
            ],
        ),
        span(spanId="0d" * 8, attributes=[], parentSpanId=SPAN),
        span(spanId="0e" * 8, attributes=[]),
    )

    from_json = read_json(json.dumps(request).encode())

    assert from_json == read_protobuf(in_protobuf(request))
    whole, place, root = from_json.records
    assert whole["attributes"] == {
        "gen_ai.a": "Zoë 🎉",
        "b": -9007199254740993,
        "c": 0.5,
        "d": True,
        "e": "\x00\\xff",
        "f": [1, "x"],
        "g": {"h": False},
    }
    assert (whole["scope"], whole["remote"], whole["message"]) == ("any", True, "no")
    assert place.keys() == {"trace", "id", "parent", "start_ns", "end_ns", "skeleton"}
    assert (root["parent"], root["name"]) == (None, "execute_tool search")


def test_json_of_protobuf_is_read_in_all_the_forms_that_it_may_have() -> None:
    attributes = [
        attribute("gen_ai.a", intValue=7.0),
        attribute("b", intValue="1e2"),
        attribute("c", doubleValue="-1.5"),
        attribute("d", bytesValue="-_8"),
        attribute("e", doubleValue="Infinity"),
        {"key": "f", "value": {}},
        {"key": "g", "value": None},
    ]
    times = {"startTimeUnixNano": 1.7e18, "endTimeUnixNano": "1.70000000002e18"}
    status = {"code": "STATUS_CODE_ERROR", "message": "no"}
    request = batch(span(kind="SPAN_KIND_CLIENT", status=status, attributes=attributes, **times))

    read = read_json(json.dumps(request).encode())

    assert read.message() == ""
    (record,) = read.records
    assert (record["start_ns"], record["end_ns"]) == (17 * 10**17, 1_700_000_000_020_000_000)
    assert (record["status"], record["message"]) == (2, "no")
    assert record["attributes"] == {
        "gen_ai.a": 7,
        "b": 100,
        "c": -1.5,
        "d": "\\xfb\\xff",
        "e": float("inf"),
    }


def test_nan_as_python_writes_it_and_an_item_that_is_not_an_object_cost_no_batch() -> None:
    numbers = [attribute("gen_ai.a", doubleValue=float("nan")), attribute("b", doubleValue=1e999)]
    body = json.dumps(batch(span(attributes=numbers), None, "x"))  # pyright: ignore[reportArgumentType]

    read = read_json(body.encode())

    assert str(read.records[0]["attributes"]) == "{'gen_ai.a': nan, 'b': inf}"
    assert read.message() == "rejected: 2 with a field that should be an object"


def test_a_key_of_autotrace_is_in_no_record_and_its_redaction_is_said() -> None:
    secret = "x" * 43 + "1jtqe0"
    key = f"atk_0123456789ab_{secret}"
    within = [attribute("k", stringValue=f"Bearer {key}"), attribute(key, stringValue="v")]
    request = batch(
        span(
            name=f"call {key}",
            status={"code": 2, "message": f"401 for {key}"},
            events=[{"name": key, "timeUnixNano": "1700000000000000001", "attributes": within}],
            attributes=[
                attribute("gen_ai.prompt", stringValue=f"use {key}, or {key}"),
                attribute("gen_ai.list", arrayValue={"values": [{"stringValue": key}]}),
                attribute("gen_ai.map", kvlistValue={"values": within}),
                attribute("url.full", stringValue=f"https://x/?key={key}&a=1"),
                attribute(f"gen_ai.{key}", stringValue="v"),
                attribute("gen_ai.long", stringValue="x" * (MAX_TEXT_CHARS - 30) + key),
            ],
        )
    )

    read = read_json(json.dumps(request).encode())

    assert read == read_protobuf(in_protobuf(request))
    (record,) = read.records
    assert "xxxxx" not in str(record).replace("x" * (MAX_TEXT_CHARS - 30), "")
    assert record["attributes"]["gen_ai.prompt"] == (
        "use atk_0123456789ab_[REDACTED], or atk_0123456789ab_[REDACTED]"
    )
    assert record["attributes"]["url.full"] == "https://x/?key=atk_0123456789ab_[REDACTED]&a=1"
    assert (read.rejected, read.message()) == (0, "keys of autotrace redacted: 13")


# --- text that is not Unicode


def test_half_a_character_in_json_costs_that_character_alone() -> None:
    texts = {
        "half": ('"cut \\ud83c"', "cut \ufffd"),
        "other half": ('"\\uDF89 cut"', "\ufffd cut"),
        "whole": ('"\\ud83c\\udf89"', "\U0001f389"),
        "escaped": (r'"\\ud83c"', r"\ud83c"),
        "json in json": (r'"{\"a\": \"\\ud83c\"}"', r'{"a": "\ud83c"}'),
    }
    attributes = [attribute(f"gen_ai.{name}", stringValue=name) for name in texts]
    body = json.dumps(batch(span(attributes=attributes), span(spanId="1b" * 8)))
    for name, (text, _) in texts.items():
        body = body.replace(f'"stringValue": "{name}"', f'"stringValue": {text}')

    read = read_json(b"\xef\xbb\xbf" + body.encode())

    assert [record["id"] for record in read.records] == [SPAN, "1b" * 8]
    assert read.records[0]["attributes"] == {
        f"gen_ai.{name}": expected for name, (_, expected) in texts.items()
    }
    assert (read.rejected, read.message()) == (0, "characters replaced that are not Unicode: 2")


@pytest.mark.parametrize(
    ("text", "expected", "replaced"),
    [
        (b"cut \xed\xa0\xbc.", "cut \ufffd.", 1),
        (b"\xed\xa0\xbc\xed\xbe\x89", "\U0001f389", 0),  # as CESU-8 spells it
        (b"\xff\xc3", "\ufffd\ufffd", 2),
    ],
)
@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_bytes_that_are_not_utf8_cost_a_character_wherever_they_are(
    encoding: str, text: bytes, expected: str, replaced: int
) -> None:
    mark = "Q" * len(text)
    held = {
        "name": mark,
        "attributes": [attribute(f"gen_ai.{mark}", stringValue=mark)],
        "status": {"code": 2, "message": mark},
        "events": [{"name": mark, "attributes": []}],
    }
    request = batch(span(**held), span(spanId="1b" * 8))
    body = in_protobuf(request) if encoding == "protobuf" else json.dumps(request).encode()
    read = (read_protobuf if encoding == "protobuf" else read_json)(
        body.replace(b"Q" * len(text), text)
    )

    first, second = read.records
    assert second["id"] == "1b" * 8
    assert (first["name"], first["message"], first["events"][0]["name"]) == (expected,) * 3
    assert first["attributes"] == {f"gen_ai.{expected}": expected}
    said = f"characters replaced that are not Unicode: {5 * replaced}" if replaced else ""
    assert (read.rejected, read.message()) == (0, said)


def test_arguments_in_json_with_half_a_character_are_still_an_object(client: Client) -> None:
    arguments = attribute("gen_ai.tool.call.arguments", stringValue='{"q": "cut \\ud83c"}')
    one = span(attributes=[*span()["attributes"], arguments])

    assert client.post(PATH, batch(agent_span(), {**one, "parentSpanId": "1b" * 8})).json() == {}

    (trace,) = client.get(TRACES).json()["traces"]
    (step,) = client.get(f"{TRACES}/{trace['trace_id']}").json()["steps"]
    assert [call["arguments"] for call in step["tool_calls"]] == [{"q": "cut \ufffd"}]


def agent_span() -> dict[str, Any]:
    operation = attribute("gen_ai.operation.name", stringValue="invoke_agent")
    return span(spanId="1b" * 8, name="invoke_agent a", attributes=[operation])


# --- the protocol


NOTHING_KNOWN = "an ExportTraceServiceRequest has resourceSpans, scopeSpans and spans"


@pytest.mark.parametrize(
    ("request_", "unknown"),
    [
        ({"resource_spans": [{}], "b": 1, "c": 1, "d": 1}, "'b', 'c', 'd'"),
        ({"resourceLogs": []}, "'resourceLogs'"),
        ({"jsonrpc": "2.0", "method": "ping"}, "'jsonrpc', 'method'"),
        ({"resourceSpans": [{"instrumentationLibrarySpans": []}]}, "'instrumentationLibrarySpans'"),
        ({"resourceSpans": [{"scopeSpans": [{"x" * 99: 1}]}]}, f"'{'x' * 40}'"),
        ({}, None),
        (
            {"resourceSpans": [{"resource": {}, "schemaUrl": "", "scopeSpans": [{"scope": {}}]}]},
            None,
        ),
        ({"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}], "more": 1}, None),
    ],
)
def test_a_request_in_which_nothing_is_known_gets_the_warning_of_the_specification(
    client: Client, request_: dict[str, Any], unknown: str | None
) -> None:
    answer = client.post(PATH, request_)

    assert answer.status_code == 200
    partial = answer.json().get("partialSuccess", {})
    if unknown is None:
        assert NOTHING_KNOWN not in partial.get("errorMessage", "")
    else:
        assert partial["rejectedSpans"] == "0"
        assert f"({unknown})" in partial["errorMessage"]
        assert NOTHING_KNOWN in partial["errorMessage"]


@pytest.mark.parametrize(
    ("body", "warned"),
    [
        (b"\x98\x06\x01", True),  # field 99
        (b"\x08\x01", True),  # field 1, but a number
        (b"\x0a\x05\xc2\x3e\x02\x12\x00", True),  # field 1000 of a resource
        (b"\x0a\x06\x12\x04\x98\x06\x01\x00", None),
        (b"", False),
        (b"\x0a\x04\x0a\x00\x12\x00", False),  # a resource and a scope without spans
    ],
)
def test_so_does_one_in_protobuf(body: bytes, warned: bool | None) -> None:
    if warned is None:
        with pytest.raises(MalformedBatchError):
            read_protobuf(body)
    else:
        assert (NOTHING_KNOWN in read_protobuf(body).message()) is warned


@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_batch_at_another_path_is_refused_with_the_right_one(
    client: Client, path: str, encoding: str
) -> None:
    pack = gzip.compress if encoding == "gzip" else bytes
    compressed = {"Content-Encoding": encoding}

    protobuf = client(
        "POST", path, content=pack(in_protobuf(batch(span()))), headers=PROTOBUF | compressed
    )
    as_json = client(
        "POST",
        path,
        content=pack(json.dumps(batch(span())).encode()),
        headers={"Content-Type": "application/json"} | compressed,
    )

    assert protobuf.status_code == 404
    assert "at /v1/traces" in Status.FromString(protobuf.content).message
    assert as_json.status_code == 404
    assert "at /v1/traces" in as_json.text
    assert calls(client) == {}
    for wrong in ("/v1/traces/", "/v1/logs", "/v1/traces/v1/traces"):
        assert "spans are taken at /v1/traces" in client.post(wrong, batch(span())).text


def test_a_full_batch_of_an_sdk_with_long_messages_is_taken(client: Client) -> None:
    text = attribute("gen_ai.tool.call.result", stringValue="A long prompt. " * 2_000)
    spans = [
        span(spanId=f"{number:016x}", attributes=[*span()["attributes"], text])
        for number in range(1, 513)
    ]

    answer = client.post(PATH, batch(*spans))

    assert (answer.status_code, answer.json()) == (200, {})
    assert calls(client) == {"search": 512}


def test_a_batch_in_json_is_there_when_it_is_answered(client: Client) -> None:
    answer = client.post(PATH, batch(span()))

    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["Content-Type"] == "application/json"
    assert calls(client) == {"search": 1}


def without_header(body: bytes) -> bytes:
    """Return a body as deflate alone, as some clients send it (RFC 9110, section 8.4.1.2)."""
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(body) + packing.flush()


PACKED = {
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", without_header),
}


@pytest.mark.parametrize("packed", PACKED)
def test_a_batch_in_protobuf_is_answered_in_protobuf(client: Client, packed: str) -> None:
    encoding, pack = PACKED[packed]
    body = pack(in_protobuf(batch(span(), {**span(), "spanId": "00" * 8})))
    headers = PROTOBUF | {"Content-Encoding": encoding}

    answer = client("POST", PATH, content=body, headers=headers)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, PROTOBUF["Content-Type"])
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message == "rejected: 1 with a span id of zeros"
    assert calls(client) == {"search": 1}


def test_spans_of_every_resource_and_scope_count(client: Client) -> None:
    first, second = batch(span()), batch(span(spanId="1b" * 8), scope="other")
    second["resourceSpans"][0]["scopeSpans"] *= 2  # the same span twice
    both = {"resourceSpans": first["resourceSpans"] + second["resourceSpans"] + [{}]}

    assert client.post(PATH, both).status_code == 200

    assert calls(client) == {"search": 2}


def test_a_batch_that_is_sent_again_changes_nothing(client: Client) -> None:
    for _ in range(3):
        assert client.post(PATH, batch(span(), span(spanId="1b" * 8))).status_code == 200
        assert calls(client) == {"search": 2}


def test_fields_that_are_not_known_are_ignored(client: Client) -> None:
    request = batch(span(linksDropped=[1], kind=99, traceState="a=b", links=[{"x": None}]))

    assert client.post(PATH, request | {"more": {}}).json() == {}
    assert calls(client) == {"search": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"traceId": "ab"}, "with a trace id that is not of 16 bytes"),
        ({"traceId": "zz" * 16}, "with a trace id that is not hexadecimal (base64 is not taken)"),
        ({"traceId": None}, "with a trace id that is not of 16 bytes"),
        ({"traceId": "00" * 16}, "with a trace id of zeros"),
        ({"spanId": "0b" * 7}, "with a span id that is not of 8 bytes"),
        ({"parentSpanId": "0b" * 9}, "with a parent span id that is not of 8 bytes"),
        ({"startTimeUnixNano": None}, "without a start time"),
        ({"endTimeUnixNano": "0"}, "without an end time"),
        ({"endTimeUnixNano": str(2**64 - 1)}, "with a time beyond the year 2262"),
        ({"endTimeUnixNano": "1" * 5000}, "with a end time of more than 64 bits"),
        ({"startTimeUnixNano": "yesterday"}, "with a start time that is no whole number"),
        ({"status": {"code": 9}}, "with a status code that does not exist"),
        ({"startTimeUnixNano": "1.5e0"}, "with a start time that is no whole number"),
        ({"endTimeUnixNano": "1e900"}, "with a end time of more than 64 bits"),
        ({"endTimeUnixNano": 1e300}, "with a end time of more than 64 bits"),
        ({"status": {"code": "ERROR"}}, "with a status code that is no whole number"),
        ({"attributes": ["x"]}, "with a field that should be an object"),
        ({"attributes": {"a": 1}}, "with a field that should be an array"),
        ({"attributes": [{"key": "a", "value": "x"}]}, "with a field that should be an object"),
        ({"attributes": [attribute("a", intValue=7.5)]}, "with a value that is no whole number"),
        ({"attributes": [attribute("a", doubleValue="x")]}, "with a value of no known type"),
        ({"attributes": [attribute("a", blob=1)]}, "with a value of no known type"),
        ({"attributes": [attribute("a", bytesValue="?")]}, "with bytes that are not base64"),
    ],
)
def test_a_span_that_cannot_be_kept_costs_itself_alone(
    changes: dict[str, Any], reason: str
) -> None:
    request = batch(span(spanId="1b" * 8), span(**changes), span(spanId="2b" * 8))

    read = read_json(json.dumps(request).encode())

    assert [record["id"] for record in read.records] == ["1b" * 8, "2b" * 8]
    assert (read.rejected, read.message()) == (1, f"rejected: 1 {reason}")


def test_what_is_too_long_or_too_deep_is_cut_and_said() -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(60):
        value = {"arrayValue": {"values": [value]}}
    long = attribute("gen_ai.long", stringValue="x" * (MAX_TEXT_CHARS + 1))
    deep = {"key": "gen_ai.deep", "value": value}

    read = read_json(json.dumps(batch(span(attributes=[long, deep]))).encode())

    assert (read.rejected, read.message()) == (0, "texts cut at 1048576 characters: 1")
    assert len(str(read.records[0])) < MAX_TEXT_CHARS + 1000
    too_much = [attribute(f"gen_ai.{n}", stringValue="x" * MAX_TEXT_CHARS) for n in range(9)]
    assert read_json(json.dumps(batch(span(attributes=too_much))).encode()).rejected == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"[]", 400),
        ({"Content-Type": "application/json"}, b'{"resourceSpans": 1}', 400),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 400),
        (PROTOBUF, b"\xff\xff\xff", 400),
        (PROTOBUF | {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 99, mtime=0)[:-9], 400),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_for_good(
    client: Client, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = client("POST", PATH, content=body, headers=headers)

    assert answer.status_code == status
    assert "Retry-After" not in answer.headers
    if headers["Content-Type"] == PROTOBUF["Content-Type"]:
        assert Status.FromString(answer.content).message
    else:
        assert answer.json()["message"]


def test_without_a_key_nothing_is_taken(app: App) -> None:
    for headers in ({}, {"Authorization": "Bearer atk_wrong"}):
        answer = app.http.post(PATH, json=batch(span()), headers=headers)
        assert answer.status_code == 401
        assert "WWW-Authenticate" in answer.headers


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A server that takes little at once."""
    limits = {"max_batch_bytes": 4096, "requests_per_second": 0.5, "request_burst": 6}
    with application(tmp_path_factory.mktemp("small") / "store", **limits) as running:
        yield running


@pytest.mark.parametrize(
    "packed", [gzip.compress, zlib.compress, lambda b: gzip.compress(b, mtime=0) * 2]
)
def test_a_small_body_that_unpacks_to_a_large_one_is_refused(small: App, packed: Any) -> None:
    bomb = packed(b"\0" * 50_000_000)[:4096]
    encoding = "deflate" if packed is zlib.compress else "gzip"

    answer = small.client()(
        "POST", PATH, content=bomb, headers=PROTOBUF | {"Content-Encoding": encoding}
    )

    assert answer.status_code == 413
    assert "4096 bytes" in Status.FromString(answer.content).message


def no_costs(_: int) -> None:
    """Count nothing."""


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_of_several_members_is_joined(encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    parts = [b"", b"a" * 10, bytes(range(256)) * 5_000, b"", b"z"]

    packed = b"".join(map(pack, parts))

    assert unpacked(packed, encoding, 2_000_000, no_costs) == b"".join(parts)
    for cut in (packed[:-1], packed[:30], packed + packed[:5]):
        with pytest.raises(ContentError, match="cut off"):
            unpacked(cut, encoding, 4_000_000, no_costs)
    with pytest.raises(ContentError, match=f"is not {encoding}"):
        unpacked(packed + b"garbage", encoding, 2_000_000, no_costs)


def test_a_body_of_more_than_a_thousand_members_is_refused() -> None:
    empty = gzip.compress(b"")

    assert unpacked(empty * 1_000, "gzip", 10, no_costs) == b""
    with pytest.raises(ContentError, match="more than 1000 members"):
        unpacked(empty * 400_000, "gzip", 10, no_costs)


def test_who_sends_too_often_is_told_when_to_come_back(small: App) -> None:
    hasty = small.client("hasty")

    answers = [hasty.post(PATH, {}) for _ in range(8)]

    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_what_is_not_on_disk_is_to_be_sent_again(tmp_path: Path) -> None:
    with application(tmp_path / "store") as app:
        client = app.client()
        spool = app.served.settings.spool_path
        spool.parent.mkdir(parents=True, exist_ok=True)
        spool.write_text("in the way")  # of the folder

        answer = client.post(PATH, batch(span()))

        assert (answer.status_code, answer.json()["code"]) == (503, 14)
        assert int(answer.headers["Retry-After"]) >= 1
        assert str(tmp_path) not in answer.text
        spool.unlink()
        assert client.post(PATH, batch(span())).status_code == 200
        assert calls(client) == {"search": 1}


# --- whose it is


def test_spans_of_another_agents_open_trace_are_rejected(app: App) -> None:
    owner, other = app.client("owner"), app.client("other")
    body = {"task": "Mine", "session_id": "s"}
    trace_id = owner.post(f"{TRACES}/start", body).json()["trace_id"]
    _, otel_trace, task_span = trace_id.split("-")
    below = span(traceId=otel_trace, parentSpanId=task_span)
    same = span(traceId=otel_trace, spanId=task_span)

    answer = other.post(PATH, batch(below, same)).json()["partialSuccess"]

    assert answer["rejectedSpans"] == "2"
    assert answer["errorMessage"].startswith("rejected: 2 of a trace that belongs to another agent")
    assert owner.get(f"{TRACES}/{trace_id}").json()["status"] == "active"
    assert owner.post(PATH, batch(below)).json() == {}
    (step,) = owner.get(f"{TRACES}/{trace_id}").json()["steps"]
    assert [call["tool_name"] for call in step["tool_calls"]] == ["search"]


def test_nobody_says_over_otlp_what_became_of_a_decision(client: Client) -> None:
    told = span(
        attributes=[
            {"key": "autotrace.kind", "value": {"stringValue": "decision"}},
            {"key": "autotrace.decision.id", "value": {"stringValue": "decision-1"}},
        ]
    )

    answer = client.post(PATH, batch(told)).json()["partialSuccess"]

    assert answer["errorMessage"] == "rejected: 1 that are events of decisions"


def test_another_tenant_does_not_see_them(app: App) -> None:
    app.client("a", tenant="tenant-a").post(PATH, batch(span()))

    assert calls(app.client("a", tenant="tenant-b")) == {}


# --- other instrumentations


def test_a_run_of_another_instrumentation_is_a_trace_that_is_recalled(client: Client) -> None:
    for record in sorted(RUNS["genai"](), key=lambda r: r.get("end_ns", 0)):
        told = span(
            traceId=record["trace"],
            spanId=record["id"],
            parentSpanId=record.get("parent"),
            name=record.get("name"),
            startTimeUnixNano=str(record["start_ns"]),
            endTimeUnixNano=str(record.get("end_ns")),
            status={"code": record.get("status", 0), "message": record.get("message", "")},
            attributes=[
                attribute(key, stringValue=value)
                for key, value in record.get("attributes", {}).items()
            ],
        )
        assert client.post(PATH, batch(told)).json() == {}

    found = client.post(f"{TRACES}/recall", {"query": TASK}).json()["results"]
    assert [(each["task"], each["tool_sequence"]) for each in found] == [(TASK, ["search", "maps"])]
    assert calls(client) == {"search": 1, "maps": 1}


# --- whatever is sent

keys = st.sampled_from(
    [
        *("resourceSpans", "scopeSpans", "scope", "spans", "traceId", "spanId", "attributes"),
        *("startTimeUnixNano", "endTimeUnixNano", "events", "status", "code", "key", "value"),
        *("stringValue", "intValue", "arrayValue", "values", "name", "flags", "kvlistValue"),
    ]
)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60)
@given(changes=st.dictionaries(keys, junk, max_size=4), wrapped=st.booleans(), whole=junk)
def test_no_json_makes_reading_fail(changes: Any, wrapped: bool, whole: Any) -> None:
    request = batch(span(**changes)) if wrapped else whole
    read = None
    with contextlib.suppress(MalformedBatchError):
        read = read_json(json.dumps(request).encode())
    assert not wrapped or (read and len(read.records) + read.rejected == 1)


@settings(max_examples=40)
@given(data=st.data())
def test_no_bytes_make_reading_protobuf_fail(data: st.DataObject) -> None:
    body = bytearray(in_protobuf(batch(span(parentSpanId=SPAN, status={"code": 1}))))
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedBatchError):
        assert isinstance(read_protobuf(bytes(body)), Batch)


# --- the documentation


def test_the_program_in_the_documentation_leaves_a_trace(
    running: ServerProcess, tmp_path: Path
) -> None:
    document = (REPOSITORY / "docs" / "reference" / "otlp.md").read_text("utf-8")
    program = document.partition("```python\n")[2].partition("```")[0]
    key = running.first_key()
    stock = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": running.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{key}",
    }

    subprocess.run(
        [sys.executable, "-c", program],
        env=environment(**stock),
        cwd=tmp_path,
        check=True,
        timeout=500,
    )

    (listed,) = _get(running, key, f"{TRACES}?agent=concierge&limit=1")["traces"]
    trace = _get(running, key, f"{TRACES}/{listed['trace_id']}")
    assert (trace["task"], trace["outcome"], trace["session_id"]) == (
        "Find a table near the venue",
        "Perbacco at eight",
        "s1",
    )
    (call,) = trace["steps"][0]["tool_calls"]
    assert (call["arguments"], call["result"]) == ({"near": "venue"}, ["Perbacco"])
