"""A proxy in front of a server that can refuse, hang, answer 500s, or break off in mid-exchange."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final, Literal

from tests.servers import free_port

Mode = Literal["pass", "refuse", "hang", "error", "cut"]
_ERROR: Final = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
    b'Content-Length: 19\r\nConnection: close\r\n\r\n{"error":"on fire"}'
)


class Proxy:
    """Hands HTTP requests on to a server on loopback, as long as it is told to.

    In the mode `cut` the server gets each request that changes something and does it, and nobody
    learns of it: the connection is closed in place of the answer.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._mode: Mode = "pass"
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.on_write: Callable[[], Mode] = lambda: self._mode
        """Called with each request that changes something: how to behave in that one."""
        self.requests = 0
        self.set("pass")

    def set(self, mode: Mode) -> None:
        """Behave so from now on, in connections that are open, too."""
        self._mode = mode
        if mode == "refuse":
            self.close()
        elif self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # Without it the thread would stay in accept() and serve one more connection.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, contextlib.ExitStack() as opened:
            server: socket.socket | None = None
            for request in _messages(client):
                self.requests += 1
                method, path, _ = request.split(b" ", 2)
                writes = method == b"POST" and path.endswith((b"/add", b"/upsert", b"/delete"))
                mode = self.on_write() if writes else self._mode
                if mode == "hang":
                    client.recv(1)  # until the client gives up
                    return
                if mode == "error":
                    client.sendall(_ERROR)
                    return
                if server is None:
                    address = ("127.0.0.1", self._server_port)
                    server = opened.enter_context(socket.create_connection(address))
                    answers = _messages(server)
                server.sendall(request)
                answer = next(answers, b"")
                if not answer or (writes and mode == "cut"):
                    return
                client.sendall(answer)


def _messages(connection: socket.socket) -> Iterator[bytes]:
    """Yield whole HTTP messages, each with its body."""
    data = b""
    while True:
        while (end := data.find(b"\r\n\r\n")) < 0:
            if not (more := connection.recv(65536)):
                return
            data += more
        length = 0
        chunked = False
        for line in data[:end].split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            chunked = chunked or (name.lower() == b"transfer-encoding" and b"chunked" in value)
        whole = end + 4 + length
        while (not data.endswith(b"0\r\n\r\n")) if chunked else (len(data) < whole):
            if not (more := connection.recv(65536)):
                return
            data += more
        message, data = (data, b"") if chunked else (data[:whole], data[whole:])
        yield message
