"""A local HTTP server that takes in everything: `python -m benchmarks.peers.sink FILE PORT`.

It prints its port, and answers every request at once: with nothing, or with what the recorder's own
server would answer (by end of path, in the environment variable `SINK_ANSWERS`). Bodies are
only written down while it runs, so that it takes little of the machine; they are read afterwards.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

ANSWERS_VARIABLE = "SINK_ANSWERS"


class Sink(ThreadingHTTPServer):
    """The server.

    Args:
        port: Where to listen; 0: anywhere.
        file: Where bodies are written to.
        answers: What to answer with, by end of path: text, or what becomes JSON.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, file: BinaryIO, answers: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._file = file
        self._lock = threading.Lock()
        self._answers = {
            end: (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            for end, answer in answers.items()
        }

    def keep(self, path: str, encoding: str, body: bytes) -> None:
        """Write a body down."""
        head = json.dumps({"path": path, "encoding": encoding, "length": len(body)}).encode()
        with self._lock:
            self._file.write(head + b"\n" + body)

    def answer(self, path: str) -> bytes:
        """Return what the path is answered with."""
        return next((body for end, body in self._answers.items() if path.endswith(end)), b"")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _take(self) -> None:
        sink = self.server
        assert isinstance(sink, Sink)
        path = urlsplit(self.path).path
        body = self._body()
        if body:
            sink.keep(path, self.headers.get("Content-Encoding", ""), body)
        answer = sink.answer(path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        if answer:
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = _take

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks: list[bytes] = []
        while length := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
        """Say nothing of each request."""


def bodies(file: Path) -> Iterator[bytes]:
    """Return what a sink has kept, decompressed."""
    with file.open("rb") as kept:
        while head := kept.readline():
            about = json.loads(head)
            yield _decompressed(kept.read(about["length"]), about["encoding"])


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding == "zstd":
        # Not in the standard library; whoever sends it has it in its environment.
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return body


def main() -> None:
    """Serve until the process is ended."""
    file_name, port = sys.argv[1:]
    with Path(file_name).open("ab", buffering=0) as file:
        sink = Sink(int(port), file, json.loads(os.environ.get(ANSWERS_VARIABLE, "{}")))
        print(sink.server_port, flush=True)
        sink.serve_forever()


if __name__ == "__main__":
    main()
