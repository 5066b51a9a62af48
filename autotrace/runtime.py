"""Wiring: the only place where settings, capture, export and store are put together."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakKeyDictionary

from opentelemetry import trace as otel_trace

from autotrace import semconv
from autotrace.base.blocking_calls import asynchronous
from autotrace.base.event_loops import do_apart, off_loop
from autotrace.base.health_counters import HealthCounters, logger
from autotrace.capture.approvals import decision_access as capture_deciding
from autotrace.capture.native_spans import id_generator
from autotrace.capture.recorder import current
from autotrace.capture.thread_context import InheritedContext
from autotrace.decisions.active import current as current_decisions
from autotrace.embedding.choice import Embedding
from autotrace.errors import InvalidArgumentError, NotConfiguredError
from autotrace.memory import Memory
from autotrace.models import Health, RecallResult, ToolStats, Trace, TraceStatus, TraceSummary
from autotrace.otlp.export import add_processor, described_provider, exports_otlp
from autotrace.settings import Settings, load_settings
from autotrace.traces.reader import Reader
from autotrace.worker.exporter import choose_embedding
from autotrace.worker.process import is_worker
from autotrace.worker.span_processor import SpoolSpanProcessor

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


@dataclass(frozen=True)
class Configuration:
    """What `configure` was asked for. Two that are equal need one runtime."""

    settings: Settings
    """With places resolved: a relative one means the folder that was current then."""
    embedding: Embedding
    tracer_provider: TracerProvider | Literal[False] | None
    """None: not asked for; False: not wanted."""
    redact: Callable[[str, Any], Any] | None


class Runtime:
    """Everything that one configuration has set up."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.settings = configuration.settings
        self._inherited: InheritedContext | None = None
        provider = configuration.tracer_provider
        if provider is None:
            provider = _switched_off_provider()
        self.memory = Memory(
            configuration.settings,
            configuration.embedding,
            _counters,
            redact=configuration.redact,
            forwards=not provider,
        )
        self.provider: otel_trace.TracerProvider = self.memory.provider
        if provider:
            self._move_to(provider)
        else:
            # Not made the global one: an application that sets its own later must find the place
            # free.
            self.memory.provider.notice = self._notice_global_provider

    def start(self) -> None:
        """Begin to record, and store what dead processes have left."""
        if self.settings.propagate_threads:
            self._inherited = InheritedContext(self.memory.counters)
        self.memory.pipeline.prepare()
        current.recorder = self.memory.recorder
        current_decisions.open = self.memory.deciding
        capture_deciding.current.open = lambda: self.memory.deciding().service
        self.memory.start()
        if self.memory.provider.notice is not None and _sdk_provider() is not None:
            self._notice_global_provider()

    def _move_to(self, provider: TracerProvider) -> None:
        self._attach(provider)
        self._remark(
            logging.INFO, f"spans of autotrace also go to the {described_provider(provider)}"
        )
        self.provider = provider
        self.memory.recorder.tracer = tracer = tracer_of(provider)
        self.memory.switched_off = why = why_switched_off(provider, tracer)
        if why is not None:
            self.memory.counters.record_failure("switched off", why)

    def _attach(self, provider: TracerProvider) -> None:
        # What the environment names, a provider that exports over OTLP sends there by itself.
        sends_itself = self.settings.otlp_endpoint is None and exports_otlp(provider)
        with _attached_lock:
            processor = _attached.get(provider)
            if processor is None:
                processor = SpoolSpanProcessor(self.memory.pipeline, self.memory.counters)
                _attached[provider] = processor
                add_processor(provider, processor)
            processor.pipeline = self.memory.pipeline
            processor.redact = self.memory.recorder.encoder.redactor.of_span
        if not sends_itself and (exporting := self.memory.collector.open()) is not None:
            add_processor(provider, exporting)

    def _notice_global_provider(self) -> None:
        """Record spans of the global provider, which gets none of ours unless it was given.

        A library may have set it, at its import or later, whose exporter sends to its vendor. Its
        spans are recorded as the places that ours lie in.
        """
        recorder = self.memory.recorder
        if current.recorder is not recorder:
            return
        self.memory.provider.notice = None
        try:
            provider = _sdk_provider()
            if provider is None:
                return
            self._attach(provider)
            self._remark(
                logging.INFO if self.configuration.tracer_provider is False else logging.WARNING,
                f"no spans of autotrace go to the {described_provider(provider)}; to send them "
                "there, call autotrace.configure(tracer_provider=opentelemetry.trace."
                "get_tracer_provider()); to log this as information, pass tracer_provider=False",
            )
        except Exception as error:  # noqa: BLE001 - runs where user code's spans start
            recorder.failed(error)

    def _remark(self, level: int, text: str) -> None:
        self.memory.notes.append(text)
        logger.log(level, "%s", text)

    def stop(self, timeout_s: float) -> bool:
        """Stop recording; store what is left, as far as time allows.

        Spans under way are still recorded when they end, and stored by who opens the store next.
        """
        deadline = time.monotonic() + timeout_s
        if current_decisions.open == self.memory.deciding:
            current_decisions.open = capture_deciding.current.open = None
        self.memory.close_decisions(timeout_s)
        with _attached_lock:
            for processor in _attached.values():
                if processor.pipeline is self.memory.pipeline:
                    processor.pipeline = None
        if current.recorder is self.memory.recorder:
            current.recorder = None
        if self._inherited is not None:
            self._inherited.stop()
        return self.memory.stop(max(0.0, deadline - time.monotonic()))

    def stop_at_exit(self) -> None:
        """Store what is left.

        Functions called at exit after this one, and daemon threads, go on recording to the end.
        """
        self.memory.stop(self.settings.exit_timeout_ms / 1000, at_exit=True)


