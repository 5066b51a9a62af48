"""The records of one share of an OpenTelemetry trace in the log, and those that a batch adds.

A share that grows is read and summarised again, so it is limited by MAX_RECORDS and MAX_BYTES;
further records are left out, and counted. A tenth more is reserved for tasks, roots and spans above
others, which OTLP sends last. The end of an open span is always taken. Guests may fill half of a
share, and nothing of that tenth. The answer depends on the log and on the records before in the
batch alone: a batch that is stored again gets the same answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

import orjson

from autotrace.spool.shares import guest_of, span_in
from autotrace.spool.span_records import SpanRecord, holds_content, record_key
from autotrace.spool.span_roles import role_of
from autotrace.store.trace_log import MAX_PART_BYTES, LogPart
from autotrace.traces.deletion import without_erased
from autotrace.traces.tree import Tree

MAX_RECORDS: Final = 50_000
"""Number of records of one share of an OpenTelemetry trace."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Size of their JSON."""
_MAX_CACHED_RECORDS: Final = 2 * MAX_RECORDS
"""Number of records of traces under way that are cached: one full trace, and as many of others."""
_MAX_CACHED_BYTES: Final = 2 * MAX_BYTES
_WITH_HEADS: Final = 1.1
_OF_GUESTS: Final = 0.5


@dataclass
class _Extent:
    """The number and size of some records."""

    records: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        self.records += 1
        self.size_bytes += size_bytes

    def has_room_for(self, size_bytes: int, portion: float) -> bool:
        """Return whether this portion of the limits has room for one more record."""
        return (
            self.records + 1 <= portion * MAX_RECORDS
            and self.size_bytes + size_bytes <= portion * MAX_BYTES
        )


@dataclass
class TraceState:
    """The records of one share in the log."""

    parts: int = 0
    records: list[SpanRecord] = field(default_factory=list[SpanRecord])
    keys: set[str] = field(default_factory=set[str])
    erased: bool = False
    """Whether a trace of the share was deleted."""
    lost_content: bool = False
    """Whether content of a deleted trace was left out."""
    fresh: list[SpanRecord] = field(default_factory=list[SpanRecord])
    """Those of `records` that belong to the batch being stored."""
    extent: _Extent = field(default_factory=_Extent)
    left_out: int = 0
    """Number of records of the batch without room."""
    _guests: _Extent = field(default_factory=_Extent)
    _parents: set[str] = field(default_factory=set[str])
    """Ids that records name as their parents."""

    def extend(
        self, parts: Sequence[LogPart], writer: str, batches: Set[int], keys: Set[str]
    ) -> None:
        """Add parts of the log; records that an attempt at the batch has written are fresh.

        `batches` are the numbers of the attempts, which may have been larger; `keys` are those of
        the records of the batch (`record_key`).
        """
        self.parts += len(parts)
        for part in parts:
            mine = part["writer"] == writer and part["batch"] in batches
            for record in part["records"]:
                key = record_key(record)
                if key not in self.keys:
                    self._add(record, key, len(orjson.dumps(record)), fresh=mine and key in keys)

    def is_empty(self) -> bool:
        """Return whether the log has no record of it."""
        return self.parts == 0

    def is_complete(self) -> bool:
        """Return whether a root and every open span have ended: few records will follow."""
        return any("end_ns" in r and not r.get("parent") for r in self.records) and all(
            r["id"] in self.keys for r in self.records if "open" in r
        )

    def holds_erased(self) -> bool:
        """Return whether it has content of a deleted trace."""
        if not self.erased:
            return False
        tree = Tree(self.records)
        return any(holds_content(r) and tree.erased_task_of(r) is not None for r in self.records)

    def take(self, record: SpanRecord) -> bytes | None:
        """Add a record of the batch; return its JSON, or None if it is known or has no room."""
        key = record_key(record)
        if key in self.keys:
            return None
        text = orjson.dumps(record)
        if not self._has_room_for(record, len(text)):
            self.left_out += 1
            return None
        self._add(record, key, len(text), fresh=True)
        return text

    def _add(self, record: SpanRecord, key: str, size_bytes: int, *, fresh: bool) -> None:
        self.keys.add(key)
        self.records.append(record)
        self.extent.add(size_bytes)
        if guest_of(record) is not None:
            self._guests.add(size_bytes)
        if parent := record.get("parent"):
            self._parents.add(parent)
        self.erased = self.erased or "erased" in record
        if fresh:
            self.fresh.append(record)

    def _has_room_for(self, record: SpanRecord, size_bytes: int) -> bool:
        is_within = self.extent.has_room_for(size_bytes, 1)
        if guest_of(record) is not None:
            return is_within and self._guests.has_room_for(size_bytes, _OF_GUESTS)
        if is_within or record["id"] + "o" in self.keys:
            return True
        return self._is_head(record) and self.extent.has_room_for(size_bytes, _WITH_HEADS)

    def _is_head(self, record: SpanRecord) -> bool:
        return (
            not record.get("parent")
            or "remote" in record
            or role_of(record) == "task"
            or record["id"] in self._parents
        )


