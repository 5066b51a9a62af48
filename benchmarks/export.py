"""How fast the spool is stored, beside what Chroma takes in when written to directly.

Traces of ten spans are recorded through the public API while the benchmark holds the drainer's
role, so that nothing is stored yet. Then it drains, into a new embedded store. The baseline upserts
one record with a vector of 384 dimensions per trace into a new collection, in the largest batches
Chroma allows, with the same ten spans as JSON: in metadata, where autotrace keeps its own, and once
more as Chroma's document. Vectors are computed beforehand on either side.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

import autotrace
from autotrace.semconv import TASK
from autotrace.spool.files import processes_in, read_chunk, segments_of
from autotrace.spool.span_roles import role_of
from autotrace.store.connection import Connection, connect
from autotrace.traces.ingest import Ingestor
from autotrace.worker.main import reduce_gc
from autotrace.worker.spool_reader import Drainer
from benchmarks.measure import Fact, Metrics, Report, Size, Stopwatch, compare, interleave
from benchmarks.raw import raw_collection
from benchmarks.workload import LookupEmbedder, Vectors, random_vectors, task_texts

STEPS = 3
CALLS_OF_A_STEP = 2
SPANS = 1 + STEPS + STEPS * CALLS_OF_A_STEP


@autotrace.tool
def web_search(query: str, limit: int = 10) -> dict[str, Any]:
    """Find nothing in particular."""
    return {
        "results": [
            {"title": f"Answer {n} to {query}", "url": f"https://example.org/{n}", "score": 0.9}
            for n in range(2)
        ],
        "count": 2,
        "ok": True,
    }


def run_agent(text: str, *, success: bool) -> None:
    """Record one trace of ten spans."""
    with autotrace.task(text, session_id="bench", agent="planner") as task:
        for step in range(STEPS):
            with autotrace.step(
                f"Step {step}: I need to know more about this", "call web_search"
            ) as s:
                for call in range(CALLS_OF_A_STEP):
                    web_search(f"{text} {step}.{call}", limit=5)
                s.observe("Found 2 results")
        task.complete("The best two are listed", success=success)


@dataclass
class Recorded:
    """A store whose spool is full and which holds nothing yet."""

    drainer: Drainer
    connection: Connection


@contextmanager
def recorded(texts: list[str], embedder: LookupEmbedder) -> Generator[Recorded]:
    """Record a trace per text, every tenth of them failed, and keep them from being stored."""
    with TemporaryDirectory(prefix="autotrace-bench-") as folder:
        store = Path(folder) / "store"
        spool = store / "spool"
        spool.mkdir(parents=True)
        connection = connect(str(store), space=embedder.space)
        counts: dict[str, int] = {}

        def count(name: str, number: int = 1) -> None:
            counts[name] = counts.get(name, 0) + number

        drainer = Drainer(spool, Ingestor(connection, embedder, count), count)
        if not drainer.acquire():
            raise RuntimeError(f"somebody else drains {spool}")
        try:
            autotrace.configure(store, embedder=embedder)
            for number, text in enumerate(texts):
                run_agent(text, success=number % 10 != 0)
            autotrace.shutdown(timeout=0)
            yield Recorded(drainer, connection)
            if counts:
                raise RuntimeError(f"something was dropped or failed: {counts}")
        finally:
            drainer.release()
            connection.close()


def drain(texts: list[str], embedder: LookupEmbedder) -> Metrics:
    """Time how long a full spool takes to be stored."""
    with recorded(texts, embedder) as full:
        with full.connection.writing():
            pass  # Chroma is opened and the collections are made outside of the time
        reduce_gc()  # as the process does that stores; the baseline has it, too
        watch = Stopwatch()
        with watch.timing():
            while full.drainer.step():
                pass
        metrics = _metrics(watch, len(texts))
        with full.connection.reading() as collections:
            stored = collections.summaries.count()
        if stored != len(texts):
            raise RuntimeError(f"{stored} of {len(texts)} traces are in the store")
    return metrics


def payloads(texts: list[str], embedder: LookupEmbedder) -> list[str]:
    """Return the ten spans of each trace as JSON, as the spool has them."""
    with recorded(texts, embedder) as full:
        spool = Path(full.connection.name) / "spool"
        spans: dict[str, list[Any]] = {}
        task_of: dict[str, str] = {}
        for process in processes_in(spool):
            for segment in segments_of(spool / process):
                chunk = read_chunk(segment, 0, max_bytes=1 << 30, complete=True)
                for record in chunk.records:
                    if "end_ns" not in record:
                        continue
                    spans.setdefault(record["trace"], []).append(record)
                    if role_of(record) == "task":
                        task_of[record["trace"]] = record.get("attributes", {})[TASK]
    by_text = {task_of[trace]: records for trace, records in spans.items()}
    if any(len(records) != SPANS for records in by_text.values()):
        raise RuntimeError(f"a trace was not recorded with {SPANS} spans")
    return [orjson.dumps(by_text[text]).decode() for text in texts]


def upsert(payload: list[str], vectors: Vectors, *, as_document: bool) -> Metrics:
    """Time how long Chroma takes for one record per trace, written to directly."""
    with (
        TemporaryDirectory(prefix="autotrace-bench-") as folder,
        raw_collection(Path(folder)) as raw,
    ):
        watch = Stopwatch()
        with watch.timing():
            for start in range(0, len(payload), raw.max_batch):
                part = payload[start : start + raw.max_batch]
                raw.collection.upsert(
                    [f"trace-{start + number}" for number in range(len(part))],
                    embeddings=list(vectors[start : start + raw.max_batch]),
                    **(
                        {"documents": part}
                        if as_document
                        else {"metadatas": [{"json": text} for text in part]}
                    ),
                )
        return _metrics(watch, len(payload))


def _metrics(watch: Stopwatch, traces: int) -> Metrics:
    return {"speed": traces / watch.wall_s, "cpu speed": traces / watch.process_cpu_s()}


def run(size: Size) -> Report:
    """Measure."""
    texts = task_texts(size.export_traces)
    vectors = random_vectors(len(texts))
    embedder = LookupEmbedder(dict(zip(texts, vectors, strict=True)))
    payload = payloads(texts, embedder)
    results = interleave(
        {
            "raw": lambda: upsert(payload, vectors, as_document=False),
            "ours": lambda: drain(texts, embedder),
            "raw document": lambda: upsert(payload, vectors, as_document=True),
        },
        size.export_rounds,
    )
    what = (
        f"storing {len(texts):,} traces of {SPANS} spans, to raw Chroma upserts with the payload as"
    )
    return Report(
        [
            compare(
                "export.speed", f"{what} metadata", "traces/s", results, ("ours", "raw"), "speed"
            ),
            compare(
                "export.speed_cpu",
                "the same, by CPU time of the process",
                "traces/s of CPU",
                results,
                ("ours", "raw"),
                "cpu speed",
            ),
            compare(
                "export.speed_document",
                f"{what} document",
                "traces/s",
                results,
                ("ours", "raw document"),
                "speed",
            ),
        ],
        [
            Fact(
                "export.payload",
                "the ten spans of a trace as JSON",
                "bytes",
                sum(map(len, payload)) / len(payload),
            )
        ],
    )
