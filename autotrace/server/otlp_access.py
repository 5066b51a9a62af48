"""Which spans that arrive over OTLP may be taken in, and into whose share of their trace.

* None that is an event of a decision: those are recorded where decisions are made, and sent by
  anybody they could say of a decision what never happened.
* With a grant (base/grants.py), into the share of who granted it, as a guest's.
* None of an open trace that another agent began over REST or MCP.
* Else into the share of the key's own agent. See docs/reference/otlp.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from autotrace.ids import format_trace_id
from autotrace.otlp.decode import Batch
from autotrace.server import remote_records
from autotrace.server.auth.principal import Principal
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of
from autotrace.store.open_traces import OpenTraces

OF_ANOTHER: Final = (
    "of a trace that belongs to another agent (what `autotrace.inject()` returns there, sent on as "
    "`traceparent` and `tracestate`, lets others add to it)"
)


class Grantor(NamedTuple):
    """Who has granted to add to a trace."""

    agent: str | None
    """The agent of a key; None: a program on this machine."""


AccessCheck = Callable[[str, str], Grantor | None]
"""Takes a grant and an OpenTelemetry trace; returns who has granted it, or None if nobody has."""


def admit(batch: Batch, open_traces: OpenTraces, check: AccessCheck, by: Principal) -> None:
    """Leave in a batch what may be taken in, each span with its sender and its owner.

    Args:
        batch: What has arrived; what is rejected is counted in it.
        open_traces: Those that servers are told of call by call.
        check: Checks grants.
        by: Whose key came with it.
    """
    batch.reject("that are events of decisions", lambda r: role_of(r) == "decision")
    granted = _grantors(batch, check)
    openings = _openings(batch, open_traces)

    def is_of_another(record: SpanRecord) -> bool:
        opening = openings.get(record["trace"])
        if opening is None or (record.get("grant", ""), record["trace"]) in granted:
            return False
        return opening["agent"] != by.agent

    batch.reject(OF_ANOTHER, is_of_another)
    for record in batch.records:
        grantor = granted.get((record.pop("grant", ""), record["trace"]))
        owner = by.agent if grantor is None else grantor.agent
        record["sender"] = {"key": by.key_id, "agent": by.agent}
        if owner is not None:
            record["owner"] = owner


def _grantors(batch: Batch, check: AccessCheck) -> dict[tuple[str, str], Grantor]:
    given = {(r["grant"], r["trace"]): None for r in batch.records if "grant" in r}
    found = {(grant, trace): check(grant, trace) for grant, trace in given}
    return {given: grantor for given, grantor in found.items() if grantor is not None}


def _openings(batch: Batch, open_traces: OpenTraces) -> Mapping[str, Any]:
    """Return how those of the batch's OpenTelemetry traces began that servers have open."""
    traces = {record["trace"]: None for record in batch.records}
    named = {format_trace_id(*remote_records.task_in(trace)): trace for trace in traces}
    openings = open_traces.openings(list(named))
    return {named[trace_id]: opening for trace_id, opening in openings.items()}
