"""Summaries of traces: found by id, and listed newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypedDict, cast

import orjson

from autotrace.models import TraceStatus, TraceSummary
from autotrace.store import timeline
from autotrace.store.schema import JSON_KEY, NO_VECTOR, Collections, groups
from autotrace.store.text_keys import TextKey
from autotrace.store.times import utc

_PER_CALL: Final = 2000
"""Each call has a fixed cost, and Chroma's server refuses 40 MB."""
_SCAN_ENTRIES: Final = 1000
"""How far a filtered listing follows the timeline before it asks Chroma to filter instead."""


class Origin(TypedDict):
    """Where a task lies that did not come from a program on this machine."""

    owner: str | None
    """The agent whose share of the OpenTelemetry trace it is in; None: that of this machine."""
    span: str
    """Its span id there."""
    public_id: str
    """The trace id that its sender knows it by."""


class Summary(TypedDict):
    """A trace without its steps, as stored."""

    task: str
    status: TraceStatus
    success: bool | None
    outcome: str | None
    tool_sequence: list[str]
    tool_names: list[str] | None
    """Where the sequence is cut: each tool once, as far as they are not too many."""
    step_count: int
    tool_call_count: int
    created_ns: int
    completed_ns: int | None
    session_id: str | None
    agent: str | None
    parent_trace_id: str | None
    triggered_by_memory_id: str | None
    rejected_decisions: list[str]
    recorded_by: str | None
    """The agent of the key that the task came with; None: a program on this machine."""
    origin: Origin | None


_FIELDS: Final = tuple(Summary.__annotations__)
_OWN_KEY: Final = {"session_id": "session", "agent": "agent", "recorded_by": "recorded_by"}
"""Fields that have a metadata key of their own, by which Chroma looks traces up."""
_RARE_KEY: Final = "rejected"
"""The metadata key of the rejected decisions, as JSON, of those few traces that have any."""
_WORDS_KEY: Final = "words"
"""The metadata key of a task's very words, where the key of its text stands for other words, too:
see `text_keys.TextKey`. A later summary of the trace that does not name it leaves it as it is."""
_ORIGIN_KEY: Final = "origin"
"""The metadata key of the origin, as JSON, of traces that came with a key."""
_IN_JSON: Final = tuple(
    field
    for field in _FIELDS
    if field not in _OWN_KEY and field not in ("rejected_decisions", "origin")
)
"""The others are one list, in this order: Chroma keeps and indexes every byte three times over."""


def author_of(summary: Summary) -> str | None:
    """Return which agent recorded a trace.

    That of the key it came with; without one, the name that a program on the store's machine gave.
    """
    return summary["recorded_by"] or summary["agent"]


def to_model(trace_id: str, summary: Summary) -> TraceSummary:
    """Return what users see of a summary."""
    completed_ns = summary["completed_ns"]
    left_out = ("created_ns", "completed_ns", "tool_names", "origin")
    fields = {k: v for k, v in summary.items() if k not in left_out}
    return TraceSummary.model_validate(
        fields
        | {
            "trace_id": trace_id,
            "created_at": utc(summary["created_ns"]),
            "completed_at": None if completed_ns is None else utc(completed_ns),
        }
    )


def put_summary(
    collections: Collections,
    summaries: Mapping[str, Summary],
    keys: Mapping[str, TextKey] = MappingProxyType({}),
) -> None:
    """Store summaries, in place of older ones of the same traces.

    Args:
        collections: The open store.
        summaries: By trace id.
        keys: Those of the task texts of completed traces, by trace id.
    """
    for ids in groups(summaries, _PER_CALL):
        collections.summaries.upsert(
            ids,
            embeddings=[NO_VECTOR] * len(ids),
            metadatas=[_metadata(summaries[trace_id], keys.get(trace_id)) for trace_id in ids],
        )


def remove(collections: Collections, trace_ids: Sequence[str]) -> None:
    """Remove the summaries of traces; what has none is not listed, and not recalled."""
    collections.summaries.delete(list(trace_ids))


def get_summaries(collections: Collections, trace_ids: Sequence[str]) -> dict[str, Summary]:
    """Return the summaries of those traces that exist."""
    if not trace_ids:
        return {}
    return _summaries(collections.summaries.get(ids=list(trace_ids), include=["metadatas"]))


