"""State of recording in this process."""

from __future__ import annotations

from pydantic import Field

from autotrace.models.base import Model


class Health(Model):
    """State of recording in this process."""

    configured: bool
    store: str | None = None
    spool: str | None = None
    backlog_bytes: int = 0
    """Bytes in the spools of all processes of this machine that are not stored yet."""
    counters: dict[str, int] = Field(default_factory=dict[str, int])
    """Number of drops, cuts, redactions and failures by name: see `docs/explanation/storage.md`."""
    last_error: str | None = None
    set_aside_records: int = 0
    """Records of all processes of this machine that the store refused."""
    problems: list[str] = Field(default_factory=list[str])
    """Faults that a person must repair, each with its fix."""
    notes: list[str] = Field(default_factory=list[str])
    """Facts that need no action: which tracer providers get the spans, and which do not."""
