"""Statistics of each tool: counters per writer, so that writers on several machines never race.

A writer keeps one record per tool, `stats/{writer}/{tool}`, with absolute totals and the number of
the batch it last counted; a batch that is stored again after a crash finds its number and counts
nothing twice. Readers add the writers' records up.

Durations are counted by value: whole milliseconds up to 1,000, and above that rounded to three
significant digits, so that percentiles are exact up to a second and within 0.5 % beyond, in
at most 900 values per power of ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from autotrace.models import ToolStats, ToolStatus
from autotrace.store.schema import Collection, document_of, upsert
from autotrace.store.times import utc

STATS_PREFIX: Final = "stats/"
MAX_ERROR_TYPES: Final = 50
"""Error types counted by name for one tool; further ones are counted as `other`."""
OTHER: Final = "other"


class Call(NamedTuple):
    """What the statistics need of one tool call."""

    tool_name: str
    status: ToolStatus
    duration_ms: int
    ended_ns: int
    error_type: str | None


@dataclass
class Counters:
    """Totals over calls of one tool."""

    tool: str
    batch: int = 0
    calls: int = 0
    errors: int = 0
    timeouts: int = 0
    total_ms: int = 0
    min_ms: int = 0
    max_ms: int = 0
    last_ns: int = 0
    error_types: dict[str, int] = field(default_factory=dict[str, int])
    durations: dict[str, int] = field(default_factory=dict[str, int])
    """How many calls took how many milliseconds (rounded as said above); keys are JSON's."""

    def count(self, call: Call) -> None:
        """Count one call."""
        self.min_ms = min(self.min_ms, call.duration_ms) if self.calls else call.duration_ms
        self.max_ms = max(self.max_ms, call.duration_ms)
        self.calls += 1
        self.errors += call.status == "error"
        self.timeouts += call.status == "timeout"
        self.total_ms += call.duration_ms
        self.last_ns = max(self.last_ns, call.ended_ns)
        if call.status != "success":
            _count_type(self.error_types, call.error_type or call.status, 1)
        key = str(rounded_ms(call.duration_ms))
        self.durations[key] = self.durations.get(key, 0) + 1

    def merge(self, other: Counters) -> None:
        """Add the totals of another writer."""
        if other.calls == 0:
            return
        self.min_ms = min(self.min_ms, other.min_ms) if self.calls else other.min_ms
        self.max_ms = max(self.max_ms, other.max_ms)
        self.calls += other.calls
        self.errors += other.errors
        self.timeouts += other.timeouts
        self.total_ms += other.total_ms
        self.last_ns = max(self.last_ns, other.last_ns)
        for name, number in other.error_types.items():
            _count_type(self.error_types, name, number)
        for key, number in other.durations.items():
            self.durations[key] = self.durations.get(key, 0) + number

    def to_model(self) -> ToolStats:
        """Return what users see."""
        p50, p95, p99 = (
            min(max(value, self.min_ms), self.max_ms)  # rounding must not leave the range
            for value in percentiles_ms(self.durations, (0.50, 0.95, 0.99))
        )
        return ToolStats(
            tool_name=self.tool,
            call_count=self.calls,
            success_rate=(self.calls - self.errors - self.timeouts) / self.calls,
            avg_duration_ms=round(self.total_ms / self.calls, 3),
            min_duration_ms=self.min_ms,
            max_duration_ms=self.max_ms,
            p50_duration_ms=p50,
            p95_duration_ms=p95,
            p99_duration_ms=p99,
            error_count=self.errors,
            timeout_count=self.timeouts,
            error_types=dict(sorted(self.error_types.items())),
            last_used_at=utc(self.last_ns),
        )


def _count_type(types: dict[str, int], name: str, number: int) -> None:
    if name not in types and len(types) >= MAX_ERROR_TYPES:
        name = OTHER
    types[name] = types.get(name, 0) + number


def rounded_ms(duration_ms: int) -> int:
    """Round a duration to three significant digits; below 1,000 it stays exact."""
    unit = 1
    while duration_ms >= 1000 * unit:
        unit *= 10
    return (duration_ms + unit // 2) // unit * unit


def percentiles_ms(durations: dict[str, int], ranks: Sequence[float]) -> list[int]:
    """Return nearest-rank percentiles: the smallest duration that at least rank·n calls kept to.

    Source: the nearest-rank definition, as in NumPy's `method="inverted_cdf"`.
    """
    values = sorted((int(key), number) for key, number in durations.items())
    total = sum(number for _, number in values)
    answers: list[int] = []
    for rank in ranks:
        below = 0
        for value, number in values:
            below += number
            if below >= rank * total:
                answers.append(value)
                break
    return answers


def recount(calls: Iterable[Call]) -> list[ToolStats]:
    """Return the statistics of these calls, most used tool first."""
    counters: dict[str, Counters] = {}
    for call in calls:
        counters.setdefault(call.tool_name, Counters(call.tool_name)).count(call)
    return _sorted(counters)


def read_stats(state: Collection) -> list[ToolStats]:
    """Return the statistics of every tool over all writers, most used first."""
    merged: dict[str, Counters] = {}
    for _, counters in _read(state):
        merged.setdefault(counters.tool, Counters(counters.tool)).merge(counters)
    return _sorted(merged)


def read_writer(state: Collection, writer: str) -> dict[str, Counters]:
    """Return one writer's counters by tool."""
    prefix = f"{STATS_PREFIX}{writer}/"
    return {
        counters.tool: counters
        for record_id, counters in _read(state)
        if record_id.startswith(prefix)
    }


def write_counters(state: Collection, writer: str, changed: Iterable[Counters]) -> None:
    """Store the counters of a writer that have changed."""
    upsert(state, {f"{STATS_PREFIX}{writer}/{c.tool}": asdict(c) for c in changed})


def _read(state: Collection) -> Iterable[tuple[str, Counters]]:
    found: dict[str, Any] = state.get(include=["metadatas"])
    for record_id, metadata in zip(found["ids"], found["metadatas"], strict=True):
        if record_id.startswith(STATS_PREFIX):
            yield record_id, Counters(**document_of(metadata))


def _sorted(counters: dict[str, Counters]) -> list[ToolStats]:
    models = [c.to_model() for c in counters.values() if c.calls]
    return sorted(models, key=lambda stats: (-stats.call_count, stats.tool_name))
