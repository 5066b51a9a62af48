"""Shares of an OpenTelemetry trace: one for each agent that records in it, apart from the others.

Ids of OpenTelemetry prove nothing: every process that a request passes through knows them. So the
records of each owner are a log of their own, and no record of one owner can join, replace or delay
those of another. A guest is a sender whom the owner has granted to add to its share: its spans keep
ids of their own there, and so never replace one of the owner's. See docs/reference/otlp.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from autotrace import semconv
from autotrace.ids import format_trace_id
from autotrace.spool.span_records import SpanRecord

_DIGEST_CHARS: Final = 24
_SPAN_CHARS: Final = 16


class Share(NamedTuple):
    """One owner's part of an OpenTelemetry trace."""

    trace: str
    """The OpenTelemetry trace, in hex."""
    owner: str | None = None
    """The agent of the key that its records came with; None: programs on this machine."""

    @property
    def key(self) -> str:
        """Its name in the log."""
        return self.trace if self.owner is None else f"{self.trace}.{_digest(self.owner)}"

    def trace_id(self, span: str) -> str:
        """Return the id under which the store keeps the trace of a task of this share."""
        return trace_id_in(self.key, span)


def share_of(record: SpanRecord) -> Share:
    """Return the share that a record belongs to."""
    return Share(record["trace"], owner_of(record))


def partition_of(record: SpanRecord) -> str:
    """Return the name, in the log, of the share that a record belongs to."""
    owner = owner_of(record)
    return record["trace"] if owner is None else Share(record["trace"], owner).key


def share_in(records: Iterable[SpanRecord], key: str) -> Share:
    """Return the share whose records these are, given its name in the log."""
    first = next(iter(records), None)
    return Share(key.partition(".")[0]) if first is None else share_of(first)


def trace_id_in(key: str, span: str) -> str:
    """Return the id under which the store keeps the trace of a task.

    `key` is the name of the task's share in the log. Two shares may hold a task of the same span;
    their ids differ.
    """
    trace, _, owned = key.partition(".")
    if owned:
        span = hashlib.sha256(f"{key}/{span}".encode()).hexdigest()[:_SPAN_CHARS]
    return format_trace_id(trace, span)


def guest_of(record: SpanRecord) -> str | None:
    """Return the agent that added a record to a share of another owner; None: its owner did."""
    if "sender" not in record:
        return None
    agent = record["sender"]["agent"]
    return None if agent == record.get("owner") else agent


def span_in(record: SpanRecord) -> str:
    """Return the span id of a record in its share: a guest's is derived, and so replaces none."""
    guest = guest_of(record)
    return record["id"] if guest is None else guest_span(guest, record["id"])


def guest_span(guest: str, span: str) -> str:
    """Return the id that a guest's span has in the share of another owner."""
    return hashlib.sha256(f"{_digest(guest)}/{span}".encode()).hexdigest()[:_SPAN_CHARS]


def sender_of(record: SpanRecord) -> str | None:
    """Return the agent of the key that a record came with; None: a program on this machine."""
    return record["sender"]["agent"] if "sender" in record else record.get("owner")


def admitted(
    spans: Mapping[str, SpanRecord], guests: Mapping[str, Mapping[str, SpanRecord]]
) -> dict[str, dict[str, SpanRecord]]:
    """Return the spans of guests as they stand in a share, by guest and span id there.

    `guests` has them by guest and the span id that the guest gave; `spans` are the owner's.
    """
    whose: dict[str, str] = {}
    for guest in sorted(guests):
        for span in guests[guest]:
            whose.setdefault(span, guest)

    def parent_of(record: SpanRecord, guest: str) -> str | None:
        parent = record.get("parent")
        if not parent:
            return parent
        if parent in guests[guest]:
            return guest_span(guest, parent)
        if parent in spans or parent not in whose:
            return parent
        return guest_span(whose[parent], parent)

    return {
        guest: {
            guest_span(guest, span): {
                **record,
                "id": guest_span(guest, span),
                "parent": parent_of(record, guest),
                "sent_id": span,
            }
            for span, record in theirs.items()
        }
        for guest, theirs in guests.items()
    }


def owner_of(record: SpanRecord) -> str | None:
    """Return the agent to whose share a record belongs; None: programs on this machine."""
    owner = record.get("owner")
    if owner is None and "name" in record and record["name"].startswith(semconv.KIND_DECISION):
        # An event of a decision is recorded where it happens, and belongs where it was opened.
        attributes = record.get("attributes") or {}
        if attributes.get(semconv.KIND) == semconv.KIND_DECISION:
            given = attributes.get(semconv.DECISION_OWNER)
            return given if isinstance(given, str) else None
    return owner


@lru_cache(maxsize=4096)
def _digest(agent: str) -> str:
    return hashlib.sha256(agent.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
