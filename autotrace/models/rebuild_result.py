"""Result of rebuilding a store."""

from __future__ import annotations

from autotrace.models.base import Model


class RebuildResult(Model):
    """Result of rebuilding a store from its log."""

    store: str
    traces: int
    """Traces of tasks: each is listed, and recalled if it is completed."""
    tool_calls: int
    """Tool calls inside and outside tasks: each is counted in the statistics."""
    space: str
    """Embedding space of the store after the rebuild."""
    refused_texts: int = 0
    """Task texts that the embedder refused: their traces are listed, but not recalled."""
    decisions: int = 0
    """Decisions that are found by meaning."""
    unindexed_decisions: int = 0
    """Decisions that are damaged or refused by the embedder: not found by meaning."""
    retried: int = 0
    """Records that the store had refused and has stored now."""
    set_aside: int = 0
    """Records that the store refused again; they stay in the spool."""
    set_aside_reason: str | None = None
    """Error of the last record that was refused again."""
