"""Span records: the content of the spool and the input of the assembler.

A span record is a plain dict, because it is made and serialised on the caller's thread for every
span. There are five kinds:

* an *ended* span: every field of the span that a reader may want, with `end_ns`;
* an *open* span (`open: True`): written when a task or step starts, so that a crash leaves
  evidence of it; superseded by the ended record of the same span;
* a *skeleton* (`skeleton: True`): id and parent of a span that is not about agents; it keeps the
  chain of parents whole between spans that are. That of a root has its name and status too,
  since it may hold an agent that was written without a framework;
* an *interruption* (`interrupted: True`): added for an open task whose process has died;
* an *erasure* (`erased: True`): marks a task whose trace was deleted. Its records, earlier and
  later ones, are in the log as skeletons (traces/deletion.py).

Ids are lower-case hex as in OTLP/JSON; times are nanoseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Required, TypedDict, cast

from autotrace import semconv
from autotrace.ids import span_id_hex, trace_id_hex

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

STATUS_ERROR = 2
"""Value of the OTLP status code `STATUS_CODE_ERROR`."""


class EventRecord(TypedDict):
    """An event of a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any]


class Sender(TypedDict):
    """The key that a record came with."""

    key: str
    """Its id."""
    agent: str


class SpanRecord(TypedDict, total=False):
    """One span, or a stage of it; see the module's docstring for the kinds."""

    trace: Required[str]
    id: Required[str]
    start_ns: Required[int]
    parent: str | None
    name: str
    end_ns: int
    attributes: dict[str, Any]
    status: int
    message: str
    events: list[EventRecord]
    scope: str
    open: bool
    remote: bool
    """Of a span of another instrumentation: its parent is a span of another process."""
    shared: bool
    """An open span that no process owns: its process may die without interrupting it."""
    skeleton: bool
    interrupted: bool
    erased: bool
    sender: Sender
    """The key that it came with; absent: a program on this machine recorded it."""
    owner: str
    """The agent to whose share of the OpenTelemetry trace it belongs; absent: this machine's."""
    grant: str
    """As it arrived over OTLP: see base/grants.py; it is not stored."""
    sent_id: str
    """Of a guest's span in a tree: the span id that the guest gave; see shares.py."""


def record_key(record: SpanRecord) -> str:
    """Name a record within its share of a trace: equal keys are the same record twice."""
    span = record["id"]
    if "sender" in record and record["sender"]["agent"] != record.get("owner"):
        span += f"@{record['sender']['agent']}"  # a guest's: no record of the owner is the same
    if record.get("open"):
        return span + "o"
    if record.get("interrupted"):
        return span + "i"
    if record.get("erased"):
        return span + "x"
    return span


def skeleton_of(record: SpanRecord) -> SpanRecord:
    """Return what stays of a record in a deleted trace: its place in the tree, under its key."""
    if not holds_content(record):
        return record
    kept = {key: value for key, value in record.items() if key in _PLACE}
    return cast("SpanRecord", kept | {"skeleton": True})


def holds_content(record: SpanRecord) -> bool:
    """Return whether a record has more of a span than its place in the tree."""
    return any(key not in _PLACE and key not in _KINDS for key in record)


_PLACE = frozenset(
    {"trace", "id", "parent", "start_ns", "end_ns", "open", "shared", "remote", "sender", "owner"}
)
"""Fields by which a span keeps its place in the tree, and by which it is known again."""
_KINDS = frozenset({"skeleton", "interrupted", "erased"})


def is_agent_span(attributes: Mapping[str, Any] | None, scope: str | None = None) -> bool:
    """Return whether a span has data about the work of an agent."""
    if scope in _AGENT_SCOPES:
        return True
    if not attributes:
        return False
    return any(key.startswith(_AGENT_KEY_PREFIXES) for key in attributes)


_AGENT_SCOPES = (semconv.SCOPE, "gcp.vertex.agent")
"""Scopes whose spans are kept whole even where they have no attribute at all."""

