"""The registry of open traces forgets those that the store knows to have ended."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from autotrace.memory import Memory
from autotrace.store import traces
from autotrace.store.open_traces import Entry, OpenTraces

_EVERY_S: Final = 60.0
_AT_ONCE: Final = 200
KEPT_FOR_S: Final = 120.0
"""How long a completed trace stays in the registry: longer than any call takes."""


class Tidier:
    """Tidies up now and then, in the background. Any thread may use it.

    Args:
        memory: Knows which traces have ended.
        open_traces: The registry.
        record_ending: Records how a trace has ended, once more.
    """

    def __init__(
        self, memory: Memory, open_traces: OpenTraces, record_ending: Callable[[Entry], Any]
    ) -> None:
        self._memory = memory
        self._open = open_traces
        self._record_ending = record_ending
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
            self.tidy()
        except Exception as error:  # noqa: BLE001 - it is tried again, and nothing depends on it
            self._failed(error)
        else:
            self._due_at_s = time.monotonic() + _EVERY_S

    def _failed(self, error: Exception) -> None:
        self._due_at_s = time.monotonic() + _EVERY_S
        self._memory.counters.add("registry_failures")
        message = f"the registry of open traces was not tidied up: {error}"
        self._memory.counters.note("registry", message, error)

    def tidy(self, kept_for_s: float = KEPT_FOR_S) -> None:
        """Forget what the store knows by now.

        If the store does not know the end of a trace, the process that completed it died before it
        had recorded that: it is recorded now.

        Args:
            kept_for_s: How long ago a trace must have been completed, in seconds.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        before_ns = time.time_ns() - int(kept_for_s * 1e9)
        forgotten = _AT_ONCE
        while forgotten == _AT_ONCE:
            completed = self._open.completed(before_ns, _AT_ONCE)
            known = self._memory.connection.read(
                lambda c, ids=completed: traces.get_summaries(c, ids)
            )
            ended = [i for i, summary in known.items() if summary["status"] == "completed"]
            for trace_id in set(completed) - set(ended):
                entry = self._open.find(trace_id)
                if entry is not None and entry.closing is not None:
                    self._record_ending(entry)
            self._open.remove(ended)
            forgotten = len(ended)
