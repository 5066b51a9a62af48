"""Remove ended, deleted and abandoned traces from the registry."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

from autotrace.errors import TraceNotFoundError
from autotrace.memory import Memory
from autotrace.models import Trace
from autotrace.server import remote_records
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import trace_id_of
from autotrace.store import trace_summaries
from autotrace.store.open_traces import OpenTraces
from autotrace.store.times import ns_of

_EVERY_S: Final = 60.0
_CATCH_UP_S: Final = 30.0
_AT_ONCE: Final = 200
_MANY: Final = 10_000
KEPT_FOR_S: Final = 120.0
"""How long a completed trace stays in the registry: longer than any call takes."""
ABANDONED_AFTER_S: Final = 7 * 24 * 60 * 60.0
"""How long an open trace may lack new records: programs crash and never complete theirs."""


class Tidier:
    """Tidies up the registry once a minute. Any thread may use it."""

    def __init__(
        self, memory: Memory, open_traces: OpenTraces, record: Callable[[SpanRecord], None]
    ) -> None:
        self._memory = memory
        self._open = open_traces
        self._record = record
        self._lock = threading.Lock()
        self._due_at_s = 0.0

    def tidy_if_due(self) -> None:
        """Start to tidy up if a minute has passed. Never raises, never waits."""
        with self._lock:
            if time.monotonic() < self._due_at_s:
                return
            self._due_at_s = math.inf
        thread = threading.Thread(target=self._run, name="autotrace-tidy", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._failed(error)  # the interpreter is shutting down, or out of threads

    def _run(self) -> None:
        try:
            self.tidy(KEPT_FOR_S, ABANDONED_AFTER_S)
        except Exception as error:  # noqa: BLE001 - it is counted and tried again
            self._failed(error)
        else:
            self._due_at_s = time.monotonic() + _EVERY_S

    def _failed(self, error: Exception) -> None:
        self._due_at_s = time.monotonic() + _EVERY_S
        self._memory.counters.add("registry_failures")
        message = f"the registry of open traces was not tidied up: {error}"
        self._memory.counters.record_failure("registry", message, error)

    def tidy(self, kept_for_s: float, abandoned_after_s: float) -> None:
        """Remove traces that are stored as completed; interrupt abandoned ones.

        Args:
            kept_for_s: Seconds since the completion of a trace until its removal.
            abandoned_after_s: Seconds without a record until an open trace reads as interrupted,
                and no longer counts among those of its key.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        if not self._memory.catch_up(_CATCH_UP_S):
            return  # unknown traces may wait in the spool
        now_ns = time.time_ns()
        forgotten = _AT_ONCE
        while forgotten == _AT_ONCE:
            forgotten = self._forget_completed(now_ns - int(kept_for_s * 1e9))
        self._interrupt_abandoned(now_ns - int(abandoned_after_s * 1e9))

    def _forget_completed(self, before_ns: int) -> int:
        completed = self._open.completed(before_ns, _AT_ONCE)
        openings = self._open.openings(completed)
        kept = {i: trace_id_of(opening["begun"]) for i, opening in openings.items()}
        known = self._memory.connection.read(
            lambda c: trace_summaries.get_summaries(c, [*kept.values()])
        )
        active = [i for i, k in kept.items() if k in known and known[k]["status"] != "completed"]
        for trace_id in active:
            entry = self._open.find(trace_id)
            # The process that completed it died before it recorded that.
            if entry is not None and entry.closing is not None:
                self._record(remote_records.completed_task_record(entry.opening, entry.closing))
        done = set(completed).difference(active)  # traces that the store does not know were deleted
        self._open.remove(list(done))
        return len(done)

    def _interrupt_abandoned(self, before_ns: int) -> None:
        for trace_id in self._open.begun(before_ns, _MANY):
            entry = self._open.find(trace_id)
            if entry is None or entry.closing is not None:
                continue
            try:
                trace = self._memory.reader.get_trace(
                    trace_id, asked_by=entry.opening["begun"].get("owner")
                )
                last_ns = _last_record_ns(trace)
            except TraceNotFoundError:
                last_ns = 0  # deleted
            if last_ns < before_ns:
                if last_ns:
                    self._record(remote_records.abandoned_task_record(entry.opening, last_ns))
                self._open.remove([trace_id])


def _last_record_ns(trace: Trace) -> int:
    times = [trace.created_at]
    times += [step.created_at for step in trace.steps]
    times += [call.ended_at for call in trace.tool_calls]
    return ns_of(max(times))
