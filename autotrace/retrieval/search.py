"""Finding past traces by meaning.

A filter that matches most traces makes a Chroma query slow, and one that matches few makes an
unfiltered query miss them. So a filtered recall first looks at a few times as many neighbours as
were asked for and filters those; only when too few of them match, which shows the filter to be
selective, is Chroma asked to filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from autotrace.models import RecallResult
from autotrace.store.schema import Collections
from autotrace.store.times import utc
from autotrace.store.traces import Found, search, where

_WIDENINGS: Final = (4, 16)
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
    if agent is None and session_id is None and not tools:
        return _nearest(collections, vector, success, limit)
    for widening in _WIDENINGS:
        neighbours = search(collections, vector, success=success, limit=limit * widening)
        matching = [f for f in neighbours if _matches(f, agent, session_id, tools)]
        if len(matching) >= limit or len(neighbours) < limit * widening:
            return matching[:limit]
    condition = where({"agent": agent, "session": session_id, "tools": list(tools)})
    return search(collections, vector, success=success, limit=limit, condition=condition)


def _nearest(collections: Collections, vector: Any, success: bool, limit: int) -> list[Found]:
    """Return the nearest traces; of those that tie for the last places the newest.

    An agent that does the same task again and again has many equal ones, of which Chroma returns
    any: so more are fetched until the tie is passed, or _MAX_TIED have been seen.
    """
    wanted = limit
    while True:
        found = ranked(search(collections, vector, success=success, limit=wanted))
        passed = len(found) < wanted or found[-1].similarity < found[limit - 1].similarity - _TIE
        if passed or wanted >= _MAX_TIED:
            return found[:limit]
        wanted = min(wanted * 4, _MAX_TIED)


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
