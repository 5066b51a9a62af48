"""What the log holds of one OpenTelemetry trace, and what a batch adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

import orjson

from autotrace.export.assemble import Tree
from autotrace.export.erase import without_erased
from autotrace.export.records import SpanRecord, holds_content, record_key
from autotrace.export.shares import span_in
from autotrace.store.log import MAX_PART_BYTES, Part


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

    def extend(self, parts: Sequence[Part], writer: str, batches: Set[int], keys: Set[str]) -> None:
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
                self.add(record, fresh=mine and record_key(record) in keys)

    def is_empty(self) -> bool:
        """Tell whether the log holds nothing of it."""
        return self.parts == 0

    def is_complete(self) -> bool:
        """Tell whether a root, and all that has started, has ended: little will follow."""
        return any("end_ns" in r and not r.get("parent") for r in self.records) and all(
            r["id"] in self.keys for r in self.records if "open" in r
        )

    def holds_erased(self) -> bool:
        """Tell whether there is content of a deleted trace in it."""
        if not self.erased:
            return False
        tree = Tree(self.records)
        return any(holds_content(r) and tree.erased_task_of(r) is not None for r in self.records)

    def add(self, record: SpanRecord, *, fresh: bool) -> bool:
        """Take in one record; return whether it was not known."""
        key = record_key(record)
        if key in self.keys:
            return False
        self.keys.add(key)
        self.records.append(record)
        self.erased = self.erased or "erased" in record
        if fresh:
            self.fresh.append(record)
        return True


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
    head = f'{{"writer":"{writer}","batch":{batch},"records":['.encode()
    texts: list[bytes] = []
    size_bytes = 0
    for record in _without_erased(state, records):
        if not state.add(record, fresh=True):
            continue
        text = orjson.dumps(record)
        if texts and size_bytes + len(text) > MAX_PART_BYTES:
            yield head + b",".join(texts) + b"]}"
            texts, size_bytes = [], 0
        texts.append(text)
        size_bytes += len(text)
    if texts:
        yield head + b",".join(texts) + b"]}"