class StateCache:
    """States of traces under way, which need not be read again. The oldest are dropped first."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, TraceState] = OrderedDict()

    def missing(self, traces: Iterable[str]) -> list[str]:
        """Return those of some traces that are not cached."""
        return [trace for trace in traces if trace not in self._states]

    def put(self, trace: str, state: TraceState) -> None:
        """Add a state."""
        self._states[trace] = state

    def get(self, traces: Iterable[str]) -> dict[str, TraceState]:
        """Return the states of traces, all of which must be cached."""
        found = {trace: self._states[trace] for trace in traces}
        for trace in found:
            self._states.move_to_end(trace)
        return found

    def drop(self, traces: Iterable[str]) -> None:
        """Drop traces."""
        for trace in traces:
            self._states.pop(trace, None)

    def clear(self) -> None:
        """Drop all traces."""
        self._states.clear()

    def finish(self, states: Mapping[str, TraceState]) -> None:
        """Drop the traces of a stored batch that are complete, and those beyond the limits."""
        for trace, state in states.items():
            state.fresh = []
            if state.is_complete() and not state.left_out:  # a full trace gets more records
                self._states.pop(trace, None)
        records = sum(state.extent.records for state in self._states.values())
        size_bytes = sum(state.extent.size_bytes for state in self._states.values())
        while records > _MAX_CACHED_RECORDS or size_bytes > _MAX_CACHED_BYTES:
            _, state = self._states.popitem(last=False)
            records -= state.extent.records
            size_bytes -= state.extent.size_bytes


def without_superseded(records: list[SpanRecord]) -> list[SpanRecord]:
    """Leave out open spans that end in the same batch."""
    opened = [record for record in records if "open" in record]
    if not opened:
        return records
    ended = {span_in(r) for r in records if "end_ns" in r and not r.get("interrupted")}
    superseded = {id(record) for record in opened if span_in(record) in ended}
    return [record for record in records if id(record) not in superseded]


def _without_erased(state: TraceState, records: list[SpanRecord]) -> list[SpanRecord]:
    """Return records as they may be stored: skeletons if they belong to a deleted trace."""
    if not state.erased:
        return records
    tree = Tree([*state.records, *records])
    kept = [without_erased(record, tree) for record in records]
    state.lost_content = state.lost_content or kept != records
    return kept


def new_parts(
    state: TraceState, records: list[SpanRecord], writer: str, batch: int
) -> Iterator[bytes]:
    """Yield the parts, as JSON, with the records that the log lacks."""
    state.left_out = 0
    head = f'{{"writer":"{writer}","batch":{batch},"records":['.encode()
    texts: list[bytes] = []
    size_bytes = 0
    for record in _without_erased(state, records):
        text = state.take(record)
        if text is None:
            continue
        if texts and size_bytes + len(text) > MAX_PART_BYTES:
            yield head + b",".join(texts) + b"]}"
            texts, size_bytes = [], 0
        texts.append(text)
        size_bytes += len(text)
    if texts:
        yield head + b",".join(texts) + b"]}"
