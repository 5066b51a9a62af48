"""What decisions cost, and how soon an agent goes on once it is answered.

Four changes make a decision of the kind that needs a person: opened, asked about, approved,
committed; each is in the store when the call returns. One side makes them, one decision after the
other; the other side adds as many records to a raw Chroma collection, one call each, of the same
size. Over an embedded store and over `chroma run`. What an exporter does with the spans of these
events is not in it: nobody waits for that.

The wait is that of an agent in one process while another approves: from the call of `approve` to
the agent's next line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autotrace.base.health_counters import HealthCounters
from autotrace.capture.approvals.decision_spans import DecisionRecording
from autotrace.decision_requests import ApprovalAnswer, DecisionRequest
from autotrace.decisions.api import Decisions
from autotrace.models import ApprovalRequest
from autotrace.settings import load_settings
from benchmarks.measure import Metrics, Report, Size, compare, interleave, middle
from benchmarks.raw import raw_collection, raw_server_collection
from tests.servers import chroma_server

CHANGES = 4
"""Of one decision."""
CONTEXT = {"order": "o-1001", "discount": 0.25, "reason": "a good customer for many years"}


@contextmanager
def opened(store: str) -> Generator[Decisions]:
    """Open the decisions of a store, without a pipeline."""
    counters = HealthCounters()
    deciding = Decisions(load_settings(store=store), DecisionRecording(), counters)
    try:
        yield deciding
    finally:
        deciding.shut_down(0)
    if counters.last_error is not None:
        raise RuntimeError(counters.last_error)


def ask(deciding: Decisions) -> str:
    """Open a decision and ask for approval. Returns its id."""
    made = deciding.create(
        DecisionRequest("order.discount", "approve", actor="bot", metadata=CONTEXT)
    )
    request = ApprovalRequest(title="25 % discount", message="A good customer")
    deciding.request_approval(made.decision_id, request, by="bot")
    return made.decision_id


def resolve(deciding: Decisions, number: int) -> Metrics:
    """Make decisions from the beginning to the end."""
    began_s = time.perf_counter()
    for _ in range(number):
        decision_id = ask(deciding)
        deciding.resolve(
            decision_id, ApprovalAnswer(granted=True, approver="ada", rationale="fine")
        )
        deciding.close(decision_id, "commit", by="bot")
    return {"wall": (time.perf_counter() - began_s) / number * 1e3}


def event_json(deciding: Decisions) -> str:
    """Return a stored event of the usual size."""
    event = deciding.event_store.read(ask(deciding)).events[0]
    return json.dumps([event])


def add_raw(collection: Any, event: str, number: int) -> Metrics:
    """Add a record for each change, one call each."""
    began_s = time.perf_counter()
    for _ in range(number * CHANGES):
        record_id = str(time.perf_counter_ns())
        collection.add([record_id], embeddings=[[1.0, 0.0]], metadatas=[{"json": event}])
    return {"wall": (time.perf_counter() - began_s) / number * 1e3}


def wait(deciding: Decisions, approver: subprocess.Popen[str]) -> Metrics:
    """Wait for another process to approve; return how long after its call this one goes on."""
    if approver.stdin is None or approver.stdout is None:
        raise RuntimeError("the approver has no pipes")
    decision_id = ask(deciding)
    looks = deciding.until_answered(decision_id, 60)
    pause_s: float | None = next(looks)
    approver.stdin.write(f"{decision_id}\n")
    approver.stdin.flush()
    while pause_s is not None:
        time.sleep(pause_s)
        pause_s = next(looks, None)
    went_on_ns = time.time_ns()
    return {"wait": (went_on_ns - int(approver.stdout.readline())) / 1e6}


def approve_each(store: str) -> None:
    """Approve what standard input names, and say when each was called for."""
    with opened(store) as deciding:
        for line in sys.stdin:
            called_ns = time.time_ns()
            deciding.resolve(line.strip(), ApprovalAnswer(granted=True, approver="ada"))
            print(called_ns, flush=True)


def _measure(name: str, store: str, raw: Any, size: Size) -> Report:
    command = [sys.executable, "-m", "benchmarks.decisions", store]
    with opened(store) as deciding:
        event = event_json(deciding)
        sides: dict[str, Callable[[], Metrics]] = {
            "ours": lambda: resolve(deciding, size.decisions),
            "raw": lambda: add_raw(raw, event, size.decisions),
        }
        results = interleave(sides, size.decision_rounds)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as approver:
            waits = interleave({"ours": lambda: wait(deciding, approver)}, size.decision_waits)
            if approver.stdin is not None:
                approver.stdin.close()
    what = f"a decision opened, asked about, approved, committed; {name}"
    return Report(
        [
            compare(
                f"decisions.{name}",
                f"{what}, to {CHANGES} records added to raw Chroma one by one",
                "ms",
                results,
                ("ours", "raw"),
                "wall",
            )
        ],
        [
            middle(
                f"decisions.wait_{name}",
                f"from another process's approval to the agent going on; {name}",
                "ms",
                waits,
                "ours",
                "wait",
            )
        ],
    )


def run(size: Size) -> Report:
    """Measure."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="autotrace-bench-") as temporary:
        folder = Path(temporary)
        with raw_collection(folder / "raw") as raw:
            store = str(folder / "store")
            report.extend(_measure("embedded", store, raw.collection, size))
        with chroma_server(folder / "server") as server, raw_server_collection(server.port) as raw:
            report.extend(_measure("server", server.url, raw.collection, size))
    return report


if __name__ == "__main__":
    approve_each(sys.argv[1])
