"""The registry of open traces is rid of those that are not: completed, deleted, or abandoned."""

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
"""How long an open trace is waited for: programs crash, and do not come back to complete theirs."""


class Tidier:
    """Tidies up now and then, in the background. Any thread may use it.

    Args:
        memory: Knows which traces have ended.
        open_traces: The registry.
        record: Records a span.
    """

    def __init__(
        self, memory: Memory, open_traces: OpenTraces, record: Callable[[SpanRecord], None]
    ) -> None:
        self._memory = memory
        self._open = open_traces
        self._record = record
        self._lock = threading.Lock()
        self._due_at_s = 0.0

    def tidy_if_due(self) -> None:
        """Begin to tidy up unless that was done lately. Never raises, never waits."""
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
        except Exception as error:  # noqa: BLE001 - it is tried again, and nothing depends on it
            self._failed(error)
        else:
            self._due_at_s = time.monotonic() + _EVERY_S

    def _failed(self, error: Exception) -> None:
        self._due_at_s = time.monotonic() + _EVERY_S
        self._memory.counters.add("registry_failures")
        message = f"the registry of open traces was not tidied up: {error}"
        self._memory.counters.record_failure("registry", message, error)

    def tidy(self, kept_for_s: float, abandoned_after_s: float) -> None:
        """Forget what the store knows by now, and what nobody goes on with.

        Args:
            kept_for_s: How long ago a trace must have been completed, in seconds.
            abandoned_after_s: How long nobody must have told of an open one, which then reads as
                interrupted and counts for nobody any more.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        if not self._memory.catch_up(_CATCH_UP_S):
            return  # what the store does not know may be on its way
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
            # Who completed it died before that was recorded.
            if entry is not None and entry.closing is not None:
                self._record(remote_records.task_completed(entry.opening, entry.closing))
        done = set(completed).difference(active)  # what the store does not know was deleted
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
                last_ns = _last_told_ns(trace)
            except TraceNotFoundError:
                last_ns = 0  # deleted
            if last_ns < before_ns:
                if last_ns:
                    self._record(remote_records.task_abandoned(entry.opening, last_ns))
                self._open.remove([trace_id])


def _last_told_ns(trace: Trace) -> int:
    times = [trace.created_at]
    times += [step.created_at for step in trace.steps]
    times += [call.ended_at for call in trace.tool_calls]
    return ns_of(max(times))
