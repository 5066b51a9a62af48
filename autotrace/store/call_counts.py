"""Counting calls for the statistics: of one writer as it stores, and of all in a rebuild."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from autotrace.store.schema import Collection
from autotrace.store.tool_names import OTHER_TOOLS, ToolNames
from autotrace.store.tool_stats import (
    TakenBack,
    ToolCallStat,
    ToolCounters,
    Totals,
    documents_of,
    read_totals,
)


class WriterCounters:
    """The counters of one writer, who alone changes them.

    Args:
        totals: All that is counted.
        writer: Whose counters these are.
    """

    def __init__(self, totals: Totals, writer: str) -> None:
        self._counters = {t: c for (w, t), c in totals.writers.items() if w == writer}
        elsewhere = {t for w, t in totals.writers if w != writer and t != OTHER_TOOLS}
        self._names = ToolNames(self._counters, elsewhere)

    def count(
        self, calls: Sequence[ToolCallStat], batch: int, attempts: Sequence[int] = ()
    ) -> list[ToolCounters]:
        """Count the calls of a batch; return what has changed.

        What was written of the batch before a crash is not counted again: the calls of unnamed
        tools come last, so if they are written, so are all names. The same holds for what failed
        attempts at more calls than these have written, whose numbers are `attempts`.
        """
        counted = {
            tool for tool, c in self._counters.items() if c.batch >= batch or c.batch in attempts
        }
        since = batch if OTHER_TOOLS in self._counters else 0
        for call in calls:  # names first, so that a name has every call of the batch
            place = self._names.place(call.tool_name, call.sender)
            if place not in self._counters and place != OTHER_TOOLS:
                self._counters[place] = ToolCounters(place, since=since, sender=call.sender)
        changed: dict[str, ToolCounters] = {}
        for call in calls:
            place = self._place(call)
            if place not in counted:
                counters = self._counters.setdefault(place, ToolCounters(place))
                counters.batch = batch
                counters.count(call)
                changed[place] = counters
        return sorted(changed.values(), key=lambda c: c.tool == OTHER_TOOLS)

    def taken(self, calls: Iterable[ToolCallStat]) -> dict[str, Any]:
        """Return what is to be taken back of calls that this writer has counted, as documents."""
        taken: dict[str, TakenBack] = {}
        for call in calls:
            place = self._place(call)
            taken.setdefault(place, TakenBack(ToolCounters(place))).counters.count(call)
        return documents_of(taken)

    def _place(self, call: ToolCallStat) -> str:
        return call.tool_name if call.tool_name in self._counters else OTHER_TOOLS


class Recount:
    """Counts all calls of a log from the start.

    Tools keep the names that they have, as long as a call of them is left. A tool that gets none is
    remembered, so that it gets none later: a name has every call of its tool.

    Args:
        state: Where the statistics are kept that are to be replaced.
    """

    def __init__(self, state: Collection) -> None:
        self.counters: dict[str, dict[str, ToolCounters]] = {}
        """By writer and tool."""
        self._names: dict[str, ToolNames] = {}
        self._refused: set[tuple[str, str]] = set()
        try:
            totals = read_totals(state)
            used = {tool for tool, counters in totals.by_tool().items() if counters.calls > 0}
        except (KeyError, TypeError, ValueError):
            return  # damaged, and so about to be replaced
        known: dict[str, dict[str, ToolCounters]] = {}
        for (writer, tool), counters in totals.writers.items():
            if tool in used:
                known.setdefault(writer, {})[tool] = counters
        self._names = {writer: ToolNames(tools) for writer, tools in known.items()}

    def add(self, writer: str, batch: int, call: ToolCallStat) -> None:
        """Count a call that a writer has stored in a batch."""
        tools = self.counters.setdefault(writer, {})
        place = self._place(writer, call)
        counters = tools.setdefault(place, ToolCounters(place, sender=self._sender(writer, place)))
        counters.batch = max(counters.batch, batch)
        counters.count(call)

    def _place(self, writer: str, call: ToolCallStat) -> str:
        if (writer, call.tool_name) in self._refused:
            return OTHER_TOOLS
        names = self._names.setdefault(writer, ToolNames({}))
        place = names.place(call.tool_name, call.sender)
        if place != call.tool_name:
            self._refused.add((writer, call.tool_name))
        return place

    def _sender(self, writer: str, place: str) -> str:
        return self._names[writer].sender_of(place)
