"""Which task ran at a time, for spans whose parent is unknown. Pure."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from math import inf

from autotrace.spool.span_records import SpanRecord


class Running:
    """Finds the last of some tasks that ran at a time, in logarithmic time.

    Args:
        tasks: In an order by which the innermost comes last.
    """

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
            while begun and begun[0][1] < time:  # it has ended for good
                heapq.heappop(begun)
            self._tasks.append(tasks[-begun[0][0]] if begun else None)

    def at(self, time_ns: int) -> SpanRecord | None:
        """Return the last task that ran at a time."""
        number = bisect_right(self._times, time_ns)
        return self._tasks[number - 1] if number else None
