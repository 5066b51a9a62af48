"""Keep statistics of each tool in counters per writer, to avoid races.

A writer keeps one record per tool, `stats/{writer}/{tool}`, with totals and the number of the batch
it last counted; a batch that is stored again finds its number and counts nothing twice. A deletion
subtracts the calls of its trace in a record of its own, `stats/-/{part}`, named after the part of
the log that deletes, since writers may be at work; where a lock excludes them, these are merged
into `stats/-/all`. docs/explanation/storage.md has the precision of durations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from autotrace.errors import ToolNotFoundError
from autotrace.models import CallStatus, ToolStats, ToolStatsPage
from autotrace.store.schema import Collection, add, documents, documents_in, upsert
from autotrace.store.times import utc
from autotrace.store.tool_names import OTHER_TOOLS, bounded_name

STATS_PREFIX: Final = "stats/"
_TAKEN_PREFIX: Final = f"{STATS_PREFIX}-/"
_TAKEN_ALL: Final = f"{_TAKEN_PREFIX}all"
MAX_ERROR_TYPES: Final = 50
"""Error types counted by name for one tool; further ones are counted as `other`."""
MAX_SHOWN_ERROR_TYPES: Final = 20
"""Error types of one tool in an answer, the most frequent; the sum of the rest is `other`."""
OTHER: Final = "other"
_LATER_FIELDS: Final = ("since", "sender", "cancelled", "paused")
"""Fields that earlier versions do not know; they are not stored while they are empty."""
_SUMS: Final = ("calls", "errors", "timeouts", "cancelled", "paused", "total_ms")


class ToolCallStat(NamedTuple):
    """The fields of one tool call that the statistics count."""

    tool_name: str
    status: CallStatus
    duration_ms: int
    ended_ns: int
    error_type: str | None
    is_cut: bool = False
    """Whether the name of the tool or of its error was too long."""
    sender: str = ""
    """Agent of the key that sent it; empty for a program that records into its own store."""


@dataclass
class ToolCounters:
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
    """Number of calls by duration (`rounded_ms`); keys are strings, as in JSON."""
    since: int = 0
    """The writer's batch from which on the tool is counted under its name."""
    cancelled: int = 0
    paused: int = 0
    sender: str = ""
    """Sender of the first call of the tool; empty: the store's owner."""

    def count(self, call: ToolCallStat) -> None:
        """Count one call."""
        self.min_ms = min(self.min_ms, call.duration_ms) if self.calls else call.duration_ms
        self.max_ms = max(self.max_ms, call.duration_ms)
        self.calls += 1
        self.errors += call.status == "error"
        self.timeouts += call.status == "timeout"
        self.cancelled += call.status == "cancelled"
        self.paused += call.status == "paused"
        self.total_ms += call.duration_ms
        self.last_ns = max(self.last_ns, call.ended_ns)
        if call.status in ("error", "timeout"):
            _count_type(self.error_types, call.error_type or call.status, 1)
        key = str(rounded_ms(call.duration_ms))
        self.durations[key] = self.durations.get(key, 0) + 1

    def merge(self, other: ToolCounters) -> None:
        """Add the totals of another writer."""
        if other.calls == 0:
            return
        self.min_ms = min(self.min_ms, other.min_ms) if self.calls else other.min_ms
        self.max_ms = max(self.max_ms, other.max_ms)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ns = max(self.last_ns, other.last_ns)
        for name, number in other.error_types.items():
            _count_type(self.error_types, name, number)
        for key, number in other.durations.items():
            self.durations[key] = self.durations.get(key, 0) + number

    def without(self, taken: TakenBack) -> ToolCounters:
        """Return the totals without those of deleted calls."""
        less = taken.counters
        left = ToolCounters(
            self.tool,
            **{name: getattr(self, name) - getattr(less, name) for name in _SUMS},
            last_ns=self.last_ns if self.last_ns > taken.up_to_ns else taken.last_ns,
            error_types=_less(self.error_types, _named_as(self.error_types, less.error_types)),
            durations=_less(self.durations, less.durations),
        )
        shortest = min(map(int, left.durations), default=0)
        longest = max(map(int, left.durations), default=0)
        left.min_ms = self.min_ms if rounded_ms(self.min_ms) == shortest else shortest
        left.max_ms = self.max_ms if rounded_ms(self.max_ms) == longest else longest
        return left

    def document(self) -> dict[str, Any]:
        """Return the counters as they are stored."""
        return {k: v for k, v in asdict(self).items() if v or k not in _LATER_FIELDS}

    def to_model(self) -> ToolStats:
        """Return the statistics in the form of the public API."""
        p50, p95, p99 = (
            min(max(value, self.min_ms), self.max_ms)  # rounding must not leave the range
            for value in percentiles_ms(self.durations, (0.50, 0.95, 0.99))
        )
        judged = self.calls - self.cancelled - self.paused
        failed = self.errors + self.timeouts
        return ToolStats(
            tool_name=self.tool,
            call_count=self.calls,
            success_rate=(judged - failed) / judged if judged else 1.0,
            avg_duration_ms=round(self.total_ms / self.calls, 3),
            min_duration_ms=self.min_ms,
            max_duration_ms=self.max_ms,
            p50_duration_ms=p50,
            p95_duration_ms=p95,
            p99_duration_ms=p99,
            error_count=self.errors,
            timeout_count=self.timeouts,
            cancelled_count=self.cancelled,
            paused_count=self.paused,
            error_types=_most_frequent(self.error_types),
            last_used_at=utc(self.last_ns),
        )


