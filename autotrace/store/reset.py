"""Empty and refill whole collections for a rebuild.

The record of the store marks the rebuild, and other processes do not open the store meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autotrace.store import decision_log, schema
from autotrace.store.decision_log import DecisionCollections
from autotrace.store.schema import (
    PROJECTIONS,
    SCHEMA_VERSION,
    STORE_RECORD_ID,
    Collection,
    Collections,
    all_ids,
    open_collections,
)
from autotrace.store.tool_stats import STATS_PREFIX, ToolCounters, write_counters

_OF_SCHEMA_1: Final = ("open",)


def begin(collections: Collections, store: str, space: str) -> Collections:
    """Mark the store as being rebuilt; return it with empty projections.

    The collections are deleted and made again, because a collection keeps the dimension of its
    first vector, and a damaged index is only removed with its collection.
    """
    _put_record(collections.state, SCHEMA_VERSION, space, rebuilding=True)
    client = collections.client
    existing = {collection.name for collection in client.list_collections()}
    for name in PROJECTIONS + _OF_SCHEMA_1:
        if f"autotrace-{name}" in existing:
            client.delete_collection(f"autotrace-{name}")
    return open_collections(client, store, None)


def finish_reset(collections: Collections, space: str) -> None:
    """Mark the store as rebuilt."""
    _put_record(collections.state, SCHEMA_VERSION, space, rebuilding=False)


def begin_decisions(
    collections: DecisionCollections, store: str, space: str
) -> DecisionCollections:
    """Mark the store of decisions as being rebuilt; return it without index.

    See `begin`.
    """
    _put_record(collections.state, decision_log.SCHEMA_VERSION, space, rebuilding=True)
    decision_log.delete_search(collections)
    return decision_log.open_decisions(collections.client, store, None)


def finish_decisions(collections: DecisionCollections, space: str) -> None:
    """Mark the store of decisions as rebuilt."""
    _put_record(collections.state, decision_log.SCHEMA_VERSION, space, rebuilding=False)


def _put_record(state: Collection, version: int, space: str, *, rebuilding: bool) -> None:
    record: dict[str, Any] = {"schema_version": version, "space": space}
    schema.upsert(state, {STORE_RECORD_ID: record | ({"rebuilding": True} if rebuilding else {})})


def logged_traces(log: Collection) -> list[str]:
    """Return the name of every share of a trace in the log."""
    traces = dict.fromkeys(record_id.partition("/")[0] for record_id in all_ids(log))
    # Claims (traces/trace_ids.py) and the timeline of schema 1: no hexadecimal id begins with t.
    return [trace for trace in traces if not trace.startswith("t")]


def replace_stats(
    collections: Collections, counters: Mapping[str, Mapping[str, ToolCounters]]
) -> None:
    """Replace the statistics by these counters, by writer and tool.

    Each writer keeps its own record, because a running writer continues from its own totals.
    """
    kept = {
        f"{STATS_PREFIX}{writer}/{tool}" for writer, tools in counters.items() for tool in tools
    }
    stored: list[str] = collections.state.get(include=[])["ids"]
    stale = [i for i in stored if i.startswith(STATS_PREFIX) and i not in kept]
    if stale:
        collections.state.delete(stale)
    for writer, tools in counters.items():
        write_counters(collections.state, writer, tools.values())
