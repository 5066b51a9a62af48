"""List traces by start time, newest first, without a scan.

Chroma has no ORDER BY, and a `where` on a time range reads every record. So the traces that started
in ten-second bucket q are entries of the slot list `t0/{q}` (paged_lists.py). A tree of markers
with 64 children a node leads to the buckets: `t1/{q}` marks bucket q, `t2/{q >> 6}` its parent, up
to `t5`. A listing goes down the tree from the newest side with one `get` of at most 512 computed
ids a level, for a thousand traces or a million. Markers are empty: adding one again does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from autotrace.store import paged_lists
from autotrace.store.paged_lists import Appender
from autotrace.store.schema import Collection

BUCKET_NS: Final = 10_000_000_000
_BITS: Final = 6
_FAN_OUT: Final = 1 << _BITS
_TOP: Final = 5
"""Levels of markers; 64**5 buckets of ten seconds reach to the year 2310."""
_GROUP: Final = 8
_MAX_BUCKET: Final = _FAN_OUT**_TOP - 1


class TimelineEntry(NamedTuple):
    """One trace on the timeline."""

    start_ns: int
    trace_id: str


def bucket_of(start_ns: int) -> int:
    """Return the bucket of a start time, clamped to the valid range."""
    return min(max(start_ns // BUCKET_NS, 0), _MAX_BUCKET)


def _list_of(bucket: int) -> str:
    return f"t0/{bucket}"


def _marker_ids(bucket: int) -> list[str]:
    """Return the ids of the markers that lead to a bucket."""
    return [f"t{level}/{bucket >> (_BITS * (level - 1))}" for level in range(1, _TOP + 1)]


def add_timeline_entry(
    lists: Collection, entries: Iterable[TimelineEntry], appender: Appender
) -> None:
    """Add traces to the timeline.

    Raises:
        StoreUnavailableError: Other writers came first at each attempt.
    """
    by_bucket: dict[int, list[TimelineEntry]] = {}
    for entry in entries:
        by_bucket.setdefault(bucket_of(entry.start_ns), []).append(entry)
    markers = {marker: 1 for bucket in by_bucket for marker in _marker_ids(bucket)}
    appender.add(lists, {_list_of(b): e for b, e in by_bucket.items()}, also=markers)


def newest_first(
    lists: Collection, *, before: TimelineEntry | None = None
) -> Iterator[TimelineEntry]:
    """Yield entries, newest first, each trace once; only those before one."""
    limit = _MAX_BUCKET if before is None else bucket_of(before.start_ns)
    seen: set[str] = set()
    for buckets in _existing_buckets(lists, limit):
        for entries in _entries(lists, buckets):
            for entry in sorted(entries, reverse=True):
                if entry.trace_id not in seen and (before is None or entry < before):
                    seen.add(entry.trace_id)
                    yield entry


def _existing_buckets(lists: Collection, limit: int) -> Iterator[list[int]]:
    """Yield groups of existing buckets not after limit, newest first."""

    def descend(level: int, nodes: list[int]) -> Iterator[list[int]]:
        if level == 0:
            yield nodes
            return
        shift = _BITS * (level - 1)
        for start in range(0, len(nodes), _GROUP):
            children = [
                child
                for node in nodes[start : start + _GROUP]
                for child in range(node * _FAN_OUT + _FAN_OUT - 1, node * _FAN_OUT - 1, -1)
                if child <= limit >> shift
            ]
            found = set(lists.get([f"t{level}/{child}" for child in children], include=[])["ids"])
            existing = [child for child in children if f"t{level}/{child}" in found]
            if existing:
                yield from descend(level - 1, existing)

    yield from descend(_TOP, [0])


def _entries(lists: Collection, buckets: list[int]) -> Iterator[list[TimelineEntry]]:
    """Yield the entries of each bucket, group by group."""
    for start in range(0, len(buckets), _GROUP):
        group = buckets[start : start + _GROUP]
        found = paged_lists.read(lists, [_list_of(bucket) for bucket in group])
        for bucket in group:
            yield [
                TimelineEntry(start_ns, trace_id) for start_ns, trace_id in found[_list_of(bucket)]
            ]
