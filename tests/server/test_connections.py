"""Connections as clients of other languages use them, over a socket."""

from __future__ import annotations

import json
import socket
from typing import Final
from urllib.parse import urlsplit

import pytest

from .serving import TRACES, ServerProcess

BODY: Final = json.dumps({"task": "t", "session_id": "s"}).encode()
H2C: Final = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
"""What Java's client sends with its first request."""


def exchange(server: ServerProcess, *parts: bytes, half_close: bool = False) -> bytes:
    """Send parts of requests; return the response, up to its body's end."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=500) as connection:
        for part in parts:
            connection.sendall(part)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while not answer.endswith(b"}") and (data := connection.recv(65536)):
            answer += data
        return answer


def head_of(server: ServerProcess, more: bytes = b"") -> bytes:
    return (
        f"POST {TRACES}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.first_key()}\r\nContent-Length: {len(BODY)}\r\n"
    ).encode() + (more + b"\r\n")


@pytest.mark.parametrize("upgrade", [H2C, H2C.lower()])
def test_the_body_of_a_request_that_offers_an_upgrade_is_read(
    running: ServerProcess, upgrade: bytes
) -> None:
    for parts in ([head_of(running, upgrade), BODY], [head_of(running, upgrade) + BODY]):
        answer = exchange(running, *parts)
        assert b" 200 OK" in answer
        assert b'"task":"t"' in answer


def test_a_client_that_closes_its_half_gets_its_answer(running: ServerProcess) -> None:
    answer = exchange(running, head_of(running) + BODY, half_close=True)

    assert b" 200 OK" in answer
    assert b"connection: close" in answer.lower()