_AGENT_KEY_PREFIXES = (
    "gen_ai.",
    "autotrace.",
    "openinference.",
    "traceloop.",
    "llm.",
    "ai.",
    "langsmith.",
    "gcp.vertex.agent.",
    "mcp.",
    "smolagents.",
    "crewai.",
    "pydantic_ai.",
)
"""Key families of the instrumentations whose spans are kept whole."""


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return a copy of a span's attributes.

    The SDK's read-only view takes five times as long to iterate as its own copy does to make.
    """
    attributes: Any = span.attributes
    if attributes is None:
        return {}
    copied: Any = attributes.copy() if hasattr(attributes, "copy") else None
    return cast("dict[str, Any]", copied if type(copied) is dict else dict(attributes))


def open_record(span: ReadableSpan) -> SpanRecord:
    """Make the record of a task or step that has just started."""
    return {
        **_place_of(span),
        "name": span.name,
        "attributes": attributes_of(span),
        "open": True,
    }


def ended_record(span: ReadableSpan) -> SpanRecord:
    """Make the record of an ended span of the SDK.

    Values of attributes may be of any type OpenTelemetry allows; the serialiser handles bytes.
    """
    scope, status = span.instrumentation_scope, span.status

    def events() -> list[EventRecord]:
        return [
            {
                "name": event.name,
                "time_ns": event.timestamp,
                "attributes": dict(event.attributes or {}),
            }
            for event in span.events
        ]

    return complete_record(
        {**_place_of(span), "end_ns": span.end_time or span.start_time or 0},
        span.name,
        attributes_of(span),
        scope="" if scope is None else scope.name,
        status=(status.status_code.value, status.description),
        events=events,
        remote=span.parent is not None and span.parent.is_remote,
    )


def complete_record(
    place: SpanRecord,
    name: str,
    attributes: dict[str, Any],
    *,
    scope: str,
    status: tuple[int, str | None],
    events: Callable[[], list[EventRecord]],
    remote: bool,
) -> SpanRecord:
    """Add what the store keeps of an ended span to its ids and times.

    A span without data about agents is kept as a place in the tree alone, since spans of agents
    may lie below it: data that a database or web framework records is never stored.

    Args:
        place: Its ids and times.
        name: Its name.
        attributes: Its attributes.
        scope: Name of its instrumentation scope.
        status: Its status code, as in OTLP, and the message.
        events: Returns its events. Our spans have events only if they failed, and to copy those
            of an SDK span takes time.
        remote: Whether its parent is a span of another process.
    """
    code, message = status
    is_ours = scope == semconv.SCOPE
    if not is_agent_span(attributes, scope):
        place["skeleton"] = True
        if not place.get("parent") or remote:
            place["name"] = name
            if code == STATUS_ERROR:
                place["status"] = code
            if remote:
                place["remote"] = True
        return place
    place["name"] = name
    place["attributes"] = attributes
    if not is_ours:
        place["scope"] = scope
        if remote:
            place["remote"] = True
    if code:
        place["status"] = code
        if message:
            place["message"] = message
    if (code or not is_ours) and (found := events()):
        place["events"] = found
    return place


def is_lone_root(record: SpanRecord) -> bool:
    """Return whether a record is of use only if its trace has others."""
    return "skeleton" in record and not record.get("parent")


def readable_of(record: SpanRecord) -> ReadableSpan:
    """Return the span of the record of an ended one as the SDK's type, for its exporters."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Status, StatusCode

    parent = record.get("parent")
    status = Status(StatusCode(record.get("status", 0)))
    if record.get("status") == STATUS_ERROR:
        status = Status(StatusCode.ERROR, record.get("message"))
    return ReadableSpan(
        name=record.get("name", ""),
        context=_context_of(record["trace"], record["id"]),
        parent=_context_of(record["trace"], parent) if parent else None,
        attributes=record.get("attributes"),
        events=[
            Event(event["name"], event["attributes"], event["time_ns"])
            for event in record.get("events", ())
        ],
        status=status,
        start_time=record["start_ns"],
        end_time=record.get("end_ns"),
        instrumentation_scope=InstrumentationScope(record.get("scope", semconv.SCOPE)),
    )


def _context_of(trace: str, span_id: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace, 16), int(span_id, 16), is_remote=False, trace_flags=flags)


def _place_of(span: ReadableSpan) -> SpanRecord:
    context, parent = span.get_span_context(), span.parent
    if context is None:
        msg = f"span {span.name!r} has no context"
        raise ValueError(msg)
    return {
        "trace": trace_id_hex(context.trace_id),
        "id": span_id_hex(context.span_id),
        "parent": None if parent is None else span_id_hex(parent.span_id),
        "start_ns": span.start_time or 0,
    }
