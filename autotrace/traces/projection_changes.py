"""Compute the changes that a batch makes to the projections of the log. Pure.

The role of a span of another instrumentation depends on spans above it, which mostly arrive later:
a span turns out to be a layer of a tool call, an agent to be a part of a run. So listed traces and
counted calls may have to be taken back. Each part of the log counts for the difference that it
makes to the calls in the parts up to it; these add up to the calls of the whole log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import trace_id_of
from autotrace.store.timeline import TimelineEntry
from autotrace.store.tool_stats import ToolCallStat
from autotrace.store.trace_summaries import Summary
from autotrace.traces.assembly import summarize
from autotrace.traces.log_state import TraceState
from autotrace.traces.tool_calls import call_of
from autotrace.traces.tree import Tree


@dataclass
class Changes:
    """Changes that records make to the projections of the log."""

    started: list[TimelineEntry] = field(default_factory=list[TimelineEntry])
    """Traces that are new to the store."""
    completed: list[str] = field(default_factory=list[str])
    """Traces that the records complete."""
    summaries: dict[str, Summary] = field(default_factory=dict[str, Summary])
    gone: list[str] = field(default_factory=list[str])
    """Listed traces that turn out not to be traces."""
    calls: list[ToolCallStat] = field(default_factory=list[ToolCallStat])
    taken_back: list[ToolCallStat] = field(default_factory=list[ToolCallStat])
    """Counted calls that turn out not to be calls, or to be different ones."""

    def add(self, changes: Changes) -> None:
        """Add the changes of another share."""
        self.started += changes.started
        self.completed += changes.completed
        self.summaries |= changes.summaries
        self.gone += changes.gone
        self.calls += changes.calls
        self.taken_back += changes.taken_back


def project(state: TraceState) -> Changes:
    """Return the changes that the fresh records of one share make."""
    tree = Tree(state.records)
    if tree.is_translated:
        return changes_of(state.records, state.fresh, tree)
    changes = Changes()
    roles = tree.roles
    changes.calls.extend(
        call_of(r) for r in state.fresh if roles.get(r["id"]) == "tool" and "end_ns" in r
    )
    if not tree.tasks:
        return changes
    fresh_ids = {record["id"] for record in state.fresh}
    ended_ids = {record["id"] for record in state.fresh if "end_ns" in record}
    old_ids: set[str] = set()
    if len(state.fresh) < len(state.records):
        fresh = {id(record) for record in state.fresh}
        old = (record for record in state.records if id(record) not in fresh)
        old_ids = {record["id"] for record in old if "interrupted" not in record}
    # A span whose task is inferred, and one that joins others, can change any task.
    if old_ids and (tree.guessed or _joins(state.records, fresh_ids - old_ids, old_ids)):
        touched = {task["id"] for task in tree.tasks}
    else:
        owners = (tree.owning_task(tree.spans[i]) for i in fresh_ids if i in tree.spans)
        touched = fresh_ids | {owner for owner in owners if owner}
    for task in tree.tasks:
        if task["id"] not in touched:
            continue
        trace_id = trace_id_of(task)
        summary = changes.summaries[trace_id] = summarize(tree, task)
        if task["id"] not in old_ids:
            changes.started.append(TimelineEntry(task["start_ns"], trace_id))
        if summary["status"] == "completed" and task["id"] in ended_ids:
            changes.completed.append(trace_id)
    return changes


def _joins(records: Iterable[SpanRecord], new_ids: set[str], old_ids: set[str]) -> bool:
    """Return whether a known span has a new parent."""
    return any(r.get("parent") in new_ids and r["id"] in old_ids for r in records)


def changes_of(records: Sequence[SpanRecord], fresh: Iterable[SpanRecord], tree: Tree) -> Changes:
    """Return the changes that fresh records make where spans are translated.

    `records` are all of the share, in the order of the log; `tree` is theirs.
    """
    fresh_ids = {id(record) for record in fresh}
    before = Tree(record for record in records if id(record) not in fresh_ids)
    known = {trace_id_of(task): summarize(before, task) for task in before.tasks}
    changes = Changes()
    for task in tree.tasks:
        trace_id = trace_id_of(task)
        summary, was = summarize(tree, task), known.pop(trace_id, None)
        if summary == was:
            continue
        changes.summaries[trace_id] = summary
        if was is None:
            changes.started.append(TimelineEntry(task["start_ns"], trace_id))
        if summary["status"] == "completed" and not _is_found_by(was, summary):
            changes.completed.append(trace_id)
    changes.gone = list(known)
    stretches = list(_stretches(records, fresh_ids))
    if len(stretches) == 1 and stretches[0][1] == len(records):  # no other writer
        _count(_calls(before), _calls(tree), changes)
    else:
        for start, end in stretches:
            _count(_calls(Tree(records[:start])), _calls(Tree(records[:end])), changes)
    return changes


def _is_found_by(was: Summary | None, summary: Summary) -> bool:
    """Return whether the index has a trace as it is now."""
    return was is not None and all(
        was[name] == summary[name]  # pyright: ignore[reportTypedDictNotRequiredAccess] - all are there
        for name in ("status", "task", "success")
    )


def _stretches(records: Sequence[SpanRecord], fresh_ids: set[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each stretch of fresh records."""
    start = 0
    for is_fresh, group in groupby(records, lambda record: id(record) in fresh_ids):
        end = start + len(list(group))
        if is_fresh:
            yield start, end
        start = end


def _calls(tree: Tree) -> dict[str, ToolCallStat]:
    return {record["id"]: call_of(record) for record in tree.calls()}


def _count(
    before: Mapping[str, ToolCallStat], after: Mapping[str, ToolCallStat], changes: Changes
) -> None:
    for span_id, call in after.items():
        if before.get(span_id) != call:
            changes.calls.append(call)
    for span_id, call in before.items():
        if after.get(span_id) != call:
            changes.taken_back.append(call)
