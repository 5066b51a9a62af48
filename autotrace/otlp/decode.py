"""Decode an `ExportTraceServiceRequest` to span records. Pure.

A span gives the same record as in the process that made it (spool/span_records.py), so a trace is
the same whichever way it came. A faulty span is rejected alone and counted with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import orjson
from pydantic_core import from_json

from autotrace.base.json_text import has_more_values, loads, repaired
from autotrace.otlp.decode_json import json_span
from autotrace.otlp.decode_protobuf import has_unknown_fields, protobuf_span, scopes
from autotrace.otlp.span import (
    MAX_SPAN_CHARS,
    MAX_SPANS,
    MAX_TIME_NS,
    REPLACED,
    Allowance,
    MalformedBatchError,
    OtlpSpan,
    SpanError,
)
from autotrace.spool.span_records import SpanRecord, complete_record

MAX_JSON_VALUES: Final = 1_000_000
"""Number of values, counted by commas and openings of lists, that a request in JSON may hold."""
MAX_AHEAD_NS: Final = 5 * 60 * 1_000_000_000
"""Limit on how far a sender's clock may be ahead of ours: five minutes."""
_AHEAD: Final = "times later than five minutes from now, which were set to that"
T = TypeVar("T")
_REMOTE_PARENT: Final = 0x300
"""Flags of a span whose parent is known to be in another process."""
_STATUS_CODES: Final = frozenset({0, 1, 2})
_FIELDS: Final = ("resourceSpans", "scopeSpans", "spans")
"""Field that holds spans, of a request, of each resource, and of each scope."""
_OTHER_FIELDS: Final = frozenset({"resource", "scope", "schemaUrl"})
_NAMED_FIELDS: Final = 3
_MAX_NAME_CHARS: Final = 40
_NOTHING_KNOWN: Final = (
    "the body holds no spans, and fields that are not known{names}: an ExportTraceServiceRequest"
    " has resourceSpans, scopeSpans and spans; logs and metrics are not taken"
)


@dataclass
class Batch:
    """Spans of a request, with the parts of it that were rejected or cut."""

    records: list[SpanRecord] = field(default_factory=list[SpanRecord])
    rejections: Counter[str] = field(default_factory=Counter[str])
    """How many spans were rejected, by reason."""
    cut: Counter[str] = field(default_factory=Counter[str])
    """Parts left out, cut or replaced in spans that were not rejected, by reason."""
    warning: str = ""
    """The fault of a request that holds nothing to reject."""

    allowance: Allowance = field(default_factory=Allowance)

    @property
    def read(self) -> int:
        """Number of spans that were read, rejected or not."""
        return min(len(self.records) + self.rejected, MAX_SPANS)

    @property
    def rejected(self) -> int:
        """Number of rejected spans."""
        return sum(self.rejections.values())

    def reject(self, reason: str, is_meant: Callable[[SpanRecord], bool]) -> None:
        """Leave out records, and count them by reason."""
        kept = [record for record in self.records if not is_meant(record)]
        if len(kept) < len(self.records):
            self.rejections[reason] += len(self.records) - len(kept)
            self.records = kept

    def bound_times(self, now_ns: int) -> None:
        """Set times too far in the future to the latest allowed; count them.

        Lists show the newest trace first, so future dates would put a sender before all others.
        """
        latest_ns = now_ns + MAX_AHEAD_NS
        for record in self.records:
            if max(record.get("start_ns", 0), record.get("end_ns", 0)) > latest_ns:
                self.cut[_AHEAD] += 1
                record["start_ns"] = min(record["start_ns"], latest_ns)
                if "end_ns" in record:
                    record["end_ns"] = min(record["end_ns"], latest_ns)

    def add(self, spans: Sequence[T], read: Callable[[T, Allowance], OtlpSpan], scope: str) -> None:
        """Read the spans of a scope; count those that are rejected."""
        kept = self.allowance.take_spans(spans)
        if len(kept) < len(spans):
            reason = f"beyond the first {MAX_SPANS} spans of the request"
            self.rejections[reason] += len(spans) - len(kept)
        for item in kept:
            try:
                span = read(item, self.allowance)
                self.records.append(_record(span, scope))
                self.cut.update(span.cut)
            except SpanError as error:
                self.rejections[str(error)] += 1

    def message(self) -> str:
        """Return the faults of the batch in a sentence; empty if there are none."""
        said: list[str] = []
        if self.rejected:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.rejections.most_common())
            said.append(f"rejected: {reasons}")
        said += [f"{reason}: {number}" for reason, number in self.cut.most_common()]
        if self.warning:
            said.append(self.warning)
        return "; ".join(said)


