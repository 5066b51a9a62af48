"""Read and replace the log: the span records of each OpenTelemetry trace.

All other collections are projections of the log. The records of a share of a trace are a chain of
parts (numbered_records.py), named after the share. Only a deletion changes a stored part: it
replaces records by skeletons (traces/deletion.py), and keeps the number and writers of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NotRequired, TypedDict

from autotrace.store.numbered_records import read_chains, record_id
from autotrace.store.schema import Collection, documents, upsert

MAX_PART_BYTES: Final = 1024 * 1024
"""Approximate size at which the next part begins; a larger record has a part to itself."""
_TRACES_AT_ONCE: Final = 64


class Undo(TypedDict):
    """The steps left of a deletion that has begun."""

    span: str
    """The span of the task whose trace is deleted."""
    key: str | None
    """The key of its task's text, if a recall finds it."""
    tools: dict[str, Any]
    """Its calls that the statistics have counted (see tool_stats.py)."""


class LogPart(TypedDict):
    """One part of a trace's log."""

    writer: str
    batch: int
    """The number of the writer's batch."""
    records: list[Any]
    undo: NotRequired[Undo]


def read_parts(log: Collection, traces: Sequence[str]) -> dict[str, list[LogPart]]:
    """Return the parts of each trace, in order; an unknown trace has none."""
    # Of many traces, most are new or have one part.
    first_look = 4 if len(traces) == 1 else 1
    return read_chains(lambda ids: documents(log, ids), traces, first_look)


def read_all(log: Collection, traces: Sequence[str]) -> Iterator[dict[str, list[LogPart]]]:
    """Yield the parts of traces, some traces at a time."""
    for start in range(0, len(traces), _TRACES_AT_ONCE):
        yield read_parts(log, traces[start : start + _TRACES_AT_ONCE])


def records_in(parts: Iterable[LogPart]) -> list[Any]:
    """Return the span records of some parts."""
    return [record for part in parts for record in part["records"]]


def read_records(log: Collection, trace: str) -> list[Any]:
    """Return every span record of a share of an OpenTelemetry trace."""
    return records_in(read_parts(log, [trace])[trace])


def replace_parts(log: Collection, trace: str, parts: Mapping[int, LogPart]) -> None:
    """Replace parts, given by number."""
    upsert(log, {record_id(trace, number): part for number, part in parts.items()})
