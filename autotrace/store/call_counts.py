"""Count calls for the statistics, when a writer stores and in a rebuild."""

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
    """Count the calls of one writer; other processes do not change these."""

    def __init__(self, totals: Totals, writer: str) -> None:
        self._counters = {t: c for (w, t), c in totals.writers.items() if w == writer}
        elsewhere = {t for w, t in totals.writers if w != writer and t != OTHER_TOOLS}
        self._names = ToolNames(self._counters, elsewhere)

    def count(
        self, calls: Sequence[ToolCallStat], batch: int, attempts: Sequence[int] = ()
    ) -> list[ToolCounters]:
        """Count the calls of a batch; return the changed counters.

        Counters written before a crash, or by failed attempts at larger batches, name their batch
        and are not counted again. Counters of unnamed tools are written last: if they are stored,
        all names are stored.
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
        """Return calls counted by this writer as `TakenBack` documents, by tool."""
        taken: dict[str, TakenBack] = {}
        for call in calls:
            place = self._place(call)
            taken.setdefault(place, TakenBack(ToolCounters(place))).counters.count(call)
        return documents_of(taken)

    def _place(self, call: ToolCallStat) -> str:
        return call.tool_name if call.tool_name in self._counters else OTHER_TOOLS


class Recount:
    """Count all calls of a log from the start.

    A tool keeps its name while a call of it is left. A tool without a name does not get one later,
    so that a named tool has every call.
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
            return  # the statistics are damaged, so their names are lost
        known: dict[str, dict[str, ToolCounters]] = {}
        for (writer, tool), counters in totals.writers.items():
            if tool in used:
                known.setdefault(writer, {})[tool] = counters
        self._names = {writer: ToolNames(tools) for writer, tools in known.items()}

    def add(self, writer: str, batch: int, call: ToolCallStat) -> None:
        """Count a call that a writer has stored in a batch."""
        names = self._names.setdefault(writer, ToolNames({}))
        place = OTHER_TOOLS
        if (writer, call.tool_name) not in self._refused:
            place = names.place(call.tool_name, call.sender)
            if place != call.tool_name:
                self._refused.add((writer, call.tool_name))
        tools = self.counters.setdefault(writer, {})
        counters = tools.setdefault(place, ToolCounters(place, sender=names.sender_of(place)))
        counters.batch = max(counters.batch, batch)
        counters.count(call)
