"""Unpack and check the bodies of requests, for REST, MCP and OTLP. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from autotrace.base import json_text

IDENTITY: Final = "identity"
JSON: Final = "application/json"
_WINDOW_BITS: Final[Mapping[str, int]] = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}
_MAX_MEMBERS: Final = 1_000
_FIRST_SLICE_BYTES: Final = 1024
_MAX_NAME_CHARS: Final = 40
_GZIP: Final = b"\x1f\x8b"
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""Byte order marks of UTF-16 and UTF-32."""
_MARK_BYTES: Final = 4
_CHARSETS: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


class ContentError(Exception):
    """The body of a request cannot be read; to send it again would not help."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response (RFC 9110, section 15.5.16)."""
        if self.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            return {"Accept-Encoding": "gzip, deflate"}
        return {}


def kind_of(content_type: str) -> str:
    """Return a media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Return whether a media type is JSON, or a format written in JSON."""
    kind = kind_of(content_type)
    return kind == JSON or kind.endswith("+json")


def encoding_of(header: str) -> str:
    """Return the encoding of a `Content-Encoding`, or raise ContentError."""
    names = [name.strip().lower() for name in header.split(",")]
    applied = [name for name in names if name not in ("", IDENTITY)]
    if not applied:
        return IDENTITY
    if len(applied) > 1 or applied[0] not in _WINDOW_BITS:
        text = (
            f"the Content-Encoding is {header[:_MAX_NAME_CHARS]!r}. One of gzip and deflate is"
            " allowed, or none. Set the client's compression to gzip."
        )
        raise ContentError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    return applied[0]


def unpacked(body: bytes, encoding: str, max_bytes: int, spend: Callable[[int], None]) -> bytes:
    """Return a body without its compression.

    Args:
        body: Body as it was sent.
        encoding: Result of `encoding_of`.
        max_bytes: Limit on its size; no more than that is unpacked.
        spend: Receives the number of bytes unpacked beyond those sent, also of a refused body.

    Raises:
        ContentError: The body has another encoding, or is too large.
    """
    if encoding == IDENTITY:
        return body
    parts: list[bytes] = []
    try:
        return _members(body, encoding, max_bytes, parts)
    finally:
        spend(max(0, sum(map(len, parts)) - len(body)))


def checked_json(body: bytes, content_type: str) -> bytes:
    """Return a JSON body without its byte order mark.

    Raises:
        ContentError: Its type or its beginning shows that it is not UTF-8, or is compressed.
    """
    charset = _charset_of(content_type)
    if charset not in _CHARSETS:
        text = (
            f"the charset of the body is {charset[:_MAX_NAME_CHARS]!r}. JSON is in UTF-8 alone"
            " (RFC 8259). Encode the body as UTF-8."
        )
        raise ContentError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
    if body.startswith(_GZIP):
        text = "the body is gzip, and no header says so. Send `Content-Encoding: gzip` with it."
        raise ContentError(HTTPStatus.BAD_REQUEST, text)
    if len(body) > _MARK_BYTES and (body.startswith(_WIDE) or b"\0" in body[:_MARK_BYTES]):
        text = (
            "the body is UTF-16 or UTF-32. JSON is in UTF-8 alone (RFC 8259). Encode it as UTF-8."
        )
        raise ContentError(HTTPStatus.BAD_REQUEST, text)
    return body.removeprefix(b"\xef\xbb\xbf")


def checked_text(body: bytes) -> bytes:
    """Return a UTF-8 body with U+FFFD for half characters."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        text = (
            f"the body is not UTF-8: byte 0x{body[error.start]:02x} at {error.start}."
            " JSON is in UTF-8 alone (RFC 8259). Encode the body as UTF-8."
        )
        raise ContentError(HTTPStatus.BAD_REQUEST, text) from None
    return json_text.repaired(body)[0] if json_text.may_have_halves(body) else body


def _charset_of(content_type: str) -> str:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return ""


def _members(body: bytes, encoding: str, max_bytes: int, parts: list[bytes]) -> bytes:
    window_bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and not _begins_as_zlib(body):
        window_bits = -window_bits  # without a header, as some clients send it
    start = 0
    try:
        for _ in range(_MAX_MEMBERS):  # gzip may come in several
            room = max_bytes + 1 - sum(map(len, parts))
            start = _unpack_member(body, start, window_bits, room, parts)
            if sum(map(len, parts)) > max_bytes:
                text = f"the body is larger than {max_bytes} bytes when it is unpacked"
                raise ContentError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
            if start == len(body):
                return b"".join(parts)
    except EOFError:
        text = f"the body is {encoding} that is cut off"
        raise ContentError(HTTPStatus.BAD_REQUEST, text) from None
    except zlib.error:
        text = f"the body is not {encoding}, which its Content-Encoding names"
        raise ContentError(HTTPStatus.BAD_REQUEST, text) from None
    text = (
        f"the body is {encoding} of more than {_MAX_MEMBERS} members."
        f" At most {_MAX_MEMBERS} are allowed. Compress it as one."
    )
    raise ContentError(HTTPStatus.BAD_REQUEST, text)


def _begins_as_zlib(body: bytes) -> bool:
    """Return whether a body begins with a header of zlib (RFC 1950, 2.2)."""
    return body[:1] != b"" and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _unpack_member(body: bytes, start: int, window_bits: int, room: int, parts: list[bytes]) -> int:
    """Unpack at most `room` bytes of a member; return where the next begins.

    The slices double, as each call copies the part of its slice that follows the member. Raises
    EOFError if the body ends first.
    """
    unpacking = zlib.decompressobj(window_bits)
    size = _FIRST_SLICE_BYTES
    while not unpacking.eof and room > 0:
        piece = body[start : start + size]
        if not piece:
            raise EOFError
        part = unpacking.decompress(piece, room)
        parts.append(part)
        room -= len(part)
        start += len(piece) - len(unpacking.unused_data) - len(unpacking.unconsumed_tail)
        size *= 2
    return start
