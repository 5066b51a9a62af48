"""Summaries of traces: found by id, listed newest first, searched by the meaning of their task.

A summary lies in exactly one place: `open` while its trace is active or interrupted, `succeeded`
or `failed` once it is completed. (A crash between the two writes of a move leaves it in both until
the batch is stored again; a completed one is believed first.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypedDict

import orjson

from autotrace.models import TraceStatus, TraceSummary
from autotrace.store import timeline
from autotrace.store.schema import JSON_KEY, NO_VECTOR, Collection, Collections, documents
from autotrace.store.times import utc

_PER_CALL: Final = 2000
"""Each call has a fixed cost; as JSON a vector takes 8 kB, and Chroma's server refuses 40 MB."""
_SCAN_ENTRIES: Final = 1000
"""How far a filtered listing follows the timeline before it asks Chroma to filter instead."""


class Summary(TypedDict):
    """A trace without its steps, as stored."""

    task: str
    status: TraceStatus
    success: bool | None
    outcome: str | None
    tool_sequence: list[str]
    step_count: int
    tool_call_count: int
    created_ns: int
    completed_ns: int | None
    session_id: str | None
    agent: str | None
    parent_trace_id: str | None
    triggered_by_memory_id: str | None


class Found(NamedTuple):
    """A summary that a search found."""

    trace_id: str
    summary: Summary
    similarity: float
    """Cosine similarity, 0 to 1; opposite vectors count as unrelated."""


def to_model(trace_id: str, summary: Summary) -> TraceSummary:
    """Return what users see of a summary."""
    completed_ns = summary["completed_ns"]
    fields = {k: v for k, v in summary.items() if k not in ("created_ns", "completed_ns")}
    return TraceSummary.model_validate(
        fields
        | {
            "trace_id": trace_id,
            "created_at": utc(summary["created_ns"]),
            "completed_at": None if completed_ns is None else utc(completed_ns),
        }
    )


def put_open(collections: Collections, summaries: Mapping[str, Summary]) -> None:
    """Store the summaries of traces that are active or interrupted."""
    for ids in _calls(summaries):
        collections.open.upsert(
            ids,
            embeddings=[NO_VECTOR] * len(ids),
            metadatas=[_metadata(summaries[i]) | {"status": summaries[i]["status"]} for i in ids],
        )


def put_completed(
    collections: Collections, summaries: Mapping[str, Summary], vectors: Mapping[str, Any]
) -> None:
    """Store the summaries of completed traces with the vectors of their tasks."""
    for success in (True, False):
        of_outcome = [i for i, s in summaries.items() if bool(s["success"]) is success]
        for ids in _calls(of_outcome):
            _search_collection(collections, success).upsert(
                ids,
                embeddings=[vectors[trace_id] for trace_id in ids],
                metadatas=[_metadata(summaries[trace_id]) for trace_id in ids],
            )


def close_open(collections: Collections, trace_ids: Sequence[str]) -> None:
    """Remove the open summaries of traces that have been completed."""
    for ids in _calls(trace_ids):
        collections.open.delete(ids)


def _calls(trace_ids: Iterable[str]) -> Iterator[list[str]]:
    """Cut ids into what goes into one call of Chroma."""
    remaining = iter(trace_ids)
    while ids := list(islice(remaining, _PER_CALL)):
        yield ids


def get_summaries(collections: Collections, trace_ids: Sequence[str]) -> dict[str, Summary]:
    """Return the summaries of those traces that exist."""
    found: dict[str, Summary] = {}
    for collection in (collections.open, collections.failed, collections.succeeded):
        found.update(documents(collection, trace_ids))
    return found


def list_summaries(
    collections: Collections,
    *,
    status: TraceStatus | None,
    session_id: str | None,
    agent: str | None,
    limit: int,
    before: timeline.Entry | None,
) -> list[tuple[str, Summary]]:
    """Return a page of summaries, newest first."""

    def matches(summary: Summary) -> bool:
        return (
            (status is None or summary["status"] == status)
            and (session_id is None or summary["session_id"] == session_id)
            and (agent is None or summary["agent"] == agent)
        )

    # A rare session or agent is one index look-up for Chroma; a frequent one fills the page soon.
    selective = session_id is not None or agent is not None or status not in (None, "completed")
    page: list[tuple[str, Summary]] = []
    for scanned, entries in enumerate(_chunks(collections, before, size=max(limit, 16)), start=1):
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
    found = _filtered(collections, status, session_id, agent)
    older = [
        (trace_id, summary)
        for trace_id, summary in found.items()
        if before is None or (summary["created_ns"], trace_id) < before
    ]
    older.sort(key=lambda item: (item[1]["created_ns"], item[0]), reverse=True)
    return older[:limit]


def _chunks(
    collections: Collections, before: timeline.Entry | None, size: int
) -> Iterator[list[timeline.Entry]]:
    entries = timeline.newest_first(lambda ids: documents(collections.log, ids), before=before)
    while chunk := list(islice(entries, size)):
        yield chunk


def _filtered(
    collections: Collections,
    status: TraceStatus | None,
    session_id: str | None,
    agent: str | None,
) -> dict[str, Summary]:
    conditions: dict[str, Any] = {"session": session_id, "agent": agent}
    found: dict[str, Summary] = {}
    if status in (None, "active", "interrupted"):
        found |= _get_where(collections.open, conditions | {"status": status})
    if status in (None, "completed"):
        found |= _get_where(collections.failed, conditions)
        found |= _get_where(collections.succeeded, conditions)
    return found


def _get_where(collection: Collection, conditions: Mapping[str, Any]) -> dict[str, Summary]:
    got = collection.get(where=where(conditions), include=["metadatas"])
    return {
        trace_id: orjson.loads(metadata[JSON_KEY])
        for trace_id, metadata in zip(got["ids"], got["metadatas"], strict=True)
    }


def where(conditions: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Chroma's form of conditions that must all hold; those that are None are left out."""
    clauses = [{key: value} for key, value in conditions.items() if value is not None]
    if not clauses:
        return None
    return clauses[0] if len(clauses) == 1 else {"$and": clauses}


def search(
    collections: Collections,
    vector: Any,
    *,
    success: bool,
    limit: int,
    condition: dict[str, Any] | None = None,
) -> list[Found]:
    """Return the completed traces whose tasks are nearest to a vector, nearest first."""
    result = _search_collection(collections, success).query(
        query_embeddings=[vector],
        n_results=limit,
        where=condition,
        include=["metadatas", "distances"],
    )
    return [
        Found(trace_id, orjson.loads(metadata[JSON_KEY]), min(1.0, max(0.0, 1.0 - distance)))
        for trace_id, metadata, distance in zip(
            result["ids"][0], result["metadatas"][0], result["distances"][0], strict=True
        )
    ]


def _search_collection(collections: Collections, success: bool) -> Collection:
    return collections.succeeded if success else collections.failed


def _metadata(summary: Summary) -> dict[str, Any]:
    metadata: dict[str, Any] = {JSON_KEY: orjson.dumps(summary).decode()}
    if summary["session_id"]:
        metadata["session"] = summary["session_id"]
    if summary["agent"]:
        metadata["agent"] = summary["agent"]
    return metadata
