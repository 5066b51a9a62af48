"""The replays say what they wrote and compare it: here with counts made from the data itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .conftest import RunExample, succeed, traces_in
from .made_runs import TASKS

pytestmark = pytest.mark.xdist_group("replays")
"""Of one worker, which makes what they share once."""

LIMIT = 6


@pytest.fixture(scope="module")
def few_tasks(airline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All trials of a few tasks, in a file of their own."""
    path = tmp_path_factory.mktemp("airline") / "few.jsonl"
    kept = [line for line in lines_of(airline) if json.loads(line)["task_id"] in TASKS]
    path.write_text("".join(kept), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def airline_replays(run_example: RunExample, few_tasks: Path) -> list[str]:
    """What two replays of the airline's runs into the same store print."""
    arguments = ("replay_tau_bench.py", few_tasks, "--store", "store")
    return [succeed(run_example(*arguments, folder=few_tasks.parent)) for _ in range(2)]


@pytest.fixture(scope="module")
def swe_agent_replays(
    run_example: RunExample, swe_agent: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """What two replays of the coding agent's runs into the same store print."""
    folder = tmp_path_factory.mktemp("swe_agent")
    arguments = ("replay_swe_agent.py", swe_agent, "--store", "store")
    return [succeed(run_example(*arguments, folder=folder)) for _ in range(2)]


def test_every_run_of_the_airline_is_written_and_reads_back(
    airline_replays: list[str], few_tasks: Path
) -> None:
    runs = [json.loads(line) for line in lines_of(few_tasks)]
    messages = [message for run in runs for message in run["traj"]]
    answers = [message["content"] for message in messages if message["role"] == "tool"]

    assert len(runs) == 4 * len(TASKS)
    assert written(airline_replays[0])[0] == {
        "traces": len(runs),
        "solved": sum(run["reward"] == 1.0 for run in runs),
        "steps": sum(message["role"] == "assistant" for message in messages),
        "calls": sum(len(message.get("tool_calls") or ()) for message in messages),
        "failed": sum(answer.startswith("Error") for answer in answers),
    }
    assert set(read_back(airline_replays[0])) == {"all as recorded"}


@pytest.mark.usefixtures("airline_replays")
def test_the_store_holds_what_the_file_of_the_airline_says(few_tasks: Path) -> None:
    stored = [
        (
            trace["task"],
            trace["success"],
            [reply for step in trace["steps"] for reply in step["observations"]],
            [
                (call["tool_name"], call["arguments"], call["error"] or call["result"])
                for step in trace["steps"]
                for call in step["tool_calls"]
            ],
        )
        for trace in traces_in(few_tasks.parent / "store")
    ]

    for line in lines_of(few_tasks):
        run = json.loads(line)
        messages = run["traj"]
        calls = [call["function"] for m in messages for call in m.get("tool_calls") or ()]
        answers = [m["content"] for m in messages if m["role"] == "tool"]
        expected = (
            run["info"]["task"]["instruction"],
            run["reward"] == 1.0,
            [m["content"] for m in messages if m["role"] == "user"],
            [
                (call["name"], json.loads(call["arguments"]), json_or_text(answer))
                for call, answer in zip(calls, answers, strict=True)
            ],
        )
        assert expected in stored


def test_each_fifth_of_the_tasks_is_held_out_once(
    airline_replays: list[str], few_tasks: Path
) -> None:
    tasks = [json.loads(line)["task_id"] for line in lines_of(few_tasks)]

    kept = [counts["traces"] for counts in written(airline_replays[0])[1:]]

    assert kept == [sum(task % 5 != fold for task in tasks) for fold in range(5)]


def test_every_solved_run_is_a_question_to_memory(
    airline_replays: list[str], few_tasks: Path
) -> None:
    runs = [json.loads(line) for line in lines_of(few_tasks)]
    solved = [run["task_id"] for run in runs if run["reward"] == 1.0]

    assert questions(airline_replays[0], "new") == len(solved)
    # Trial by trial, a task is known from when it has been solved for the first time.
    assert questions(airline_replays[0], "known") == len(solved) - len(set(solved))


def test_a_second_replay_into_the_same_store_keeps_apart_from_the_first(
    airline_replays: list[str],
) -> None:
    first, second = airline_replays

    assert written(second) == written(first)
    assert set(read_back(second)) == {"all as recorded"}
    # Had it recalled a trace of the first one, it would have left with an error.
    assert questions(second, "new") == questions(first, "new")


def test_a_limit_holds_for_every_file(
    run_example: RunExample, airline: Path, tmp_path: Path
) -> None:
    shop = lines_of(airline.with_name("retail_tasks_train.jsonl"))[:LIMIT]
    calls = sum(len(json.loads(line)["actions"]) for line in shop)

    limited = ("replay_tau_bench.py", airline, "--limit", str(LIMIT))
    text = succeed(run_example(*limited, folder=tmp_path))

    assert written(text)[0]["traces"] == LIMIT
    assert written(text)[-1] == {
        "traces": LIMIT,
        "solved": LIMIT,
        "steps": calls,
        "calls": calls,
        "failed": 0,
    }
    assert set(read_back(text)) == {"all as recorded"}


@pytest.mark.parametrize(
    ("setting", "value", "mismatches"),
    [
        ("AUTOTRACE_CAPTURE_RESULT", "false", [r"\.result: None is stored; it was "]),
        (
            "AUTOTRACE_REDACT_KEYS",
            '["user_id"]',
            [r"\.user_id: '\[REDACTED\]' is stored; it was ", r"\d+ redacted; nothing should be"],
        ),
    ],
)
def test_what_is_not_stored_as_it_was_is_a_mismatch(
    run_example: RunExample,
    few_tasks: Path,
    tmp_path: Path,
    setting: str,
    value: str,
    mismatches: list[str],
) -> None:
    example = run_example(
        "replay_tau_bench.py",
        *(few_tasks, "--limit", str(LIMIT)),
        folder=tmp_path,
        environment={setting: value},
    )

    assert example.returncode == 1, example.stderr
    assert "all as recorded" not in example.stdout
    for mismatch in mismatches:
        assert re.search(f"mismatch .*{mismatch}", example.stdout)


def test_every_run_of_the_coding_agent_is_written_and_reads_back(
    swe_agent_replays: list[str], swe_agent: Path
) -> None:
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in swe_agent.glob("*.traj")]
    observations = [step["observation"] for run in runs for step in run["trajectory"]]
    failures = ("Your proposed edit has introduced new syntax error(s)", "Traceback ")

    for text in swe_agent_replays:
        assert written(text) == [
            {
                "traces": len(runs),
                "solved": sum(run["info"]["exit_status"] == "submitted" for run in runs),
                "steps": len(observations),
                "calls": len(observations),
                "failed": sum(observation.startswith(failures) for observation in observations),
            }
        ]
        assert read_back(text) == ["all as recorded"]


def test_a_run_at_the_same_issue_is_recalled(swe_agent_replays: list[str]) -> None:
    """Two of the runs are about one issue of marshmallow, under different names."""
    below = swe_agent_replays[0].partition("marshmallow-code__marshmallow-1867: ")[2]

    assert re.match(r".*\n +recalls +TimeDelta serialization precision \(1\.00 ", below)


@pytest.mark.parametrize("script", ["replay_tau_bench.py", "replay_swe_agent.py"])
def test_without_the_data_a_replay_says_so_and_leaves_with_2(
    run_example: RunExample, tmp_path: Path, script: str
) -> None:
    example = run_example(script, "nothing", "--store", "store", folder=tmp_path)

    assert example.returncode == 2
    assert example.stderr.startswith("no data at nothing: ")
    assert not list(tmp_path.iterdir())


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


def json_or_text(answer: str) -> Any:
    try:
        return json.loads(answer)
    except json.JSONDecodeError:
        return answer


def written(printed: str) -> list[dict[str, int]]:
    """Return what was counted, one for each time that counts are printed."""
    pattern = (
        r"wrote (?P<traces>\d+) traces \((?P<solved>\d+) solved\), (?P<steps>\d+) steps, "
        r"(?P<calls>\d+) tool calls \((?P<failed>\d+) failed\)"
    )
    found = re.finditer(pattern, printed)
    return [{key: int(value) for key, value in match.groupdict().items()} for match in found]


def read_back(printed: str) -> list[str]:
    return re.findall(r"read back \d+ traces: (.*)", printed)


def questions(printed: str, kind: str) -> int:
    found = re.search(rf"{kind} tasks: .*\((\d+) questions\)", printed)
    return int(found[1]) if found else 0
