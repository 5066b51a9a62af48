"""Signed statements about decisions, and the results of checking them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from autotrace.models.base import Model
from autotrace.models.decisions import DecisionStatus


class Receipt(Model):
    """Signed statement of how a decision ended."""

    decision_id: str
    status: DecisionStatus
    signature: str
    """Ed25519 over the canonical JSON (RFC 8785) of receipt_data; base64."""
    signed_at: datetime
    receipt_data: dict[str, Any]
    key_id: str
    public_key: str
    """Base64 of the 32 bytes."""


class Checkpoint(Model):
    """Signed list of the decisions of a store, each with its number of events and its head."""

    checkpoint_data: dict[str, Any]
    """`kind`, `store`, `created_at`, `decisions` by id (`decision_id`, `events`, `head`), and
    `left_out`: the ids of decisions whose history was already damaged."""
    signature: str
    """Ed25519 over the canonical JSON (RFC 8785) of checkpoint_data; base64."""
    key_id: str
    public_key: str
    """Base64 of the 32 bytes."""


class Verification(Model):
    """Result of checking the history of a decision."""

    decision_id: str
    ok: bool
    events: int
    erased_events: int = 0
    signed_votes: int = 0
    """Votes whose signature verifies."""
    first_bad_event: str | None = None
    problem: str | None = None
    receipt: Literal["valid", "unknown_key", "invalid", "none"] = "none"
    """`unknown_key`: the signature is valid, but the key is neither the key of this store nor in
    `receipt_keys`. `ok` is then False."""
