"""Checks of an open store."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from autotrace.doctor.check import DoctorCheck, error, guarded, ok
from autotrace.doctor.environment_checks import PROBE
from autotrace.embedding.embedder import Embedder
from autotrace.store import task_index, timeline, trace_summaries
from autotrace.store.schema import SCHEMA_VERSION, STORE_RECORD_ID, Collections, documents
from autotrace.traces.deletion import is_erased

_SAMPLE: Final = 20
"""With 5 % of the vectors lost, a sample of 20 shows it in two cases of three; the worst damage
known, by two processes that wrote without a lock, loses 15 % and shows in 96 of 100."""
_NEIGHBOURS: Final = 50
_NEWEST: Final = 100
_SAME_COSINE: Final = 0.95
"""Two quantisations of one model agree to 0.999, two models of the same dimension to about 0."""
_COMPARED: Final = 50_000
"""How many vectors are compared; 50,000 take about 3 s."""
_PAGE: Final = 1_000
MAX_EQUAL: Final = 500
"""How many texts may have one vector. From about 1,000 on the index loses others."""


def check_contents(
    collections: Collections, embedder: Embedder | None, rebuild: str
) -> Iterator[DoctorCheck]:
    """Check an open store; `rebuild` is the command that rebuilds it."""
    record = documents(collections.state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
    yield _check_schema(record, embedder, rebuild)
    yield guarded("records", lambda: _count_records(collections), rebuild)
    yield guarded("timeline", lambda: check_timeline(collections, rebuild), rebuild)
    same_space = record is not None and embedder is not None and record["space"] == embedder.space
    usable = embedder if same_space else None
    yield guarded("index", lambda: check_index(collections, usable, rebuild), rebuild)
    yield guarded("vectors", lambda: check_vectors(collections, rebuild), rebuild)
    if usable is not None:
        yield guarded("query", lambda: _check_query(collections, usable), rebuild)


def _check_schema(
    record: dict[str, Any] | None, embedder: Embedder | None, rebuild: str
) -> DoctorCheck:
    if record is None:
        return error("schema", "the store does not name its version nor its space", rebuild)
    detail = f"version {record['schema_version']} of {SCHEMA_VERSION}, space {record['space']}"
    if (fault := space_fault(record, embedder, rebuild)) is None:
        return ok("schema", detail)
    return error("schema", f"{detail}; {fault[0]}", fault[1])


def space_fault(
    record: dict[str, Any], embedder: Embedder | None, rebuild: str
) -> tuple[str, str] | None:
    """Return why this embedder may not use a store, and the fix."""
    if record.get("rebuilding"):
        return "it is being rebuilt, or a rebuild was interrupted", f"wait for it, or {rebuild}"
    if embedder is not None and embedder.space != record["space"]:
        detail = (
            f"its vectors are of the space {record['space']}; "
            f"the configured embedder makes vectors of {embedder.space}"
        )
        return detail, f"configure the embedder of the store, or embed it again: {rebuild}"
    return None


def _count_records(collections: Collections) -> DoctorCheck:
    names = ("log", "summaries", "lists", "succeeded", "failed", "state")
    counts = ", ".join(f"{name} {getattr(collections, name).count():,}" for name in names)
    return ok("records", counts)


def check_timeline(collections: Collections, rebuild: str) -> DoctorCheck:
    """Check whether the newest traces that were started can be listed."""
    entries = islice(timeline.newest_first(collections.lists), _NEWEST)
    newest = [entry.trace_id for entry in entries]
    listed = trace_summaries.get_summaries(collections, newest)
    lost = sum(not is_erased(collections, i) for i in newest if i not in listed)
    if lost:
        detail = f"{lost} of the newest {len(newest)} traces cannot be listed or recalled"
        return error("timeline", detail, rebuild)
    return ok("timeline", f"the newest {len(listed)} traces are listed")


def check_index(collections: Collections, embedder: Embedder | None, rebuild: str) -> DoctorCheck:
    """Search a sample of task texts by their own vectors."""
    sample = [
        (success, vector)
        for success, collection in ((True, collections.succeeded), (False, collections.failed))
        for vector in _spread(collection)
    ]
    lost = foreign = 0
    for success, (key, stored) in sample:
        nearest = task_index.nearest(
            task_index.of_tasks(collections, success=success), stored, limit=_NEIGHBOURS
        )
        # Different texts may have the same vector, so many that not all of them fit.
        crowded = len(nearest) == _NEIGHBOURS and nearest[-1].similarity > 1 - 1e-4
        mine = next((text for text in nearest if text.key == key), None)
        if mine is None:
            lost += not crowded
        elif embedder is not None:
            first = mine.first.trace_id
            summary = trace_summaries.get_summaries(collections, [first]).get(first)
            if summary is not None:
                made = embedder.embed([summary["task"]])[0]
                foreign += _dot(made, stored) < _SAME_COSINE
    if lost or foreign:
        detail = f"of {len(sample)} task texts {lost} are not found by their own vector"
        if foreign:
            detail += f", and {foreign} have another vector than the embedder makes"
        return error("index", detail, rebuild)
    return ok("index", f"{len(sample)} of {len(sample)} texts found")


def check_vectors(collections: Collections, rebuild: str) -> DoctorCheck:
    """Look for a vector of so many texts that the index loses others."""
    counted = [
        count_equal(collection, _COMPARED // 2)
        for collection in (collections.succeeded, collections.failed)
    ]
    compared, most = sum(each for each, _ in counted), max(equal for _, equal in counted)
    if most <= MAX_EQUAL:
        return ok("vectors", f"{compared:,} compared")
    detail = f"{most:,} task texts have one and the same vector: recall may not find other texts"
    fix = rebuild
    if collections.by_tokens:
        fix = "an embedder that tells them apart, or one with the method `tokens`; then " + rebuild
    return error("vectors", detail, fix)


def count_equal(collection: Any, limit: int = _COMPARED) -> tuple[int, int]:
    """Return the number of vectors compared, and of the most frequent one."""
    equal: Counter[bytes] = Counter()
    for vector in _vectors(collection, limit):
        equal[hashlib.blake2b(_bytes(vector), digest_size=12).digest()] += 1
    return equal.total(), max(equal.values(), default=0)


def _vectors(collection: Any, limit: int) -> Iterator[Any]:
    for offset in range(0, limit, _PAGE):
        rows = collection.get(limit=_PAGE, offset=offset, include=["embeddings"])["embeddings"]
        yield from rows
        if len(rows) < _PAGE:
            return


def _bytes(vector: Any) -> bytes:
    """Return a vector to four places, as batches compute it differently."""
    return b" ".join(b"%.0f" % (number * 1e4) for number in vector)


def _spread(collection: Any) -> Iterator[tuple[str, Any]]:
    """Yield key and vector of texts from all over a collection."""
    total: int = collection.count()
    wanted = min(total, _SAMPLE // 2)
    for number in range(wanted):
        got = collection.get(limit=1, offset=number * total // wanted, include=["embeddings"])
        yield from zip(got["ids"], got["embeddings"], strict=True)


def _dot(one: Any, other: Any) -> float:
    return float(sum(a * b for a, b in zip(one, other, strict=True)))


def _check_query(collections: Collections, embedder: Embedder) -> DoctorCheck:
    """Recall a fixed text, and report how long that takes."""
    started_s = time.perf_counter()
    vector = embedder.embed([PROBE])[0]
    found = task_index.nearest(task_index.of_tasks(collections, success=True), vector, limit=1)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    nearest = f"{found[0].similarity:.2f} similar" if found else "none stored"
    detail = f"a query took {elapsed_ms:.0f} ms; nearest task of a successful trace: {nearest}"
    return ok("query", detail)