def list_summaries(
    collections: Collections,
    *,
    status: TraceStatus | None,
    session_id: str | None,
    agent: str | None,
    agents: Sequence[str],
    limit: int,
    before: timeline.TimelineEntry | None,
) -> list[tuple[str, Summary]]:
    """Return a page of summaries, newest first; for `agents` see `find`."""

    def matches(summary: Summary) -> bool:
        return (
            (status is None or summary["status"] == status)
            and (session_id is None or summary["session_id"] == session_id)
            and (agent is None or summary["agent"] == agent)
            and (not agents or author_of(summary) in agents)
        )

    # A rare session or agent is one index look-up for Chroma; a frequent one fills the page soon.
    by_key = session_id is not None or agent is not None or bool(agents)
    selective = by_key or status not in (None, "completed")
    page: list[tuple[str, Summary]] = []
    newest = timeline.newest_first(collections.lists, before=before)
    for scanned, entries in enumerate(groups(newest, max(limit, 16)), start=1):
        summaries = get_summaries(collections, [entry.trace_id for entry in entries])
        for entry in entries:
            summary = summaries.get(entry.trace_id)
            if summary is not None and matches(summary):
                page.append((entry.trace_id, summary))
        if len(page) >= limit:
            return page[:limit]
        if selective and scanned * max(limit, 16) >= _SCAN_ENTRIES:
            break
    else:
        return page
    # Completed ones have no status of their own to look up, and are told apart by `matches`.
    rare_status = None if status == "completed" else status
    found = find(collections, status=rare_status, session_id=session_id, agent=agent, agents=agents)
    older = [
        (trace_id, summary)
        for trace_id, summary in found.items()
        if matches(summary) and (before is None or (summary["created_ns"], trace_id) < before)
    ]
    older.sort(key=lambda item: (item[1]["created_ns"], item[0]), reverse=True)
    return older[:limit]


def find(
    collections: Collections,
    *,
    status: TraceStatus | None = None,
    session_id: str | None = None,
    agent: str | None = None,
    agents: Sequence[str] = (),
    words: str | None = None,
    without: str | None = None,
    limit: int | None = None,
) -> dict[str, Summary]:
    """Return the summaries of traces with these properties, in any order.

    Args:
        collections: The open store.
        status: Only traces of this status: active or interrupted.
        session_id: Only traces of this session.
        agent: Only traces of this agent.
        agents: Only traces that any of these recorded: see `author_of`.
        words: Only traces with a task of these very words: see `text_keys.TextKey`.
        without: Only traces that did not come with a key of this agent.
        limit: How many to return at most.
    """
    conditions = {"status": status, "session": session_id, "agent": agent, _WORDS_KEY: words}
    clauses: list[Any] = [{key: value} for key, value in conditions.items() if value is not None]
    if agents:
        keys = ("recorded_by", "agent")
        clauses.append({"$or": [{key: {"$in": list(agents)}} for key in keys]})
    if without is not None:
        clauses.append({"recorded_by": {"$ne": without}})
    where = clauses[0] if len(clauses) == 1 else {"$and": clauses}
    got = collections.summaries.get(where=where, limit=limit, include=["metadatas"])
    return _summaries(got)


def _summaries(got: Mapping[str, Any]) -> dict[str, Summary]:
    return {
        trace_id: _summary(metadata)
        for trace_id, metadata in zip(got["ids"], got["metadatas"], strict=True)
    }


def _summary(metadata: Mapping[str, Any]) -> Summary:
    fields = dict(zip(_IN_JSON, orjson.loads(metadata[JSON_KEY]), strict=True))
    for field, key in _OWN_KEY.items():
        fields[field] = metadata.get(key)
    fields["rejected_decisions"] = orjson.loads(metadata.get(_RARE_KEY) or "[]")
    fields["origin"] = orjson.loads(metadata.get(_ORIGIN_KEY) or "null")
    return cast("Summary", fields)


def _metadata(summary: Summary, text_key: TextKey | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        JSON_KEY: orjson.dumps([summary[field] for field in _IN_JSON]).decode(),
        # Chroma keeps a key that a later record does not name; None takes it away.
        "status": None if summary["status"] == "completed" else summary["status"],
    }
    for field, key in _OWN_KEY.items():
        if summary[field] is not None:
            metadata[key] = summary[field]
    if summary["rejected_decisions"]:
        metadata[_RARE_KEY] = orjson.dumps(summary["rejected_decisions"]).decode()
    if text_key is not None and text_key.words is not None:
        metadata[_WORDS_KEY] = text_key.words
    if summary["origin"] is not None:
        metadata[_ORIGIN_KEY] = orjson.dumps(summary["origin"]).decode()
    return metadata
