"""Find the calls of a deleted trace that the statistics have counted, to subtract them.

They are subtracted, rather than all calls recounted: only the writer of a counter may write it, and
over a Chroma server there are many. Their last use is searched for in the whole log, and only where
a tool's last call is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from autotrace.spool.shares import span_in
from autotrace.store.reset import logged_traces
from autotrace.store.schema import Collections
from autotrace.store.tool_names import OTHER_TOOLS
from autotrace.store.tool_stats import TakenBack, ToolCallStat, ToolCounters, Totals, read_totals
from autotrace.store.trace_log import LogPart, read_all, read_records, records_in
from autotrace.traces.tool_calls import call_of
from autotrace.traces.tree import Tree, calls_in


class _LastCall(NamedTuple):
    """The last call of a tool; the default: none."""

    ended_ns: int = 0
    share: str = ""
    span: str = ""

    def exists(self, collections: Collections) -> bool:
        """Return whether the call is still in the log."""
        records = read_records(collections.log, self.share)
        return not self.share or any(call["id"] == self.span for call in calls_in(records))


_NONE: Final = _LastCall()


class DeletedCalls:
    """The tool calls of a trace that is deleted: of a task span in a share."""

    def __init__(self, share: str, span: str) -> None:
        self._share = share
        self._span = span
        self._last: dict[str, _LastCall] = {}

    def are_counted(self, collections: Collections, parts: Sequence[LogPart]) -> bool:
        """Return whether the writers of the parts have counted every call."""
        totals = read_totals(collections.state)
        return all(_place_of(call, within, totals) for call, _, within in self._calls(parts))

    def to_take_back(
        self, collections: Collections, parts: Sequence[LogPart]
    ) -> dict[str, TakenBack]:
        """Return the counted calls by tool. A later search for last calls reads only new ones."""
        totals = read_totals(collections.state)
        taken: dict[str, TakenBack] = {}
        for call, _, within in self._calls(parts):
            # Its writer will find a skeleton in place of a call that is not counted yet.
            if place := _place_of(call, within, totals):
                taken.setdefault(place, TakenBack(ToolCounters(place))).counters.count(call)
        counted = totals.by_tool()
        # Of OTHER_TOOLS, the last call is not searched for.
        named = {tool: of_tool for tool, of_tool in taken.items() if tool != OTHER_TOOLS}
        wanted = {t for t, of in named.items() if of.counters.last_ns >= counted[t].last_ns}
        # Another process may have deleted a call that was found before.
        known = {t for t in wanted & self._last.keys() if self._last[t].exists(collections)}
        if known < wanted:
            self._last |= self._search(collections, wanted - known)
        for tool in wanted:
            taken[tool].last_ns = self._last[tool].ended_ns
            taken[tool].up_to_ns = max(
                counters.last_ns for (_, t), counters in totals.writers.items() if t == tool
            )
        return taken

    def _calls(self, parts: Sequence[LogPart]) -> list[tuple[ToolCallStat, str, Sequence[LogPart]]]:
        """Return (call, span, parts of which one was counted with it) of each call of the trace."""
        tree = Tree(records_in(parts))
        holding = {span_in(record): part for part in reversed(parts) for record in part["records"]}
        # A call in the words of another instrumentation may have no span of its own.
        return [
            (call_of(r), r["id"], [holding[r["id"]]] if r["id"] in holding else parts)
            for r in tree.calls()
            if tree.owning_task(r) == self._span
        ]

    def _search(self, collections: Collections, tools: Iterable[str]) -> dict[str, _LastCall]:
        """Return the last call of each tool outside of this trace."""
        last = dict.fromkeys(tools, _NONE)
        for logs in read_all(collections.log, logged_traces(collections.log)):
            for share, parts in logs.items():
                own = self._calls(parts) if share == self._share else []
                deleted = {span for _, span, _ in own}
                for record in calls_in(records_in(parts)):
                    call = call_of(record)
                    known = last.get(call.tool_name)
                    if known and call.ended_ns > known.ended_ns and record["id"] not in deleted:
                        last[call.tool_name] = _LastCall(call.ended_ns, share, record["id"])
        return last


def _place_of(call: ToolCallStat, within: Sequence[LogPart], totals: Totals) -> str | None:
    """Return the name under which the writer of a part has counted a call; None: not yet."""
    places = (totals.place_of(part["writer"], part["batch"], call) for part in reversed(within))
    return next(filter(None, places), None)
