"""OTLP in: what a request may hold, and what becomes of more. Both encodings alike."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from autotrace.otlp import decode
from autotrace.otlp.decode import Batch, MalformedBatchError, read_json, read_protobuf
from autotrace.otlp.span import Allowance
from autotrace.traces.assembly import assemble

Request = dict[str, Any]


def protobuf(request: Request) -> Batch:
    message = json_format.ParseDict(request, ExportTraceServiceRequest())
    return read_protobuf(message.SerializeToString())


def as_json(request: Request) -> Batch:
    """Read JSON, which has ids in hexadecimal where `json_format` has base64."""
    text = json.dumps(request).replace("AAAAAAAAAAAAAAAAAAAAAQ==", "00" * 15 + "01")
    return read_json(text.replace("AAAAAAAAAAE=", "00" * 7 + "01").encode())


@pytest.fixture(params=[protobuf, as_json])
def read(request: pytest.FixtureRequest) -> Callable[[Request], Batch]:
    return request.param


def span(**changes: Any) -> Request:
    made = {
        "traceId": "AAAAAAAAAAAAAAAAAAAAAQ==",
        "spanId": "AAAAAAAAAAE=",
        "name": "chat",
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000020000000",
    }
    return made | changes


def request_of(*spans: Request) -> Request:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def attributes(number: int) -> list[Request]:
    return [{"key": f"gen_ai.{n}", "value": {"intValue": str(n)}} for n in range(number)]


def test_spans_beyond_ten_thousand_are_rejected_and_counted(
    read: Callable[[Request], Batch],
) -> None:
    two_scopes = {"resourceSpans": request_of(*[span()] * 6_000)["resourceSpans"] * 2}

    batch = read(two_scopes)

    assert (len(batch.records), batch.rejected) == (10_000, 2_000)
    assert batch.message() == "rejected: 2000 beyond the first 10000 spans of the request"


def test_of_a_span_128_attributes_and_128_events_are_kept(read: Callable[[Request], Batch]) -> None:
    events = [{"name": f"e{n}", "attributes": attributes(130 if n == 0 else 1)} for n in range(140)]

    batch = read(request_of(span(attributes=attributes(131), events=events)))

    (record,) = batch.records
    assert record["attributes"] == {f"gen_ai.{n}": n for n in range(128)}
    assert [event["name"] for event in record["events"]] == [f"e{n}" for n in range(128)]
    assert len(record["events"][0]["attributes"]) == 128
    assert (batch.rejected, batch.message()) == (
        0,
        "events left out beyond 128 of a span: 12;"
        " attributes left out beyond 128 of a span or event: 5",
    )


def test_items_of_an_array_beyond_ten_thousand_are_left_out(
    read: Callable[[Request], Batch],
) -> None:
    many = {"arrayValue": {"values": [{"intValue": "7"}] * 10_001}}
    held = {"key": "gen_ai.a", "value": {"arrayValue": {"values": [many]}}}

    batch = read(request_of(span(attributes=[held])))

    assert batch.records[0]["attributes"] == {"gen_ai.a": [[7] * 10_000]}
    assert batch.message() == "items left out beyond 10000 of an array: 1"


def test_spans_after_half_a_million_values_are_rejected(
    read: Callable[[Request], Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "Batch", lambda: Batch(allowance=Allowance(values=10)))

    batch = read(request_of(span(attributes=attributes(8)), span(attributes=attributes(3)), span()))

    assert len(batch.records) == 1
    assert batch.message() == "rejected: 2 beyond the first 500000 values of the request"


@pytest.mark.parametrize(
    "request_",
    [{"resourceSpans": [{}] * 10_001}, {"resourceSpans": [{"scopeSpans": [{}] * 10_000}]}],
)
def test_a_request_of_too_many_resources_and_scopes_is_refused(
    read: Callable[[Request], Batch], request_: Request
) -> None:
    with pytest.raises(MalformedBatchError, match="At most 10000 are allowed") as caught:
        read(request_)
    assert "more than 10000 resources and scopes" in str(caught.value)


def test_json_of_too_many_values_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode, "loads", None)
    for part in (b"{},", b"[],", b"0,", b'"",', b'{"":[],"":0},'):
        body = b'{"resourceSpans":[' + part * (8 * 1024**2 // len(part)) + b"0]}"
        with pytest.raises(MalformedBatchError, match="more than 1000000 values"):
            read_json(body)


def test_brackets_and_commas_in_texts_are_not_values() -> None:
    text = '{"a": [1, "\\"]}' * 100_000
    held = {"key": "gen_ai.prompt", "value": {"stringValue": text}}

    batch = as_json(request_of(span(attributes=[held])))

    assert (len(batch.records), batch.rejected) == (1, 0)


def test_a_span_that_cannot_be_decoded_costs_itself_alone() -> None:
    good = json_format.ParseDict(request_of(span()), ExportTraceServiceRequest())
    one = good.resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    spans = b"".join(_field(2, body) for body in (one, b"\xff", b"\x2a\xff", one))

    batch = read_protobuf(_field(1, _field(2, spans)))

    assert len(batch.records) == 2
    assert batch.message() == "rejected: 2 that cannot be decoded"


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


_IDS = _field(1, b"\1" * 16) + _field(2, b"\2" * 8)
_TIMES = b"\x39" + (10**18).to_bytes(8, "little") + b"\x41" + (10**18).to_bytes(8, "little")


def _in_span(body: bytes) -> bytes:
    return _field(1, _field(2, _field(2, _IDS + _TIMES + body)))


def _in_value(body: bytes) -> bytes:
    return _in_span(_field(9, _field(1, b"gen_ai.x") + _field(2, body)))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: _field(1, b"") * n,
        lambda n: _field(1, _field(2, b"") * n),
        lambda n: _field(1, _field(2, _field(2, b"") * n)),
        lambda n: _in_span(_field(9, b"") * n),
        lambda n: _in_span(_field(11, b"") * n),
        lambda n: _in_span(_field(13, b"") * n),
        lambda n: _in_value(_field(5, _field(1, b"") * n)),
        lambda n: _in_value(_field(6, _field(1, b"") * n)),
    ],
    ids=["resources", "scopes", "spans", "attributes", "events", "links", "items", "pairs"],
)
def test_what_is_over_a_limit_is_never_made_into_objects(make: Callable[[int], bytes]) -> None:
    def steps(number: int) -> int:
        counted = 0

        def count(*_: Any) -> None:
            nonlocal counted
            counted += 1

        body = make(number)
        gc.disable()  # callbacks of a collection would count, too
        sys.setprofile(count)
        try:
            read_protobuf(body)
        except MalformedBatchError:
            pass
        finally:
            sys.setprofile(None)
            gc.enable()
        return counted

    steps(1)  # makes what the first call of a process makes
    assert steps(400_000) < 1.1 * steps(20_000)


def test_arguments_nested_deeper_than_an_answer_holds_stay_text() -> None:
    for depth, kind in ((90, list), (300, str), (900, str)):
        deep = "[" * depth + "]" * depth
        call = [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}},
            {"key": "gen_ai.tool.call.arguments", "value": {"stringValue": deep}},
            {"key": "gen_ai.tool.call.result", "value": {"stringValue": deep}},
        ]
        task = {"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}
        child = span(attributes=call, parentSpanId="AAAAAAAAAAE=", spanId="AAAAAAAAAAI=")

        (trace,) = assemble(protobuf(request_of(span(attributes=[task]), child)).records)

        (made,) = trace.steps[0].tool_calls
        assert (type(made.arguments), type(made.result)) == (kind, kind)
        trace.model_dump_json()
