"""What the doctor finds in an open store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from autotrace.doctor.check import Check, guarded
from autotrace.retrieval import search
from autotrace.store import timeline, traces
from autotrace.store.embedder import Embedder
from autotrace.store.schema import (
    SCHEMA_VERSION,
    STORE_RECORD_ID,
    Collections,
    document_of,
    documents,
)

_SAMPLE: Final = 20
"""With 5 % of the vectors lost, a sample of 20 shows it in two cases of three; the worst damage
known, by two processes that wrote without a lock, loses 15 % and shows in 96 of 100."""
_NEIGHBOURS: Final = 50
_NEWEST: Final = 100
_SAME_COSINE: Final = 0.95
"""Two quantisations of one model agree to 0.999, two models of the same dimension to about 0."""
_PROBE: Final = "find a restaurant near the venue"


def check_contents(
    collections: Collections, embedder: Embedder | None, rebuild: str
) -> Iterator[Check]:
    """Look into an open store; `rebuild` is the command that rebuilds it."""
    record = documents(collections.state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
    yield check_schema(record, embedder, rebuild)
    yield guarded("records", lambda: count_records(collections), rebuild)
    yield guarded("timeline", lambda: check_timeline(collections, rebuild), rebuild)
    same_space = record is not None and embedder is not None and record["space"] == embedder.space
    usable = embedder if same_space else None
    yield guarded("index", lambda: check_index(collections, usable, rebuild), rebuild)
    if usable is not None:
        yield guarded("query", lambda: check_query(collections, usable), rebuild)


def check_schema(record: dict[str, Any] | None, embedder: Embedder | None, rebuild: str) -> Check:
    """Tell whether the store may be used with this embedder."""
    if record is None:
        return Check(
            name="schema",
            status="error",
            detail="the store does not say its version nor its embedding space",
            fix=rebuild,
        )
    detail = f"version {record['schema_version']} of {SCHEMA_VERSION}, space {record['space']}"
    if record.get("rebuilding"):
        detail += "; it is being rebuilt, or a rebuild was interrupted"
        return Check(name="schema", status="error", detail=detail, fix=f"wait for it, or {rebuild}")
    if embedder is not None and embedder.space != record["space"]:
        detail += f"; the configured embedder makes vectors of {embedder.space}"
        fix = f"configure the embedder of the store, or embed it anew: {rebuild}"
        return Check(name="schema", status="error", detail=detail, fix=fix)
    return Check(name="schema", status="ok", detail=detail)


def count_records(collections: Collections) -> Check:
    """Count the records of each collection."""
    names = ("log", "open", "succeeded", "failed", "state")
    counts = ", ".join(f"{name} {getattr(collections, name).count():,}" for name in names)
    return Check(name="records", status="ok", detail=counts)


def check_timeline(collections: Collections, rebuild: str) -> Check:
    """Tell whether the newest traces that were started can be listed."""
    newest = [
        entry.trace_id
        for entry in islice(
            timeline.newest_first(lambda ids: documents(collections.log, ids)), _NEWEST
        )
    ]
    lost = len(newest) - len(traces.get_summaries(collections, newest))
    if lost:
        detail = f"{lost} of the newest {len(newest)} traces cannot be listed or recalled"
        return Check(name="timeline", status="error", detail=detail, fix=rebuild)
    return Check(name="timeline", status="ok", detail=f"the newest {len(newest)} traces are listed")


def check_index(collections: Collections, embedder: Embedder | None, rebuild: str) -> Check:
    """Recall a sample of completed traces by their own task; each must be found."""
    sample = [
        (success, found)
        for success, collection in ((True, collections.succeeded), (False, collections.failed))
        for found in _spread(collection)
    ]
    lost = 0
    foreign = 0
    for success, (trace_id, task, stored) in sample:
        vector = stored if embedder is None else embedder.embed([task])[0]
        foreign += _dot(vector, stored) < _SAME_COSINE
        nearest = traces.search(collections, stored, success=success, limit=_NEIGHBOURS)
        # Agents run the same task again and again: so many may be just as near that not all fit.
        crowded = len(nearest) == _NEIGHBOURS and nearest[-1].similarity > 1 - 1e-4
        lost += not crowded and all(found.trace_id != trace_id for found in nearest)
    if lost or foreign:
        detail = f"of {len(sample)} traces {lost} are not found by their own task"
        if foreign:
            detail += f", and {foreign} have another vector than the embedder makes"
        return Check(name="index", status="error", detail=detail, fix=rebuild)
    return Check(name="index", status="ok", detail=f"{len(sample)} of {len(sample)} traces found")


def _spread(collection: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield id, task and vector of records from all over a collection."""
    total: int = collection.count()
    wanted = min(total, _SAMPLE // 2)
    for number in range(wanted):
        got = collection.get(
            limit=1, offset=number * total // wanted, include=["metadatas", "embeddings"]
        )
        for trace_id, metadata, vector in zip(
            got["ids"], got["metadatas"], got["embeddings"], strict=True
        ):
            yield trace_id, document_of(metadata)["task"], vector


def _dot(one: Any, other: Any) -> float:
    return float(sum(a * b for a, b in zip(one, other, strict=True)))


def check_query(collections: Collections, embedder: Embedder) -> Check:
    """Recall something, whatever it finds."""
    started_s = time.perf_counter()
    vector = embedder.embed([_PROBE])[0]
    found = search.find(collections, vector, success_only=False, limit=1)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    what = f"{found[0].similarity:.2f} similar" if found else "none stored"
    detail = f"a recall took {elapsed_ms:.0f} ms; nearest trace: {what}"
    return Check(name="query", status="ok", detail=detail)
