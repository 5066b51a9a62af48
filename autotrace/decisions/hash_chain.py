"""The hash chain: stored events, each with the hash of the one before it.

A stored event is a JSON object with the fields of `StoredEvent`. `hash` is the SHA-256 of the
canonical JSON (RFC 8785) of the decision's id and the fields from `sequence` to `previous`.
`content_sha256` covers a random salt and the content, so that both can be erased: an event
`content_erased` names them. A change of an event, or a missing one before the last, breaks the
chain; missing last ones show by the ledger and the receipt.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict

from autotrace.base.canonical_json import canonical, sha256_of
from autotrace.decisions.state_machine import CONTENT_ERASED, Draft, Event
from autotrace.ids import new_event_id

_SALT_BYTES: Final = 16
_HASHED: Final = (
    *("sequence", "event_id", "type", "at_ns", "by", "facts"),
    *("content_sha256", "previous"),
)


class StoredEvent(TypedDict):
    """An event as the store keeps it."""

    sequence: int
    event_id: str
    type: str
    at_ns: int
    by: str
    facts: Mapping[str, Any]
    content_sha256: str | None
    previous: str
    hash: str
    salt: str | None
    content: Mapping[str, Any] | None


class ChainCheck(NamedTuple):
    """The first bad event of a chain."""

    event_id: str
    problem: str


def link(
    decision_id: str, last: StoredEvent | None, drafts: Sequence[Draft], *, by: str, at_ns: int
) -> list[StoredEvent]:
    """Return the stored events of drafts, chained to the last event.

    Args:
        decision_id: The decision.
        last: Last event of the chain; None for a new decision.
        drafts: New events, in order.
        by: Name recorded in the events.
        at_ns: Time; an event is never older than the one before it.
    """
    linked: list[StoredEvent] = []
    for draft in drafts:
        salt = None if draft.content is None else secrets.token_hex(_SALT_BYTES)
        event = StoredEvent(
            sequence=0 if last is None else last["sequence"] + 1,
            event_id=new_event_id(),
            type=draft.type,
            at_ns=at_ns if last is None else max(at_ns, last["at_ns"]),
            by=by,
            facts=dict(draft.facts),
            content_sha256=None if salt is None else _digest(salt, draft.content),
            previous="" if last is None else last["hash"],
            hash="",
            salt=salt,
            content=draft.content,
        )
        event["hash"] = _hash(decision_id, event)
        linked.append(event)
        last = event
    return linked


def erased(event: StoredEvent) -> StoredEvent:
    """Return an event without its content."""
    without = event.copy()
    without["salt"] = without["content"] = None
    return without


def to_event(stored: StoredEvent) -> Event:
    """Return an event for the state machine."""
    return Event(
        stored["sequence"],
        stored["event_id"],
        stored["type"],
        stored["at_ns"],
        stored["by"],
        stored["facts"],
        stored["content"],
        erased=stored["content"] is None and stored["content_sha256"] is not None,
        hash=stored["hash"],
    )


def check(decision_id: str, events: Sequence[StoredEvent]) -> ChainCheck | None:
    """Return the first event that was changed since it was appended; None if none was."""
    erased_sequences = {
        sequence
        for event in events
        if event.get("type") == CONTENT_ERASED
        for sequence in event.get("facts", {}).get("sequences", ())
    }
    previous = ""
    for expected, event in enumerate(events):
        event_id = str(event.get("event_id"))
        try:
            problem = _problem(decision_id, event, expected, previous, erased_sequences)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"it cannot be read: {error!r}"
        if problem is not None:
            return ChainCheck(event_id, problem)
        previous = event["hash"]
    return None


def _problem(
    decision_id: str, event: StoredEvent, expected: int, previous: str, erased_sequences: set[int]
) -> str | None:
    if event["sequence"] != expected:
        return f"its sequence is {event['sequence']}, and its position is {expected}"
    if event["previous"] != previous:
        return "it does not follow the event before it"
    if event["hash"] != _hash(decision_id, event):
        return "it was changed: its hash is another"
    if event["content"] is None:
        if event["content_sha256"] is not None and expected not in erased_sequences:
            return "its content is gone, and no event records that it was erased"
    elif event["salt"] is None or event["content_sha256"] != _digest(
        event["salt"], event["content"]
    ):
        return "its content was changed"
    return None


def _hash(decision_id: str, event: StoredEvent) -> str:
    fields: Mapping[str, Any] = event
    return sha256_of({"decision_id": decision_id} | {name: fields[name] for name in _HASHED})


def _digest(salt: str, content: Mapping[str, Any] | None) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + canonical(content)).hexdigest()
