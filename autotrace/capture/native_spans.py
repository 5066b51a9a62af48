"""Make spans for programs that have no OpenTelemetry SDK provider.

The spans implement OpenTelemetry's API, without the SDK's processors, limits, resource and sampler,
which cost more than the rest of capture: a span takes 1.6 µs instead of 13. Every span is recorded.
A provider that the application passes to `configure` replaces them (worker/span_processor.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import trace as otel_trace
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from typing_extensions import override

from autotrace import semconv
from autotrace.base.clock import wall_ns
from autotrace.spool.span_records import EventRecord, SpanRecord, is_agent_span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.util.types import Attributes, AttributeValue

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_api: Final = vars(otel_trace)
"""Read directly: the API's function for the provider costs half a span."""
_SCALARS: Final = frozenset({str, int, float, bool})


class IdGenerator:
    """Generator of ids, random also after `random.seed()` and `fork()`.

    The SDK uses the global generator: a program that seeds it has the same ids in each run.
    """

    def __init__(self) -> None:
        self._random = random.Random(os.urandom(16))  # noqa: S311 - ids need not be unguessable
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: self._random.seed(os.urandom(16)))

    def generate_trace_id(self) -> int:
        """Return a random non-zero 128-bit id."""
        return self._random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        """Return a random non-zero 64-bit id."""
        return self._random.getrandbits(64) or 1

    def is_trace_id_random(self) -> bool:
        """Return True, for the W3C flag of random trace ids."""
        return True


id_generator: Final = IdGenerator()


class LocalTracerProvider(otel_trace.TracerProvider):
    """Provider of tracers: `append` gets records, `forward` ended spans."""

    def __init__(
        self,
        append: Callable[[SpanRecord], None],
        forward: Callable[[LocalSpan], None] | None = None,
    ) -> None:
        self.append = append
        self.forward = forward
        self.notice: Callable[[], None] | None = None
        """Called before a span if a global provider is set; must not raise."""

    @override
    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> LocalTracer:
        return LocalTracer(self, instrumenting_module_name)


