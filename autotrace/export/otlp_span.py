"""What both encodings of OTLP have in common: a span as it was sent, and its bounds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from autotrace.export.records import EventRecord

MAX_TEXT_CHARS: Final = 1024 * 1024
"""A longer text in an attribute is cut."""
MAX_SPAN_CHARS: Final = 8 * 1024 * 1024
"""A span with more text is rejected."""
MAX_DEPTH: Final = 32
"""A value that is nested deeper is cut off there."""
MAX_NAME_CHARS: Final = 1024
MAX_TIME_NS: Final = 2**63 - 1
TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
CUT: Final = "...[cut]"


class SpanError(ValueError):
    """What is wrong with one span, in words that can be counted."""


@dataclass
class OtlpSpan:
    """A span as either encoding has it."""

    trace: str
    span: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    flags: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: list[EventRecord]
    chars: int
    cut: int


class Reading:
    """Bounds the texts of one span, and counts what they come to."""

    def __init__(self) -> None:
        self.chars = 0
        self.cut = 0

    def text(self, text: str) -> str:
        """Return a text, cut if it is too long."""
        if len(text) > MAX_TEXT_CHARS:
            self.cut += 1
            text = text[:MAX_TEXT_CHARS] + CUT
        self.chars += len(text)
        return text


def clamped(time_ns: int) -> int:
    """Return the nearest time that a record can hold."""
    return min(max(time_ns, 0), MAX_TIME_NS)


def id_of(value: bytes, size: int, what: str) -> str:
    """Return an id in hex.

    Raises:
        SpanError: It is none.
    """
    if len(value) != size:
        raise SpanError(f"with a {what} that is not of {size} bytes")
    if not any(value):
        raise SpanError(f"with a {what} of zeros")
    return value.hex()


def bytes_text(value: bytes) -> str:
    """Return bytes as text, as the spool writes bytes of this process."""
    return value.decode("utf-8", "backslashreplace")
