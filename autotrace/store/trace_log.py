"""The log: the span records of each OpenTelemetry trace, append-only; the truth of the store.

The records of trace `t` are the parts `{t}/0`, `{t}/1`, …, each the document
`{"writer", "batch", "records"}`. Chroma's `add` leaves an id that exists as it is, so whoever adds
part n first has appended, and the others see it when they look: a compare-and-append.

Only a deletion changes what is in the log: it leaves of the records of a trace their places in the
tree (see traces/deletion.py). How many parts there are, and who appended each, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NotRequired, TypedDict

from autotrace.store.schema import MAX_IDS, Collection, documents, groups, upsert

MAX_PART_BYTES: Final = 1024 * 1024
"""About how large a part grows before the next is begun; a larger record has one to itself."""
_FIRST_LOOK: Final = 4


class Undo(TypedDict):
    """What is still to be done of a deletion that has begun."""

    span: str
    """The span of the task whose trace is deleted."""
    key: str | None
    """The key of its task's text, if it is found by it."""
    tools: dict[str, Any]
    """What statistics have counted of it (see tool_stats.py)."""


class LogPart(TypedDict):
    """One part of a trace's log."""

    writer: str
    """Who appended it."""
    batch: int
    """In which of its batches."""
    records: list[Any]
    undo: NotRequired[Undo]


def part_id(trace: str, number: int) -> str:
    """Return the record id of a part."""
    return f"{trace}/{number}"


def read_parts(log: Collection, traces: Sequence[str]) -> dict[str, list[LogPart]]:
    """Return the parts of each trace, in order; an unknown trace has none."""
    parts: dict[str, list[LogPart]] = {trace: [] for trace in traces}
    pending = list(traces)
    # Most traces asked for are new, or have one part: look far only where there is more.
    width = _FIRST_LOOK if len(traces) == 1 else 1
    while pending:
        unfinished: list[str] = []
        for group in groups(pending, max(1, MAX_IDS // width)):
            wanted = {
                trace: [part_id(trace, len(parts[trace]) + n) for n in range(width)]
                for trace in group
            }
            found = documents(log, [record_id for ids in wanted.values() for record_id in ids])
            for trace, ids in wanted.items():
                present = [found[record_id] for record_id in ids if record_id in found]
                parts[trace].extend(present)
                if len(present) == width:
                    unfinished.append(trace)
        pending = unfinished
        width = min(width * 4, 256)
    return parts


def read_records(log: Collection, trace: str) -> list[Any]:
    """Return every span record of an OpenTelemetry trace."""
    return [record for part in read_parts(log, [trace])[trace] for record in part["records"]]


def lost_ids(log: Collection, ids: Sequence[str], writer: str, batch: int) -> set[str]:
    """Return the ids among those just added that another writer had added before."""
    found = documents(log, ids)
    return {i for i in ids if (found[i]["writer"], found[i]["batch"]) != (writer, batch)}


def replace_parts(log: Collection, trace: str, parts: Mapping[int, LogPart]) -> None:
    """Replace parts, by their numbers, by themselves without some content."""
    upsert(log, {part_id(trace, number): part for number, part in parts.items()})
