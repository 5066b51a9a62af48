"""The three things that are measured of every recorder: speed, what SIGKILL leaves, and a burst."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from benchmarks.measure import Metrics, compare
from benchmarks.peers.contract import Place, Script
from benchmarks.peers.processes import FailedError, Worker, sink_for, worker
from benchmarks.peers.work import CALLS_OF_A_TASK

BASELINE: Final = "hand_written"
"""The recorder that all are compared with."""
METRICS: Final = {
    "wall": "caller's time on the clock, µs a call",
    "cpu": "CPU time of the calling thread, µs a call",
    "total": "CPU time of all threads and child processes until all is delivered, µs a call",
}
_START_LIMIT_S: Final = 120
_RECOVER_LIMIT_S: Final = 60
_CONTROL: Final = 9_000_000
"""Number of the call that the process after a killed one makes: it shows that anything arrives."""


@dataclass(frozen=True)
class Size:
    """How much a run measures."""

    name: Literal["full", "quick", "tiny"]
    rounds: int
    calls: int
    """Of one round. With their tasks', fewer spans than the 2,048 that a batch processor queues:
    here nobody is to drop any."""
    kills: int
    killed_calls: int
    burst_spans: int
    limit_s: int
    """How long a round or a burst may take."""


SIZES: Final = {
    size.name: size
    for size in (
        Size("full", 15, 10 * CALLS_OF_A_TASK, 3, 200, 100_000, 900),
        Size("quick", 5, 5 * CALLS_OF_A_TASK, 1, 200, 10_000, 300),
        Size("tiny", 2, 20, 1, 20, 200, 60),
    )
}


@dataclass(frozen=True)
class Peer:
    """A recorder that is installed."""

    script: Script
    interpreter: Path
    version: str


Result = dict[str, Any]
"""What was found of one recorder; with `problem` if it was not, or not all."""


def speed(peers: Sequence[Peer], size: Size) -> dict[str, Result]:
    """Time rounds of calls, all recorders in turns, the baseline again before each of them."""
    baseline = next(peer for peer in peers if peer.script.name == BASELINE)
    results: dict[str, Result] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="autotrace-peers-")))
        sides: dict[str, _Side] = {}
        for peer in peers:
            sink = stack.enter_context(sink_for(peer.script, folder / peer.script.name))
            try:
                sides[peer.script.name] = _Side(peer, sink.place, stack)
            except FailedError as error:
                results[peer.script.name] = {"problem": str(error)}
        floor = sides[baseline.script.name]
        rounds: dict[str, list[tuple[Metrics, Metrics]]] = {name: [] for name in sides}
        for number in range(-1, size.rounds):
            for name in list(rounds):
                try:
                    pair = sides[name].round(size), floor.round(size)
                except FailedError as error:
                    if name == BASELINE:
                        raise
                    results[name] = {"problem": str(error)}
                    del rounds[name]
                    continue
                if number >= 0:  # the first round warms up
                    rounds[name].append(pair)
            print(f"round {number + 1} of {size.rounds}", file=sys.stderr)
        for name, pairs in rounds.items():
            results[name] = _figures(name, pairs) | sides[name].end(size)
    return results


class _Side:
    """A recorder that waits for the next round."""

    def __init__(self, peer: Peer, place: Place, stack: ExitStack) -> None:
        self._peer, self._place = peer, place
        self._worker: Worker = stack.enter_context(
            worker(peer.interpreter, peer.script, "serve", place)
        )
        self._worker.answer(_START_LIMIT_S)
        self._calls = 0

    def round(self, size: Size) -> Metrics:
        self._worker.order(first=self._calls, calls=size.calls)
        self._calls += size.calls
        return self._worker.answer(size.limit_s)

    def end(self, size: Size) -> Result:
        """Let it end, and say how many of its calls arrived, and whom it wanted to reach."""
        problem: Result = {}
        self._worker.no_more_orders()
        try:
            self._worker.answer(size.limit_s)
        except FailedError as error:
            problem = {"problem": str(error)}
        (arrived,) = _arrived(self._peer, self._place, size, range(self._calls))
        refused = self._worker.refused_hosts()
        return {"calls": self._calls, "arrived": arrived, "refused_hosts": refused, **problem}


def _figures(name: str, pairs: list[tuple[Metrics, Metrics]]) -> Result:
    both = {"ours": [one for one, _ in pairs], "baseline": [other for _, other in pairs]}
    return {
        metric: asdict(
            compare(f"peers.{name}.{metric}", what, "µs a call", both, ("ours", "baseline"), metric)
        )
        for metric, what in METRICS.items()
    }


def kill(peer: Peer, size: Size) -> Result:
    """Kill processes right after their last call, where all is well and while the sink is down."""
    return {
        "calls": size.killed_calls,
        "sink_up": _kill(peer, size, sink_up=True),
        "sink_down": _kill(peer, size, sink_up=False),
    }


def _kill(peer: Peer, size: Size, *, sink_up: bool) -> Result:
    kept: list[int] = []
    problems: list[str] = []
    for _ in range(size.kills):
        with (
            TemporaryDirectory(prefix="autotrace-peers-") as folder,
            sink_for(peer.script, Path(folder) / "run") as sink,
        ):
            with worker(peer.interpreter, peer.script, "die", sink.place) as dying:
                dying.answer(_START_LIMIT_S)
                if not sink_up:
                    sink.stop()
                dying.order(first=0, calls=size.killed_calls)
                if dying.exit_code(_START_LIMIT_S) != -signal.SIGKILL:
                    dying.answer(0)  # says why
            if not sink_up:
                sink.start(sink.port)
            try:
                _start_again(peer, sink.place)
            except FailedError as error:
                problems.append(f"the next process {error}")
            calls, control = _arrived(
                peer, sink.place, size, range(size.killed_calls), range(_CONTROL, _CONTROL + 1)
            )
            kept.append(calls)
            if not control and not problems:
                problems.append("what the next process recorded did not arrive either")
    return {"kept": kept, **({"problem": problems[0]} if problems else {})}


def _start_again(peer: Peer, place: Place) -> None:
    with worker(peer.interpreter, peer.script, "recover", place) as recovering:
        recovering.order(first=_CONTROL, calls=1)
        recovering.answer(_RECOVER_LIMIT_S)


def burst(peer: Peer, size: Size) -> Result:
    """Record at full speed, flush, end, and count what arrived."""
    calls = size.burst_spans * CALLS_OF_A_TASK // (CALLS_OF_A_TASK + 1)
    with (
        TemporaryDirectory(prefix="autotrace-peers-") as folder,
        sink_for(peer.script, Path(folder) / "run") as sink,
    ):
        result: Mapping[str, Any]
        try:
            with worker(peer.interpreter, peer.script, "burst", sink.place) as bursting:
                bursting.order(first=0, calls=calls)
                result = bursting.answer(size.limit_s)
        except FailedError as error:
            result = {"problem": str(error)}
        (arrived,) = _arrived(peer, sink.place, size, range(calls))
    return {"calls": calls, "arrived": arrived, "lost": calls - arrived, **result}


def _arrived(peer: Peer, place: Place, size: Size, *ranges: range) -> list[int]:
    with worker(peer.interpreter, peer.script, "count", place) as counting:
        counting.order(ranges=[(numbers.start, numbers.stop) for numbers in ranges])
        arrived: list[int] = counting.answer(size.limit_s)["arrived"]
    return arrived
