"""Write the records of one process to its spool, and store them.

Records go to the spool (spool/lanes.py); the thread of store_thread.py stores them; callers that
need them in the store wait in flush.py. Records of spans that end after `close` still go to disk;
another open pipeline of this process on the same spool, or the next process, stores them.
"""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path

from autotrace.base.health_counters import HealthCounters
from autotrace.embedding.embedder import Embedder
from autotrace.spool.cursor import START, SpoolPosition
from autotrace.spool.files import processes_in
from autotrace.spool.lanes import SpoolLanes, holds_lane
from autotrace.spool.span_records import SpanRecord
from autotrace.store.connection import Connection
from autotrace.traces.decision_index import DecisionIndex
from autotrace.traces.ingest import Ingestor
from autotrace.worker.batch_selection import STEP_BYTES
from autotrace.worker.flush import Awaited, FlushMonitor
from autotrace.worker.process import WorkerProcess
from autotrace.worker.spool_reader import Drainer
from autotrace.worker.store_thread import StoreThread, dead_processes_remain

_open_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()
"""Pipelines of this process that are not closed."""


class Pipeline:
    """Write span records to disk, and store them in the background.

    Any thread may call any method at any time. `record` blocks for a disk write at most; `flush`,
    `catch_up` and `close` block up to their timeout. After a fork the child has its own spool and
    thread; those of the parent continue in the parent.

    Args:
        connection: The store.
        embedder: Embeds task texts.
        spool: Directory of the spools of all processes of this machine that use the store.
        counters: Count drops and failures.
        flush_interval_ms: How long a record may wait for others to be stored with it.
        max_spool_bytes: Limit of this process on disk, above which it drops records.
        storekeeper: Starts the process that stores; None: this process stores by itself.
        decisions: Index of decisions by meaning.
    """

    def __init__(
        self,
        connection: Connection,
        embedder: Embedder,
        spool: Path,
        *,
        counters: HealthCounters,
        flush_interval_ms: int = 500,
        max_spool_bytes: int = 4 * 1024**3,
        storekeeper: WorkerProcess | None = None,
        decisions: DecisionIndex | None = None,
    ) -> None:
        self._connection = connection
        self._embedder = embedder
        self._spool = spool
        self._counters = counters
        self._flush_interval_ms = flush_interval_ms
        self._max_spool_bytes = max_spool_bytes
        self._decisions = decisions
        self._start(storekeeper)
        if hasattr(os, "register_at_fork"):
            this = weakref.ref(self)

            def in_child() -> None:
                if (pipeline := this()) is not None:
                    pipeline._after_fork()

            os.register_at_fork(after_in_child=in_child)
        _open_pipelines.add(self)

    def _start(self, storekeeper: WorkerProcess | None) -> None:
        count = self._counters.add
        self._lanes = SpoolLanes(
            self._spool,
            count=count,
            max_total_bytes=self._max_spool_bytes,
            on_error=self._on_spool_error,
        )
        self._monitor = FlushMonitor()
        ingestor = Ingestor(self._connection, self._embedder, count, self._decisions)
        self._drainer = Drainer(self._spool, ingestor, count)
        self._thread = StoreThread(
            self._spool,
            self._lanes,
            self._drainer,
            self._monitor,
            self._counters,
            store=self._connection.name,
            flush_interval_s=self._flush_interval_ms / 1000,
            process=storekeeper,
        )

    def _after_fork(self) -> None:
        self._counters.reset_after_fork()
        self._lanes.abandon_after_fork()
        process, was_closed = self._thread.process, self._monitor.is_closed
        if process is not None:
            process.abandon_after_fork()
        self._start(process)
        if was_closed:
            self._monitor.close()
            self._lanes.close()

    def _on_spool_error(self, error: OSError) -> None:
        self._counters.record_failure(
            "spool", f"records are lost: {self._spool} cannot be written: {error}"
        )

    def record(self, record: SpanRecord, sender: str | None = None) -> bool:
        """Write a record to disk; the store has it soon after.

        An error of the disk does not raise.

        Args:
            record: The record.
            sender: Agent of the API key that sent the record; None: the record names its owner.

        Returns:
            Whether the record is on disk; if not, a counter names the reason.
        """
        written = self._lanes.write(record, sender)
        if written and self._thread.is_asleep:
            self._wake()
        return written

    def _wake(self) -> None:
        if self._monitor.is_closed:
            for pipeline in list(_open_pipelines):
                if pipeline._spool == self._spool:
                    pipeline._recover()
        else:
            self._thread.wake()

    def prepare(self) -> None:
        """Create the spool in advance, so that the first record is not delayed."""
        self._lanes.prepare()

    def recover(self) -> None:
        """Store the records of dead processes in the background."""
        if any(process != self._lanes.process for process in processes_in(self._spool)):
            self._recover()

    def _recover(self) -> None:
        self._monitor.recover()
        self._wake()

    @property
    def is_warm(self) -> bool:
        """Whether storing has begun, so that a flush does not wait for a start."""
        process = self._thread.process
        return self._connection.is_open if process is None else process.is_ready

    def behind_s(self) -> float:
        """Return the seconds without progress while records wait; 0 if none wait."""
        return self._monitor.stalled_s() if self._thread.awaits_more() else 0.0

    def backlog_bytes(self) -> int:
        """Return the bytes of all processes that wait in the spool directory."""
        return self._drainer.backlog_bytes()

    def batches_stored(self) -> int:
        """Return the number of the last stored batch."""
        return self._drainer.stored().batch

    def flush(self, timeout_s: float, *, lane: str | None = None) -> bool:
        """Store everything that this process has recorded so far.

        Args:
            timeout_s: How long to wait at most, in seconds.
            lane: Wait for the records of this lane alone; None: of all, and of dead processes.

        Returns:
            Whether everything is stored. False also if the store has refused any record of this
            process since the previous flush.
        """
        target = self._lanes.places(lane)
        try:
            return self._monitor.flush(target, timeout_s, also_dead=lane is None, hurry=self._hurry)
        finally:
            if self._thread.process is not None:
                self._refresh_readers()  # another process has written

    def catch_up(
        self, timeout_s: float, *, lane: str | None = None, after_batch: int | None = None
    ) -> bool:
        """Store what all processes of this machine have recorded so far.

        If no record waits, the cost is some reads of the spool directory.

        Args:
            timeout_s: How long to wait at most, in seconds.
            lane: Wait for all records of this lane, and for one turn of each other lane. None:
                wait for all records.
            after_batch: Do not wait for other lanes once a batch after this one is stored
                (`batches_stored`).

        Returns:
            Whether these records are stored.
        """
        deadline = time.monotonic() + timeout_s
        awaited = self._awaited(lane, after_batch)
        done = awaited.is_stored(self._drainer.stored())
        if not done:
            awaited = awaited.without(self._drainer.is_newer_version)
            done = self._monitor.catch_up(
                awaited, deadline - time.monotonic(), hurry=self._hurry_with_dead
            )
        self._refresh_readers()
        return done

    def store_after_rebuild(self, timeout_s: float) -> bool:
        """Store everything recorded so far, including refused batches.

        Args:
            timeout_s: How long to wait at most, in seconds.

        Returns:
            Whether everything is stored.
        """
        deadline = time.monotonic() + timeout_s
        stored = False
        while not stored and (remaining_s := deadline - time.monotonic()) > 0:
            if self._thread.awaits_more():
                self._monitor.retry(remaining_s)
            stored = self.catch_up(deadline - time.monotonic())
            # An attempt from before the rebuild may have been refused only now.
            if self._monitor.is_closed or not self._monitor.is_refused:
                break
        return stored

    def _awaited(self, lane: str | None, after_batch: int | None) -> Awaited:
        recorded = self._drainer.recorded_up_to()
        if lane is None:
            return Awaited(recorded)
        own = {name: place for name, place in recorded.items() if holds_lane(name, lane)}
        stored = self._drainer.stored()
        others: dict[str, SpoolPosition] = {}
        for name in recorded.keys() - own.keys():
            segment, offset = stored.up_to(name) or START
            others[name] = min(recorded[name], (segment, offset + STEP_BYTES))
        return Awaited(own, others, after_batch)

    def _hurry(self) -> None:
        self._thread.hurry()
        self._wake()

    def _hurry_with_dead(self) -> None:
        if dead_processes_remain(self._spool):  # live processes store their own
            self._monitor.recover()
        self._hurry()

    def _refresh_readers(self) -> None:
        self._connection.refresh()
        if self._decisions is not None:
            self._decisions.catch_up()

    def close(self, timeout_s: float, *, flush: bool = True, at_exit: bool = False) -> bool:
        """Stop storing. Records not stored, and later ones, stay on disk.

        Args:
            timeout_s: How long to take at most, in seconds.
            flush: Whether to store the remaining records, or only finish the current batch.
            at_exit: Whether the program ends; later records then go to the same spool.

        Returns:
            Whether everything is stored.
        """
        deadline = time.monotonic() + timeout_s
        # A thread that dies inside Chroma ends the process, so a fifth of the time is reserved for
        # the thread to end.
        done = self.flush(0.8 * timeout_s) if flush else self._monitor.holds(self._lanes.places())
        _open_pipelines.discard(self)
        if at_exit:
            self._lanes.discard_unused()
        else:
            self._lanes.close()
        self._monitor.close()
        if self._thread.close(deadline - time.monotonic()):
            self._connection.close()
            if self._decisions is not None:
                self._decisions.close()
        # At exit the storekeeper continues: it stores the last records, and ends once its pipes
        # are closed.
        if (process := self._thread.process) is not None and not at_exit:
            process.stop(max(0.0, deadline - time.monotonic()))
        return done
