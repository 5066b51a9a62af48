"""Stands between an exporter and a collector, and counts what is sent.

Collectors drop a span id that they have already. That hides an exporter that was added twice, so
"arrives once" has to be counted on the way.
"""

from __future__ import annotations

import gzip
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .collector import DIRECT

FORWARDED_HEADERS = ("Content-Type", "Content-Encoding")


class OtlpRelay:
    """An OTLP/HTTP endpoint on a free loopback port that passes every export on unchanged.

    Args:
        target: Base URL of the collector.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._sent: Counter[tuple[str, str]] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def times_sent(self, trace_id: str) -> dict[str, int]:
        """Return how often each span of one trace was sent, by span id (both hexadecimal)."""
        with self._lock:
            return {span: n for (trace, span), n in self._sent.items() if trace == trace_id}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _count(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self._sent.update(
                (span.trace_id.hex(), span.span_id.hex())
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            )

    def _forward(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        request = urllib.request.Request(
            self._target + path, data=body, headers=headers, method="POST"
        )
        with DIRECT.open(request, timeout=30) as response:
            return response.status, response.read()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {
                    key: value for key in FORWARDED_HEADERS if (value := self.headers.get(key))
                }
                status, answer = relay._forward(self.path, headers, body)
                compressed = self.headers.get("Content-Encoding") == "gzip"
                relay._count(gzip.decompress(body) if compressed else body)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - overridden
                """Say nothing: the counts are what is looked at."""

        return Handler