@dataclass
class TakenBack:
    """Deleted calls of one tool, to be subtracted from its totals."""

    counters: ToolCounters
    up_to_ns: int = 0
    """If no call ended later than this, the last remaining one ended at `last_ns`."""
    last_ns: int = 0

    def merge(self, other: TakenBack) -> None:
        """Add the calls of another deletion."""
        self.counters.merge(other.counters)
        if other.up_to_ns == self.up_to_ns:
            self.last_ns = min(self.last_ns, other.last_ns)
        elif other.up_to_ns > self.up_to_ns:
            self.up_to_ns, self.last_ns = other.up_to_ns, other.last_ns


class Totals(NamedTuple):
    """The records of the statistics."""

    writers: dict[tuple[str, str], ToolCounters]
    """By writer and tool."""
    taken: dict[str, TakenBack]
    """By tool."""

    def place_of(self, writer: str, batch: int, call: ToolCallStat) -> str | None:
        """Return the name under which a writer has counted a call, else None."""
        named = self.writers.get((writer, call.tool_name))
        place = OTHER_TOOLS if named is None or batch < named.since else call.tool_name
        counters = self.writers.get((writer, place))
        return None if counters is None or counters.batch < batch else place

    def by_tool(self) -> dict[str, ToolCounters]:
        """Return the totals of each tool over all writers, without deleted calls."""
        merged: dict[str, ToolCounters] = {}
        for (_, tool), counters in self.writers.items():
            merged.setdefault(tool, ToolCounters(tool)).merge(counters)
        return {
            tool: counters.without(self.taken[tool]) if tool in self.taken else counters
            for tool, counters in merged.items()
        }


def _most_frequent(types: Mapping[str, int]) -> dict[str, int]:
    """Return the most frequent error types by name, the rest as `other`."""
    if len(types) <= MAX_SHOWN_ERROR_TYPES:
        return dict(sorted(types.items()))
    frequent = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    shown = dict(sorted(frequent[: MAX_SHOWN_ERROR_TYPES - 1]))
    rest = sum(number for _, number in frequent[MAX_SHOWN_ERROR_TYPES - 1 :])
    return shown | {OTHER: shown.get(OTHER, 0) + rest}


def _less(counts: Mapping[str, int], less: Mapping[str, int]) -> dict[str, int]:
    left = {key: number - less.get(key, 0) for key, number in counts.items()}
    return {key: number for key, number in left.items() if number > 0}


def _named_as(types: Mapping[str, int], less: Mapping[str, int]) -> dict[str, int]:
    """Return error types by the names of their counts: their own, or `other`."""
    named: dict[str, int] = {}
    for name, number in less.items():
        own = min(number, types.get(name, 0))
        for key, part in ((name, own), (OTHER, number - own)):
            if part:
                named[key] = named.get(key, 0) + part
    return named


def _count_type(types: dict[str, int], name: str, number: int) -> None:
    if name not in types and len(types) >= MAX_ERROR_TYPES:
        name = OTHER
    types[name] = types.get(name, 0) + number


