"""What the doctor finds in the decisions of a store."""

from __future__ import annotations

from itertools import islice
from typing import Final

from autotrace.decisions import hash_chain
from autotrace.decisions.event_store import Log
from autotrace.doctor.check import DoctorCheck
from autotrace.doctor.store_checks import MAX_EQUAL, count_equal
from autotrace.embedding.embedder import Embedder
from autotrace.settings import Settings
from autotrace.store import decision_log as store
from autotrace.store import timeline
from autotrace.store.connection import ServerOptions
from autotrace.store.decision_log import DecisionCollections, connect_decisions
from autotrace.store.schema import STORE_RECORD_ID, documents

_NAME: Final = "decisions"
_NEWEST: Final = 20


def check_decisions(settings: Settings, embedder: Embedder | None, rebuild: str) -> DoctorCheck:
    """Tell whether decisions can be read, found and trusted; `rebuild` is the command for it."""
    if not store.exist(settings.store):
        return DoctorCheck(name=_NAME, status="ok", detail="none yet")
    options = ServerOptions.of(settings)
    connection = connect_decisions(settings.store, space=None, server=options)
    try:
        with connection.reading(fresh=True) as collections:
            wrong = _check_schema(collections, embedder, rebuild)
            wrong = wrong or _check_vectors(collections, rebuild)
            return wrong or _check_histories(collections, settings.store)
    finally:
        connection.close()


def _check_schema(
    collections: DecisionCollections, embedder: Embedder | None, rebuild: str
) -> DoctorCheck | None:
    record = documents(collections.state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
    if record is None:  # nobody with an embedder has opened them yet
        return None
    if record.get("rebuilding"):
        detail = "they are being rebuilt, or a rebuild was interrupted"
        return DoctorCheck(
            name=_NAME, status="error", detail=detail, fix=f"wait for it, or {rebuild}"
        )
    if embedder is not None and record["space"] != embedder.space:
        detail = (
            f"their vectors are of the space {record['space']}; "
            f"the configured embedder makes vectors of {embedder.space}"
        )
        fix = f"configure the embedder of the store, or embed it anew: {rebuild}"
        return DoctorCheck(name=_NAME, status="error", detail=detail, fix=fix)
    return None


def _check_vectors(collections: DecisionCollections, rebuild: str) -> DoctorCheck | None:
    """Look for a vector that too many decisions have, as they may in a store of schema 1."""
    _, most = count_equal(collections.search)
    if most <= MAX_EQUAL:
        return None
    detail = f"{most:,} have one and the same vector: a search may not find others"
    return DoctorCheck(name=_NAME, status="error", detail=detail, fix=rebuild)


def _check_histories(collections: DecisionCollections, place: str) -> DoctorCheck:
    waiting = store.waiting(collections)
    newest = [e.trace_id for e in islice(timeline.newest_first(collections.lists), _NEWEST)]
    events = {
        decision_id: [event for change in changes for event in change]
        for decision_id, changes in store.read_logs(collections.log, [*waiting, *newest]).items()
        if changes
    }
    bad = [name for name, of_one in events.items() if hash_chain.check(name, of_one) is not None]
    if bad:
        detail = f"{len(bad)} of {len(events)} histories were changed: {', '.join(bad[:3])}"
        fix = f"autotrace decisions verify --store {place} (names the first bad event of each)"
        return DoctorCheck(name=_NAME, status="error", detail=detail, fix=fix)
    logs = (Log(name, [events[name]]) for name in waiting if name in events)
    number = sum(log.state.status == "needs_approval" for log in logs)
    detail = f"{number} wait for an answer; {len(events)} of {len(events)} histories verify"
    return DoctorCheck(name=_NAME, status="ok", detail=detail)
