"""An agent in a process of its own, for tests that kill it: prints each call as it returns."""

from __future__ import annotations

import signal
import sys

import autotrace
from autotrace import step, task, tool
from tests.embedders import HashEmbedder


@tool
def work(number: int) -> int:
    return number + 1


def main(store: str, name: str, tasks: int, flush_every: int) -> None:
    autotrace.configure(store, embedder=HashEmbedder(), flush_interval_ms=0)
    for n in range(tasks):
        with task(f"{name} task {n}", agent=name) as t:
            print(f"started {t.trace_id}", flush=True)
            with step(f"thought {n}"):
                for call in range(3):
                    work(call)
                    print(f"called {t.trace_id}", flush=True)
                if name == "hanging":
                    signal.pause()
        print(f"ended {t.trace_id}", flush=True)
        if flush_every and n % flush_every == 0:
            autotrace.flush()
    autotrace.flush()
    print("finished", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
