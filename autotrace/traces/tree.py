"""Join the records of one share: find the task, step and call that each span lies below.

The result depends on the set of records alone, not on their order or repetition. Spans of other
instrumentations are translated first (dialects/).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from math import inf
from typing import Final

import orjson

from autotrace.dialects import translate
from autotrace.spool import record_fields
from autotrace.spool.shares import admitted, guest_of, span_in
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import SpanRole, role_of, told_ns_of

TASKS: Final[tuple[SpanRole, ...]] = ("task", "erased")
"""Roles of spans that other spans may belong to."""


def calls_in(records: Sequence[SpanRecord]) -> list[SpanRecord]:
    """Return every tool call among the records of a share, translated."""
    if any("scope" in record or guest_of(record) is not None for record in records):
        return Tree(records).calls()
    return [record_fields.conformed(record) for record in records if role_of(record) == "tool"]


class Tree:
    """The joined records of one share of an OpenTelemetry trace."""

    def __init__(self, records: Iterable[SpanRecord]) -> None:
        self.spans: dict[str, SpanRecord] = {}
        self.interrupted: dict[str, SpanRecord] = {}
        self.erased: set[str] = set()
        """Span ids of the tasks whose traces were deleted."""
        self._guests: dict[str, dict[str, SpanRecord]] = {}
        """Spans of others than the owner, by guest and its own span id."""
        for record in records:
            self._merge(record_fields.conformed(record))
        self.is_translated = any("scope" in record for record in self.spans.values())
        """Whether spans were translated or guests admitted."""
        if self.is_translated:
            self.spans = translate(self.spans, self.erased)
        self._admitted: set[str] = set()
        """Span ids of guests."""
        if self._guests:
            self._admit_guests()
        ordered = sorted(self.spans.values(), key=_order)
        self.roles: dict[str, SpanRole] = {
            r["id"]: "erased" if r["id"] in self.erased else role_of(r) for r in ordered
        }
        self.tasks = [r for r in ordered if self.roles[r["id"]] == "task"]
        self._owners = [r for r in ordered if self.roles[r["id"]] in TASKS]
        self._owner_ids = {r["id"] for r in self._owners}
        self._task_of: dict[str, str | None] = {}
        self._nearest: dict[tuple[SpanRole, ...], dict[str, SpanRecord | None]] = {}
        """Answers of `nearest_ancestor`, by roles and span id."""
        self.guessed = False
        """Whether the task of any span had to be guessed."""
        self.members: dict[str, list[SpanRecord]] = {task["id"]: [] for task in self.tasks}
        """Steps and tool calls of each task, in order."""
        self.events: dict[str, list[SpanRecord]] = {}
        """Events of decisions of each task, in order."""
        for record in ordered:
            role = self.roles[record["id"]]
            if role in ("step", "tool", "decision"):
                owner = self.owning_task(record)
                if owner is None or owner in self.erased:
                    continue
                if role == "decision":
                    self.events.setdefault(owner, []).append(record)
                else:
                    self.members[owner].append(record)

    def _merge(self, record: SpanRecord) -> None:
        span_id = record["id"]
        if "sender" in record and (guest := guest_of(record)) is not None:
            theirs = self._guests.setdefault(guest, {})
            known = theirs.get(span_id)
            if known is None or _supersedes(record, known):
                theirs[span_id] = record
            return
        if record.get("interrupted"):
            self.interrupted[span_id] = record
            return
        if record.get("erased"):
            self.erased.add(span_id)
            return
        known = self.spans.get(span_id)
        if known is None or _supersedes(record, known):
            self.spans[span_id] = record

    def _admit_guests(self) -> None:
        """Add the spans of guests; translate each guest's on their own."""
        self.is_translated = True
        for spans in admitted(self.spans, self._guests).values():
            if any("scope" in record for record in spans.values()):
                spans = translate(spans, self.erased)
            new = {span_id: r for span_id, r in spans.items() if span_id not in self.spans}
            self._admitted |= new.keys()
            self.spans |= new

    def _above(self, record: SpanRecord) -> SpanRecord | None:
        """Return the parent of a span; a guest's span is never the parent of an owner's."""
        parent = record.get("parent") or ""
        if parent in self._admitted and record["id"] not in self._admitted:
            return None
        return self.spans.get(parent)

    def calls(self) -> list[SpanRecord]:
        """Return every tool call that has ended, inside and outside tasks."""
        return [r for r in self.spans.values() if self.roles[r["id"]] == "tool" and "end_ns" in r]

    def nearest_ancestor(
        self, record: SpanRecord, roles: tuple[SpanRole, ...]
    ) -> SpanRecord | None:
        """Return the closest span above this one that has one of the roles."""
        known = self._nearest.setdefault(roles, {})
        passed: dict[str, None] = {}
        found: SpanRecord | None = None
        above = self._above(record)
        while above is not None and above["id"] not in passed:  # damaged data may hold a cycle
            span_id = above["id"]
            if span_id in known:
                found = known[span_id]
                break
            if self.roles[span_id] in roles:
                found = above
                break
            passed[span_id] = None
            above = self._above(above)
        known.update(dict.fromkeys(passed, found))
        return found

    def owning_task(self, record: SpanRecord) -> str | None:
        """Return the span id of the task, deleted or not, of a span."""
        span_id = record["id"]
        if span_id not in self._task_of:
            self._walk_up(record)
        return self._task_of[span_id]

    def erased_task_of(self, record: SpanRecord) -> str | None:
        """Return the span id of the task of a record, if its trace was deleted."""
        span_id = span_in(record)
        role = self.roles.get(span_id)
        if role == "erased":
            return span_id
        if role is None or role == "task":
            return None
        owner = self.owning_task(self.spans[span_id])
        return owner if owner in self.erased else None

    def _walk_up(self, record: SpanRecord) -> None:
        """Store the task of a span and of all spans on the way to it."""
        path: dict[str, None] = {}
        current = record
        found: str | None = None
        while current["id"] not in path:  # damaged data may hold a cycle
            path[current["id"]] = None
            if not current.get("parent"):
                break
            above = self._above(current)
            if above is None:
                found = self._infer_task(current)
                break
            if above["id"] in self._owner_ids:
                found = above["id"]
                break
            if above["id"] in self._task_of:
                found = self._task_of[above["id"]]
                break
            current = above
        self._task_of.update(dict.fromkeys(path, found))

    def _infer_task(self, orphan: SpanRecord) -> str | None:
        """Return the task that ran when a span with an unknown parent started."""
        tasks = self._owners
        if self._admitted and orphan["id"] not in self._admitted:
            tasks = self._tasks_of_owner
        if not tasks or self.roles[orphan["id"]] in TASKS:
            return None
        self.guessed = True
        running = self._running_of_owner if tasks is not self._owners else self._running
        return (running.at(orphan.get("start_ns", 0)) or tasks[0])["id"]

    @cached_property
    def _running(self) -> Running:
        return Running(self._owners)

    @cached_property
    def _tasks_of_owner(self) -> list[SpanRecord]:
        return [task for task in self._owners if task["id"] not in self._admitted]

    @cached_property
    def _running_of_owner(self) -> Running:
        return Running(self._tasks_of_owner)