def _sdk_provider() -> TracerProvider | None:
    """Return the application's tracer provider if it has an SDK one."""
    provider: Any = otel_trace.get_tracer_provider()
    return provider if hasattr(provider, "add_span_processor") else None


def _switched_off_provider() -> TracerProvider | None:
    """Return the global provider if it records nothing: then nothing of ours is recorded."""
    provider = _sdk_provider()
    if provider is None or why_switched_off(provider, tracer_of(provider)) is None:
        return None
    return provider


def tracer_of(provider: otel_trace.TracerProvider) -> otel_trace.Tracer:
    """Return our tracer of a provider, with ids that a seeded program does not repeat."""
    tracer: Any = provider.get_tracer(semconv.SCOPE)
    if type(getattr(tracer, "id_generator", None)).__name__ == "RandomIdGenerator":
        tracer.id_generator = id_generator
    return tracer


def why_switched_off(provider: otel_trace.TracerProvider, tracer: otel_trace.Tracer) -> str | None:
    """Return why an application's provider records nothing; None if it records."""
    if isinstance(tracer, otel_trace.NoOpTracer):
        return (
            "nothing is recorded: OTEL_SDK_DISABLED=true switches the application's tracer "
            "provider off; unset it before the provider is made"
        )
    sampler: Any = getattr(provider, "sampler", None)
    described = "" if sampler is None else str(sampler.get_description())
    if described.removeprefix("ParentBased{root:").startswith(_SAMPLES_NOTHING):
        return (
            "nothing is recorded: the sampler of the application's tracer provider leaves every "
            "span out; give it another, or set OTEL_TRACES_SAMPLER=parentbased_always_on"
        )
    return None


_SAMPLES_NOTHING: Final = ("AlwaysOff", "TraceIdRatioBased{0}", "TraceIdRatioBased{0.0}")
"""How samplers describe themselves that leave every span out."""
_STORE_FIRST_TIMEOUT_S: Final = 30.0
_counters = HealthCounters()
"""Of the process, so that no count is lost when it is configured anew."""
_attached: WeakKeyDictionary[Any, SpoolSpanProcessor] = WeakKeyDictionary()
"""Our processor on each provider: a provider cannot be rid of one, so it gets one only."""
_attached_lock = threading.Lock()
_lock = threading.RLock()
_runtime: Runtime | None = None
_at_exit = False


def configure(
    store: str | PathLike[str] | None = None,
    *,
    embedder: Any = None,
    tracer_provider: TracerProvider | Literal[False] | None = None,
    otlp_endpoint: str | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    **settings: Any,
) -> None:
    """Begin to record into a store. Once in a program, at any time, before or after decoration.

    Called again with the same arguments it changes nothing, however the store is spelled, and if
    the embedder is another object of the same type and space; with others it stores what is left
    and begins anew.

    Args:
        store: A path (embedded Chroma; default `./.autotrace`), or `http(s)://host:port` of a
            Chroma server.
        embedder: Makes the vectors by which traces are recalled: any Chroma embedding function, or
            a function from a list of texts to a list of vectors, or the import path of one as
            `package.module:attribute`. Default: all-MiniLM-L6-v2.
        tracer_provider: The OpenTelemetry SDK provider that makes the spans, and whose exporters
            get them. Default: a provider of our own; the global one gets no spans of autotrace,
            since a library may have set it, and the log says so. False: the same, as information.
        otlp_endpoint: Base URL of an OTLP/HTTP collector that gets the same spans.
        redact: Called as `redact(path, value)` for everything that is captured; returns what to
            record in its place.
        settings: Any other setting of `docs/reference/settings.md`, by its name in lower case. A
            setting that is not given here is taken from the environment, as `AUTOTRACE_` and the
            name in upper case.

    Raises:
        InvalidArgumentError: A setting has a value that is not allowed; nothing is changed.
    """
    if tracer_provider and not hasattr(tracer_provider, "add_span_processor"):
        raise InvalidArgumentError(
            "tracer_provider", tracer_provider, "an OpenTelemetry SDK TracerProvider, or False"
        )
    if redact is not None and not callable(redact):
        raise InvalidArgumentError("redact", redact, "a function of (path, value)")
    if is_worker():
        return  # the program's module, imported there for its embedder, must not record again
    settings |= {"store": None if store is None else str(store), "otlp_endpoint": otlp_endpoint}
    off_loop(lambda: _configure(embedder, tracer_provider, redact, settings), do_apart)


