"""What becomes of each cost as the store grows: writing, recall, reading, listing, statistics.

One embedded store is filled in stages, and at each everything is measured on it: traces of ten
spans go the whole way (recorded through the public API, drained from the spool), and are read back
through the public API. What fills the store on the way are traces of three spans, ingested in large
batches; every text is another one, and its vector was computed beforehand, as were those of the
queries. So nothing here contains the embedding model.

A write is cheap or dear depending on what Chroma happens to persist in it, so what counts of it is
the mean over many; of a read, the median. CPU time of the process is what the figures compare; wall
time stands beside it.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import log10
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil

import autotrace
from autotrace.store.connection import Connection, connect
from autotrace.traces.ingest import Ingestor
from autotrace.worker.spool_reader import Drainer
from benchmarks.export import SPANS, run_agent
from benchmarks.measure import Fact, Figure, Report, Size
from benchmarks.workload import LookupEmbedder, clustered_vectors, random_vectors, stored_spans

BATCH: Final = 100
"""Traces of a write."""
PAGE: Final = 50
LIMIT: Final = 10
FLAT: Final = 1.5
"""A cost that grows to no more than this is flat: the machine's noise is not below it."""
_FILL_BATCH: Final = 4000
_DAY_NS: Final = 86_400_000_000_000

COSTS: Final = {
    "write_batch": f"storing {BATCH} traces of {SPANS} spans",
    "write_one": f"storing one trace of {SPANS} spans",
    "recall": f"recall of {LIMIT}, without embedding",
    "recall_after_others": "the same, first since another process has written",
    "recall_reopened": "the same, when the index must be opened anew",
    "get_trace": "get_trace()",
    "list_traces": f"list_traces(limit={PAGE})",
    "tool_stats": "tool_stats()",
}
"""What is measured at each stage."""


@dataclass(frozen=True)
class Sample:
    """What one run of something took."""

    wall_ms: float
    cpu_ms: float


class GrowingStore:
    """A store that is filled further and further while this process records into it.

    Args:
        connection: The store; the same one that `configure` has opened.
        drainer: Stores what is recorded. It has the drainer's role, so that nothing else does.
        embedder: Knows the vectors of the texts in use.
        other: To another process that stores what it is sent (see `_store_what_comes`).
    """

    def __init__(
        self, connection: Connection, drainer: Drainer, embedder: LookupEmbedder, other: Pipe
    ) -> None:
        self._connection = connection
        self._other = other
        self._drainer = drainer
        self._embedder = embedder
        self._fill = Ingestor(connection, embedder, lambda _name: None)
        # After all that is recorded, so that what a listing meets is the same at every stage.
        self._fill_from_ns = time.time_ns() + _DAY_NS
        self._centres = random_vectors(200)
        self._texts = (f"Look into case {number} again" for number in count())
        self._seeds = count()
        self._batches = count(1)
        self.filled: list[str] = []
        """Ids of the traces that filled it."""
        self._recorded = 0

    def __len__(self) -> int:
        return len(self.filled) + self._recorded

    def _new_texts(self, number: int) -> list[str]:
        texts = [next(self._texts) for _ in range(number)]
        vectors = clustered_vectors(number, self._centres, seed=next(self._seeds))
        self._embedder.know(dict(zip(texts, vectors, strict=True)))
        return texts

    def fill(self, traces: int) -> None:
        """Fill it up to so many traces."""
        while (missing := traces - len(self)) > 0:
            texts = self._new_texts(min(missing, _FILL_BATCH))
            records: list[Any] = []
            for number, text in enumerate(texts, start=len(self.filled)):
                trace_id, spans = stored_spans(number, text, self._fill_from_ns)
                self.filled.append(trace_id)
                records += spans
            self._fill.ingest(records, writer="fill", batch=next(self._batches))

    def write(self, traces: int) -> Sample:
        """Record so many traces, then time storing them."""
        for number, text in enumerate(self._new_texts(traces)):
            run_agent(text, success=number % 10 != 9)
        self._recorded += traces

        def store() -> None:
            while self._drainer.step():
                pass

        return timed(store)

    def recall(self) -> Sample:
        """Time a recall by a text that is not stored."""
        (query,) = self._new_texts(1)

        def recall() -> None:
            found = autotrace.recall(query, limit=LIMIT)
            if len(found) != LIMIT:
                raise RuntimeError(f"recall found {len(found)} traces instead of {LIMIT}")

        return timed(recall)

    def recall_after_others(self) -> Sample:
        """Time the recall that finds that another process has written."""
        (text,) = self._new_texts(1)
        trace_id, spans = stored_spans(len(self.filled), text, self._fill_from_ns)
        self.filled.append(trace_id)
        self._other.send((spans, text, self._embedder.embed([text])[0]))
        self._other.recv()
        return self.recall()

    def recall_reopened(self) -> Sample:
        """Time the recall that finds that what others have written must be read from the index."""
        self._connection.invalidate()
        return self.recall()


def _store_what_comes(pipe: Pipe, store: str) -> None:
    """In another process: store each trace that is sent, until there is nothing more."""
    embedder = LookupEmbedder()
    ingestor = Ingestor(connect(store, space=embedder.space), embedder, lambda _name: None)
    for batch in count(1):
        try:
            spans, text, vector = pipe.recv()
        except EOFError:
            return
        embedder.know({text: vector})
        ingestor.ingest(spans, writer="other", batch=batch)
        pipe.send(None)


