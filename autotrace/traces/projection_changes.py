"""What a batch changes where spans of other instrumentations are involved. Pure.

A span of ours says by itself what it is. What one of others is depends on what lies above it, which
mostly arrives later: a layer of a tool call turns out to be one when the outer layer comes, an
agent to be a part of a run. So what has been listed and counted may have to be taken back.

Statistics: every part of the log stands for the difference that it makes to the calls that can be
told from the parts up to it. These differences add up to the calls of the whole log, whoever stored
the parts and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
    """Traces that were listed and turn out not to be traces."""
    calls: list[ToolCallStat] = field(default_factory=list[ToolCallStat])
    taken_back: list[ToolCallStat] = field(default_factory=list[ToolCallStat])
    """Calls that were counted and turn out not to be calls, or to be others."""

    def add(self, changes: Changes) -> None:
        """Add the changes of another OpenTelemetry trace."""
        self.started += changes.started
        self.completed += changes.completed
        self.summaries |= changes.summaries
        self.calls += changes.calls
        self.gone += changes.gone
        self.taken_back += changes.taken_back


def project(state: TraceState) -> Changes:
    """Return the changes that the fresh records of one OpenTelemetry trace make."""
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
    # A span whose place is a guess, and one that joins others, can change any task's share.
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
    """Return whether a span that was known is found to lie in one that is new."""
    return any(r.get("parent") in new_ids and r["id"] in old_ids for r in records)


def changes_of(records: Sequence[SpanRecord], fresh: Iterable[SpanRecord], tree: Tree) -> Changes:
    """Find out what some records change.

    Args:
        records: All that the log holds of the trace, in its order.
        fresh: Those of them that belong to the batch.
        tree: Of all of them.
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
    if len(stretches) == 1 and stretches[0][1] == len(records):  # nobody else has written since
        _count(_calls(before), _calls(tree), changes)
        return changes
    for start, end in stretches:
        _count(_calls(Tree(records[:start])), _calls(Tree(records[:end])), changes)
    return changes


def _is_found_by(was: Summary | None, summary: Summary) -> bool:
    """Return whether a trace is in the index already as it is now."""
    return was is not None and all(
        was[name] == summary[name]  # pyright: ignore[reportTypedDictNotRequiredAccess] - all are there
        for name in ("status", "task", "success")
    )


def _stretches(records: Sequence[SpanRecord], fresh_ids: set[int]) -> Iterator[tuple[int, int]]:
    """Yield where stretches of fresh records begin and end."""
    start: int | None = None
    for index, record in enumerate(records):
        is_fresh = id(record) in fresh_ids
        if is_fresh and start is None:
            start = index
        elif not is_fresh and start is not None:
            yield start, index
            start = None
    if start is not None:
        yield start, len(records)


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
