"""The pipeline: one process's spool, and what brings it into the store.

Contract of the thread (`autotrace-export`, a daemon):

* It starts with the first record and sleeps, without waking, while there is nothing to store.
* Where a process of its own can store (process.py), the thread starts it, and watches it take
  the records over.
* Elsewhere it stores by itself (loop.py): after a record it waits `flush_interval_ms`, so that
  one write stores many, then stores until nothing is left, and lets another process drain after
  `_LINGER_S` without work. In the background it stores small batches and rests between them, since
  Chroma holds the interpreter while it writes; when a flush or the next start waits, large ones.
* It runs with an empty OpenTelemetry context in which instrumentation is suppressed, so that what
  it does is never traced, nor taken for part of whatever was running when it started.
* After a fork the child has a spool and a thread of its own; the parent's go on in the parent.
* A closed pipeline still takes records, of spans that began before it was closed. They are on disk
  like any other, and stored by whoever drains the spool next: another pipeline of this process that
  is open on it is told.
* `flush` and `close` have deadlines and say whether everything was stored.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from opentelemetry import context as otel_context
from typing_extensions import override

from autotrace.base.health_counters import HealthCounters
from autotrace.embedding.embedder import Embedder
from autotrace.spool.cursor import START, SpoolPosition, Stored
from autotrace.spool.files import is_of_newer_version, owner_is_alive, processes_in
from autotrace.spool.lanes import SpoolLanes, holds_lane
from autotrace.spool.span_records import SpanRecord
from autotrace.store.connection import Connection
from autotrace.traces.decision_index import DecisionIndex
from autotrace.traces.ingest import Ingestor
from autotrace.worker.batch_selection import (
    LARGE_BATCHES,
    SMALL_BATCHES,
    STEP_BYTES,
    BatchLimits,
)
from autotrace.worker.loop import FIRST_BACKOFF_S, POLL_S, StoreLoop
from autotrace.worker.process import WorkerProcess
from autotrace.worker.spool_reader import Drainer

_LINGER_S: Final = 1.0
_FLUSH_POLL_S: Final = 0.02
"""How often a flush looks what the process that stores has stored."""
_SOON_POLL_S: Final = 0.005
_SOON_S: Final = 0.1
"""For so long after somebody has begun to wait it looks more often."""
_REST: Final = 4
"""In the background, so many times the time that a batch took is left to the program after it."""


@dataclass(frozen=True)
class Awaited:
    """What somebody waits for: how far spools are to be stored, by process."""

    own: Mapping[str, SpoolPosition]
    others: Mapping[str, SpoolPosition] = field(default_factory=dict[str, SpoolPosition])
    after_batch: int | None = None
    """In place of the others it is enough that a later batch than this one was stored."""

    def is_stored(self, stored: Stored) -> bool:
        """Tell whether it is there."""
        goes_on = self.after_batch is not None and stored.batch != self.after_batch
        return stored.holds(self.own) and (goes_on or stored.holds(self.others))

    def without(self, is_left_alone: Callable[[str], bool]) -> Awaited:
        """Return what is waited for but for processes of which nothing will be stored."""
        own = {name: place for name, place in self.own.items() if not is_left_alone(name)}
        others = {name: place for name, place in self.others.items() if not is_left_alone(name)}
        return replace(self, own=own, others=others)


_open_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()
"""Those of this process that are not closed."""


class Pipeline:
    """Takes span records, keeps them on disk, and brings them into the store.

    Args:
        connection: The store.
        embedder: Makes the vectors of task texts.
        spool: Directory of the spools of all processes of this machine that use the store.
        counters: Where what is dropped or fails is counted.
        flush_interval_ms: How long a record may wait for others to be stored with it.
        max_spool_bytes: How much this process may keep on disk before it drops records.
        storekeeper: Starts the process that stores; None: this process stores by itself.
        decisions: Makes decisions found by meaning.
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
        self._flush_interval_s = flush_interval_ms / 1000
        self._max_spool_bytes = max_spool_bytes
        self._storekeeper = storekeeper
        self._decisions = decisions
        self._start_anew()
        if hasattr(os, "register_at_fork"):
            this = weakref.ref(self)

            def in_child() -> None:
                if (pipeline := this()) is not None:
                    pipeline._after_fork()

            os.register_at_fork(after_in_child=in_child)
        _open_pipelines.add(self)

    def _start_anew(self) -> None:
        self._lanes = self._new_lanes()
        count = self._counters.add
        ingestor = Ingestor(self._connection, self._embedder, count, self._decisions)
        self._drainer = Drainer(self._spool, ingestor, count)
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._asleep = True
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._closing = False
        self._stored = threading.Condition()
        self._stored_up_to: Mapping[str, SpoolPosition | None] = {}
        """How far the spools of this process are stored; None: one that is gone, wholly."""
        self._recovering = False
        """Whether what dead processes have left is to be stored."""
        self._refused = False
        self._waiting = 0
        """How many wait for something to be stored."""
        self._hurried_at_s = 0.0
        self._progressed_at_s = time.monotonic()
        self._catching_up: dict[object, Awaited] = {}
        """What those of them wait for that wait for other processes, too."""
        self._deletions = self._deletions_told = 0
        self._set_aside = self._set_aside_told = 0

    def _new_lanes(self) -> SpoolLanes:
        return SpoolLanes(
            self._spool,
            count=self._counters.add,
            max_total_bytes=self._max_spool_bytes,
            on_error=self._on_spool_error,
        )

    def _after_fork(self) -> None:
        self._counters.reset_after_fork()
        self._lanes.abandon_after_fork()
        if self._storekeeper is not None:
            self._storekeeper.abandon_after_fork()
        closed = self._closing
        self._start_anew()
        if closed:
            self._closing = True
            self._lanes.close()

    def record(self, record: SpanRecord, sender: str | None = None) -> bool:
        """Record: on disk when this returns, in the store soon after. Never raises for the disk.

        Args:
            record: The record.
            sender: The agent of the key with which it came; None: the record says whose it is.

        Returns:
            Whether it is on disk; if not, it is counted why.
        """
        written = self._lanes.write(record, sender)
        if written and self._asleep:
            self._wake_up()
        return written

    def prepare(self) -> None:
        """Make the spool ready, so that the first record waits for no disk."""
        self._lanes.prepare()

    def recover(self) -> None:
        """Store what dead processes have left, in the background."""
        if any(process != self._lanes.process for process in processes_in(self._spool)):
            self._begin_to_recover()

    def _begin_to_recover(self) -> None:
        with self._stored:
            self._recovering = True
        self._wake_up()

    @property
    def is_warm(self) -> bool:
        """Whether what stores has begun to, so that a flush takes no longer than the storing."""
        keeper = self._storekeeper
        return self._connection.is_open if keeper is None else keeper.is_ready

    def behind_s(self) -> float:
        """Return for how long nothing was stored while something waits; 0 if nothing waits."""
        if not self._awaits_more():
            return 0.0
        return math.inf if self._refused else time.monotonic() - self._progressed_at_s

    def backlog_bytes(self) -> int:
        """Return how many bytes of records, of all processes, wait in the spool directory."""
        return self._drainer.backlog_bytes()

    def batches_stored(self) -> int:
        """Return a number that is another one once more has been stored."""
        return self._drainer.stored().batch

    def flush(self, timeout_s: float, *, lane: str | None = None) -> bool:
        """Bring everything recorded so far by this process into the store.

        Args:
            timeout_s: How long to wait at most, in seconds.
            lane: Wait for the records of this one alone; None: of all, and of dead processes.

        Returns:
            Whether everything is stored: False also if the store has refused, since the flush
            before, anything that this process recorded.
        """
        deadline = time.monotonic() + timeout_s
        target = self._lanes.places(lane)
        with self._stored:
            self._waiting += 1
            told, deletions_told = self._set_aside_told, self._deletions_told
        self._hurry()
        done = False
        try:
            done = self._wait_until_stored(target, deadline, also_dead=lane is None)
        finally:
            with self._stored:
                self._waiting -= 1
                self._set_aside_told = self._set_aside
                self._deletions_told = self._deletions
            if self._storekeeper is not None:
                self._see_what_others_wrote()  # what was written for this process is its own
        return done and self._set_aside <= told and self._deletions <= deletions_told

    def catch_up(
        self, timeout_s: float, *, lane: str | None = None, after_batch: int | None = None
    ) -> bool:
        """Bring into the store what all processes of this machine have recorded so far.

        It costs some looks at the disk where nothing waits.

        Args:
            timeout_s: How long to wait at most, in seconds.
            lane: Whose records to wait for; of those of others, as many as one turn stores. None:
                for all.
            after_batch: Do not wait for those of others once anything was stored after this batch
                (`batches_stored`).

        Returns:
            Whether it is stored.
        """
        deadline = time.monotonic() + timeout_s
        awaited = self._awaited(lane, after_batch)
        done = awaited.is_stored(self._drainer.stored())
        if not done:
            awaited = awaited.without(self._drainer.is_newer_version)
            ticket = object()
            with self._stored:
                self._waiting += 1
                self._catching_up[ticket] = awaited
            try:
                if self._dead_remain():  # what lives sees to its own
                    with self._stored:
                        self._recovering = True
                self._hurry()
                done = self._wait_until_others_are_stored(ticket, deadline)
            finally:
                with self._stored:
                    self._waiting -= 1
                    self._catching_up.pop(ticket, None)
        self._see_what_others_wrote()
        return done

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

    def _poll_s(self) -> float:
        """Return how long to wait for the next look: a look costs, and many may be looking."""
        is_new = time.monotonic() - self._hurried_at_s < _SOON_S
        return _SOON_POLL_S if is_new else _FLUSH_POLL_S

    def _hurry(self) -> None:
        self._hurried_at_s = time.monotonic()
        if self._storekeeper is not None:
            self._storekeeper.ask_to_flush()
        self._urgent.set()
        self._wake_up()

    def _wait_until_others_are_stored(self, ticket: object, deadline: float) -> bool:
        with self._stored:
            while ticket in self._catching_up:
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0 or self._closing or self._refused:
                    return False
                self._stored.wait(remaining_s)
        return True

    def _see_what_others_wrote(self) -> None:
        self._connection.refresh()
        if self._decisions is not None:
            self._decisions.catch_up()

    def _wait_until_stored(
        self, target: Mapping[str, SpoolPosition], deadline: float, *, also_dead: bool
    ) -> bool:
        with self._stored:
            while (also_dead and self._recovering) or not self._has_stored(target):
                remaining_s = deadline - time.monotonic()
                is_lost = self._deletions > self._deletions_told
                if remaining_s <= 0 or self._closing or self._refused or is_lost:
                    recovering = also_dead and self._recovering
                    return not recovering and self._has_stored(target)
                self._stored.wait(remaining_s)
        return True

    def close(self, timeout_s: float, *, flush: bool = True, at_exit: bool = False) -> bool:
        """Stop. What is not stored stays on disk, and so does what is recorded later.

        Args:
            timeout_s: How long to take at most, in seconds.
            flush: Whether to store what is left; else only work under way is waited for.
            at_exit: Whether the program ends: then what it still records goes on in the same place.

        Returns:
            Whether everything is stored.
        """
        deadline = time.monotonic() + timeout_s
        # A thread that dies inside Chroma takes the process with it, so some time is kept back to
        # see it end.
        done = self.flush(0.8 * timeout_s) if flush else self._all_stored()
        _open_pipelines.discard(self)
        if at_exit:
            self._lanes.discard_unused()
        else:
            self._lanes.close()
        with self._stored:
            self._closing = True
            self._stored.notify_all()
        self._asleep = True
        self._urgent.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread is None or not thread.is_alive():
            self._connection.close()
            if self._decisions is not None:
                self._decisions.close()
        # At exit it is left to store what is recorded to the very end, which shows in the pipes.
        if self._storekeeper is not None and not at_exit:
            self._storekeeper.stop(max(0.0, deadline - time.monotonic()))
        return done

    def _has_stored(self, target: Mapping[str, SpoolPosition]) -> bool:
        known = self._stored_up_to
        return all(
            (stored := known.get(process, START)) is None or stored >= place
            for process, place in target.items()
        )

    def _on_spool_error(self, error: OSError) -> None:
        self._counters.record_failure(
            "spool", f"records are lost: {self._spool} cannot be written: {error}"
        )

    def _wake_up(self) -> None:
        if self._closing:
            for pipeline in list(_open_pipelines):
                if pipeline._spool == self._spool:
                    pipeline._begin_to_recover()
            return
        if self._asleep:
            self._progressed_at_s = time.monotonic()
        self._asleep = False
        if self._thread is None or not self._thread.is_alive():
            with self._start_lock:
                if (self._thread is None or not self._thread.is_alive()) and not self._closing:
                    thread = threading.Thread(
                        target=self._run, name="autotrace-export", daemon=True
                    )
                    try:
                        thread.start()
                    except RuntimeError as error:
                        # The interpreter is shutting down, or out of threads: the spool has it.
                        self._asleep = True
                        self._counters.record_failure("thread", f"not stored yet: {error}")
                        return
                    self._thread = thread
        self._wake.set()

    def _run(self) -> None:
        try:
            # Imported here: only this thread needs it.
            from opentelemetry.instrumentation.utils import suppress_instrumentation

            otel_context.attach(otel_context.Context())
            with suppress_instrumentation():
                self._store_until_closed()
        except Exception as error:  # noqa: BLE001 - the next record starts another thread
            self._asleep = True
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._counters.add("export_failures")
        name = type(error).__name__
        self._counters.record_failure("export", f"exporting failed: {name}: {error}", error)

    def _store_until_closed(self) -> None:
        while not self._closing:
            self._wake.wait()
            self._wake.clear()
            try:
                self._store_all()
                self._drainer.release()
            except Exception as error:  # noqa: BLE001 - nothing may stop the thread; the spool keeps all
                self._failed(error)
                self._pause(FIRST_BACKOFF_S)
            self._asleep = True
            if self._awaits_more():
                self._wake.set()  # it failed, or was recorded since the last look
        self._drainer.release()

    def _pause(self, seconds: float) -> None:
        """Wait before another attempt. A flush does not cut it short: it would try without end."""
        with self._stored:
            self._stored.notify_all()
            if not self._closing:
                self._stored.wait(seconds)

    def _all_stored(self) -> bool:
        return self._closing or self._has_stored(self._lanes.places())

    def _awaits_more(self) -> bool:
        return self._recovering or bool(self._catching_up) or not self._all_stored()

    def _store_all(self) -> None:
        keeper = self._storekeeper
        if keeper is not None:
            self._watch(keeper)
            if keeper.failure is None:
                return
            self._counters.record_failure(
                "storekeeper", f"no process can store, so this one does: {keeper.failure}"
            )
            self._storekeeper = None
        self._InThread(self).run()

    def _watch(self, keeper: WorkerProcess) -> None:
        """See that somebody stores, until nothing is left."""
        while not self._closing and keeper.failure is None:
            self._urgent.clear()
            if self._drainer.acquire():
                self._drainer.release()
                keeper.start_unless_running()
            self._publish(idle=not self._dead_remain())
            if not self._awaits_more():
                return
            self._urgent.wait(self._poll_s() if self._waiting else POLL_S)

    def _dead_remain(self) -> bool:
        directories = [self._spool / name for name in processes_in(self._spool)]
        return any(not owner_is_alive(d) and not is_of_newer_version(d) for d in directories)

    def _publish(self, *, idle: bool) -> None:
        if self._lanes.is_deleted():
            self._begin_another_spool()
        # Asked first: a spool that is not there is one stored whole only if it had begun.
        begun = self._lanes.places()
        stored = self._drainer.stored()
        places = {process: stored.up_to(process) for process in begun}
        set_aside = sum(map(stored.set_aside_of, begun))
        keeper = self._storekeeper
        # Asked last: it tells what it has counted before it says how far it has come.
        refused = False if keeper is None else keeper.sync_counters()
        with self._stored:
            # As it is, not as it was published last: others begin to recover, too.
            before = self._progress()
            self._refused, self._stored_up_to, self._set_aside = refused, places, set_aside
            if idle and (self._drainer.active or not self._dead_remain()):
                self._recovering = False
            for ticket, awaited in list(self._catching_up.items()):
                if awaited.is_stored(stored):
                    del self._catching_up[ticket]
            if self._progress() != before:  # every one that waits would wake up
                self._progressed_at_s = time.monotonic()
                self._stored.notify_all()

    def _progress(self) -> tuple[object, ...]:
        state = (self._refused, self._stored_up_to, self._set_aside, self._recovering)
        return *state, len(self._catching_up)

    def _begin_another_spool(self) -> None:
        self._counters.add("deleted_spools")
        self._counters.record_failure(
            "deleted",
            f"{self._spool} was deleted under the running program: what was recorded and not "
            "stored is lost; what follows goes into a new one",
        )
        deleted, self._lanes = self._lanes, self._new_lanes()
        deleted.close()
        with self._stored:
            self._deletions += 1
            self._stored.notify_all()

    class _InThread(StoreLoop):
        """Storing in this process, by its thread."""

        def __init__(self, pipeline: Pipeline) -> None:
            name = pipeline._connection.name
            super().__init__(pipeline._drainer, pipeline._counters, name, _LINGER_S)
            self._pipeline = pipeline

        @override
        def is_closing(self) -> bool:
            return self._pipeline._closing

        @override
        def awaits_more(self) -> bool:
            # What the dead have left may be stored by another process, which may die of it, too.
            return self._pipeline._awaits_more()

        def _is_hurried(self) -> bool:
            return self._pipeline._waiting > 0 or self._pipeline._recovering

        @override
        def limits(self) -> BatchLimits:
            self._pipeline._urgent.clear()
            return LARGE_BATCHES if self._is_hurried() else SMALL_BATCHES

        @override
        def wait_for_batch(self) -> None:
            if not self._pipeline._recovering:
                self._pipeline._urgent.wait(self._pipeline._flush_interval_s)

        @override
        def throttle(self, took_s: float) -> None:
            if not self._is_hurried():
                self._pipeline._urgent.wait(_REST * took_s)

        @override
        def poll(self) -> None:
            pipeline = self._pipeline
            pipeline._urgent.wait(pipeline._poll_s() if pipeline._catching_up else POLL_S)

        @override
        def backoff(self, seconds: float) -> None:
            self._pipeline._pause(seconds)

        @override
        def on_batch(self, stored: int) -> None:
            self._pipeline._publish(idle=stored == 0)

        @override
        def failed(self, *, is_final: bool) -> None:
            self.drainer.release()
            self._pipeline._refused = is_final
