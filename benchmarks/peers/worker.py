"""Runs one recorder: `python -m benchmarks.peers.worker SCRIPT ACTION FOLDER SINK`.

Orders come in on standard input and answers go out on standard output, a line of JSON each. What
the recorder itself prints goes to standard error. Of what the benchmark imports here, nothing needs
more than the standard library: this is the recorder's environment.

| action | does |
|---|---|
| `serve` | for each order a round of calls; answers with what they took; ends with the orders |
| `die` | once set up, calls a tool in one task; SIGKILL ends it right after the last call |
| `recover` | starts again where another process died, makes one call, and ends as programs do |
| `burst` | calls at full speed, then flushes and ends |
| `count` | answers with how many calls of each range have arrived |
| `version` | answers with the version of the package |
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import Place, Recorder, Script, load
from benchmarks.peers.cpu import cpu_of_children_s
from benchmarks.peers.loopback import stay_on_this_machine
from benchmarks.peers.sink import bodies
from benchmarks.peers.work import calls_in, queries, tasks_of, web_search
from benchmarks.stopwatch import CallerStopwatch, Metrics

SINK_FILE = "sink"
Order = dict[str, Any]


@dataclass
class _Work:
    """What the agent, which takes no arguments that a recorder could capture, is to do."""

    queries: list[str]
    watch: CallerStopwatch


def make_agent(recorder: Recorder) -> Callable[[list[str]], CallerStopwatch]:
    """Return a function that makes calls, task after task, and times them alone."""
    tool = recorder.tool(web_search)
    work = _Work([], CallerStopwatch())

    @recorder.task
    def agent() -> None:
        with work.watch.timing():
            for query in work.queries:
                tool(query, limit=5)

    def run(all_queries: list[str]) -> CallerStopwatch:
        work.watch = CallerStopwatch()
        for work.queries in tasks_of(all_queries):
            agent()
        return work.watch

    return run


def serve(script: Script, place: Place) -> None:
    """Run rounds until there are no more orders."""
    recorder = script.start(place)
    run = make_agent(recorder)
    answer({"ready": True})
    for line in sys.stdin:
        order: Order = json.loads(line)
        answer(_round(run, recorder, queries(order["first"], order["calls"])))
    recorder.close()
    answer({"done": True})


def _round(
    run: Callable[[list[str]], CallerStopwatch], recorder: Recorder, all_queries: list[str]
) -> Metrics:
    gc.collect()
    children_s, own_s = cpu_of_children_s(), time.process_time()
    watch = run(all_queries)
    recorder.flush()
    total_s = time.process_time() - own_s + cpu_of_children_s() - children_s
    calls = len(all_queries)
    return {
        "wall": watch.wall_s / calls * 1e6,
        "cpu": watch.thread_cpu_s / calls * 1e6,
        "total": total_s / calls * 1e6,
    }


def die(script: Script, place: Place) -> None:
    """Make calls in one task and be killed right after the last."""
    recorder = script.start(place)
    answer({"ready": True})
    order = next_order()
    tool = recorder.tool(web_search)

    @recorder.task
    def agent() -> None:
        for query in queries(order["first"], order["calls"]):
            tool(query, limit=5)
        os.kill(os.getpid(), signal.SIGKILL)

    agent()


def recover(script: Script, place: Place) -> None:
    """Start again, make a call, and end well."""
    order = next_order()
    recorder = script.start(place)
    make_agent(recorder)(queries(order["first"], order["calls"]))
    recorder.flush()
    recorder.close()
    answer({"done": True})


def burst(script: Script, place: Place) -> None:
    """Make calls at full speed, then flush and end."""
    order = next_order()
    recorder = script.start(place)
    run = make_agent(recorder)
    all_queries = queries(order["first"], order["calls"])
    began_s = time.perf_counter()
    run(all_queries)
    called_s = time.perf_counter()
    recorder.flush()
    recorder.close()
    answer({"calls_s": called_s - began_s, "rest_s": time.perf_counter() - called_s})


def count(script: Script, place: Place) -> None:
    """Count the calls of each range of an order that have arrived."""
    order = next_order()
    arrived = calls_in((script.delivered or _at_sink)(place))
    answer({"arrived": [len(arrived.intersection(range(*ends))) for ends in order["ranges"]]})


def _at_sink(place: Place) -> Any:
    return bodies(place.folder.parent / SINK_FILE)


def tell_version(script: Script, place: Place) -> None:
    """Answer with the version of the package."""
    answer({"version": version(script.distribution)})


ACTIONS: dict[str, Callable[[Script, Place], None]] = {
    "serve": serve,
    "die": die,
    "recover": recover,
    "burst": burst,
    "count": count,
    "version": tell_version,
}


def answer(data: Any) -> None:
    """Give an answer."""
    _answers.write(json.dumps(data) + "\n")
    _answers.flush()


def next_order() -> Order:
    """Take an order."""
    order: Order = json.loads(sys.stdin.readline())
    return order


if __name__ == "__main__":
    _answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a recorder that prints does not print into the answers
    stay_on_this_machine()
    name, action, folder, sink = sys.argv[1:]
    ACTIONS[action](load(name), Place(Path(folder), sink))
