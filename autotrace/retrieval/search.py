"""Finding past traces by meaning.

A filter that matches most traces makes a Chroma query slow, and one that matches few makes an
unfiltered query miss them. So a filtered recall looks at a few times as many neighbours as were
asked for, and filters those. When too few of them match, which shows the filter to be selective,
Chroma is asked to filter by agent and session; and for tools, which no index knows, the circle of
neighbours is drawn wider until enough match or all have been seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from autotrace.models import RecallResult
from autotrace.store.schema import Collections
from autotrace.store.times import utc
from autotrace.store.traces import Found, search, where

_WIDENING: Final = 4
_SELECTIVE_AFTER: Final = 16
"""A filter that so many times the neighbours asked for do not satisfy is selective."""
_MAX_TIED: Final = 1000
_TIE: Final = 1e-6
"""Two similarities closer than this are the same, computed in single precision."""


def find(
    collections: Collections,
    vector: Any,
    *,
    success_only: bool,
    limit: int,
    agent: str | None = None,
    session_id: str | None = None,
    tools: Sequence[str] = (),
) -> list[Found]:
    """Return the completed traces whose tasks are nearest to a vector, nearest first.

    Args:
        collections: The open store.
        vector: Embedding of the query.
        success_only: Whether to leave out traces that failed.
        limit: How many to return at most.
        agent: Only traces of this agent.
        session_id: Only traces of this session.
        tools: Only traces that called every one of these tools.
    """
    found: list[Found] = []
    for success in (True,) if success_only else (True, False):
        found += _find_in(collections, vector, success, limit, agent, session_id, tools)
    return ranked(found)[:limit]


def ranked(found: Sequence[Found]) -> list[Found]:
    """Order candidates: most similar first; of equally similar ones the newest first."""
    return sorted(
        found, key=lambda f: (-round(f.similarity / _TIE), -f.summary["created_ns"], f.trace_id)
    )


def _find_in(
    collections: Collections,
    vector: Any,
    success: bool,
    limit: int,
    agent: str | None,
    session_id: str | None,
    tools: Sequence[str],
) -> list[Found]:
    """Return the nearest traces that match; of those that tie for the last places the newest.

    An agent that does the same task again and again has many equal ones, of which Chroma returns
    any: so more are fetched until the tie is passed, or _MAX_TIED have been seen.
    """
    filtered = bool(agent or session_id or tools)
    wanted = limit * _WIDENING if filtered else limit + 1
    condition: dict[str, Any] | None = None
    while True:
        neighbours = search(collections, vector, success=success, limit=wanted, condition=condition)
        found = ranked([f for f in neighbours if _matches(f, agent, session_id, tools)])
        tied = len(found) >= limit and (
            neighbours[-1].similarity >= found[limit - 1].similarity - _TIE
        )
        enough = len(found) >= limit and (not tied or wanted >= _MAX_TIED)
        if enough or len(neighbours) < wanted:
            return found[:limit]
        if filtered and wanted >= limit * _SELECTIVE_AFTER:
            condition = where({"agent": agent, "session": session_id})
        wanted *= _WIDENING


def _matches(found: Found, agent: str | None, session_id: str | None, tools: Sequence[str]) -> bool:
    summary = found.summary
    return (
        (agent is None or summary["agent"] == agent)
        and (session_id is None or summary["session_id"] == session_id)
        and set(tools) <= set(summary["tool_sequence"])
    )


def to_model(found: Found) -> RecallResult:
    """Return what users see of a found trace."""
    summary = found.summary
    return RecallResult(
        trace_id=found.trace_id,
        task=summary["task"],
        outcome=summary["outcome"],
        similarity=round(found.similarity, 6),
        tool_sequence=summary["tool_sequence"],
        success=bool(summary["success"]),
        created_at=utc(summary["created_ns"]),
        session_id=summary["session_id"],
        agent=summary["agent"],
    )