def _configure(
    embedder: Any,
    tracer_provider: TracerProvider | Literal[False] | None,
    redact: Callable[[str, Any], Any] | None,
    settings: dict[str, Any],
) -> None:
    global _runtime, _at_exit
    with _lock:
        loaded = load_settings(**settings)
        embedding = choose_embedding(loaded, embedder)
        asked = Configuration(loaded.resolved(), embedding, tracer_provider, redact)
        if _runtime is not None and _runtime.configuration == asked:
            return
        runtime = Runtime(asked)
        if _runtime is not None:
            _runtime.stop(loaded.exit_timeout_ms / 1000)
        _runtime = runtime
        runtime.start()
        if not _at_exit:
            atexit.register(_stop_at_exit)
            _at_exit = True


def _stop_at_exit() -> None:
    runtime = _runtime
    if runtime is not None:
        runtime.stop_at_exit()


def runtime_or_raise(what: str) -> Runtime:
    """Return what `configure` has set up.

    Raises:
        NotConfiguredError: It has not been called; names what was asked for.
    """
    if _runtime is None:
        raise NotConfiguredError(what)
    return _runtime


def shutdown(timeout: float = 30.0) -> bool:
    """Store what is left and stop recording; `configure` begins anew.

    Args:
        timeout: How long to take at most, in seconds.

    Returns:
        Whether everything is stored. What is not stays on disk and is stored at the next start.
    """
    global _runtime
    with _lock:
        runtime, _runtime = _runtime, None
    return True if runtime is None else runtime.stop(timeout)


def flush(timeout: float = 30.0) -> bool:
    """Bring everything that this process has recorded so far into the store.

    Args:
        timeout: How long to wait at most, in seconds.

    Returns:
        Whether everything is stored. What is not stays on disk and is stored later; but what the
        store refused since the flush before is set aside, and what was dropped is lost:
        `health().problems` says so.
    """
    return True if _runtime is None else _runtime.memory.flush(timeout)


def health() -> Health:
    """Return how recording does: what waits, what was dropped or cut, what failed last."""
    if _runtime is None:
        return Health(configured=False)
    return _runtime.memory.health()


def get_trace(trace_id: str) -> Trace:
    """Return a trace with its steps and tool calls; see `Reader.get_trace`."""
    return _reader("get_trace()").get_trace(trace_id)


def delete_trace(trace_id: str) -> None:
    """Delete a trace with all that was recorded in it, for good; see `Memory.delete_trace`."""
    runtime_or_raise("delete_trace()").memory.delete_trace(trace_id, _STORE_FIRST_TIMEOUT_S)


def list_traces(
    *,
    status: TraceStatus | None = None,
    session_id: str | None = None,
    agent: str | None = None,
    agents: Sequence[str] | None = None,
    limit: int = 50,
    after: str | None = None,
) -> list[TraceSummary]:
    """Return a page of traces, newest first; see `Reader.list_traces`."""
    return _reader("list_traces()").list_traces(
        status=status,
        session_id=session_id,
        agent=agent,
        agents=agents,
        limit=limit,
        after=after,
    )


def recall(
    query: str,
    success_only: bool = True,
    limit: int = 10,
    *,
    agent: str | None = None,
    agents: Sequence[str] | None = None,
    session_id: str | None = None,
    tools: Sequence[str] | None = None,
) -> list[RecallResult]:
    """Return past completed traces whose tasks mean something similar; see `Reader.recall`.

    With only failed traces stored the list is empty: pass `success_only=False` to see them.
    """
    return _reader("recall()").recall(
        query,
        success_only,
        limit,
        agent=agent,
        agents=agents,
        session_id=session_id,
        tools=tools,
    )


def tool_stats(*, limit: int = 100, after: str | None = None) -> list[ToolStats]:
    """Return a page of the statistics of tools, most used first; see `Reader.tool_stats`."""
    return _reader("tool_stats()").tool_stats(limit=limit, after=after)


def _reader(what: str) -> Reader:
    return runtime_or_raise(what).memory.reader


aconfigure = asynchronous(configure)
adelete_trace = asynchronous(delete_trace)
aflush = asynchronous(flush)
aget_trace = asynchronous(get_trace)
ahealth = asynchronous(health)
alist_traces = asynchronous(list_traces)
arecall = asynchronous(recall)
ashutdown = asynchronous(shutdown)
atool_stats = asynchronous(tool_stats)
