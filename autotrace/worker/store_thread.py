"""Run the thread that stores records, by a storekeeper where possible."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from opentelemetry import context as otel_context

from autotrace.base.health_counters import HealthCounters
from autotrace.spool.files import is_of_newer_version, owner_is_alive, processes_in
from autotrace.spool.lanes import SpoolLanes
from autotrace.worker.batch_selection import LARGE_BATCHES, SMALL_BATCHES, BatchLimits
from autotrace.worker.flush import FlushMonitor
from autotrace.worker.loop import FIRST_BACKOFF_S, POLL_S, Pause, Schedule, store_until_idle
from autotrace.worker.process import WorkerProcess
from autotrace.worker.spool_reader import Drainer

_LINGER_S: Final = 1.0
_FLUSH_POLL_S: Final = 0.02
"""Interval of polling the progress of another process while a caller waits."""
_SOON_POLL_S: Final = 0.005
_SOON_S: Final = 0.1
"""Time after the last `hurry` during which the shorter interval applies."""
_REST: Final = 4
"""Rest after a batch in the background, as a multiple of its duration."""


def dead_processes_remain(spool: Path) -> bool:
    """Return whether dead processes have left records that can be stored."""
    directories = [spool / name for name in processes_in(spool)]
    return any(not owner_is_alive(d) and not is_of_newer_version(d) for d in directories)


class StoreThread:
    """Run the daemon thread `autotrace-export` of one spool directory.

    * Any thread may call `wake`, `hurry`, `awaits_more` and `close`; only `close` blocks, up to its
      timeout. Once started, the thread alone uses the drainer.
    * The thread starts with the first record and sleeps while no record waits. If it ends by an
      error, the next record starts another.
    * Where a storekeeper can run (process.py), the thread starts it and watches its progress.
      Elsewhere it stores by itself: small batches with rests in the background, because Chroma
      holds the interpreter lock while it writes; large batches while a caller waits.
    * It runs in an empty OpenTelemetry context with instrumentation suppressed, so that its work is
      not traced, and not attributed to the operation that started it.
    * After a fork the thread does not exist in the child, whose pipeline makes another one.
    * At exit a daemon thread ends with the interpreter; records not stored stay on disk.
    * `close` ends the thread after its current batch and releases `drain.lock`.

    Args:
        spool: The spool directory.
        lanes: The spools of this process in it.
        drainer: Stores batches.
        monitor: Receives the progress.
        counters: Count and name failures.
        store: Name of the store, for messages.
        flush_interval_s: How long a record may wait for others to be stored with it.
        process: Starts the storekeeper; None: the thread stores by itself.
    """

    def __init__(
        self,
        spool: Path,
        lanes: SpoolLanes,
        drainer: Drainer,
        monitor: FlushMonitor,
        counters: HealthCounters,
        *,
        store: str,
        flush_interval_s: float,
        process: WorkerProcess | None,
    ) -> None:
        self._spool = spool
        self._lanes = lanes
        self._drainer = drainer
        self._monitor = monitor
        self._counters = counters
        self._store = store
        self._flush_interval_s = flush_interval_s
        self.process = process
        """None once no storekeeper can store; the thread then stores by itself."""
        self.is_asleep = True
        """Whether a record needs to call `wake`."""
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._hurried_at_s = 0.0

    def awaits_more(self) -> bool:
        """Return whether this process knows of records that are not stored."""
        return self._monitor.awaits_more(self._lanes.places())

    def hurry(self) -> None:
        """Store the records written so far without waiting for more."""
        self._hurried_at_s = time.monotonic()
        if self.process is not None:
            self.process.ask_to_flush()
        self._urgent.set()

    def wake(self) -> None:
        """Wake the thread; start it unless it runs."""
        if self.is_asleep:
            self._monitor.restart_clock()
        self.is_asleep = False
        if not self._is_alive():
            with self._start_lock:
                if not self._is_alive() and not self._monitor.is_closed and not self._start():
                    return
        self._wake.set()

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, name="autotrace-export", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The interpreter is shutting down, or out of threads: the record is on disk.
            self.is_asleep = True
            self._counters.record_failure("thread", f"not stored yet: {error}")
            return False
        self._thread = thread
        return True

    def close(self, timeout_s: float) -> bool:
        """End the thread after its current batch; return whether it has ended.

        The caller must close the monitor first.
        """
        self.is_asleep = True
        self._urgent.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, timeout_s))
        return not self._is_alive()

    def _run(self) -> None:
        try:
            # Only this thread needs this import.
            from opentelemetry.instrumentation.utils import suppress_instrumentation

            otel_context.attach(otel_context.Context())
            with suppress_instrumentation():
                self._store_until_closed()
        except Exception as error:  # noqa: BLE001 - the next record starts another thread
            self.is_asleep = True
            self._count_failure(error)

    def _count_failure(self, error: Exception) -> None:
        self._counters.add("export_failures")
        name = type(error).__name__
        self._counters.record_failure("export", f"exporting failed: {name}: {error}", error)

    def _store_until_closed(self) -> None:
        while not self._monitor.is_closed:
            self._wake.wait()
            self._wake.clear()
            try:
                self._store_all()
                self._drainer.release()
            except Exception as error:  # noqa: BLE001 - the thread must not end; the spool keeps all
                self._count_failure(error)
                self._monitor.back_off(FIRST_BACKOFF_S)
            self.is_asleep = True
            if self.awaits_more():
                self._wake.set()  # a failure, or a record since the last look
        self._drainer.release()

    def _store_all(self) -> None:
        if self.process is not None:
            self._watch(self.process)
            if self.process.failure is None:
                return
            self._counters.record_failure(
                "storekeeper", f"no process can store, so this one does: {self.process.failure}"
            )
            self.process = None
        schedule = Schedule(
            flush_interval_s=self._flush_interval_s,
            linger_s=_LINGER_S,
            wait=self._pause,
            is_closing=lambda: self._monitor.is_closed,
            # Another process may be storing records of dead ones, and may die of them, too.
            awaits_more=self.awaits_more,
            on_batch=lambda stored: self._publish(is_idle=stored == 0),
            on_failure=self._on_failure,
        )
        store_until_idle(self._drainer, self._counters, self._store, schedule)

    def _watch(self, process: WorkerProcess) -> None:
        """Keep a storekeeper running until all records are stored."""
        while not self._monitor.is_closed and process.failure is None:
            self._urgent.clear()
            if self._drainer.acquire():
                self._drainer.release()
                process.start_unless_running()
            self._publish(is_idle=True)
            if not self.awaits_more():
                return
            self._urgent.wait(self._poll_s())

    def _poll_s(self) -> float:
        """Return the time to the next poll: shorter while a caller waits."""
        if not self._monitor.waiting:
            return POLL_S
        is_new = time.monotonic() - self._hurried_at_s < _SOON_S
        return _SOON_POLL_S if is_new else _FLUSH_POLL_S

    def _is_hurried(self) -> bool:
        return self._monitor.waiting > 0 or self._monitor.is_recovering

    def _pause(self, reason: Pause, seconds: float) -> BatchLimits:
        if reason is Pause.BACKOFF:
            self._monitor.back_off(seconds)
        elif reason is Pause.POLL:
            self._urgent.wait(self._poll_s())
        elif reason is Pause.GATHER and not self._monitor.is_recovering:
            self._urgent.wait(seconds)
        elif reason is Pause.REST and not self._is_hurried():
            self._urgent.wait(_REST * seconds)
        self._urgent.clear()
        return LARGE_BATCHES if self._is_hurried() else SMALL_BATCHES

    def _on_failure(self, is_final: bool) -> None:
        self._drainer.release()  # another process may succeed
        self._monitor.is_refused = is_final

    def _publish(self, *, is_idle: bool) -> None:
        if self._lanes.is_deleted():
            self._replace_deleted_spools()
        # Read the places before the cursor: an absent spool counts as stored only if it had begun.
        begun = self._lanes.places()
        stored = self._drainer.stored()
        places = {process: stored.up_to(process) for process in begun}
        set_aside = sum(map(stored.set_aside_of, begun))
        # Read the counters last: the storekeeper publishes them before it moves the cursor.
        is_refused = self.process is not None and self.process.sync_counters()
        self._monitor.publish(
            stored,
            places,
            set_aside=set_aside,
            is_refused=is_refused,
            has_recovered=lambda: (
                is_idle and (self._drainer.active or not dead_processes_remain(self._spool))
            ),
        )

    def _replace_deleted_spools(self) -> None:
        self._counters.add("deleted_spools")
        self._counters.record_failure(
            "deleted",
            f"{self._spool} was deleted under the running program: what was recorded and not "
            "stored is lost; what follows goes into a new one",
        )
        self._lanes.reopen()
        self._monitor.report_deletion()
