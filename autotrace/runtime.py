"""The runtime of the process: connects capture and the store, as `configure()` asks."""

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
from autotrace.active import current as current_decisions
from autotrace.base.blocking_calls import asynchronous
from autotrace.base.event_loops import do_apart, off_loop
from autotrace.base.health_counters import HealthCounters, logger
from autotrace.capture.context_carriers import InheritedContext
from autotrace.capture.native_spans import id_generator
from autotrace.capture.recorder import current
from autotrace.embedding.choice import Embedding
from autotrace.errors import InvalidArgumentError, NotConfiguredError
from autotrace.memory import Memory
from autotrace.models import (
    Health,
    RebuildResult,
    RecallResult,
    ToolStats,
    Trace,
    TraceStatus,
    TraceSummary,
)
from autotrace.otlp.export import add_processor, described_provider, exports_otlp
from autotrace.settings import Settings, load_settings, misspelled_variables, store_text
from autotrace.traces.reader import Reader
from autotrace.worker.process import is_worker
from autotrace.worker.span_processor import SpoolSpanProcessor
from autotrace.worker.wiring import choose_embedding

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


@dataclass(frozen=True)
class Configuration:
    """Arguments of `configure()`. Equal configurations share one runtime."""

    settings: Settings
    """With absolute paths: a relative path refers to the working directory of `configure()`."""
    embedding: Embedding
    tracer_provider: TracerProvider | Literal[False] | None
    """None: not given; False: none, without a warning."""
    redact: Callable[[str, Any], Any] | None