def read_protobuf(body: bytes) -> Batch:
    """Read a request in protobuf's encoding.

    Raises:
        MalformedBatchError: The body is not a request, or has too many parts.
    """
    batch = Batch()
    for scope, spans in scopes(body, batch.allowance):
        batch.add(spans, protobuf_span, scope)
    if not batch.read and has_unknown_fields(body):
        batch.warning = _NOTHING_KNOWN.format(names="")
    return batch


def read_json(body: bytes) -> Batch:
    """Read a request in OTLP's JSON encoding.

    Raises:
        MalformedBatchError: The body is not a request, or has too many parts.
    """
    if has_more_values(body, MAX_JSON_VALUES):
        msg = (
            f"the body is JSON of more than {MAX_JSON_VALUES} values."
            f" At most {MAX_JSON_VALUES} are allowed. Send smaller batches."
        )
        raise MalformedBatchError(msg)
    try:
        request, replaced = loads(body)
    except orjson.JSONDecodeError as error:
        body, replaced = repaired(body)
        try:
            request = from_json(body)  # reads NaN and the infinities, which Python's json writes
        except ValueError:
            msg = f"the body is not JSON: {error}"
            raise MalformedBatchError(msg) from None
    batch = Batch()
    for resource in _objects(_object(request, "the body"), "resourceSpans", batch.allowance):
        for scope in _objects(resource, "scopeSpans", batch.allowance):
            name = _object(scope.get("scope") or {}, "scope").get("name")
            batch.add(_list(scope, "spans"), json_span, name if isinstance(name, str) else "")
    if replaced:
        batch.cut[REPLACED] += replaced
    if not batch.read and (unknown := sorted(_unknown_fields(request, _FIELDS))):
        named = ", ".join(repr(name[:_MAX_NAME_CHARS]) for name in unknown[:_NAMED_FIELDS])
        batch.warning = _NOTHING_KNOWN.format(names=f" ({named})")
    return batch


def _unknown_fields(holder: Mapping[str, Any], fields: Sequence[str]) -> set[str]:
    """Return the unknown fields of a request without spans, on all levels."""
    field, *deeper = fields
    unknown = holder.keys() - _OTHER_FIELDS - {field}
    if deeper:
        unknown |= {name for item in _list(holder, field) for name in _unknown_fields(item, deeper)}
    return unknown


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{what} is not an object"
        raise MalformedBatchError(msg)
    return cast("dict[str, Any]", value)


def _list(holder: Mapping[str, Any], name: str) -> list[Any]:
    values = holder.get(name)
    if values is None:
        return []
    if not isinstance(values, list):
        msg = f"{name} is not an array"
        raise MalformedBatchError(msg)
    return cast("list[Any]", values)


def _objects(
    holder: Mapping[str, Any], name: str, allowance: Allowance
) -> Iterator[dict[str, Any]]:
    values = _list(holder, name)
    allowance.take_groups(len(values))
    for value in values:
        yield _object(value, f"an item of {name}")


def _record(span: OtlpSpan, scope: str) -> SpanRecord:
    """Make the record of a span, as it is made of a span of the SDK."""
    _check(span)
    place: SpanRecord = {
        "trace": span.trace,
        "id": span.span,
        "parent": span.parent or None,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
    }
    if span.grant is not None:
        place["grant"] = span.grant
    return complete_record(
        place,
        span.name,
        span.attributes,
        scope=scope,
        status=(span.status, span.message),
        events=lambda: span.events,
        remote=bool(span.parent) and span.flags & _REMOTE_PARENT == _REMOTE_PARENT,
    )


def _check(span: OtlpSpan) -> None:
    if span.start_ns <= 0:
        raise SpanError("without a start time")
    if span.end_ns <= 0:
        raise SpanError("without an end time")
    if max(span.start_ns, span.end_ns) > MAX_TIME_NS:
        raise SpanError("with a time beyond the year 2262")
    if span.status not in _STATUS_CODES:
        raise SpanError("with a status code that does not exist")
    if span.chars > MAX_SPAN_CHARS:
        raise SpanError(f"with more than {MAX_SPAN_CHARS} characters")
