"""Replays 140 real runs of an airline's agent (tau-bench), and recalls before they happen.

A line of the file is one run: `info.task.instruction` is its task, `traj` the chat, and `reward` 1
means solved. Each message of the assistant becomes a step, with its text as the thought; a call in
it runs as a tool that answers what it answered then (answers that begin with "Error" are raised);
what the customer says next is an observation.

Is what recall finds of any use? Of a run that will be solved it is known which tools it is about to
call. Before it happens, the three most similar solved runs are recalled, and their tools compared
with those, for two kinds of tasks:

* known: an earlier trial of the task was solved;
* new: no trial of the task is in memory; the others are (each fifth of the tasks is held out once).

Two more files beside this one hold tasks of a shop, with the calls that solve each and no answers:
those of `retail_tasks_train.jsonl` are recorded, those of `retail_tasks_test.jsonl` are asked for.
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
FOLDS = 5


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
        """Recall runs similar to one that is about to be solved."""
        solved = [past.tools for past in memory.runs.values() if past.success]
        if run.success and solved:
            found = memory.recall(run.task, limit=3)
            fits = [overlap(past.tool_sequence, run.tools) for past in found]
            self.recalled.append(mean(fits) if fits else 0.0)
            # The mean over all of them is what random ones give, without the luck.
            self.anything.append(mean(overlap(tools, run.tools) for tools in solved))

    def __str__(self) -> str:
        if not self.recalled:
            return "nothing to ask"
        recalled, anything = mean(self.recalled), mean(self.anything)
        return (
            f"{recalled:.2f} by recall, {anything:.2f} at random ({len(self.recalled)} questions)"
        )


def replay_airline(trials: list[Trial], console: Console) -> bool:
    """Replay trial after trial; returns whether all runs read back as recorded."""
    console.rule("airline", align="left")
    memory, known = Replay("airline"), Questions()
    for _, attempts in groupby(trials, key=lambda trial: trial.number):
        runs = [trial.run for trial in attempts]
        solved = {past.task for past in memory.runs.values() if past.success}
        for run in runs:
            if run.task in solved:
                known.ask(memory, run)
        memory.record(runs)
    console.print(memory.count())
    good = memory.check(console)
    console.print(f"overlap of tools, known tasks: {known}")
    return good


def hold_out_tasks(trials: list[Trial], console: Console) -> bool:
    """Ask for tasks that memory has never met; returns whether all runs read back as recorded."""
    console.rule("airline, tasks held out", align="left")
    good, new = True, Questions()
    for fold in range(FOLDS):
        memory = Replay("airline")  # a session of its own: it recalls nothing of the others
        memory.record([trial.run for trial in trials if trial.task_id % FOLDS != fold])
        console.print(memory.count())
        good = memory.check(console) and good
        for trial in trials:
            if trial.task_id % FOLDS == fold:
                new.ask(memory, trial.run)
    console.print(f"overlap of tools, new tasks: {new}")
    return good


def replay_shop(past: list[Run], asked: list[Run], console: Console) -> bool:
    """Record solved tasks, then ask for others; returns whether all read back as recorded."""
    console.rule("shop", align="left")
    memory, new = Replay("shop"), Questions()
    memory.record(past)
    console.print(memory.count())
    good = memory.check(console)
    for run in asked:
        new.ask(memory, run)
    console.print(f"overlap of tools, new tasks: {new}")
    return good


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
    run = Run(
        task=line["info"]["task"]["instruction"],
        turns=tuple(turns),
        outcome=said[-1] if said else None,
        success=line["reward"] == 1.0,
    )
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
    arguments.add_argument("--limit", type=int, help="take only the first lines of each file")
    given = arguments.parse_args()
    lines = read_lines(given.airline)[: given.limit]
    trials = sorted(map(trial_of, lines), key=lambda trial: trial.number)
    train, test = (
        given.airline.with_name(f"retail_tasks_{part}.jsonl") for part in ("train", "test")
    )
    with recording(given.store) as console:
        good = [replay_airline(trials, console), hold_out_tasks(trials, console)]
        if train.exists() and test.exists():
            past, asked = (
                list(map(shop_run, read_lines(path)))[: given.limit] for path in (train, test)
            )
            good.append(replay_shop(past, asked, console))
        else:
            console.print(f"no shop: there is no {train}, or no {test.name}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