class Runtime:
    """The memory of one configuration, and its connection to capture."""

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
            # Not set as the global one, so that the application can still set its own.
            self.memory.provider.notice = self._notice_global_provider

    def start(self) -> None:
        """Start to record, and store the spools of dead processes."""
        if self.settings.propagate_threads:
            self._inherited = InheritedContext(self.memory.counters)
        self.memory.pipeline.prepare()
        current.recorder = self.memory.recorder
        current_decisions.open = self.memory.deciding
        self.memory.start()
        for text in misspelled_variables():
            self._remark(logging.WARNING, text)
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
        # A provider that exports over OTLP already sends to the endpoint of the environment.
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
        """Record spans of the global provider; without being passed, it gets none of ours.

        A library may have set it, with an exporter to its vendor. Its spans are recorded because
        ours may have them as parents.
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
        except Exception as error:  # noqa: BLE001 - runs in user code that starts a span
            recorder.failed(error)

    def _remark(self, level: int, text: str) -> None:
        self.memory.notes.append(text)
        logger.log(level, "%s", text)

    def stop(self, timeout_s: float) -> bool:
        """Stop recording, and store the backlog as far as time allows.

        Open spans are still recorded when they end; the next process that opens the store stores
        them.
        """
        deadline = time.monotonic() + timeout_s
        if current_decisions.open == self.memory.deciding:
            current_decisions.open = None
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
        """Store the backlog.

        Later exit handlers and daemon threads keep recording until the end.
        """
        self.memory.stop(self.settings.exit_timeout_ms / 1000, at_exit=True)


def _sdk_provider() -> TracerProvider | None:
    """Return the global tracer provider if it is one of the SDK."""
    provider: Any = otel_trace.get_tracer_provider()
    return provider if hasattr(provider, "add_span_processor") else None


def _switched_off_provider() -> TracerProvider | None:
    """Return the global provider if it records nothing; then autotrace records nothing either."""
    provider = _sdk_provider()
    if provider is None or why_switched_off(provider, tracer_of(provider)) is None:
        return None
    return provider


def tracer_of(provider: otel_trace.TracerProvider) -> otel_trace.Tracer:
    """Return our tracer of a provider, with ids that do not repeat under `random.seed()`."""
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
"""Descriptions of samplers that drop every span."""
_STORE_FIRST_TIMEOUT_S: Final = 30.0
_counters = HealthCounters()
"""Shared by all runtimes of the process, so that another `configure()` loses no count."""
_attached: WeakKeyDictionary[Any, SpoolSpanProcessor] = WeakKeyDictionary()
"""Our processor on each provider: providers cannot remove one, so each gets only one."""
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
    """Start to record into a store. Call it once in a program, before or after decoration.

    A second call with equal arguments changes nothing; the embedder may be another object of the
    same type and space. A call with other arguments stores the backlog and starts again.

    Args:
        store: A path (embedded Chroma; default `./.autotrace`), or `http(s)://host:port` of a
            Chroma server.
        embedder: Makes the vectors by which traces are recalled: any Chroma embedding function, or
            a function from a list of texts to a list of vectors, or the import path of one as
            `package.module:attribute`. Default: all-MiniLM-L6-v2.
        tracer_provider: The OpenTelemetry SDK provider that makes the spans, and whose exporters
            get them. Default: a provider of our own; the global one gets no spans of autotrace,
            since a library may have set it, and the log warns about it. False: the same, logged
            as information.
        otlp_endpoint: Base URL of an OTLP/HTTP collector that gets the same spans.
        redact: Called as `redact(path, value)` for every captured value; returns the value to
            record instead.
        settings: Any other setting of `docs/reference/settings.md`, by its name in lower case. A
            setting that is not given here is taken from the environment, as `AUTOTRACE_` and the
            name in upper case.

    Raises:
        InvalidArgumentError: A setting has a value that is not allowed; nothing changes.
    """
    if tracer_provider and not hasattr(tracer_provider, "add_span_processor"):
        raise InvalidArgumentError(
            "tracer_provider", tracer_provider, "an OpenTelemetry SDK TracerProvider, or False"
        )
    if redact is not None and not callable(redact):
        raise InvalidArgumentError("redact", redact, "a function of (path, value)")
    if is_worker():
        return  # the program's module, imported there for its embedder, must not record again
    settings |= {"store": store_text(store), "otlp_endpoint": otlp_endpoint}
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
    """Return the runtime of the process.

    Args:
        what: The operation that needs it, for the error.

    Raises:
        NotConfiguredError: `configure` was not called.
    """
    if _runtime is None:
        raise NotConfiguredError(what)
    return _runtime


def shutdown(timeout: float = 30.0) -> bool:
    """Store the backlog and stop recording; `configure` starts it again.

    Args:
        timeout: Time limit in seconds.

    Returns:
        Whether everything is stored. The rest stays on disk until the next start.
    """
    global _runtime
    with _lock:
        runtime, _runtime = _runtime, None
    return True if runtime is None else runtime.stop(timeout)


def flush(timeout: float = 30.0) -> bool:
    """Bring everything that this process has recorded so far into the store.

    Args:
        timeout: Time limit in seconds.

    Returns:
        Whether everything is stored. The rest stays on disk and is stored later. False also after
        a drop, and after a record that the store refused: `health().problems` has the reason.
    """
    return True if _runtime is None else _runtime.memory.flush(timeout)


def health() -> Health:
    """Return the state of recording: backlog, counters, problems and the last error."""
    if _runtime is None:
        return Health(configured=False)
    return _runtime.memory.health()


def get_trace(trace_id: str) -> Trace:
    """Return a trace with its steps and tool calls; see `Reader.get_trace`."""
    return _reader("get_trace()").get_trace(trace_id)


def delete_trace(trace_id: str) -> None:
    """Delete a trace with its whole content, permanently; see `Memory.delete_trace`."""
    runtime_or_raise("delete_trace()").memory.delete_trace(trace_id, _STORE_FIRST_TIMEOUT_S)


def rebuild(progress: Callable[[int, int], None] | None = None) -> RebuildResult:
    """Rebuild indexes and statistics of the store from its log, with the configured embedder.

    Use it after a change of the embedder, for a damaged index, and to retry records that the store
    refused. The log stays as it is, and an interrupted rebuild can be run again. Other processes
    record meanwhile, but store only when the rebuild has ended.

    Args:
        progress: Called with the number of OpenTelemetry traces done and of all.

    Raises:
        NotConfiguredError: `configure` was not called.
        StoreError: The store or the embedder failed; run it again.
    """
    return runtime_or_raise("rebuild()").memory.rebuild(_STORE_FIRST_TIMEOUT_S, progress)


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
    """Return completed traces of similar tasks, the most similar first; see `Reader.recall`.

    By default only successful ones: pass `success_only=False` to get failed ones too.
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
arebuild = asynchronous(rebuild)
arecall = asynchronous(recall)
ashutdown = asynchronous(shutdown)
atool_stats = asynchronous(tool_stats)
