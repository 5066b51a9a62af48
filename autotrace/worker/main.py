"""Run the storekeeper: the process that stores records of other processes.

The process holds `drain.lock` while it stores, so a second one for the same spool directory cannot
acquire the lock and ends. It ends on request, after a minute with nothing to store, when the spool
directory is gone, and, once everything is stored, when the process that started it is gone.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation
from typing_extensions import override

from autotrace.base.health_counters import HealthCounters
from autotrace.settings import Settings
from autotrace.spool.drain_lock import handover_requested_ns
from autotrace.worker.batch_selection import LARGE_BATCHES, BatchLimits
from autotrace.worker.loop import POLL_S, Pause, Schedule, store_until_idle
from autotrace.worker.process import (
    DONE,
    FLUSH_FILE,
    READY,
    STOP,
    Status,
    mark_as_worker,
    write_status,
)
from autotrace.worker.purge import IDLE_LIMITS, Purger
from autotrace.worker.spool_reader import Drainer
from autotrace.worker.wiring import Store, choose_embedding

_LINGER_S: Final = 60.0
_POLL_S: Final = 0.05
_OFTEN_S: Final = 0.005
"""Interval of polling for waiting callers after a caller has waited."""
_OFTEN_FOR_S: Final = 2.0
_BUSY_UNTIL_S: Final = 1.0
"""Time after a batch during which the loop polls more often."""
_ORPHANED_FOR_S: Final = 0.5
_PURGE_IDLE_S: Final = 5.0
_PURGE_EVERY_S: Final = 60.0
_PURGE_REST: Final = 20
"""Minimum pause after a purge, as a multiple of its duration."""
_HUNG_AFTER_S: Final = 240
"""Far longer than one write takes, even on a busy machine."""
_NICENESS: Final = 10
_ACQUIRE_ATTEMPTS: Final = 5
_COLLECT_AFTER: Final = 50_000


def main(order: dict[str, Any], out: int) -> None:
    """Store records until the storing loop ends.

    Args:
        order: `id`, `settings` by name, `embedder` as an import path.
        out: Descriptor of the pipe to the process that started this one.

    Raises:
        BaseException: Any failure; the process that started this one then stores by itself.
    """
    mark_as_worker()

    def say(message: bytes) -> None:
        with contextlib.suppress(OSError):  # the other end is gone
            os.write(out, message + b"\n")

    _store(order, say)
    say(DONE)


def _store(order: dict[str, Any], say: Callable[[bytes], None]) -> None:
    settings = Settings(**order["settings"])
    embedding = choose_embedding(settings, order["embedder"])
    _end_if_it_hangs()
    spool = settings.spool_path
    os.nice(_NICENESS)  # work that users wait for comes first
    counters = _PublishedCounters(spool, order["id"])
    store = Store(settings, embedding, counters)
    purger = Purger(settings, store.connection, counters.add)
    drainer = Drainer(spool, store.ingestor(), counters.add)
    storing = _StoringProcess(drainer, purger, counters, settings, say)
    if not _acquire(drainer):
        return
    counters.publish()
    reduce_gc()
    with suppress_instrumentation():
        store_until_idle(drainer, counters, settings.store, storing.schedule)
    drainer.release()
    store.close()


def _end_if_it_hangs() -> None:
    """Arrange that the kernel ends this process if it hangs.

    Chroma holds the interpreter lock while it writes. A write that never returned would keep
    `drain.lock` indefinitely, and no other process could store. A thread postpones the alarm; if
    it cannot run for `_HUNG_AFTER_S`, SIGALRM ends the process.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    def put_off() -> None:
        while True:
            signal.alarm(_HUNG_AFTER_S)
            time.sleep(_HUNG_AFTER_S / 4)

    threading.Thread(target=put_off, name="autotrace-put-off", daemon=True).start()