def timed(work: Callable[[], object]) -> Sample:
    """Time one run of something."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Sample((time.perf_counter() - wall_s) * 1e3, (time.process_time() - cpu_s) * 1e3)


@contextmanager
def growing_store() -> Generator[GrowingStore]:
    """Make an empty one."""
    with TemporaryDirectory(prefix="autotrace-bench-") as folder:
        store = Path(folder) / "store"
        spool = store / "spool"
        spool.mkdir(parents=True)
        embedder = LookupEmbedder()
        connection = connect(str(store), space=embedder.space)
        failures: list[str] = []

        def note(name: str, _number: int = 1) -> None:
            failures.append(name)

        drainer = Drainer(spool, Ingestor(connection, embedder, note), note)
        if not drainer.acquire():
            raise RuntimeError(f"somebody else drains {spool}")
        spawn = multiprocessing.get_context("spawn")
        pipe, its_end = spawn.Pipe()
        other = spawn.Process(target=_store_what_comes, args=(its_end, str(store)))
        other.start()
        its_end.close()
        try:
            autotrace.configure(store, embedder=embedder)
            yield GrowingStore(connection, drainer, embedder, pipe)
            failures += autotrace.health().counters
            if failures:
                raise RuntimeError(f"something was dropped or failed: {failures}")
        finally:
            autotrace.shutdown(timeout=0)
            drainer.release()
            connection.close()
            pipe.close()
            other.join()


def measured(store: GrowingStore, size: Size) -> dict[str, list[Sample]]:
    """Measure every cost on the store as it is."""
    choice = random.Random(0)
    reads: dict[str, Callable[[], Sample]] = {
        "recall": store.recall,
        "get_trace": lambda: timed(lambda: autotrace.get_trace(choice.choice(store.filled))),
        "list_traces": lambda: timed(lambda: autotrace.list_traces(limit=PAGE)),
        "tool_stats": lambda: timed(autotrace.tool_stats),
    }
    store.write(BATCH)  # warms up
    store.recall()
    samples = {
        "recall_after_others": [store.recall_after_others() for _ in range(size.growth_reopenings)],
        "recall_reopened": [store.recall_reopened() for _ in range(size.growth_reopenings)],
    }
    store.write(1)  # opens the index anew, since another process has written
    for read in reads.values():
        read()
    for name, read in reads.items():
        samples[name] = [read() for _ in range(size.growth_reads)]
    samples["write_batch"] = [store.write(BATCH) for _ in range(size.growth_batches)]
    samples["write_one"] = [store.write(1) for _ in range(size.growth_reads)]
    return samples


def verdict(costs: Mapping[int, float]) -> str:
    """Say how a cost grows.

    Args:
        costs: By number of traces.

    Returns:
        `flat`; `logarithmic`, when the last stage costs no more than if each tenfold added what
        the first one costs; or the power of the number of traces it grows with in the end.
    """
    stages = sorted(costs)
    first = costs[stages[0]]
    if costs[stages[-1]] <= FLAT * first:
        return "flat"
    if costs[stages[-1]] <= first * (1 + log10(stages[-1] / stages[0])):
        return "logarithmic"
    before, last = stages[-2:]
    return f"n^{log10(costs[last] / costs[before]) / log10(last / before):.2f}"


def run(size: Size) -> Report:
    """Measure."""
    stages: dict[int, dict[str, list[Sample]]] = {}
    memory_mb: dict[int, float] = {}
    with growing_store() as store:
        for traces in size.growth_stages:
            print(f"growing to {traces:,} traces …", file=sys.stderr)
            store.fill(traces)
            stages[traces] = measured(store, size)
            memory_mb[traces] = psutil.Process().memory_info().rss / 1e6
    report = Report()
    for name, what in COSTS.items():
        # What a write costs depends on whether Chroma persists; a read should always cost the same.
        middle = mean if name.startswith("write") else median
        cpu = {n: middle([s.cpu_ms for s in of[name]]) for n, of in stages.items()}
        wall = {n: middle([s.wall_ms for s in of[name]]) for n, of in stages.items()}
        last = [s.cpu_ms for s in stages[size.growth_stages[-1]][name]]
        report.figures.append(_figure(name, what, cpu, last))
        for kind, unit, costs in (("wall", "ms", wall), ("cpu", "ms CPU", cpu)):
            report.facts += [
                Fact(f"growth.{name}_{kind}.{traces}", what, unit, value)
                for traces, value in costs.items()
            ]
    report.facts += [
        Fact(f"growth.memory.{traces}", "memory of a process that stores and recalls", "MB", value)
        for traces, value in memory_mb.items()
    ]
    return report


def _figure(name: str, what: str, costs: Mapping[int, float], last: Sequence[float]) -> Figure:
    smallest, largest = min(costs), max(costs)
    baseline = costs[smallest]
    ratio = costs[largest] / baseline
    return Figure(
        name=f"growth.{name}",
        what=f"{what}, over {largest:,} traces to over {smallest:,}: {verdict(costs)}",
        unit="ms CPU",
        ours=costs[largest],
        baseline=baseline,
        ratio=ratio,
        ratio_min=min(ratio, *(cost / baseline for cost in last)),
        ratio_max=max(ratio, *(cost / baseline for cost in last)),
        rounds=len(last),
    )
