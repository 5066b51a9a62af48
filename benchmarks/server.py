"""What a server costs: traces recorded and recalled over HTTP by 1, 8 and 64 clients.

`autotrace serve` is a process of its own, with one worker and with two, over an embedded store;
the load comes from the process of the benchmark. The floors: a FastAPI endpoint that does nothing,
under the same uvicorn with as many workers, asked as often; and raw Chroma, called in one process:
four records added one by one for the four calls of a trace, and one query for a recall.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

import autotrace
from benchmarks.http_load import Client, Load, Work, load
from benchmarks.measure import Fact, Figure, Report, Size
from benchmarks.raw import raw_collection
from benchmarks.suite import REPOSITORY
from benchmarks.workload import VARIED_EMBEDDER, VariedEmbedder, task_texts

BASE: Final = "/api/v1/public/memory/v2/traces"
CALLS_OF_A_TRACE: Final = 4
RESULTS: Final = 10
_STEP: Final = {
    "thought": "I need to search for Italian restaurants near the venue first.",
    "action": "call web_search with query='Italian restaurants near the venue'",
    "observations": ["Found 15 results", "Top 3 have 4.5+ star ratings"],
}
_TOOL_CALL: Final = {
    "tool_name": "web_search",
    "arguments": {"query": "Italian restaurants near the venue", "limit": 10},
    "result": {"results": [f"Restaurant number {number}" for number in range(8)]},
    "duration_ms": 420,
    "status": "success",
}
_OUTCOME: Final = {"outcome": "Found the top 3 Italian restaurants.", "success": True}
_ASKED: Final = {
    # Of one key on one machine; a benchmark is what it is there to stop.
    "AUTOTRACE_SERVER_REQUESTS_PER_SECOND": "0",
    "AUTOTRACE_EMBEDDER": VARIED_EMBEDDER,
}


def recorded(texts: Sequence[str]) -> Work:
    """Return the work of recording a trace: begun, a step, a tool call, completed."""

    async def work(client: Client, number: int) -> None:
        task = {"task": texts[number % len(texts)], "session_id": f"session-{number}"}
        trace_id = (await client.post(f"{BASE}/start", task))["trace_id"]
        step = await client.post(f"{BASE}/{trace_id}/step", _STEP)
        call = _TOOL_CALL | {"step_id": step["step_id"]}
        await client.post(f"{BASE}/{trace_id}/tool_call", call)
        await client.post(f"{BASE}/{trace_id}/complete", _OUTCOME)

    return work


def recalled(texts: Sequence[str]) -> Work:
    """Return the work of one recall."""

    async def work(client: Client, number: int) -> None:
        query = {"query": texts[number % len(texts)], "success_only": True, "limit": RESULTS}
        await client.post(f"{BASE}/recall", query)

    return work


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    port: int
    key: str | None
    process: psutil.Process

    def memory_bytes(self) -> int:
        """Return what it and its workers hold; the process that stores is nobody's child."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(process.memory_info().rss for process in processes)


