"""A memory: the parts of one store, put together, with which a process records and reads it.

`autotrace.configure()` makes one for the program; a server makes one for each tenant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from autotrace import semconv
from autotrace.base.event_loops import do_apart, off_loop
from autotrace.base.health_counters import HealthCounters
from autotrace.capture.native_spans import LocalSpan, LocalTracerProvider
from autotrace.capture.recorder import make_recorder
from autotrace.embedding.choice import Embedding
from autotrace.errors import StoreUnavailableError
from autotrace.models import Health
from autotrace.otlp.export import Collector
from autotrace.settings import Settings
from autotrace.spool.span_records import SpanRecord, readable_of
from autotrace.traces.deletion import erase_trace
from autotrace.traces.reader import Reader
from autotrace.traces.trace_ids import Located
from autotrace.worker.exporter import choose_storekeeper, open_connection, open_pipeline
from autotrace.worker.quarantine import count_set_aside, set_aside_problem
from autotrace.worker.span_processor import guarded_append

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions


class Memory:
    """One store, with what records into it and what reads it. Nothing is opened before it is used.

    Args:
        settings: Name the store.
        embedding: Of the store.
        counters: Where what is dropped or fails is counted; None: counters of its own.
        redact: The user's hook for what is captured.
        forwards: Whether spans recorded here also go to the OTLP collector that the settings or
            the environment name.
    """

    def __init__(
        self,
        settings: Settings,
        embedding: Embedding,
        counters: HealthCounters | None = None,
        *,
        redact: Callable[[str, Any], Any] | None = None,
        forwards: bool = True,
    ) -> None:
        self.settings = settings
        self.embedding = embedding
        self.counters = counters = counters or HealthCounters()
        self.connection = open_connection(settings, embedding.space)
        self.reader = Reader(
            self.connection, embedding.embedder, lambda ids: self.deciding().library.existing(ids)
        )
        self.pipeline = open_pipeline(
            settings,
            self.connection,
            embedding.embedder,
            counters,
            storekeeper=choose_storekeeper(settings, embedding, counters),
        )
        self.collector = Collector(settings.otlp_endpoint, counters)
        is_exported = forwards and self.collector.open() is not None
        self.provider = LocalTracerProvider(
            guarded_append(self.pipeline, counters), self._forward if is_exported else None
        )
        """Makes spans that go into this memory alone."""
        self.recorder = make_recorder(
            settings,
            self.provider.get_tracer(semconv.SCOPE),
            count=counters.add,
            note=counters.record_failure,
            redact=redact,
        )
        self.switched_off: str | None = None
        """What keeps the application's provider from recording, in words; None while it records."""
        self.notes: list[str] = []
        """Which tracer provider gets the spans, and which one does not."""
        self._flushed_dropped = self._problem_dropped = counters.dropped()
        """How many spans had been dropped at the last flush, and at the one before."""
        self._deciding: Decisions | None = None
        self._deciding_lock = threading.Lock()

    def _forward(self, span: LocalSpan) -> None:
        self.collector.send(span.readable)

    def deciding(self) -> Decisions:
        """Return the decisions of the store; made when first asked for, as few programs do."""
        with self._deciding_lock:
            if self._deciding is None:
                from autotrace.capture.approvals.decision_spans import DecisionRecording
                from autotrace.decisions.wiring import make_deciding

                self._deciding = make_deciding(
                    self.settings,
                    DecisionRecording(self.recorder),
                    space=self.embedding.space,
                    embed=lambda text: self.embedding.embedder.embed([text])[0],
                    count=self.counters.add,
                    note=self.counters.record_failure,
                )
            return self._deciding

    def close_decisions(self, timeout_s: float) -> None:
        """Let go of decisions, before recording ends: how a delivery went is an event."""
        if self._deciding is not None:
            self._deciding.shut_down(timeout_s)

    def start(self) -> None:
        """Store what dead processes have left, in the background."""
        self.pipeline.recover()

    def record(
        self,
        records: Iterable[SpanRecord],
        *,
        forward: bool = True,
        sender: str | None = None,
    ) -> None:
        """Record spans that were not made here: on disk when this returns, in the store soon after.

        Args:
            records: Span records, redacted and bounded as they are to be kept.
            forward: Whether the collector gets those that have ended, if there is one.
            sender: The agent of the key with which they came; None: each says whose it is.

        Raises:
            StoreUnavailableError: One of them is not on disk; to append all of them again does no
                harm.
        """
        for record in records:
            if not self.pipeline.record(record, sender):
                reason = self.counters.last_error or "it is full, or the record too large"
                msg = f"not recorded in {self.settings.spool_path}: {reason}"
                raise StoreUnavailableError(msg)
            if forward and "end_ns" in record and not record.get("skeleton"):
                self.collector.send(lambda record=record: readable_of(record))

    def catch_up(
        self, timeout_s: float, *, lane: str | None = None, after_batch: int | None = None
    ) -> bool:
        """Bring into the store what was recorded so far; see `Pipeline.catch_up`."""
        return self.pipeline.catch_up(timeout_s, lane=lane, after_batch=after_batch)

    def behind_s(self) -> float:
        """Return for how long nothing was stored while something waits; 0 if nothing waits."""
        return self.pipeline.behind_s()

    def delete_trace(
        self,
        trace_id: str,
        timeout_s: float,
        *,
        place: Located | None = None,
        lane: str | None = None,
    ) -> None:
        """Delete a trace with all that was recorded in it, for good.

        What waits to be stored is stored first. What is recorded in the trace later, as its task
        goes on, is not kept. Traces of tasks inside it stay, and so do the decisions made in it,
        which `autotrace.decisions.erase` is for. Stopped half-way, it is done again by calling it
        again.

        Args:
            trace_id: The trace.
            timeout_s: How long to wait at most for what is to be stored first, in seconds.
            place: Where its task lies; see `Reader.locate`. None: it is looked for.
            lane: Whose records are stored first; None: those of all.

        Raises:
            TraceNotFoundError: There is none with this id.
            StoreError: The store cannot be written; try again.
        """
        self.catch_up(timeout_s, lane=lane)
        erase_trace(self.connection, self.embedding.embedder, trace_id, place)

    def flush(self, timeout_s: float) -> bool:
        """Bring what this process has recorded into the store, and to the collector if any.

        Args:
            timeout_s: How long to wait at most, in seconds.

        Returns:
            Whether everything is there: False also if a span was dropped since the flush before.
        """
        deadline = time.monotonic() + timeout_s
        dropped = self.counters.dropped()
        before, self._flushed_dropped = self._flushed_dropped, dropped
        self._problem_dropped = before
        stored = self.pipeline.flush(timeout_s)
        return self.collector.flush(_ms_until(deadline)) and stored and dropped == before

    def health(self) -> Health:
        """Return how recording does: what waits, what was dropped or cut, what failed last."""
        return off_loop(self._health, do_apart)

    def _health(self) -> Health:
        store, spool = self.connection.name, self.settings.spool_path
        problems: list[str] = []

        def counted(what: str, count: Callable[[], int]) -> int:
            try:
                return count()
            except Exception as error:  # noqa: BLE001 - asked when something is wrong, it must answer
                problems.append(f"{what} cannot be counted: {error!r}")
                return 0

        backlog_bytes = counted("what waits to be stored", self.pipeline.backlog_bytes)
        set_aside = counted("what was set aside", lambda: count_set_aside(spool))
        if self.switched_off is not None:
            problems.append(self.switched_off)
        if dropped := self.counters.dropped() - self._problem_dropped:
            reason = self.counters.last_error or "see the counters"
            problems.append(f"{dropped} spans were dropped, and are lost: {reason}")
        if set_aside:
            problems.append(set_aside_problem(set_aside, store))
        return Health(
            configured=True,
            store=store,
            spool=str(spool),
            backlog_bytes=backlog_bytes,
            counters=self.counters.snapshot(),
            last_error=self.counters.last_error,
            set_aside_records=set_aside,
            problems=problems,
            notes=self.notes.copy(),
        )

    def stop(self, timeout_s: float, *, at_exit: bool = False) -> bool:
        """Let go of the store; store what is left, as far as time allows.

        Spans under way are still recorded when they end, and stored by who opens the store next.

        Args:
            timeout_s: How long to take at most, in seconds.
            at_exit: Whether the program ends. Then nothing is stored that would only begin now and
                can be left to the next start: a spool beside an embedded store is as safe as the
                store, and to load Chroma takes longer than most short programs; the spool of a
                server's client may vanish with its container.

        Returns:
            Whether everything is stored.
        """
        deadline = time.monotonic() + timeout_s
        self.close_decisions(timeout_s)
        is_cold = at_exit and self.settings.is_embedded and not self.pipeline.is_warm
        done = self.pipeline.close(_ms_until(deadline) / 1000, flush=not is_cold, at_exit=at_exit)
        self.collector.stop(_ms_until(deadline))
        return done


def _ms_until(deadline: float) -> int:
    return max(0, int((deadline - time.monotonic()) * 1000))
