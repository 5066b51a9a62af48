"""A span in either encoding of OTLP, and the bounds of a request. Pure.

The bounds hold while a request is read: items over a limit are counted from the length of their
list, and never made into objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from autotrace.base.grants import KEY
from autotrace.base.json_text import decode_text
from autotrace.semconv import REDACTED
from autotrace.spool.span_records import EventRecord

MAX_SPANS: Final = 10_000
"""Number of spans of one request are read."""
MAX_GROUPS: Final = 10_000
"""Number of resources and scopes that one request may have, together."""
MAX_ATTRIBUTES: Final = 128
"""Number of attributes of one span, or of one event, are kept: as many as SDKs keep."""
MAX_EVENTS: Final = 128
"""Number of events of one span are kept: as many as SDKs keep."""
MAX_ITEMS: Final = 10_000
"""Number of items of one array, or of one list of key-value pairs, are kept."""
MAX_VALUES: Final = 500_000
"""Number of attributes, events and items of arrays that one request may hold."""
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

_ATTRIBUTES: Final = f"attributes left out beyond {MAX_ATTRIBUTES} of a span or event"
_EVENTS: Final = f"events left out beyond {MAX_EVENTS} of a span"
_ITEMS: Final = f"items left out beyond {MAX_ITEMS} of an array"
_TEXTS: Final = f"texts cut at {MAX_TEXT_CHARS} characters"
REPLACED: Final = "characters replaced that are not Unicode"
"""Bytes that are not UTF-8, and halves of characters without the other half."""

HIDDEN: Final = "keys of autotrace redacted"

T = TypeVar("T")


class MalformedBatchError(ValueError):
    """The body is not an `ExportTraceServiceRequest`, or has too many parts."""


class SpanError(ValueError):
    """The fault of one span, in words that can be counted."""


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
    grant: str | None
    """See base/grants.py."""
    cut: Counter[str]
    """Number of parts left out or cut, by reason."""


@dataclass
class Allowance:
    """Parts that the spans of one request may still have, together."""

    spans: int = MAX_SPANS
    groups: int = MAX_GROUPS
    values: int = MAX_VALUES

    def take_groups(self, number: int) -> None:
        """Count resources or scopes; raise MalformedBatchError at the limit."""
        self.groups -= number
        if self.groups < 0:
            msg = (
                f"the body holds more than {MAX_GROUPS} resources and scopes."
                f" At most {MAX_GROUPS} are allowed. Send smaller batches."
            )
            raise MalformedBatchError(msg)

    def take_spans(self, spans: Sequence[T]) -> Sequence[T]:
        """Return the first spans, as many as are left."""
        kept = spans[: self.spans] if len(spans) > self.spans else spans
        self.spans -= len(kept)
        return kept


@dataclass
class Reading:
    """Bounds the parts of one span, and counts what they come to."""

    allowance: Allowance
    chars: int = 0
    cut: Counter[str] = field(default_factory=Counter[str])

    def text(self, text: str) -> str:
        """Return a text without keys of ours, cut if it is too long."""
        text, hidden = KEY.subn(rf"atk_\1_{REDACTED}", text) if "atk_" in text else (text, 0)
        if hidden:
            self.cut[HIDDEN] += hidden
        if len(text) > MAX_TEXT_CHARS:
            self.cut[_TEXTS] += 1
            text = text[:MAX_TEXT_CHARS] + CUT
        self.chars += len(text)
        return text

    def name(self, text: str) -> str:
        """Return the name of a span or event without keys of ours, cut."""
        return self.text(text)[:MAX_NAME_CHARS]

    def decoded(self, data: bytes) -> str:
        """Return a text that protobuf has as bytes."""
        text, replaced = decode_text(data)
        if replaced:
            self.cut[REPLACED] += replaced
        return text

    def attributes(self, pairs: Sequence[T]) -> Sequence[T]:
        """Return the attributes of a span or event that are kept."""
        return self._kept(pairs, MAX_ATTRIBUTES, _ATTRIBUTES)

    def events(self, events: Sequence[T]) -> Sequence[T]:
        """Return the events of a span that are kept."""
        return self._kept(events, MAX_EVENTS, _EVENTS)

    def items(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items of an array, or of a list of pairs, that are kept."""
        return self._kept(items, MAX_ITEMS, _ITEMS)

    def _kept(self, parts: Sequence[T], limit: int, reason: str) -> Sequence[T]:
        """Return the first parts; raise SpanError past all values."""
        if len(parts) > limit:
            self.cut[reason] += len(parts) - limit
            parts = parts[:limit]
        self.allowance.values -= len(parts)
        if self.allowance.values < 0:
            raise SpanError(f"beyond the first {MAX_VALUES} values of the request")
        return parts


def clamped(time_ns: int) -> int:
    """Return the nearest time that a record can hold."""
    return min(max(time_ns, 0), MAX_TIME_NS)


def id_of(value: bytes, size: int, what: str) -> str:
    """Return an id in hex; raise SpanError unless it is valid."""
    if len(value) != size:
        raise SpanError(f"with a {what} that is not of {size} bytes")
    if not any(value):
        raise SpanError(f"with a {what} of zeros")
    return value.hex()


def bytes_text(value: bytes) -> str:
    """Return bytes as text, as the spool writes bytes of this process."""
    return value.decode("utf-8", "backslashreplace")
