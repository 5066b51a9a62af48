"""Rebuild a whole store, then retry the records that it had refused."""

from __future__ import annotations

from collections.abc import Callable

from autotrace.models import RebuildResult
from autotrace.store.decision_log import exist
from autotrace.worker.quarantine import retry_set_aside
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import Store, open_connection, open_decision_index


def rebuild_and_retry(
    store: Store,
    *,
    progress: Callable[[int, int], None] | None = None,
    store_backlog: Callable[[], object],
) -> RebuildResult:
    """Rebuild a store, store the backlog, and retry quarantined records.

    Args:
        store: The store, opened with the embedding that it holds afterwards.
        progress: Called with the number of OpenTelemetry traces done, and the total.
        store_backlog: Stores the records that arrived during the rebuild.

    Raises:
        StoreError: The store or the embedder failed; see `worker.rebuild.rebuild`.
    """
    settings, counters = store.settings, store.counters
    decisions = None
    if exist(settings.store):
        # Accept any space, as for the traces: the rebuild replaces the vectors of another space.
        decisions = open_decision_index(settings, store.embedder, counters.add)
    before = counters.snapshot().get("unindexed_decisions", 0)
    connection = open_connection(settings, None)
    rebuilt = rebuild(
        connection, store.embedder, settings.spool_path, decisions=decisions, progress=progress
    )
    unindexed = counters.snapshot().get("unindexed_decisions", 0) - before
    store_backlog()
    retried = retry_set_aside(settings.spool_path, store.ingestor())
    return RebuildResult(
        store=connection.name,
        **rebuilt._asdict(),
        retried=retried.stored,
        set_aside=retried.refused,
        set_aside_reason=retried.reason,
        unindexed_decisions=unindexed,
    )
