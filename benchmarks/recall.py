"""What `autotrace.recall()` costs, beside embedding the same text and one raw Chroma query.

The store holds completed traces, nine in ten of them successful, and is written by the library's
own ingestion; the raw collection holds the same number of records with the same vectors. Vectors
are computed beforehand: clusters around the real vectors of real task texts, so that a query lies
where the traces lie. Queries are embedded by the real model, each text once, as both sides remember
texts they have seen.

Writing 50,000 traces takes a minute or two, so what was written is kept in the temporary folder
for the next run, under a name that changes with what wrote it; what older code wrote is removed.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

import autotrace
from autotrace.embedding.embedder import default_embedder
from autotrace.store.connection import connect
from autotrace.traces.ingest import Ingestor
from benchmarks import workload
from benchmarks.measure import Metrics, Report, Size, Stopwatch, compare, interleave, middle
from benchmarks.raw import raw_collection
from benchmarks.workload import LookupEmbedder, clustered_vectors, stored_spans, task_texts

LIMIT = 10
_BATCH_TRACES = 1000


def run(size: Size) -> Report:
    """Measure."""
    folder = stores(size.recall_traces)
    queries = iter(query_texts(2 * size.recall_queries * (size.rounds + 1)))
    # Both sides get the same texts; each has an embedder, and so a memory, of its own.
    rounds = [list(islice(queries, size.recall_queries)) for _ in range(size.rounds + 1)]
    alone = [list(islice(queries, size.recall_queries)) for _ in range(size.rounds + 1)]
    ours, raw, model = iter(rounds), iter(rounds), iter(alone)
    embedder = default_embedder()
    with raw_collection(folder / "raw") as opened:

        def embed_and_query(text: str) -> int:
            vector = embedder.embed([text])[0]
            found = opened.collection.query(query_embeddings=[vector], n_results=LIMIT)
            return len(found["ids"][0])

        def recall(text: str) -> int:
            return len(autotrace.recall(text, success_only=True, limit=LIMIT))

        def embed(text: str) -> int:
            embedder.embed([text])
            return LIMIT

        autotrace.configure(folder / "store")
        try:
            results = interleave(
                {
                    "ours": lambda: timed(recall, next(ours)),
                    "raw": lambda: timed(embed_and_query, next(raw)),
                    "embed": lambda: timed(embed, next(model)),
                },
                size.rounds,
            )
        finally:
            autotrace.shutdown()
    what = f"recall of {LIMIT} over {size.recall_traces:,} traces, success_only"
    return Report(
        [
            compare(
                "recall.time",
                f"{what}, to embedding and a raw unfiltered query",
                "ms",
                results,
                ("ours", "raw"),
                "wall",
            ),
            compare(
                "recall.cpu",
                "the same, by CPU time of the process",
                "ms CPU",
                results,
                ("ours", "raw"),
                "cpu",
            ),
        ],
        [
            middle(
                "recall.embedding", "embedding one text, alone", "ms CPU", results, "embed", "cpu"
            )
        ],
    )


def timed(query: Callable[[str], int], texts: Sequence[str]) -> Metrics:
    """Time a round of queries, each of which returns how many records it found."""
    watch = Stopwatch()
    with watch.timing():
        found = [query(text) for text in texts]
    if set(found) != {LIMIT}:
        raise RuntimeError(f"queries found {found} instead of {LIMIT} each")
    return {
        "wall": watch.wall_s / len(texts) * 1e3,
        "cpu": watch.process_cpu_s() / len(texts) * 1e3,
    }


def query_texts(number: int) -> list[str]:
    """Return so many different texts, none of them a task that is stored."""
    return task_texts(number, prefix="Please ")


def stores(traces: int) -> Path:
    """Return a folder with a store and a raw collection of so many traces; make it if need be."""
    root = Path(tempfile.gettempdir()) / "autotrace-benchmarks"
    folder = root / f"recall-{traces}-{_writers_digest()}"
    if not folder.exists():
        # Made under another name: what a killed run leaves behind is never taken for complete.
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=_made(root)))
        try:
            _write(unfinished, traces)
            for outdated in root.glob(f"recall-{traces}-*"):
                shutil.rmtree(outdated, ignore_errors=True)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _writers_digest() -> str:
    """Name the code that writes: another version of it may write another layout."""
    digest = hashlib.sha256(version("chromadb").encode())
    package = Path(autotrace.__file__).parent
    folders = ("store", "traces", "worker")
    for source in sorted(path for name in folders for path in package.glob(f"{name}/*.py")):
        digest.update(source.read_bytes())
    for source in (__file__, workload.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:16]


def _write(folder: Path, traces: int) -> None:
    model = default_embedder()
    centres = np.asarray(model.embed(task_texts(200)))
    texts = [f"{text} ({number})" for number, text in enumerate(task_texts(traces))]
    vectors = clustered_vectors(traces, centres)
    connection = connect(str(folder / "store"), space=model.space)
    embedder = LookupEmbedder(dict(zip(texts, vectors, strict=True)))
    ingestor = Ingestor(connection, embedder, lambda _name: None)
    with raw_collection(folder / "raw") as raw:
        for batch, start in enumerate(range(0, traces, _BATCH_TRACES), start=1):
            chosen = range(start, min(start + _BATCH_TRACES, traces))
            records = [
                record for number in chosen for record in stored_spans(number, texts[number])[1]
            ]
            ingestor.ingest(records, writer="benchmark", batch=batch)
            raw.collection.add(
                [f"trace-{number}" for number in chosen],
                embeddings=list(vectors[chosen.start : chosen.stop]),
                metadatas=[{"json": _payload(texts[number])} for number in chosen],
            )
    connection.close()


def _payload(text: str) -> str:
    """Return about what a summary in the store weighs."""
    return f'{{"task":"{text}","status":"completed","success":true,"rest":"{"." * 300}"}}'
