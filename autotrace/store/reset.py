"""The store's side of a rebuild: what a repair does to whole collections.

While a rebuild is under way the store's record says so, and nobody else opens the store: what lies
between the first of these steps and the last is never taken for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autotrace.store import decision_log, schema
from autotrace.store.decision_log import DecisionCollections
from autotrace.store.schema import (
    SCHEMA_VERSION,
    STORE_RECORD_ID,
    Collection,
    Collections,
    open_collections,
)
from autotrace.store.tool_stats import STATS_PREFIX, ToolCounters, write_counters

_PROJECTIONS: Final = ("summaries", "lists", "succeeded", "failed")
_OF_SCHEMA_1: Final = ("open",)
_PAGE: Final = 5_000


def begin(collections: Collections, store: str, space: str) -> Collections:
    """Mark the store as being rebuilt and empty its projections.

    They are deleted and made anew: a collection keeps the dimension of its first vector for ever,
    and a damaged index is only got rid of with its collection.

    Args:
        collections: The open store.
        store: Its name, for errors.
        space: Name of the embedding space that it is to hold from now on.

    Returns:
        The collections to use in place of those given.
    """
    _put_record(collections.state, SCHEMA_VERSION, space, rebuilding=True)
    client = collections.client
    existing = {collection.name for collection in client.list_collections()}
    for name in _PROJECTIONS + _OF_SCHEMA_1:
        if f"autotrace-{name}" in existing:
            client.delete_collection(f"autotrace-{name}")
    return open_collections(client, store, None)


def finish_reset(collections: Collections, space: str) -> None:
    """Let the store be opened again."""
    _put_record(collections.state, SCHEMA_VERSION, space, rebuilding=False)


def begin_decisions(
    collections: DecisionCollections, store: str, space: str
) -> DecisionCollections:
    """Mark the decisions' store as being rebuilt and empty what finds them by meaning.

    Args:
        collections: The open store.
        store: Its name, for errors.
        space: Name of the embedding space that it is to hold from now on.

    Returns:
        The collections to use in place of those given.
    """
    _put_record(collections.state, decision_log.SCHEMA_VERSION, space, rebuilding=True)
    decision_log.delete_search(collections)
    return decision_log.open_decisions(collections.client, store, None)


def finish_decisions(collections: DecisionCollections, space: str) -> None:
    """Let the decisions' store be opened again."""
    _put_record(collections.state, decision_log.SCHEMA_VERSION, space, rebuilding=False)


def _put_record(state: Collection, version: int, space: str, *, rebuilding: bool) -> None:
    record: dict[str, Any] = {"schema_version": version, "space": space}
    schema.upsert(state, {STORE_RECORD_ID: record | ({"rebuilding": True} if rebuilding else {})})


def logged_traces(log: Collection) -> list[str]:
    """Return the name of every share of a trace in the log, whether or not a task is in it."""
    traces: dict[str, None] = {}
    seen = 0
    while ids := log.get(limit=_PAGE, offset=seen, include=[])["ids"]:
        seen += len(ids)
        for record_id in ids:
            trace, _, _ = record_id.partition("/")
            # Claims (traces/trace_ids.py), and the timeline of schema 1: their ids begin with a
            # letter that no hexadecimal id has.
            if not trace.startswith("t"):
                traces[trace] = None
    return list(traces)


def replace_stats(
    collections: Collections, counters: Mapping[str, Mapping[str, ToolCounters]]
) -> None:
    """Make these the statistics: counters by writer and tool, and no others.

    Each writer keeps a record of its own, since one that is at work goes on from its own totals.
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
