"""What the replays share: a recorded run, letting it happen again, reading it back.

`Run`, `Turn` and `Call` hold what a data file says an agent did. `Replay.record` lets it happen
again under `task`, `step` and `@tool`; `Replay.mismatches` reads all of it back and compares.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape

import autotrace
from autotrace import RecallResult, Trace, TraceSummary, step, task, tool

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LARGEST_VALUE_BYTES = 16 * 1024**2
"""Far more than any value of the data: what is compared must not have been cut."""
MISMATCHES_SHOWN = 20
PAGE = 50


@dataclass(frozen=True)
class Call:
    """One call of a tool and what came back: a result, or an error."""

    tool_name: str
    arguments: dict[str, Any]
    result: Any = None
    error: str | None = None
    status: str = "success"


@dataclass(frozen=True)
class Turn:
    """One turn of the agent: what it thought, what it did, what it was told."""

    thought: str
    action: str | None = None
    calls: tuple[Call, ...] = ()
    observations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One task that an agent worked on."""

    task: str
    turns: tuple[Turn, ...]
    outcome: str | None
    success: bool

    @property
    def calls(self) -> list[Call]:
        """Every call of every turn, in order."""
        return [call for turn in self.turns for call in turn.calls]

    @property
    def tools(self) -> list[str]:
        """The names of the tools called, in order."""
        return [call.tool_name for call in self.calls]


class RecordedError(Exception):
    """The tool answered with an error when the run was recorded, and does so again."""


class Replay:
    """Lets recorded runs happen again, and compares what autotrace has stored of them.

    All runs of one replay share a session, which sets them apart from what else the store holds.

    Args:
        agent: Name of the agent whose runs these are.
    """

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.session_id = f"{agent}-{uuid.uuid4().hex[:12]}"
        self.runs: dict[str, Run] = {}
        """What was recorded, by trace id, in order."""
        self.elapsed_s = 0.0
        """How long recording and storing took."""
        self._tools: dict[str, Callable[..., Any]] = {}
        self._to_come: deque[Call] = deque()
        self._calls_before = calls_in_store()

    def record(self, runs: Sequence[Run]) -> None:
        """Let runs happen again, and wait until they are stored and can be recalled."""
        started_s = time.perf_counter()
        for run in runs:
            self._record(run)
        if not autotrace.flush():
            raise SystemExit(f"not everything could be stored: {autotrace.health().last_error}")
        self.elapsed_s += time.perf_counter() - started_s

    def _record(self, run: Run) -> None:
        self._to_come.extend(run.calls)
        with task(run.task, session_id=self.session_id, agent=self.agent) as t:
            for turn in run.turns:
                with step(turn.thought, action=turn.action) as s:
                    for call in turn.calls:
                        try:
                            self._tool(call.tool_name)(**call.arguments)
                        except RecordedError:
                            pass  # The agent saw the error and went on.
                    for observation in turn.observations:
                        s.observe(observation)
            t.complete(run.outcome, success=run.success)
        self.runs[t.trace_id] = run

    def _tool(self, name: str) -> Callable[..., Any]:
        """Return the tool of this name, which answers what it answered when it was recorded."""
        if name not in self._tools:

            @tool(name=name)
            def answer(**arguments: Any) -> Any:
                call = self._to_come.popleft()
                if call.error is not None:
                    raise RecordedError(call.error)
                return call.result

            self._tools[name] = answer
        return self._tools[name]

    def recall(self, request: str, limit: int = 3) -> list[RecallResult]:
        """Recall solved runs of this replay, and of no other."""
        found = autotrace.recall(request, limit=limit, session_id=self.session_id)
        strangers = [past.trace_id for past in found if past.trace_id not in self.runs]
        if strangers:
            raise SystemExit(f"{self.session_id}: recalled from another session: {strangers}")
        return found

    def mismatches(self) -> Iterator[str]:
        """Read everything back from the store; yield what is not as it was recorded."""
        listed = [summary.trace_id for summary in every_trace(self.session_id)]
        if listed != list(reversed(self.runs)):
            yield f"{len(listed)} traces are listed, of {len(self.runs)}, or in another order"
        for trace_id, run in self.runs.items():
            trace = autotrace.get_trace(trace_id)
            yield from differences(asdict(run), asdict(run_of(trace)), trace_id)
            owner = (trace.session_id, trace.agent, trace.status)
            yield from differences((self.session_id, self.agent, "completed"), owner, trace_id)
        calls = [call for run in self.runs.values() for call in run.calls]
        made = Counter((call.tool_name, call.status) for call in calls)
        counted = calls_in_store() - self._calls_before
        if counted != made:
            yield f"the statistics count {dict(counted)}; it was {dict(made)}"

    def check(self, console: Console) -> bool:
        """Read everything back and print what is not as it was recorded; returns whether all is."""
        problems = [*losses(), *self.mismatches()]
        for problem in problems[:MISMATCHES_SHOWN]:
            console.print(f"  [red]mismatch[/] {escape(problem)}")
        verdict = f"[red]{len(problems)} mismatches" if problems else "[green]all as recorded"
        console.print(f"read back {len(self.runs)} traces: {verdict}")
        return not problems

    def count(self) -> str:
        """Say how much was written and how fast."""
        runs = list(self.runs.values())
        solved = sum(run.success for run in runs)
        steps = sum(len(run.turns) for run in runs)
        calls = [call for run in runs for call in run.calls]
        failed = sum(call.error is not None for call in calls)
        return (
            f"wrote {len(runs)} traces ({solved} solved), {steps} steps, {len(calls)} tool calls "
            f"({failed} failed) in {self.elapsed_s:.1f} s: "
            f"{len(runs) / max(self.elapsed_s, 1e-9):.0f} traces/s"
        )


