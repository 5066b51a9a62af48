"""Replays 140 real runs of an airline's agent (tau-bench), and asks its memory before each.

A line of the file is one run: `info.task.instruction` is the task, `traj` the chat, `reward` 1 means
solved. Each message of the assistant becomes a step, with its text as the thought; a call in it runs
as a tool that answers what it answered then (answers that begin with "Error" are raised); what the
customer says next is an observation.

Before a run happens again, the most similar solved run is recalled, and the tools it used are
compared with those that the run is about to need (which is known of those that will be solved):

* new tasks: nothing of the same task is in memory, only other tasks;
* known tasks: an earlier trial of the same task was solved.

Two more files beside this one hold tasks of a shop, with the calls that solve each and no answers:
those of `retail_tasks_train.jsonl` are recorded, then those of `retail_tasks_test.jsonl` are asked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

from replaying import DATA, Call, Replay, Run, Turn, overlap, parser, recording, require
from rich.console import Console

AIRLINE = DATA / "tau_bench" / "airline_trajectories.jsonl"
TASKS_AT_ONCE = 7
"""How many tasks are met as new ones before the first of them is recorded."""


@dataclass(frozen=True)
class Trial:
    """One of several runs at the same task."""

    task_id: int
    number: int
    run: Run


class Questions:
    """How well the tools of recalled runs fit those needed; beside it, those of any solved run."""

    def __init__(self) -> None:
        self.recalled: list[float] = []
        self.anything: list[float] = []

    def ask(self, memory: Replay, run: Run) -> None:
        """Recall the solved run most similar to one that is about to be solved."""
        solved = [past.tools for past in memory.runs.values() if past.success]
        if run.success and solved:
            best = memory.recall(run.task, limit=1)[0]
            self.recalled.append(overlap(best.tool_sequence, run.tools))
            # The mean over all of them is what a random one gives, without the luck.
            self.anything.append(mean(overlap(tools, run.tools) for tools in solved))

    def __str__(self) -> str:
        if not self.recalled:
            return "nothing to ask"
        return (
            f"{mean(self.recalled):.2f} with recall, {mean(self.anything):.2f} with a random "
            f"solved run ({len(self.recalled)} questions)"
        )


def replay_airline(path: Path, limit: int | None, console: Console) -> bool:
    """Replay the airline's runs; returns whether all of them read back as recorded."""
    trials = sorted(map(trial_of, read_lines(path)), key=lambda t: (t.task_id, t.number))[:limit]
    memory, new, known = Replay("airline"), Questions(), Questions()
    for _, members in groupby(trials, key=lambda trial: trial.task_id // TASKS_AT_ONCE):
        group = list(members)
        for trial in group:
            new.ask(memory, trial.run)
        for number in sorted({trial.number for trial in group}):
            runs = [trial.run for trial in group if trial.number == number]
            solved = {past.task for past in memory.runs.values() if past.success}
            for run in runs:
                if run.task in solved:
                    known.ask(memory, run)
            memory.record(runs)
    console.rule("airline", align="left")
    console.print(f"overlap of tools, new tasks:   {new}")
    console.print(f"overlap of tools, known tasks: {known}")
    return memory.report(console)


def replay_shop(train: Path, test: Path, limit: int | None, console: Console) -> bool:
    """Record solved tasks, ask with others; returns whether all read back as recorded."""
    memory, new = Replay("shop"), Questions()
    memory.record([shop_run(line) for line in read_lines(train)][:limit])
    for line in read_lines(test)[:limit]:
        new.ask(memory, shop_run(line))
    console.rule("shop", align="left")
    console.print(f"overlap of tools, new tasks:   {new}")
    return memory.report(console)


def read_lines(path: Path) -> list[dict[str, Any]]:
    with require(path).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def trial_of(line: dict[str, Any]) -> Trial:
    messages: list[dict[str, Any]] = line["traj"]
    starts = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    turns: list[Turn] = []
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        # What the customer opens with is there for the first turn to see.
        before = messages[:start] if not turns else []
        turns.append(turn_of(messages[start], [*before, *messages[start + 1 : end]]))
    said = [turn.thought for turn in turns if not turn.calls]
    task = line["info"]["task"]["instruction"]
    run = Run(task, tuple(turns), said[-1] if said else None, success=line["reward"] == 1.0)
    return Trial(line["task_id"], line["trial"], run)


def turn_of(message: dict[str, Any], others: Sequence[dict[str, Any]]) -> Turn:
    answers = [other["content"] for other in others if other["role"] == "tool"]
    replies = [other["content"] for other in others if other["role"] == "user"]
    calls = tuple(
        call_of(call["function"], answer)
        for call, answer in zip(message.get("tool_calls") or (), answers, strict=True)
    )
    thoughts = [call.arguments["thought"] for call in calls if call.tool_name == "think"]
    return Turn(
        thought=message["content"] or "\n".join(thoughts),
        action=", ".join(f"call {call.tool_name}" for call in calls) or None,
        calls=calls,
        observations=tuple(replies),
    )


def call_of(function: dict[str, Any], answer: str) -> Call:
    name, arguments = function["name"], json.loads(function["arguments"])
    if answer.startswith("Error"):
        return Call(name, arguments, error=answer, status="error")
    try:
        return Call(name, arguments, json.loads(answer))
    except json.JSONDecodeError:
        return Call(name, arguments, answer)  # Some tools answer in words.


def shop_run(line: dict[str, Any]) -> Run:
    calls = [Call(action["name"], action["arguments"]) for action in line["actions"]]
    turns = [Turn("", f"call {call.tool_name}", (call,)) for call in calls]
    return Run(line["instruction"], tuple(turns), outcome=None, success=True)


def main() -> int:
    """Replay what there is; returns the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("airline", nargs="?", type=Path, default=AIRLINE)
    arguments.add_argument("--limit", type=int, help="how many runs (of each file) at most")
    given = arguments.parse_args()
    airline: Path = require(given.airline)
    train, test = (airline.with_name(f"retail_tasks_{part}.jsonl") for part in ("train", "test"))
    with recording(given.store) as console:
        good = replay_airline(airline, given.limit, console)
        if train.exists() and test.exists():
            good = replay_shop(train, test, given.limit, console) and good
        else:
            console.print(f"no shop: there is no {train} with {test.name}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
