"""What a server holds after a long load, part by part.

The process that stores is not counted: it holds Chroma's index, which grows with the store; what
that costs is in growth.py.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.http_load import load
from benchmarks.measure import Fact, Report, Size
from benchmarks.server import compared, recorded, serving
from benchmarks.workload import task_texts

CLIENTS: Final = 8
PARTS: Final = 5


def run(size: Size) -> Report:
    """Measure."""
    report = Report()
    texts = task_texts(size.server_traces)
    with (
        tempfile.TemporaryDirectory(prefix="autotrace-bench-") as folder,
        serving(Path(folder) / "store", workers=1) as server,
    ):
        held_mb: list[float] = []
        traces = 0
        for part in range(1, PARTS + 1):
            until_s = time.monotonic() + size.soak_s / PARTS
            done = load(
                server.port,
                server.key,
                recorded(texts),
                clients=CLIENTS,
                until=lambda _, until_s=until_s: time.monotonic() >= until_s,
            )
            traces += done.units
            held_mb.append(server.memory_bytes() / 1e6)
            what = f"memory of a server after {part * size.soak_s / PARTS:g} s"
            report.facts.append(Fact(f"soak.memory.{part}", what, "MB", held_mb[-1]))
    what = f"memory of a server after {size.soak_s:g} s of {CLIENTS} clients, to a fifth of it"
    report.figures.append(compared("soak.memory", what, "MB", held_mb[-1], held_mb[0]))
    report.facts.append(Fact("soak.traces", "traces recorded meanwhile", "", traces))
    return report
