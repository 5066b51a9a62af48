"""Checks of the decisions of a store."""

from __future__ import annotations

from itertools import islice
from typing import Final

from autotrace.decisions import hash_chain
from autotrace.decisions.event_store import Log
from autotrace.doctor.check import DoctorCheck, error, ok
from autotrace.doctor.store_checks import MAX_EQUAL, count_equal, space_fault
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
    """Check whether decisions can be read, found and verified.

    Args:
        settings: Settings that name the store.
        embedder: Configured embedder, if it works.
        rebuild: Command that rebuilds the store.
    """
    if not store.exist(settings.store):
        return ok(_NAME, "none yet")
    options = ServerOptions.of(settings)
    connection = connect_decisions(settings.store, space=None, server=options)
    try:
        with connection.reading(fresh=True) as collections:
            record = documents(collections.state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
            # Without a record, no process with an embedder has opened them yet.
            if record is not None and (fault := space_fault(record, embedder, rebuild)):
                return error(_NAME, *fault)
            # A store of schema 1 may hold one vector for many decisions.
            _, most = count_equal(collections.search)
            if most > MAX_EQUAL:
                detail = f"{most:,} have one and the same vector: a search may not find others"
                return error(_NAME, detail, rebuild)
            return _check_histories(collections, settings.store)
    finally:
        connection.close()


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
        return error(_NAME, detail, fix)
    logs = (Log(name, [events[name]]) for name in waiting if name in events)
    number = sum(log.state.status == "needs_approval" for log in logs)
    return ok(
        _NAME, f"{number} wait for an answer; {len(events)} of {len(events)} histories verify"
    )
