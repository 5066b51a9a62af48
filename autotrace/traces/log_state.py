"""What the log holds of one share of an OpenTelemetry trace, and what a batch adds to it.

A share that grows is read and summarised anew, so it has a bound: MAX_RECORDS and MAX_BYTES. What
would go beyond is left out, and counted. A tenth more is kept for what a trace cannot do without:
tasks, roots, and spans above others, which OTLP sends last. The end of a span that is open is
always taken. Guests may fill half of a share, and take nothing of that tenth.

Whether there is room depends on what the log holds and on the records before in the batch, and
room that is gone does not come back: a batch that is stored again gets the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
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
"""How many records one share of an OpenTelemetry trace holds."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""How many bytes of JSON they have."""
_WITH_HEADS: Final = 1.1
_OF_GUESTS: Final = 0.5


@dataclass
class _Extent:
    """How much some records take."""

    records: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        self.records += 1
        self.size_bytes += size_bytes

    def has_room_for(self, size_bytes: int, portion: float) -> bool:
        """Return whether this portion of the bound has room for one more of a size."""
        return (
            self.records + 1 <= portion * MAX_RECORDS
            and self.size_bytes + size_bytes <= portion * MAX_BYTES
        )


@dataclass
class TraceState:
    """What the log holds of one OpenTelemetry trace."""

    parts: int = 0
    records: list[SpanRecord] = field(default_factory=list[SpanRecord])
    keys: set[str] = field(default_factory=set[str])
    erased: bool = False
    """Whether a trace in it was deleted."""
    lost_content: bool = False
    """Whether content of a deleted trace was left out of what is stored."""
    fresh: list[SpanRecord] = field(default_factory=list[SpanRecord])
    """Those of `records` that belong to the batch being stored."""
    extent: _Extent = field(default_factory=_Extent)
    left_out: int = 0
    """Records of the batch being stored for which there is no room."""
    _guests: _Extent = field(default_factory=_Extent)
    _parents: set[str] = field(default_factory=set[str])
    """Ids that records name as their parents."""

    def extend(
        self, parts: Sequence[LogPart], writer: str, batches: Set[int], keys: Set[str]
    ) -> None:
        """Take in parts of the log; what the batch being stored has written of its own is fresh.

        Args:
            parts: The parts.
            writer: Who stores.
            batches: The numbers of its attempts at the batch, which may have been larger.
            keys: Name the records of the batch (`record_key`).
        """
        self.parts += len(parts)
        for part in parts:
            mine = part["writer"] == writer and part["batch"] in batches
            for record in part["records"]:
                key = record_key(record)
                if key not in self.keys:
                    self._add(record, key, len(orjson.dumps(record)), fresh=mine and key in keys)

    def is_empty(self) -> bool:
        """Return whether the log holds nothing of it."""
        return self.parts == 0

    def is_complete(self) -> bool:
        """Return whether a root, and all that has started, has ended: little will follow."""
        return any("end_ns" in r and not r.get("parent") for r in self.records) and all(
            r["id"] in self.keys for r in self.records if "open" in r
        )

    def holds_erased(self) -> bool:
        """Return whether there is content of a deleted trace in it."""
        if not self.erased:
            return False
        tree = Tree(self.records)
        return any(holds_content(r) and tree.erased_task_of(r) is not None for r in self.records)

    def take(self, record: SpanRecord) -> bytes | None:
        """Take in one record of the batch; return it as JSON if it is new and there is room."""
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


def without_superseded(records: list[SpanRecord]) -> list[SpanRecord]:
    """Leave out that a span has started where the batch also says that it has ended."""
    opened = [record for record in records if "open" in record]
    if not opened:
        return records
    ended = {span_in(r) for r in records if "end_ns" in r and not r.get("interrupted")}
    superseded = {id(record) for record in opened if span_in(record) in ended}
    return [record for record in records if id(record) not in superseded]


def _without_erased(state: TraceState, records: list[SpanRecord]) -> list[SpanRecord]:
    """Return records as they may be stored: skeletons of what belongs to a deleted trace."""
    if not state.erased:
        return records
    tree = Tree([*state.records, *records])
    kept = [without_erased(record, tree) for record in records]
    state.lost_content = state.lost_content or kept != records
    return kept


def new_parts(
    state: TraceState, records: list[SpanRecord], writer: str, batch: int
) -> Iterator[bytes]:
    """Yield the documents, as JSON, of parts that hold what the log does not have yet."""
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