def run_of(trace: Trace) -> Run:
    """Return a stored trace as the run that it should be."""
    turns = tuple(
        Turn(
            thought=step.thought,
            action=step.action,
            calls=tuple(
                Call(call.tool_name, call.arguments, call.result, call.error, call.status)
                for call in step.tool_calls
            ),
            observations=tuple(step.observations),
        )
        for step in trace.steps
    )
    return Run(trace.task, turns, trace.outcome, trace.success is True)


def differences(expected: Any, found: Any, path: str) -> Iterator[str]:
    """Yield where two values made of dicts, lists and tuples differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        one, other = cast("dict[str, Any]", expected), cast("dict[str, Any]", found)
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        ones, others = cast("Sequence[Any]", expected), cast("Sequence[Any]", found)
        if len(ones) != len(others):
            yield f"{path}: {len(others)} are stored, of {len(ones)}"
        for index, (one, other) in enumerate(zip(ones, others, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
    elif expected != found:
        yield f"{path}: {found!r:.200} is stored; it was {expected!r:.200}"


def every_trace(session_id: str) -> Iterator[TraceSummary]:
    """List all traces of a session, newest first, page by page."""
    after: str | None = None
    while page := autotrace.list_traces(session_id=session_id, limit=PAGE, after=after):
        yield from page
        after = page[-1].trace_id


def calls_in_store() -> Counter[tuple[str, str]]:
    """Count the calls that the store's statistics know, by tool and status."""
    counts: Counter[tuple[str, str]] = Counter()
    for stats in autotrace.tool_stats():
        failed = stats.error_count + stats.timeout_count
        counts[stats.tool_name, "success"] = stats.call_count - failed
        counts[stats.tool_name, "error"] = stats.error_count
        counts[stats.tool_name, "timeout"] = stats.timeout_count
    return +counts


def losses() -> list[str]:
    """Say what autotrace has cut, redacted, dropped or failed to record."""
    counters = autotrace.health().counters
    return [f"{number} {name}; nothing should be" for name, number in counters.items() if number]


def overlap(recalled: Sequence[str], needed: Sequence[str]) -> float:
    """Tell how much of two sequences of tools is the same, in the same order: 0 to 1."""
    return SequenceMatcher(None, recalled, needed, autojunk=False).ratio()


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every replay takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", help="where to record; default: a folder that is removed again")
    return parser


def require(path: Path) -> Path:
    """Return the path of the data; leave the program with code 2 if there is none."""
    if not path.exists():
        print(f"no data at {path}: name the place as an argument", file=sys.stderr)
        raise SystemExit(2)
    return path


@contextmanager
def recording(store: str | None) -> Generator[Console]:
    """Record into a store while the block runs; yields the console to report on."""
    with tempfile.TemporaryDirectory(prefix="autotrace-replay-") as folder:
        autotrace.configure(store or folder, max_value_bytes=LARGEST_VALUE_BYTES)
        try:
            yield Console(highlight=False, soft_wrap=True)
        finally:
            autotrace.shutdown()
