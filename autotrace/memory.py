"""Memory: records into one store and reads it.

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
from autotrace.traces.trace_ids import Located
from autotrace.worker.quarantine import count_set_aside, set_aside_problem
from autotrace.worker.span_processor import guarded_append
from autotrace.worker.wiring import Store

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions
    from autotrace.models import RebuildResult


class Memory:
    """Recorder, pipeline, reader and decisions of one store. None is opened before its first use.

    Args:
        settings: Location of the store.
        embedding: Embedding of the store.
        counters: Counters of drops and failures; None: new ones.
        redact: The user's hook for captured values.
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
        self.store = store = Store(settings, embedding, counters)
        self.counters = counters = store.counters
        self.connection = store.connection
        self.reader = store.reader(lambda ids: self.deciding().existing(ids))
        self.pipeline = store.pipeline()
        self.collector = Collector(settings.otlp_endpoint, counters)
        is_exported = forwards and self.collector.open() is not None
        self.provider = LocalTracerProvider(
            guarded_append(self.pipeline, counters), self._forward if is_exported else None
        )
        """Provider of spans that go into this memory alone."""
        self.recorder = make_recorder(
            settings,
            self.provider.get_tracer(semconv.SCOPE),
            count=counters.add,
            note=counters.record_failure,
            redact=redact,
        )
        self.switched_off: str | None = None
        """Reason why the application's provider records nothing; None while it records."""
        self.notes: list[str] = []
        """Messages about the tracer providers that get the spans, and those that do not."""
        self._flushed_dropped = self._problem_dropped = counters.dropped()
        """Number of spans dropped up to the last flush, and up to the one before."""
        self._deciding: Decisions | None = None
        self._deciding_lock = threading.Lock()

    def _forward(self, span: LocalSpan) -> None:
        self.collector.send(span.readable)

    def deciding(self) -> Decisions:
        """Return the decisions of the store, made at the first call: few programs use them."""
        with self._deciding_lock:
            if self._deciding is None:
                from autotrace.capture.approvals.decision_spans import DecisionRecording

                self._deciding = self.store.decisions(DecisionRecording(self.recorder))
            return self._deciding

    def close_decisions(self, timeout_s: float) -> None:
        """Close the decisions; call it before recording ends, as deliveries still record events."""
        if self._deciding is not None:
            self._deciding.shut_down(timeout_s)

    def start(self) -> None:
        """Store the spools of dead processes, in the background."""
        self.pipeline.recover()

    def record(
        self,
        records: Iterable[SpanRecord],
        *,
        forward: bool = True,
        sender: str | None = None,
    ) -> None:
        """Record spans of other processes: on disk when this returns, in the store soon after.

        Args:
            records: Span records, already redacted and bounded.
            forward: Whether ended spans also go to the collector, if any.
            sender: Agent of the API key of the request; None: each record names its owner.

        Raises:
            StoreUnavailableError: A record could not be written; recording all of them again is
                safe.
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
        """Store everything recorded so far; see `Pipeline.catch_up`."""
        return self.pipeline.catch_up(timeout_s, lane=lane, after_batch=after_batch)

    def behind_s(self) -> float:
        """Return for how long nothing was stored although records wait; 0 if none wait."""
        return self.pipeline.behind_s()

    def delete_trace(
        self,
        trace_id: str,
        timeout_s: float,
        *,
        place: Located | None = None,
        lane: str | None = None,
    ) -> None:
        """Delete a trace with its whole content, permanently.

        The backlog is stored first. Later records of the same trace are not kept. Traces of tasks
        inside it stay, and so do its decisions; `autotrace.decisions.erase` deletes their content.
        After an interruption, call it again.

        Args:
            trace_id: The trace.
            timeout_s: Time limit for storing the backlog, in seconds.
            place: Location of its task, from `Reader.locate`; None: look it up.
            lane: Sender whose backlog is stored first; None: all senders.

        Raises:
            TraceNotFoundError: The store has no trace with this id.
            StoreError: The store cannot be written; try again.
        """
        self.catch_up(timeout_s, lane=lane)
        erase_trace(self.connection, self.store.embedder, trace_id, place)

    def rebuild(
        self, timeout_s: float, progress: Callable[[int, int], None] | None = None
    ) -> RebuildResult:
        """Rebuild indexes and statistics from the log; see `rebuild_and_retry`.

        Args:
            timeout_s: Time limit for storing the backlog of the rebuild, in seconds.
            progress: Called with the number of OpenTelemetry traces done and of all.
        """
        from autotrace.worker.rebuild_and_retry import rebuild_and_retry

        return rebuild_and_retry(
            self.store,
            progress=progress,
            store_backlog=lambda: self.pipeline.store_after_rebuild(timeout_s),
        )

    def flush(self, timeout_s: float) -> bool:
        """Bring the records of this process into the store, and to the collector if any.

        Args:
            timeout_s: Time limit in seconds.

        Returns:
            Whether everything is there: False also if a span was dropped since the last flush.
        """
        deadline = time.monotonic() + timeout_s
        dropped = self.counters.dropped()
        before, self._flushed_dropped = self._flushed_dropped, dropped
        self._problem_dropped = before
        stored = self.pipeline.flush(timeout_s)
        return self.collector.flush(_ms_until(deadline)) and stored and dropped == before

    def health(self) -> Health:
        """Return the state of recording: backlog, counters, problems and the last error."""
        return off_loop(self._health, do_apart)

    def _health(self) -> Health:
        store, spool = self.connection.name, self.settings.spool_path
        problems: list[str] = []

        def counted(what: str, count: Callable[[], int]) -> int:
            try:
                return count()
            except Exception as error:  # noqa: BLE001 - health() must answer when other parts fail
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
        """Close the store after storing the backlog, as far as time allows.

        Open spans are still recorded when they end; the next process that opens the store stores
        them.

        Args:
            timeout_s: Time limit in seconds.
            at_exit: Whether the program ends. Then the backlog of an embedded store is left to the
                next start unless storing has begun, since loading Chroma takes longer than most
                short programs. The spool of a Chroma server's client may vanish with its
                container, so it is always stored.

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