def _supersedes(record: SpanRecord, known: SpanRecord) -> bool:
    """Return whether a record is of a later stage; of equal stages, always prefer the same."""
    stages = [(not r.get("skeleton"), not r.get("open")) for r in (record, known)]
    if stages[0] != stages[1]:
        return stages[0] > stages[1]
    sort = orjson.OPT_SORT_KEYS
    return orjson.dumps(record, option=sort) > orjson.dumps(known, option=sort)


def _order(record: SpanRecord) -> tuple[int, int, str]:
    # A parent starts no later than its child. On a coarse clock both may start at once; then the
    # span that ends later is the outer one.
    return told_ns_of(record), -record.get("end_ns", 2**63), record["id"]


class Running:
    """Finds the last task (the innermost, given last) that ran at a time, in logarithmic time."""

    def __init__(self, tasks: Sequence[SpanRecord]) -> None:
        starting: defaultdict[float, list[tuple[int, float]]] = defaultdict(list)
        times: set[float] = set()
        for number, task in enumerate(tasks):
            start, end = task.get("start_ns", 0), task.get("end_ns", inf)
            starting[start].append((-number, end))
            times |= {start, end + 1}
        self._times = sorted(times)
        self._tasks: list[SpanRecord | None] = []
        """The task that runs from each of the times on."""
        begun: list[tuple[int, float]] = []
        for time in self._times:
            for task in starting[time]:
                heapq.heappush(begun, task)
            while begun and begun[0][1] < time:  # it has ended
                heapq.heappop(begun)
            self._tasks.append(tasks[-begun[0][0]] if begun else None)

    def at(self, time_ns: int) -> SpanRecord | None:
        """Return the last task that ran at a time."""
        number = bisect_right(self._times, time_ns)
        return self._tasks[number - 1] if number else None
