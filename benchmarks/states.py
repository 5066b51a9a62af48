"""One process in a state, to be looked at: `python -m benchmarks.states STATE FOLDER SPANS`.

It says `ready` with what it has measured itself, and waits for a line; `held_back` and `queued`
then record so many spans, and say `ready` again. Imports are inside the functions: what a state
does not need, it must not hold.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable

CALLS_OF_A_TRACE = 20


def bare(folder: str, spans: int) -> None:
    """Be an interpreter that does nothing."""
    _ready()


def floor(folder: str, spans: int) -> None:
    """Set up OpenTelemetry's SDK, with the other libraries that autotrace stands on."""
    began_s = time.process_time()
    for library in ("wrapt", "pydantic"):
        importlib.import_module(library)
    from benchmarks.handwritten import HandWritten

    hand = HandWritten()
    _ready(time.process_time() - began_s)
    hand.close()


def configured(folder: str, spans: int) -> None:
    """Be configured, and record nothing."""
    began_s = time.process_time()
    _configure(folder)
    _ready(time.process_time() - began_s)


def used(folder: str, spans: int) -> None:
    """Have recorded and stored something, and be idle again."""
    import autotrace

    _configure(folder)
    _record(1)
    if not autotrace.flush(timeout=300):
        raise TimeoutError("not stored in 300 s")
    _ready()
    autotrace.shutdown()  # sees the process end that stores, before the folder is removed


def held_back(folder: str, spans: int) -> None:
    """Record while nothing is stored."""
    from pathlib import Path

    from filelock import FileLock

    import autotrace
    from autotrace.spool.drain_lock import LOCK_FILE

    spool = Path(folder) / "spool"
    spool.mkdir(parents=True)
    with FileLock(spool / LOCK_FILE):
        _configure(folder)
        _record(spans // 10)
        _ready()
        _record(spans)
        _ready()
        autotrace.shutdown(timeout=0)


def queued(folder: str, spans: int) -> None:
    """Make hand-written spans while nothing is exported."""
    from benchmarks.handwritten import QUERY, HandWritten

    hand = HandWritten()
    exporting = threading.Event()
    export = hand.exporter.export

    def blocked(batch: object) -> object:
        exporting.wait()
        return export(batch)

    hand.exporter.export = blocked  # type: ignore[method-assign] # only here is it held back

    def make(number: int) -> None:
        for _ in range(number // CALLS_OF_A_TRACE):
            with hand.task():
                for _ in range(CALLS_OF_A_TRACE - 1):
                    hand.given_at_start(QUERY, limit=5)

    make(spans // 10)
    _ready()
    make(spans)
    _ready()
    exporting.set()
    hand.close()


def _configure(folder: str) -> None:
    import autotrace

    autotrace.configure(folder)


def _record(spans: int) -> None:
    import autotrace
    from benchmarks.handwritten import QUERY, web_search

    tool = autotrace.tool(web_search)
    for task in range(max(1, spans // CALLS_OF_A_TRACE)):
        with autotrace.task(f"Find out what the {task}th span needs"):
            for _ in range(CALLS_OF_A_TRACE - 1):
                tool(QUERY, limit=5)


def _ready(cpu_s: float = 0.0) -> None:
    print(f"ready {cpu_s}", flush=True)
    sys.stdin.readline()


STATES: dict[str, Callable[[str, int], None]] = {
    state.__name__: state for state in (bare, floor, configured, used, held_back, queued)
}

if __name__ == "__main__":
    name, folder_, spans_ = sys.argv[1:]
    STATES[name](folder_, int(spans_))