def rounded_ms(duration_ms: int) -> int:
    """Round a duration to three significant digits; exact below 1,000."""
    unit = 1
    while duration_ms >= 1000 * unit:
        unit *= 10
    return (duration_ms + unit // 2) // unit * unit


def percentiles_ms(durations: dict[str, int], ranks: Sequence[float]) -> list[int]:
    """Return the nearest-rank percentiles of durations.

    Each is the shortest duration that rank·n calls do not exceed. Source: the nearest-rank
    definition, as in NumPy's `method="inverted_cdf"`.
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


def read_page(
    state: Collection, limit: int | None = None, after: str | None = None
) -> ToolStatsPage:
    """Return a page of the statistics over all writers, most used tools first.

    Raises:
        ToolNotFoundError: `after` is not a tool that is counted by name.
    """
    counted = read_totals(state).by_tool()
    unnamed = counted.pop(OTHER_TOOLS, ToolCounters(OTHER_TOOLS))
    ordered = sorted((c for c in counted.values() if c.calls > 0), key=lambda c: (-c.calls, c.tool))
    start = 0
    if after is not None:
        names = [c.tool for c in ordered]
        if after not in names:
            raise ToolNotFoundError(bounded_name(after))
        start = names.index(after) + 1
    end = len(ordered) if limit is None else start + limit
    rest = ToolCounters(OTHER_TOOLS)
    for counters in (*ordered[end:], unnamed):
        rest.merge(counters)
    return ToolStatsPage(
        tools=[c.to_model() for c in ordered[start:end]],
        others=rest.to_model() if rest.calls > 0 else None,
        left_out=max(0, len(ordered) - end),
    )


def read_totals(state: Collection) -> Totals:
    """Return all records of the statistics, added up per writer and tool."""
    totals = Totals({}, {})
    taken: dict[str, Any] = {}
    for record_id, document in documents_in(state.get(include=["metadatas"])).items():
        if record_id.startswith(_TAKEN_PREFIX):
            taken[record_id] = document
        elif record_id.startswith(STATS_PREFIX):
            writer = record_id.removeprefix(STATS_PREFIX).partition("/")[0]
            counters = ToolCounters(**document)
            name = bounded_name(counters.tool)
            # A later record continues the record of an older version under a longer name.
            if name == counters.tool or (writer, name) not in totals.writers:
                counters.tool = name
                totals.writers[writer, name] = counters
    covered = taken.get(_TAKEN_ALL, {}).get("covers", ())
    for record_id, document in taken.items():
        if record_id not in covered:
            _merge_taken(totals.taken, document)
    return totals


def take_back(
    state: Collection, part: str, taken: Mapping[str, Any], other_parts: Sequence[str] = ()
) -> None:
    """Subtract calls unless a record of this or another part has done so."""
    if taken and not documents(state, [_TAKEN_PREFIX + name for name in other_parts]):
        add(state, {_TAKEN_PREFIX + part: {"tools": taken}})


def merge_statistics(state: Collection, part: str) -> None:
    """Merge the record of a finished deletion into `stats/-/all`.

    The caller must hold the lock. Between the two writes, `covers` names the record, so that
    readers count it once.
    """
    record_id = _TAKEN_PREFIX + part
    known = documents(state, [record_id, _TAKEN_ALL])
    if record_id not in known:
        return
    together = known.get(_TAKEN_ALL, {"tools": {}, "covers": []})
    covered: list[str] = together["covers"]
    if record_id not in covered:
        if covered:
            state.delete(covered)
        tools: dict[str, TakenBack] = {}
        for document in (together, known[record_id]):
            _merge_taken(tools, document)
        upsert(state, {_TAKEN_ALL: {"tools": documents_of(tools), "covers": [record_id]}})
    state.delete([record_id])


def documents_of(taken: Mapping[str, TakenBack]) -> dict[str, Any]:
    """Return subtracted calls as they are stored."""
    return {
        tool: asdict(of_tool) | {"counters": of_tool.counters.document()}
        for tool, of_tool in taken.items()
    }


def _merge_taken(into: dict[str, TakenBack], document: Mapping[str, Any]) -> None:
    for tool, fields in document["tools"].items():
        counters = ToolCounters(**fields["counters"])
        taken = TakenBack(counters, fields["up_to_ns"], fields["last_ns"])
        name = bounded_name(tool)
        if name in into:
            into[name].merge(taken)
        else:
            into[name] = taken


def write_counters(state: Collection, writer: str, changed: Iterable[ToolCounters]) -> None:
    """Store counters of a writer."""
    upsert(state, {f"{STATS_PREFIX}{writer}/{c.tool}": c.document() for c in changed})
