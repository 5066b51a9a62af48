"""Bodies that are compressed, or not in UTF-8: the same words over REST, MCP and OTLP."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any, Final

import pytest
from google.rpc.status_pb2 import Status

from .serving import TRACES, App, Client, problem

JSON: Final = {"Content-Type": "application/json"}
BODIES: Final[dict[str, Any]] = {
    f"{TRACES}/start": {"task": "Zoë", "session_id": "s"},
    "/mcp": {"jsonrpc": "2.0", "id": 7, "method": "ping"},
    "/v1/traces": {"resourceSpans": []},
}
SURFACES: Final = pytest.mark.parametrize("path", BODIES)


@pytest.fixture(scope="module")
def client(app: App) -> Client:
    return app.client()


def text_of(path: str) -> str:
    return json.dumps(BODIES[path], ensure_ascii=False)


def without_header(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


def cut_gzip(body: bytes) -> bytes:
    return gzip.compress(body)[:-9]


def in_charset(name: str) -> Callable[[bytes], bytes]:
    return lambda body: body.decode().encode(name)


def message_of(answer: Any) -> str:
    return answer.json().get("message") or problem(answer)["msg"]


@SURFACES
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("identity, gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", without_header),
        ("", bytes),
        ("identity", bytes),
    ],
)
def test_a_compressed_body_is_taken(client: Client, path: str, encoding: str, pack: Any) -> None:
    headers = JSON | {"Content-Encoding": encoding}

    answer = client("POST", path, content=pack(text_of(path).encode()), headers=headers)

    assert answer.status_code == 200, answer.text
    assert "error" not in answer.json()


@SURFACES
@pytest.mark.parametrize(
    ("headers", "pack", "status", "words"),
    [
        ({"Content-Encoding": "br"}, bytes, 415, "the Content-Encoding is 'br'"),
        ({"Content-Encoding": "zstd"}, bytes, 415, "One of gzip and deflate"),
        ({"Content-Encoding": "gzip, gzip"}, gzip.compress, 415, "'gzip, gzip'"),
        ({"Content-Encoding": "gzip"}, bytes, 400, "not gzip, which its Content-Encoding names"),
        (
            {"Content-Encoding": "gzip"},
            cut_gzip,
            400,
            "gzip that is cut off",
        ),
        ({}, gzip.compress, 400, "`Content-Encoding: gzip`"),
        ({"Content-Type": "application/json; charset=latin-1"}, bytes, 415, "'latin-1'"),
        ({"Content-Type": 'application/json;charset="UTF-16"'}, bytes, 415, "'utf-16'"),
        ({}, in_charset("utf-16"), 400, "UTF-16 or UTF-32"),
        ({}, in_charset("utf-16-be"), 400, "UTF-16 or UTF-32"),
        ({}, in_charset("utf-32"), 400, "UTF-16 or UTF-32"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_the_reason(
    client: Client, path: str, headers: dict[str, str], pack: Any, status: int, words: str
) -> None:
    answer = client("POST", path, content=pack(text_of(path).encode()), headers=JSON | headers)

    assert answer.status_code == status, answer.text
    assert words in message_of(answer)
    assert answer.headers.get("Accept-Encoding") == ("gzip, deflate" if status == 415 else None)


@SURFACES
def test_a_byte_order_mark_and_a_charset_of_utf_8_are_taken(client: Client, path: str) -> None:
    for body in (text_of(path).encode(), text_of(path).encode("utf-8-sig")):
        for charset in ("", "; charset=utf-8", ';charset="UTF-8"', "; Charset=utf8; x=y"):
            headers = {"Content-Type": f"application/json{charset}"}
            answer = client("POST", path, content=body, headers=headers)
            assert answer.status_code == 200, (charset, answer.text)
            assert "error" not in answer.json()


def test_a_small_body_that_unpacks_to_a_large_one_is_refused_everywhere(client: Client) -> None:
    bomb = gzip.compress(b" " * 40_000_000)
    for path in BODIES:
        headers = JSON | {"Content-Encoding": "gzip"}
        answer = client("POST", path, content=bomb, headers=headers)
        assert answer.status_code == 413, answer.text
        assert "when it is unpacked" in message_of(answer)


def test_the_depth_is_that_of_the_unpacked_body(client: Client) -> None:
    deep = gzip.compress(b'{"a":' * 100 + b"1" + b"}" * 100)
    headers = JSON | {"Content-Encoding": "gzip"}

    answer = client("POST", f"{TRACES}/start", content=deep, headers=headers)

    assert problem(answer)["type"] == "json_too_deep"


def test_rest_names_the_byte_that_is_not_utf_8(client: Client) -> None:
    body = text_of(f"{TRACES}/start").encode("latin-1")

    answer = client("POST", f"{TRACES}/start", content=body, headers=JSON)

    assert answer.status_code == 400
    assert "byte 0xeb at 12" in problem(answer)["msg"]


def test_half_a_character_over_rest_costs_that_character(client: Client) -> None:
    for escaped, kept in (
        (r"\ud83d", "\ufffd"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\\ud83d", r"\ud83d"),
    ):
        body = b'{"task": "cut %b", "session_id": "s"}' % escaped.encode()
        answer = client("POST", f"{TRACES}/start", content=body, headers=JSON)
        assert answer.json()["task"] == f"cut {kept}"


def test_an_integer_of_too_many_digits_is_named(client: Client) -> None:
    body = b'{"task": "t", "session_id": %b}' % (b"9" * 5_000)

    answer = client("POST", f"{TRACES}/start", content=body, headers=JSON)

    assert answer.status_code == 400
    assert "digits" in problem(answer)["msg"]


def test_an_exporter_of_protobuf_reads_the_reason(client: Client) -> None:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "zstd"}

    answer = client("POST", "/v1/traces", content=b"x", headers=headers)

    assert "Set the client's compression to gzip" in Status.FromString(answer.content).message
