"""What is told of from elsewhere goes to the OTLP collector like what a program records."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.server.telling import ALICE, open_service


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = cast("Collector", self.server)
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        collector.spans += [
            span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self.send_response(200)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_collector_gets_each_span_once_it_has_ended(collector: Collector, tmp_path: Path) -> None:
    memory, service = open_service(
        {"store": str(tmp_path / "store"), "otlp_endpoint": collector.url}
    )
    trace_id = service.start("t", "s", by=ALICE).trace_id
    step_id = service.step(trace_id, "think", "act", by=ALICE).step_id
    service.tool_call(
        trace_id, "search", {"token": "t0psecret"}, "no", 420, "error", step_id=step_id, by=ALICE
    )
    assert memory.flush(30)
    assert sorted(span.name for span in collector.spans) == ["execute_tool search", "step"]
    service.complete(trace_id, "done", True, by=ALICE)
    assert memory.flush(30)
    service.stop()
    memory.stop(30)

    by_name = {span.name: span for span in collector.spans}
    assert len(collector.spans) == 3
    task, step, call = (by_name[n] for n in ("invoke_agent alice", "step", "execute_tool search"))
    assert f"trace-{task.trace_id.hex()}-{task.span_id.hex()}" == trace_id
    assert f"step-{step.trace_id.hex()}-{step.span_id.hex()}" == step_id
    assert (step.parent_span_id, call.parent_span_id) == (task.span_id, step.span_id)
    assert call.end_time_unix_nano - call.start_time_unix_nano == 420_000_000
    assert (call.status.code, call.status.message) == (2, "no")
    assert "t0psecret" not in str(collector.spans)


def test_a_collector_that_is_down_keeps_nothing_from_being_recorded(tmp_path: Path) -> None:
    memory, service = open_service(
        {"store": str(tmp_path / "store"), "otlp_endpoint": "http://127.0.0.1:9"}
    )

    trace_id = service.start("t", "s", by=ALICE).trace_id
    service.complete(trace_id, "done", True, by=ALICE)

    assert service.get(trace_id, by=ALICE).status == "completed"
    service.stop()
    memory.stop(0.1)