def reduce_gc() -> None:
    """Collect garbage rarely.

    A batch consists of many small objects that all live until it is stored.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)


def _acquire(drainer: Drainer) -> bool:
    for _ in range(_ACQUIRE_ATTEMPTS):
        if drainer.acquire():
            return True
        time.sleep(_POLL_S)  # the holder may only probe whether the lock is free
    return False


class _PublishedCounters(HealthCounters):
    """Count and publish to other processes through the status file."""

    def __init__(self, spool: Path, own_id: str) -> None:
        super().__init__()
        self._spool = spool
        self.status = Status(id=own_id, pid=os.getpid())

    @override
    def add(self, name: str, number: int = 1) -> None:
        super().add(name, number)
        self.status.counters = self.snapshot()
        self.publish()

    @override
    def record_failure(self, kind: str, message: str, error: BaseException | None = None) -> None:
        number, _ = self.status.notes.get(kind, (0, ""))
        self.status.notes[kind] = (number + 1, message)
        self.publish()

    def publish(self) -> None:
        with contextlib.suppress(OSError):  # disk full, spool deleted: the next call retries
            write_status(self._spool, self.status)


class _StoringProcess:
    """Schedule the storing loop and end this process.

    The main thread runs the loop and calls all methods except `_listen`, which a daemon thread
    runs: it reads the standard input, which closes when the process that started this one is gone.
    """

    def __init__(
        self,
        drainer: Drainer,
        purger: Purger,
        counters: _PublishedCounters,
        settings: Settings,
        say: Callable[[bytes], None],
    ) -> None:
        self._drainer = drainer
        self._purger = purger
        self._counters = counters
        self._say = say
        self._spool = settings.spool_path
        self._purge_at_s = -math.inf
        self._began_ns = time.time_ns()
        self._flushed_ns = 0
        self._asked_at_s = -math.inf
        self._ready = False
        self._worked_at_s = time.monotonic()
        self._stop = threading.Event()
        self._orphaned_at_s: float | None = None
        self.schedule = Schedule(
            flush_interval_s=settings.flush_interval_ms / 1000,
            linger_s=_LINGER_S,
            wait=self._wait,
            is_closing=self._is_closing,
            on_batch=self._on_batch,
            on_failure=self._on_failure,
        )
        threading.Thread(target=self._listen, name="autotrace-listen", daemon=True).start()

    def _listen(self) -> None:
        if sys.stdin.buffer.readline() == STOP:
            self._stop.set()
        self._orphaned_at_s = time.monotonic()

    def _asked_ns(self) -> int:
        try:
            return (self._spool / FLUSH_FILE).stat().st_mtime_ns
        except OSError:
            return 0

    def _is_closing(self) -> bool:
        if not self._spool.is_dir() or handover_requested_ns(self._spool) > self._began_ns:
            self._stop.set()
        return self._stop.is_set()

    def _wait(self, reason: Pause, seconds: float) -> BatchLimits:
        if reason is Pause.GATHER:
            self._wait_until_asked(seconds)
        elif reason is Pause.POLL:
            self._poll()
        elif reason is Pause.BACKOFF:
            if self._orphaned_at_s is not None:
                self._stop.set()  # the next process that starts retries
            self._stop.wait(seconds)
        # No rest: this process does not run threads of a program.
        return LARGE_BATCHES

    def _wait_until_asked(self, seconds: float) -> None:
        """Wait until a flush is requested, this process must end, or time is up."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and self._orphaned_at_s is None:
            asked_ns = self._asked_ns()
            if asked_ns != self._flushed_ns:
                self._flushed_ns, self._asked_at_s = asked_ns, time.monotonic()
                return
            # A caller that waited recently is likely to wait again.
            often = time.monotonic() - self._asked_at_s < _OFTEN_FOR_S
            if self._is_closing() or self._stop.wait(min(_OFTEN_S if often else _POLL_S, left_s)):
                return

    def _poll(self) -> None:
        at_s = self._orphaned_at_s
        # The kernel closes the files of a dead process one by one: its owner lock may be last.
        if at_s is not None and time.monotonic() - at_s > _ORPHANED_FOR_S:
            self._stop.set()
        self._purge_if_idle()
        is_busy = time.monotonic() - self._worked_at_s < _BUSY_UNTIL_S
        wait_s = _POLL_S if is_busy else POLL_S
        if self._orphaned_at_s is None:
            self._wait_until_asked(wait_s)
        else:
            self._stop.wait(wait_s)

    def _purge_if_idle(self) -> None:
        """Purge deleted content if a purge is due and the process is idle."""
        now_s = time.monotonic()
        if now_s - self._worked_at_s < _PURGE_IDLE_S or now_s < self._purge_at_s:
            return
        if self._orphaned_at_s is not None or not self._drainer.active:
            return
        try:
            if self._purger.due():
                self._purger.purge(IDLE_LIMITS)
        except Exception as error:  # noqa: BLE001 - the purge stays due and is retried
            self._counters.add("purge_failures")
            self._counters.record_failure(
                "purge", f"erased content was not purged yet: {error}", error
            )
        took_s = time.monotonic() - now_s
        self._purge_at_s = now_s + max(_PURGE_EVERY_S, took_s * _PURGE_REST)

    def _on_batch(self, stored: int) -> None:
        if self._counters.status.refused:
            self._counters.status.refused = False
            self._counters.publish()
        if not self._drainer.active:
            self._stop.set()  # another process stores
        elif stored:
            self._worked_at_s = time.monotonic()
            if not self._ready:
                self._ready = True
                self._say(READY)

    def _on_failure(self, is_final: bool) -> None:
        if is_final:
            self._drainer.release()  # for a rebuild, the only remedy
        self._counters.status.refused = is_final
        self._counters.publish()
