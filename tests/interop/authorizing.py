"""Stands between a client that cannot send a key and a server that wants one, and adds it."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PER_CONNECTION = ("connection", "content-length", "transfer-encoding", "date", "server")
"""Headers that each connection has of its own."""


class AuthorizingRelay:
    """An HTTP endpoint on a free loopback port that passes every request on with a key.

    Everything else is as the client sent it: its `Host` and its `Origin`, too.

    Args:
        target: Base URL of the server.
        key: The key.
    """

    def __init__(self, target: str, key: str) -> None:
        self._address = urlsplit(target).netloc
        self._key = key
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in PER_CONNECTION}
                headers["Authorization"] = f"Bearer {relay._key}"
                connection = http.client.HTTPConnection(relay._address, timeout=30)
                try:
                    connection.request(self.command, self.path, body or None, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                finally:
                    connection.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in PER_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                with contextlib.suppress(ConnectionError):  # the client has left
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _pass_on

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - overridden
                """Say nothing."""

        return Handler