class LocalTracer(otel_trace.Tracer):
    """Tracer of one instrumentation scope."""

    def __init__(self, provider: LocalTracerProvider, scope: str) -> None:
        self.provider = provider
        self.scope = scope

    @override
    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[otel_trace.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> otel_trace.Span:
        notice = self.provider.notice
        if notice is not None and _api.get("_TRACER_PROVIDER") is not None:
            notice()
        parent = otel_trace.get_current_span(context).get_span_context()
        return LocalSpan(
            self, name, parent if parent.is_valid else None, kind, attributes, start_time
        )

    @override
    @contextlib.contextmanager
    def start_as_current_span(  # pyright: ignore[reportIncompatibleMethodOverride] - the API's type is of a private helper
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[otel_trace.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Generator[otel_trace.Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with otel_trace.use_span(
            span,
            end_on_exit=end_on_exit,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        ) as current:
            yield current


class LocalSpan(otel_trace.Span):
    """Span that is recorded when it ends; a task or step also when it starts."""

    __slots__ = (
        "_context", "_events", "_kind", "_tracer", "attributes", "end_time", "name", "parent",
        "start_time", "status",
    )  # fmt: skip

    def __init__(
        self,
        tracer: LocalTracer,
        name: str,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        start_time: int | None,
    ) -> None:
        self._tracer = tracer
        self.name = name
        self.parent = parent
        self._kind = kind
        trace_id = id_generator.generate_trace_id() if parent is None else parent.trace_id
        self._context = SpanContext(
            trace_id,
            id_generator.generate_span_id(),
            is_remote=False,
            trace_flags=_SAMPLED,
            trace_state=None if parent is None else parent.trace_state,
        )
        self.attributes: dict[str, Any] = {}
        self._events: list[EventRecord] | None = None
        self.status: Status | None = None
        self.end_time: int | None = None
        self.start_time: int = wall_ns() if start_time is None else start_time
        if attributes:
            for key, value in attributes.items():
                self.attributes[key] = value if type(value) in _SCALARS else _clean(value)
            # A decision event starts and ends at once: it needs no open record.
            if attributes.get(semconv.KIND, semconv.KIND_DECISION) != semconv.KIND_DECISION:
                record = self._record()
                record["open"] = True
                tracer.provider.append(record)

    @override
    def get_span_context(self) -> SpanContext:
        return self._context

    @override
    def is_recording(self) -> bool:
        return self.end_time is None

    @override
    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if self.end_time is None:
            self.attributes[key] = value if type(value) in _SCALARS else _clean(value)

    @override
    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    @override
    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        if self.end_time is not None:
            return
        if self._events is None:
            self._events = []
        self._events.append(
            {
                "name": name,
                "time_ns": wall_ns() if timestamp is None else timestamp,
                "attributes": {key: _clean(value) for key, value in (attributes or {}).items()},
            }
        )

    @override
    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Ignore a link, since span records have no field for it."""

    @override
    def update_name(self, name: str) -> None:
        if self.end_time is None:
            self.name = name

    @override
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        new = status if isinstance(status, Status) else Status(status, description)
        settled = self.status is not None and self.status.status_code is StatusCode.OK
        if self.end_time is None and not settled and new.status_code is not StatusCode.UNSET:
            self.status = new

    @override
    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        described: dict[str, Any] = {
            semconv.EXCEPTION_TYPE: type(exception).__qualname__,
            semconv.EXCEPTION_MESSAGE: str(exception),
            semconv.EXCEPTION_STACKTRACE: "".join(traceback.format_exception(exception)),
        }
        self.add_event(semconv.EXCEPTION_EVENT, described | dict(attributes or {}), timestamp)

    @override
    def end(self, end_time: int | None = None) -> None:
        if self.end_time is not None:
            return
        self.end_time = wall_ns() if end_time is None else end_time
        self._hand_over(self.end_time)
        # Contexts that outlive the span must not keep arguments and results.
        self.attributes = {}
        self._events = self.status = None

    def _hand_over(self, end_ns: int) -> None:
        tracer = self._tracer
        if tracer.scope == semconv.SCOPE or is_agent_span(self.attributes):
            record = self._record()
            record["end_ns"] = end_ns
            if self.status is not None:
                record["status"] = self.status.status_code.value
                if self.status.description:
                    record["message"] = self.status.description
            if self._events:
                record["events"] = self._events
            if tracer.scope != semconv.SCOPE:
                record["scope"] = tracer.scope
        elif self.parent is not None:
            record = self._record()
            del record["name"], record["attributes"]
            record["end_ns"], record["skeleton"] = end_ns, True
        else:
            return
        tracer.provider.append(record)
        if (forward := tracer.provider.forward) is not None:
            forward(self)

    def _record(self) -> SpanRecord:
        context, parent = self._context, self.parent
        return {
            "trace": f"{context.trace_id:032x}",
            "id": f"{context.span_id:016x}",
            "parent": None if parent is None else f"{parent.span_id:016x}",
            "name": self.name,
            "start_ns": self.start_time,
            "attributes": self.attributes,
        }

    def readable(self) -> ReadableSpan:
        """Return the span as the SDK's type, for its processors and exporters."""
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        return ReadableSpan(
            name=self.name,
            context=self._context,
            parent=self.parent,
            attributes=self.attributes,
            events=[
                Event(event["name"], event["attributes"], event["time_ns"])
                for event in self._events or ()
            ],
            kind=self._kind,
            status=self.status or Status(StatusCode.UNSET),
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=InstrumentationScope(self._tracer.scope),
        )


def _clean(value: Any) -> Any:
    """Return an attribute's value as it is now, in JSON types."""
    if value is None or type(value) in _SCALARS:
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(key): _clean(item) for key, item in items}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_clean(item) for item in cast("Sequence[Any]", value)]
    return str(value)
