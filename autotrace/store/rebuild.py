"""The store's side of a rebuild: what a repair does to whole collections.

While a rebuild is under way the store's record says so, and nobody else opens the store: what lies
between the first of these steps and the last is never taken for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from autotrace.errors import StoreUnavailableError
from autotrace.store import schema, timeline
from autotrace.store.log import lost_ids
from autotrace.store.schema import (
    SCHEMA_VERSION,
    STORE_RECORD_ID,
    Collection,
    Collections,
    open_collections,
)
from autotrace.store.stats import STATS_PREFIX, Counters, write_counters

_PROJECTIONS: Final = ("open", "succeeded", "failed")
_PAGE: Final = 5_000
_MAX_ATTEMPTS: Final = 20


def begin(collections: Collections, store: str, space: str) -> Collections:
    """Mark the store as being rebuilt and empty its collections of summaries.

    They are deleted and made anew: a collection keeps the dimension of its first vector for ever,
    and a damaged index is only got rid of with its collection.

    Args:
        collections: The open store.
        store: Its name, for errors.
        space: Name of the embedding space that it is to hold from now on.

    Returns:
        The collections to use in place of those given.
    """
    _put_record(collections.state, space, rebuilding=True)
    client = collections.client
    existing = {collection.name for collection in client.list_collections()}
    for name in _PROJECTIONS:
        if f"autotrace-{name}" in existing:
            client.delete_collection(f"autotrace-{name}")
    return open_collections(client, store, None)


def finish(collections: Collections, space: str) -> None:
    """Let the store be opened again."""
    _put_record(collections.state, space, rebuilding=False)


def _put_record(state: Collection, space: str, *, rebuilding: bool) -> None:
    record: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "space": space}
    schema.upsert(state, {STORE_RECORD_ID: record | ({"rebuilding": True} if rebuilding else {})})


def logged_traces(log: Collection) -> list[str]:
    """Return the id of every OpenTelemetry trace in the log, whether or not a task is in it."""
    traces: dict[str, None] = {}
    seen = 0
    while ids := log.get(limit=_PAGE, offset=seen, include=[])["ids"]:
        seen += len(ids)
        for record_id in ids:
            trace, _, _ = record_id.partition("/")
            # The timeline's ids begin with a letter that no hexadecimal trace id has.
            if not trace.startswith("t"):
                traces[trace] = None
    return list(traces)


def enter_missing(collections: Collections, entries: Iterable[timeline.Entry]) -> None:
    """Enter on the timeline those traces that it does not have, and every marker to all of them.

    Nothing is taken from the timeline, so another writer may add to it meanwhile.
    """
    by_bucket: dict[int, set[timeline.Entry]] = {}
    for entry in entries:
        by_bucket.setdefault(timeline.bucket_of(entry.start_ns), set()).add(entry)
    markers = {m: 1 for bucket in by_bucket for m in timeline.marker_ids(bucket)}
    schema.add(collections.log, markers, collections.max_batch)

    def fetch(ids: Sequence[str]) -> dict[str, Any]:
        return schema.documents(collections.log, ids)

    for _ in range(_MAX_ATTEMPTS):
        slots: dict[str, Any] = {}
        for bucket, documents in timeline.read_slots(fetch, list(by_bucket)).items():
            known = {tuple(entry) for document in documents for entry in document["entries"]}
            missing = sorted(entry for entry in by_bucket[bucket] if tuple(entry) not in known)
            if missing:
                slots[timeline.slot_id(bucket, len(documents))] = {
                    "writer": "rebuild",
                    "batch": 0,
                    "entries": [list(entry) for entry in missing],
                }
        schema.add(collections.log, slots, collections.max_batch)
        if not lost_ids(collections.log, list(slots), "rebuild", 0):
            return
    msg = "the timeline is contended: run the rebuild again while fewer processes record"
    raise StoreUnavailableError(msg)


def replace_stats(collections: Collections, counters: Mapping[str, Mapping[str, Counters]]) -> None:
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
