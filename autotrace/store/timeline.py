"""The timeline: which traces started when, listed newest first without a scan.

Chroma has no ORDER BY, and a `where` on a time range reads every record. So each trace is entered
in a record whose id can be computed from its start: time is cut into buckets of ten seconds, and
bucket `q` has the slots `t0/{q}/{n}`, n = 0, 1, 2, …, each a list of entries. Which buckets exist
is kept in a tree of markers with 64 children a node: `t1/{q}` says that bucket q exists,
`t2/{q >> 6}` that a bucket of that node does, and so on up to `t5`. A marker says nothing but that
it is there, so any writer may add it at any time, and twice.

Listing goes down the tree from the newest side: each level is one `get` of at most 512 computed
ids, and the cost is the same for a thousand traces and a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

BUCKET_NS: Final = 10_000_000_000
_BITS: Final = 6
_FAN_OUT: Final = 1 << _BITS
_TOP: Final = 5
"""Levels of markers; 64**5 buckets of ten seconds reach to the year 2310."""
_GROUP: Final = 8
_MAX_BUCKET: Final = _FAN_OUT**_TOP - 1

Fetch = Callable[[Sequence[str]], Mapping[str, Any]]
"""Returns the documents of those ids that exist."""


class Entry(NamedTuple):
    """One trace on the timeline."""

    start_ns: int
    trace_id: str


def bucket_of(start_ns: int) -> int:
    """Return the bucket of a start time; times out of range share the first or last one."""
    return min(max(start_ns // BUCKET_NS, 0), _MAX_BUCKET)


def slot_id(bucket: int, slot: int) -> str:
    """Return the record id of a slot."""
    return f"t0/{bucket}/{slot}"


def marker_ids(bucket: int) -> list[str]:
    """Return the ids of the markers that lead to a bucket."""
    return [f"t{level}/{bucket >> (_BITS * (level - 1))}" for level in range(1, _TOP + 1)]


def newest_first(fetch: Fetch, *, before: Entry | None = None) -> Iterator[Entry]:
    """Yield the entries from the newest to the oldest, each trace once.

    Args:
        fetch: Looks documents up by id.
        before: Yield only what is older than this entry.
    """
    limit = _MAX_BUCKET if before is None else bucket_of(before.start_ns)
    seen: set[str] = set()
    for buckets in _existing_buckets(fetch, limit):
        for entries in _entries(fetch, buckets):
            for entry in sorted(entries, reverse=True):
                if entry.trace_id not in seen and (before is None or entry < before):
                    seen.add(entry.trace_id)
                    yield entry


def _existing_buckets(fetch: Fetch, limit: int) -> Iterator[list[int]]:
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
            found = fetch([f"t{level}/{child}" for child in children])
            existing = [child for child in children if f"t{level}/{child}" in found]
            if existing:
                yield from descend(level - 1, existing)

    yield from descend(_TOP, [0])


def _entries(fetch: Fetch, buckets: list[int]) -> Iterator[list[Entry]]:
    """Yield the entries of each bucket, group by group."""
    for start in range(0, len(buckets), _GROUP):
        group = buckets[start : start + _GROUP]
        slots = read_slots(fetch, group)
        for bucket in group:
            yield [
                Entry(start_ns, trace_id)
                for document in slots[bucket]
                for start_ns, trace_id in document["entries"]
            ]


def read_slots(fetch: Fetch, buckets: Sequence[int]) -> dict[int, list[Any]]:
    """Return the documents of all slots of each bucket, in order."""
    slots: dict[int, list[Any]] = {bucket: [] for bucket in buckets}
    pending = list(buckets)
    width = 8
    while pending:
        wanted = {
            bucket: [slot_id(bucket, len(slots[bucket]) + n) for n in range(width)]
            for bucket in pending
        }
        found = fetch([record_id for ids in wanted.values() for record_id in ids])
        unfinished: list[int] = []
        for bucket, ids in wanted.items():
            present = [found[record_id] for record_id in ids if record_id in found]
            slots[bucket].extend(present)
            if len(present) == width:
                unfinished.append(bucket)
        pending = unfinished
        width = min(width * 4, 512)
    return slots
