"""`autotrace.recall()` in a process that does not record, idle and while another one records.

The other process records task after task without a pause, so that the storing process writes all
the time. Three processes then share the store and two cores. The reader rests between two recalls,
as an agent does.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import autotrace
from benchmarks.measure import Fact, Report, Size
from benchmarks.recall import LIMIT, query_texts, stores

_REST_S: Final = 0.005
_WARM_UP: Final = 5
_BACKLOG_S: Final = 3.0
"""Time after which the storing process is at work on large batches."""
_RECORDER: Final = """
import sys
import autotrace
from autotrace import task, tool

@tool
def search(query: str, limit: int = 10) -> dict: return {"hits": [query, limit]}

autotrace.configure(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    with task(f"find hotel {number} near place {number % 97}", agent="recorder"):
        for _ in range(5):
            search("rooms")
    number += 1
"""


def run(size: Size) -> Report:
    """Measure."""
    number = 10 * size.growth_reads
    texts = query_texts(2 * (number + _WARM_UP))
    with TemporaryDirectory(prefix="autotrace-shared-") as folder:
        store = Path(folder) / "store"
        shutil.copytree(stores(size.recall_traces) / "store", store)
        autotrace.configure(store)
        try:
            idle = recall_ms(texts[: number + _WARM_UP])
            with recorder(store):
                busy = recall_ms(texts[number + _WARM_UP :])
        finally:
            autotrace.shutdown()
    facts: list[Fact] = []
    for name, when, found in (
        ("idle", "while nobody records", idle),
        ("busy", "while another process records without pause", busy),
    ):
        for share in (50, 99):
            what = f"recall of {LIMIT} over {size.recall_traces:,} traces {when}, p{share}"
            value = found[int(share / 100 * (len(found) - 1))]
            facts.append(Fact(f"shared.{name}_p{share}", what, "ms", value))
    return Report([], facts)


@contextmanager
def recorder(store: Path) -> Generator[None]:
    """Run a process that records into a store; kill it at the end of the block."""
    command = [sys.executable, "-c", _RECORDER, str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("the recorder did not start")
            time.sleep(_BACKLOG_S)
            yield
        finally:
            process.kill()


def recall_ms(texts: Sequence[str]) -> list[float]:
    """Return the sorted durations of one recall per text, without the first few."""
    durations_ms: list[float] = []
    for text in texts:
        began_ns = time.perf_counter_ns()
        found = len(autotrace.recall(text, success_only=True, limit=LIMIT))
        durations_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
        if found != LIMIT:
            raise RuntimeError(f"a recall found {found} instead of {LIMIT}")
        time.sleep(_REST_S)
    return sorted(durations_ms[_WARM_UP:])
