"""Grants of `inject()` through a stock OpenTelemetry SDK: its propagator and its exporter."""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.sessions import Session

import autotrace
from autotrace.base import grants
from tests.embedders import HashEmbedder

from .serving import TRACES, App, Client, application
from .test_owners import PATH, a_task, send


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """A server over a store of this test alone."""
    with application(tmp_path / "store") as app:
        yield app


class Wire(BaseAdapter):
    """Carries the exporter's requests to an application in this process, as they are or as JSON."""

    def __init__(self, client: Client, encoding: str) -> None:
        super().__init__()
        self._client = client
        self._encoding = encoding

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        body = request.body
        assert isinstance(body, bytes)
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        if self._encoding == "json":
            body, headers["content-type"] = as_json(body), "application/json"
        headers.pop("content-length", None)
        got = self._client.http.post(PATH, content=body, headers=headers)
        answer = Response()
        answer.status_code = got.status_code
        answer.raw = io.BytesIO(got.content)
        answer.headers.update(got.headers)
        answer.request, answer.url = request, str(request.url)
        return answer

    def close(self) -> None:
        """Hold nothing."""


def as_json(body: bytes) -> bytes:
    """Return a protobuf body in the JSON of OTLP, which writes ids in hex."""
    request = ExportTraceServiceRequest.FromString(body)
    message: Any = MessageToDict(request, use_integers_for_enums=True)
    for resource in message["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(message).encode()


def call_in_another_process(client: Client, headers: dict[str, str], tool: str, wire: str) -> None:
    """Record a tool call as a program with the stock SDK does that was handed these headers."""
    session = Session()
    session.mount("http://", Wire(client, wire))
    provider = TracerProvider()
    exporter = OTLPSpanExporter(
        "http://server" + PATH,
        headers={"Authorization": f"Bearer {client.key}"},
        compression=Compression.NoCompression,
        session=session,
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
    context = TraceContextTextMapPropagator().extract(headers)
    with provider.get_tracer("any").start_as_current_span(tool, context, attributes=attributes):
        pass
    provider.shutdown()


@pytest.mark.parametrize("wire", ["protobuf", "json"])
def test_another_process_adds_with_the_grant_of_inject_and_not_with_another_one(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    ann, bob = app.client("ann"), app.client("bob")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{ann.key}")
    autotrace.configure(str(tmp_path / "of ann"), embedder=HashEmbedder())
    try:
        with autotrace.task("pay"):
            granted: dict[str, str] = autotrace.inject()
            monkeypatch.setattr(grants, "LIFETIME_S", -1)
            expired: dict[str, str] = autotrace.inject()
    finally:
        autotrace.shutdown()
    _, trace, parent, _ = granted["traceparent"].split("-")
    send(ann, a_task(trace, parent, "paid"))
    grant = grants.grant_in(granted["tracestate"])
    assert grant is not None
    forged = grant[:-43] + secrets.token_urlsafe(32)
    for tool, state in (
        ("granted", granted["tracestate"]),
        ("among_others", f"vendor=1,autotrace={grant},other=2"),
        ("expired", expired["tracestate"]),
        ("forged", f"autotrace={forged}"),
        ("without", ""),
    ):
        call_in_another_process(bob, granted | {"tracestate": state}, tool, wire)

    found = ann.get(f"{TRACES}/trace-{trace}-{parent}").json()
    called = [call["tool_name"] for step in found["steps"] for call in step["tool_calls"]]
    assert (found["recorded_by"], sorted(called)) == ("ann", ["among_others", "granted"])
