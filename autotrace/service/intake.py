"""Which spans that arrive over OTLP may be taken in.

None that names another agent's open trace, and no event of a decision: those are recorded where
decisions are made, and sent by anybody they could say of a decision what never happened. For the
rest the sender is believed: a trace may span several agents, whose spans come with several keys.
"""

from __future__ import annotations

from collections.abc import Set

from autotrace.access.principal import Principal
from autotrace.export.otlp_in import Batch
from autotrace.export.records import SpanRecord
from autotrace.export.roles import role_of
from autotrace.service import told
from autotrace.service.told import SpanIds
from autotrace.store.open_traces import OpenTraces


def reject_others(batch: Batch, open_traces: OpenTraces, by: Principal) -> None:
    """Reject spans that name an open trace of another agent as their own or as their parent.

    And those that are events of decisions.

    Args:
        batch: What has arrived; what is rejected is counted in it.
        open_traces: Those that servers are told of call by call, which have an owner.
        by: Whose key came with it.
    """
    batch.reject("that are events of decisions", lambda r: role_of(r) == "decision")
    named = {name for record in batch.records for name in _named(record)}
    of_others = {
        trace_id
        for trace_id, opening in open_traces.openings(sorted(named)).items()
        if not by.owns(opening["agent"])
    }
    if of_others:
        batch.reject("of a trace that belongs to another agent", lambda r: _names(r, of_others))


def _named(record: SpanRecord) -> set[str]:
    """Return the ids of the traces of which a span may be the task, or lie directly below it."""
    spans = (record["id"], record.get("parent"))
    return {told.trace_id_of(SpanIds(record["trace"], span)) for span in spans if span}


def _names(record: SpanRecord, trace_ids: Set[str]) -> bool:
    return not _named(record).isdisjoint(trace_ids)
