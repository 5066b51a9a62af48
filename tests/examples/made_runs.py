"""Make runs of the shape that the replays read: an airline's chats, a shop's tasks, coding runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TASKS = {0: 0, 12: 4, 18: 2, 21: 1, 34: 3}
"""The airline's tasks, and how many of their trials are solved: each, some, none."""
TRIALS = 4
SHOP_TASKS = 8
CITIES = ("New York", "Seattle", "Denver", "Boston", "Chicago")


def make_airline(folder: Path) -> Path:
    """Write the runs of the airline, and beside them the tasks of the shop; return the former."""
    airline = folder / "airline_trajectories.jsonl"
    runs = [_airline_run(task, trial) for task in TASKS for trial in range(TRIALS)]
    _write_lines(airline, runs)
    for part in ("train", "test"):
        shop = [_shop_task(part, number) for number in range(SHOP_TASKS)]
        _write_lines(folder / f"retail_tasks_{part}.jsonl", shop)
    return airline


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _airline_run(task: int, trial: int) -> dict[str, Any]:
    user = f"user_{task}"
    city = CITIES[task % len(CITIES)]
    instruction = f"You are {user}. You want to fly to {city} on May {task + 1}, and cancel it."
    return {
        "task_id": task,
        "reward": 1.0 if trial < TASKS[task] else 0.0,
        "info": {"task": {"user_id": user, "instruction": instruction}},
        "traj": list(_chat(user, city, trial)),
        "trial": trial,
    }


def _chat(user: str, city: str, trial: int) -> Iterator[dict[str, Any]]:
    yield _said("user", f"Hello! I would like to fly to {city}.")
    yield _said("assistant", "Your user ID, please?")
    yield _said("user", f"It is {user}.")
    yield from _called(
        ("get_user_details", {"user_id": user}, json.dumps({"name": user, "trips": [1, 2.5]})),
        ("search_direct_flight", {"destination": city, "date": None}, "[]"),
    )
    yield from _called(("think", {"thought": f"There is no direct flight to {city}."}, ""))
    yield from _called(("cancel_reservation", {"id": f"R{trial}"}, "Error: not found"))
    if trial % 2:
        yield from _called(("transfer_to_human_agents", {"summary": city}, "Transfer successful"))
    yield _said("assistant", f"I could not book it, {user}: caf\u00e9 \u2615 in the meantime?")
    yield _said("user", "###STOP###")


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _called(*calls: tuple[str, dict[str, Any], str]) -> Iterator[dict[str, Any]]:
    requests = [
        {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for name, arguments, _ in calls
    ]
    yield {"role": "assistant", "content": None, "tool_calls": requests}
    for name, _, answer in calls:
        yield {"role": "tool", "name": name, "content": answer}


def _shop_task(part: str, number: int) -> dict[str, Any]:
    order = {"order_id": f"#W{number}", "item_ids": [str(number), part]}
    names = ("return_delivered_order_items", "exchange_delivered_order_items")
    return {
        "instruction": f"Send back parcel {number} of the {part} orders, and ask for another.",
        "actions": [
            {"name": name, "arguments": order} for name in names[: 1 + number % len(names)]
        ],
    }


def make_coding_runs(folder: Path) -> Path:
    """Write runs of a coding agent, two of them at one issue; return the folder."""
    precision = "TimeDelta serialization precision\nHalf a millisecond is lost."
    runs = {
        "marshmallow-1867-function-calling": (precision, "submitted"),
        "marshmallow-code__marshmallow-1867": (precision, "submitted"),
        "pydicom__pydicom-1458": ("Pixel representation is required\nIt should not be.", None),
    }
    for name, (issue, status) in runs.items():
        run = json.dumps(_coding_run(issue, status))
        (folder / f"{name}.traj").write_text(run, encoding="utf-8")
    return folder


def _coding_run(issue: str, status: str | None) -> dict[str, Any]:
    refused = "Your proposed edit has introduced new syntax error(s). Read them again.\n- E999"
    steps = [
        ("Which files are there?", "ls -F\n", "README.md\nsrc/\n"),
        ("I reproduce it.", "python reproduce.py\n", "Traceback (most recent call last):\n  x"),
        ("I mend it.", "edit 1:1\nreturn round(value)\nend_of_edit\n", refused),
        ("", "submit\n", ""),
    ]
    task = f"We solve an issue.\nISSUE:\n{issue}\n\nINSTRUCTIONS:\nWork with commands."
    demonstration = {"role": "user", "content": "ISSUE:\nanother\nINSTRUCTIONS:", "is_demo": True}
    return {
        "history": [_said("system", "You are a programmer."), demonstration, _said("user", task)],
        "trajectory": [
            {"thought": thought, "action": action, "observation": observation}
            for thought, action, observation in steps
        ],
        "info": {
            "exit_status": status or "exit_context",
            "submission": "diff --git a b\n" if status else None,
        },
    }
