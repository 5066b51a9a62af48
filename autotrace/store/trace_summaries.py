"""Store summaries of traces: find them by id, and list them newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
"""Number of timeline entries that a filtered listing reads before Chroma filters."""


class Origin(TypedDict):
    """The place of a task that a key of an agent has sent."""

    owner: str | None
    """The agent whose share of the OpenTelemetry trace holds it; None: this machine's."""
    span: str
    """Its span id in that share."""
    public_id: str
    """The trace id that its sender knows."""


class Summary(TypedDict):
    """A trace without its steps, as stored."""

    task: str
    status: TraceStatus
    success: bool | None
    outcome: str | None
    tool_sequence: list[str]
    tool_names: list[str] | None
    """If the sequence is cut: each tool once, up to the same limit."""
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
"""Fields with a metadata key of their own, which Chroma can filter by."""
_RARE_KEY: Final = "rejected"
"""The metadata key of rejected decisions, as JSON; few traces have any."""
_WORDS_KEY: Final = "words"
"""The metadata key of `TextKey.words`. A later summary of the trace without it keeps it."""
_ORIGIN_KEY: Final = "origin"
"""The metadata key of the origin, as JSON, of traces that a key has sent."""
_IN_JSON: Final = tuple(
    field
    for field in _FIELDS
    if field not in _OWN_KEY and field not in ("rejected_decisions", "origin")
)
"""The other fields are one list, in this order: Chroma keeps every byte three times."""


def author_of(summary: Summary) -> str | None:
    """Return the agent of the key of a trace, else the name from its program."""
    return summary["recorded_by"] or summary["agent"]


def to_model(trace_id: str, summary: Summary) -> TraceSummary:
    """Return a summary in the form of the public API."""
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
    """Add or replace summaries; `keys` has text keys of completed traces."""
    for ids in groups(summaries, _PER_CALL):
        collections.summaries.upsert(
            ids,
            embeddings=[NO_VECTOR] * len(ids),
            metadatas=[_metadata(summaries[trace_id], keys.get(trace_id)) for trace_id in ids],
        )


def remove(collections: Collections, trace_ids: Sequence[str]) -> None:
    """Remove the summaries of traces from every listing and recall."""
    collections.summaries.delete(list(trace_ids))


def get_summaries(collections: Collections, trace_ids: Sequence[str]) -> dict[str, Summary]:
    """Return the summaries of those traces that exist."""
    if not trace_ids:
        return {}
    return _summaries(collections.summaries.get(ids=list(trace_ids), include=["metadatas"]))


@dataclass(frozen=True)
class TraceFilter:
    """Filter traces. None, or an empty sequence, matches every trace."""

    status: TraceStatus | None = None
    agent: str | None = None
    session_id: str | None = None
    tools: Sequence[str] = ()
    """The trace called all of these."""
    agents: Sequence[str] = ()
    """One of these recorded the trace; see `author_of`."""

    def matches(self, summary: Summary) -> bool:
        """Return whether a trace passes the filter."""
        return (
            (self.status is None or summary["status"] == self.status)
            and (self.agent is None or summary["agent"] == self.agent)
            and (self.session_id is None or summary["session_id"] == self.session_id)
            and (not self.agents or author_of(summary) in self.agents)
            and set(self.tools) <= set(summary["tool_names"] or summary["tool_sequence"])
        )

    def names_senders(self) -> bool:
        """Return whether Chroma can look up the traces by agent or session."""
        return self.agent is not None or self.session_id is not None or bool(self.agents)


def list_summaries(
    collections: Collections,
    where: TraceFilter,
    limit: int,
    before: timeline.TimelineEntry | None,
) -> list[tuple[str, Summary]]:
    """Return a page of summaries, newest first."""
    # Chroma finds a rare session or agent by one look-up; a frequent one fills the page soon.
    selective = where.names_senders() or where.status not in (None, "completed")
    page: list[tuple[str, Summary]] = []
    newest = timeline.newest_first(collections.lists, before=before)
    for scanned, entries in enumerate(groups(newest, max(limit, 16)), start=1):
        summaries = get_summaries(collections, [entry.trace_id for entry in entries])
        for entry in entries:
            summary = summaries.get(entry.trace_id)
            if summary is not None and where.matches(summary):
                page.append((entry.trace_id, summary))
        if len(page) >= limit:
            return page[:limit]
        if selective and scanned * max(limit, 16) >= _SCAN_ENTRIES:
            break
    else:
        return page
    older = [
        (trace_id, summary)
        for trace_id, summary in find(collections, where).items()
        if where.matches(summary) and (before is None or (summary["created_ns"], trace_id) < before)
    ]
    older.sort(key=lambda item: (item[1]["created_ns"], item[0]), reverse=True)
    return older[:limit]


def find(
    collections: Collections,
    where: TraceFilter = TraceFilter(),
    *,
    words: str | None = None,
    without: str | None = None,
    limit: int | None = None,
) -> dict[str, Summary]:
    """Return the summaries that Chroma finds for a filter.

    They include every trace that passes, and may include others. `words` are those of `TextKey`;
    `without` is an agent whose key did not send the trace.
    """
    conditions = {"session": where.session_id, "agent": where.agent, _WORDS_KEY: words}
    # Completed traces have no status in their metadata.
    conditions["status"] = None if where.status == "completed" else where.status
    clauses: list[Any] = [{key: value} for key, value in conditions.items() if value is not None]
    if where.agents:
        keys = ("recorded_by", "agent")
        clauses.append({"$or": [{key: {"$in": list(where.agents)}} for key in keys]})
    if without is not None:
        clauses.append({"recorded_by": {"$ne": without}})
    condition = clauses[0] if len(clauses) == 1 else {"$and": clauses}
    got = collections.summaries.get(where=condition, limit=limit, include=["metadatas"])
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
        # Chroma keeps a key that a later record does not name; None removes it.
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