@contextmanager
def serving(store: Path, workers: int) -> Generator[Running]:
    """Run `autotrace serve` on a store."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOTRACE_", "OTEL_"))}
    environment |= _ASKED
    command = [sys.executable, "-m", "autotrace.cli"]
    made = subprocess.run(
        [*command, "keys", "create", "--agent", "bench", "--json", "--store", str(store)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    arguments = ["serve", "--port", "0", "--workers", str(workers), "--store", str(store)]
    with _started([*command, *arguments], environment) as (process, port):
        yield Running(port, json.loads(made.stdout)["key"], process)


@contextmanager
def bare(workers: int) -> Generator[Running]:
    """Run the application that does nothing."""
    arguments = ["--port", "0", "--workers", str(workers), "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_app:app", *arguments]
    with _started(command, dict(os.environ)) as (process, port):
        yield Running(port, None, process)


@contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str]
) -> Generator[tuple[psutil.Process, int]]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            yield psutil.Process(process.pid), _port_in(said, process)
        finally:
            process.terminate()
            process.wait(60)


def _port_in(said: Any, process: subprocess.Popen[bytes]) -> int:
    """Wait until a server has said where it listens."""
    while True:
        text = os.pread(said.fileno(), 100_000, 0).decode()
        # With several workers uvicorn says where before anybody listens.
        if (found := re.search(r"http://127\.0\.0\.1:(\d+)", text)) and _listens(int(found[1])):
            return int(found[1])
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended: {text}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return False
    return True


def _for(units: int) -> Callable[[int], bool]:
    return lambda begun: begun >= units


def compared(name: str, what: str, unit: str, ours: float, baseline: float) -> Figure:
    """Make a figure of two values that were measured once."""
    ratio = ours / baseline
    return Figure(name, what, unit, ours, baseline, ratio, ratio, ratio, 1)


def _figures(
    kind: str, what: str, clients: int, workers: int, ours: Load, floor: Load
) -> list[Figure]:
    name = f"server.{kind}_{clients}_{workers}"
    who = f"{what}, {clients} clients, {workers} workers; to an endpoint that does nothing"
    figures = [
        compared(f"{name}.speed", f"{who}: number", "a second", ours.per_second, floor.per_second)
    ]
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        ours_ms, floor_ms = ours.percentile_ms(share), floor.percentile_ms(share)
        figures.append(compared(f"{name}.{label}", f"{who}: {label}", "ms", ours_ms, floor_ms))
    return figures


def _raw_ms(work: Callable[[int], Any], units: int) -> float:
    """Return what the middle one of so many units takes."""
    took_ms: list[float] = []
    for number in range(units):
        began_s = time.perf_counter()
        work(number)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    return sorted(took_ms)[units // 2]


def _raw(folder: Path, texts: Sequence[str], units: int) -> tuple[float, float]:
    """Return what four records take to be added one by one to raw Chroma, and one query."""
    embedder = VariedEmbedder()
    vectors = embedder.embed(texts)
    record = json.dumps({**_STEP, **_TOOL_CALL})
    with raw_collection(folder) as raw:
        for first in range(0, len(texts), 1000):
            part = range(first, min(first + 1000, len(texts)))
            raw.collection.add(
                [str(number) for number in part],
                embeddings=vectors[part.start : part.stop],
                metadatas=[{"json": record}] * len(part),
            )

        def add(number: int) -> None:
            for call in range(CALLS_OF_A_TRACE):
                raw.collection.add(
                    [f"more-{number}-{call}"],
                    embeddings=vectors[number % len(texts)][None],
                    metadatas=[{"json": record}],
                )

        def query(number: int) -> None:
            raw.collection.query(
                query_embeddings=vectors[number % len(texts)][None], n_results=RESULTS
            )

        return _raw_ms(add, units), _raw_ms(query, units)


def fill(store: Path, texts: Sequence[str]) -> None:
    """Record a trace of each text into a store."""
    autotrace.configure(store, embedder=VARIED_EMBEDDER, max_spool_bytes=8 * 1024**3)
    for text in texts:
        with autotrace.task(text), autotrace.tool_call("web_search", {"query": text}):
            pass
    if not autotrace.shutdown(timeout=600):
        raise RuntimeError("not everything was stored")


def run(size: Size) -> Report:
    """Measure."""
    report = Report()
    texts = task_texts(size.server_traces)
    with tempfile.TemporaryDirectory(prefix="autotrace-bench-") as temporary:
        folder = Path(temporary)
        raw_add_ms, raw_query_ms = _raw(folder / "raw", texts, size.server_units)
        store = folder / "store"
        fill(store, texts)
        for workers in size.server_workers:
            with serving(store, workers) as server, bare(workers) as floor:
                for clients in size.server_clients:
                    for kind, what, work in (
                        ("trace", "a trace recorded in 4 calls", recorded(texts)),
                        ("recall", f"a recall of {RESULTS}", recalled(texts)),
                    ):
                        units = size.server_units + clients
                        loads = [
                            load(side.port, side.key, work, clients=clients, until=_for(units))
                            for side in (floor, server, floor, server)
                        ]
                        # The first of each warms it up.
                        ours = loads[3]
                        report.figures += _figures(kind, what, clients, workers, ours, loads[2])
                        if clients == workers == 1:
                            raw_ms = raw_add_ms if kind == "trace" else raw_query_ms
                            name, p50_ms = f"server.{kind}.raw", ours.percentile_ms(0.5)
                            text = f"{what}, 1 client, 1 worker; to raw Chroma: p50"
                            report.figures.append(compared(name, text, "ms", p50_ms, raw_ms))
    report.facts.append(Fact("server.traces", "traces in the store", "", len(texts)))
    return report
