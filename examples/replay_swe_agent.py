"""Replays real runs of a coding agent (SWE-agent), and asks its memory before each.

A `.traj` file is one run. Its task is the text of the issue, from the first message in `history`
that is no demonstration. Each step of `trajectory` becomes a step here, with the same thought and
action; the action runs as a tool, named after the first word of the command, whose result is the
observation. Where the observation says that the editor refused the edit or the program crashed, the
tool raises it.

The data does not say whether a patch was right. A run counts as a success if it ended in the way
an agent ends it that believes so: `info.exit_status` is "submitted", with a `submission`.

Before a run happens again, runs at similar issues are recalled, out of those replayed until then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from replaying import DATA, Call, Replay, Run, Turn, overlap, parser, recording, require
from rich.console import Console

FOLDER = DATA / "swe_agent"
FAILURES = ("Your proposed edit has introduced new syntax error", "Traceback (most recent call")


def run_of_file(path: Path) -> Run:
    data = json.loads(path.read_text(encoding="utf-8"))
    info = data["info"]
    submission = info.get("submission")
    return Run(
        task=issue_of(data["history"]),
        turns=tuple(map(turn_of, data["trajectory"])),
        outcome=submission or info.get("exit_status"),
        success=info.get("exit_status") == "submitted" and bool(submission),
    )


def issue_of(history: list[dict[str, Any]]) -> str:
    """Return the text between the headings ISSUE and INSTRUCTIONS of the task's message."""
    asked = next(m["content"] for m in history if m["role"] == "user" and not m.get("is_demo"))
    return asked.partition("ISSUE:\n")[2].partition("\nINSTRUCTIONS:")[0].strip()


def turn_of(step: dict[str, Any]) -> Turn:
    action, observation = step["action"], step["observation"]
    name, arguments = (action.split() or ["nothing"])[0], {"command": action}
    if observation.startswith(FAILURES):
        call = Call(name, arguments, error=observation, status="error")
    else:
        call = Call(name, arguments, observation)
    return Turn(step["thought"], action, (call,))


def replay(paths: list[Path], console: Console) -> bool:
    """Replay the runs, one after the other; returns whether all of them read back as recorded."""
    memory = Replay("swe-agent")
    for path in paths:
        run = run_of_file(path)
        console.print(f"[bold]{path.stem}[/]: {run.task.splitlines()[0]}")
        for past in memory.recall(run.task, limit=1):
            fits = overlap(past.tool_sequence, run.tools)
            console.print(f"  recalls  {past.task.splitlines()[0]} ({past.similarity:.2f} similar)")
            console.print(f"  overlap of its tools with those needed: {fits:.2f}\n")
        memory.record([run])
    console.print(memory.count())
    return memory.check(console)


def main() -> int:
    """Replay the runs of a folder; returns the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    given = arguments.parse_args()
    paths = sorted(require(given.folder).glob("*.traj")) or [require(given.folder / "*.traj")]
    with recording(given.store) as console:
        return 0 if replay(paths, console) else 1


if __name__ == "__main__":
    raise SystemExit(main())
