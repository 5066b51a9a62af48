"""The contract's own example and command lines, against `autotrace serve` as a process."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.server.serving import TRACES, ServerProcess

SEEDS = Path(__file__).parents[4] / "shared" / "seeds"
HOSTED = "https://api.ainative.studio"
CURL = shutil.which("curl")

# The calls of the contract's example, in its order, with its fields and its values.
CALLS: list[tuple[str, dict[str, Any]]] = [
    (
        "start",
        {"task": "Summarize the latest AI safety research papers", "session_id": "session-001"},
    ),
    (
        "{trace_id}/step",
        {
            "thought": "I should search for recent safety papers from the last 30 days.",
            "action": "call web_fetch with url='arxiv.org/search/?query=ai+safety'",
        },
    ),
    (
        "{trace_id}/tool_call",
        {
            "tool_name": "web_fetch",
            "arguments": {"url": "https://arxiv.org/search/?query=ai+safety&start=0"},
            "result": {"papers": ["Constitutional AI", "Scalable Oversight", "RLHF survey"]},
            "duration_ms": 650,
            "status": "success",
        },
    ),
    (
        "{trace_id}/complete",
        {"outcome": "Retrieved 12 papers and summarized key themes.", "success": True},
    ),
    (
        "recall",
        {"query": "summarize research papers on a topic", "success_only": True, "limit": 3},
    ),
]


# The answers that the contract shows, by method and path.
ANSWERS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/start"): {
        "trace_id": "trace-a1b2c3d4",
        "task": "Find the best Italian restaurants near the conference venue",
        "status": "active",
        "created_at": "2026-04-23T12:00:00Z",
    },
    ("POST", "/{trace_id}/step"): {
        "step_id": "step-001",
        "trace_id": "trace-a1b2c3d4",
        "created_at": "2026-04-23T12:00:05Z",
    },
    ("GET", "/{trace_id}"): {
        "trace_id": "trace-a1b2c3d4",
        "task": "Find Italian restaurants near conference venue",
        "status": "completed",
        "success": True,
        "outcome": "Found top 3 restaurants...",
        "steps": [
            {
                "step_id": "step-001",
                "thought": "I need to search for Italian restaurants...",
                "action": "call web_search",
                "observations": ["Found 15 results"],
                "tool_calls": [
                    {"tool_name": "web_search", "duration_ms": 420, "status": "success"}
                ],
            }
        ],
        "created_at": "2026-04-23T12:00:00Z",
        "completed_at": "2026-04-23T12:00:08Z",
    },
    ("POST", "/recall"): {
        "results": [
            {
                "trace_id": "trace-a1b2c3d4",
                "task": "Find Italian restaurants near conference venue",
                "outcome": "Found top 3 restaurants with 4.5+ ratings",
                "similarity": 0.91,
                "tool_sequence": ["web_search", "maps_api"],
                "success": True,
                "created_at": "2026-04-23T12:00:00Z",
            }
        ],
        "count": 1,
    },
    ("GET", "/tool_stats"): {
        "tool_stats": [
            {
                "tool_name": "web_search",
                "call_count": 142,
                "success_rate": 0.97,
                "avg_duration_ms": 380,
                "min_duration_ms": 120,
                "max_duration_ms": 2100,
            }
        ],
        "count": 8,
    },
}
COMMAND_LINES = [
    f"""curl {HOSTED}{TRACES}/{path} -H "Authorization: Bearer $TOKEN\""""
    for path in ("trace-a1b2c3d4", "tool_stats")
]


def contract() -> str | None:
    """Return the text of the contract, where it lies beside this checkout."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(SEEDS.glob("*.txt")))
    return next((text for text in texts if "POST /traces/recall" in text), None)


CONTRACT = contract()


def test_a_client_written_for_the_contract_works_with_another_address(
    running: ServerProcess,
) -> None:
    headers = {
        "Authorization": f"Bearer {running.first_key()}",
        "Content-Type": "application/json",
    }
    known: dict[str, str] = {}
    answer: Any = None
    for path, body in CALLS:
        given = body | ({"step_id": known["step_id"]} if path.endswith("tool_call") else {})
        url = f"{running.url}{TRACES}/{path.format(**known)}"
        response = requests.post(url, headers=headers, json=given, timeout=500)
        assert response.status_code == 200, response.text
        answer = response.json()
        known |= {name: answer[name] for name in ("trace_id", "step_id") if name in answer}

    found = [each for each in answer["results"] if each["trace_id"] == known["trace_id"]]
    assert found[0]["tool_sequence"] == ["web_fetch"]


if CONTRACT is not None:
    TEXT: str = CONTRACT

    def test_the_contract_s_example_runs_as_it_stands(
        running: ServerProcess, tmp_path: Path
    ) -> None:
        example = TEXT.partition("\nimport requests\n")[2].partition("\nEndpoint Summary")[0]
        program = "import requests\n" + example.replace(
            'TOKEN = "your-api-key"', f"TOKEN = {running.first_key()!r}"
        ).replace(HOSTED, running.url)
        assert running.url in program
        script = tmp_path / "example.py"
        script.write_text(program, encoding="utf-8")

        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=600
        )

        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "['web_fetch']"

    def test_the_facts_here_are_the_contract_s() -> None:
        operations = re.split(r"^(?=(?:GET|POST) /traces\S*\n\n)", TEXT, flags=re.MULTILINE)
        shown: dict[tuple[str, str], Any] = {}
        for operation in operations:
            heading, _, text = operation.partition("\n")
            if answer := text.partition("\nResponse:\n\n")[2]:
                method, _, path = heading.partition(" /traces")
                shown[method, path] = json.JSONDecoder().raw_decode(answer)[0]
        lines = re.findall(r"^curl .*?\\\n.*$", TEXT, re.MULTILINE)

        assert shown == ANSWERS
        assert [line.replace("\\\n", "") for line in lines] == COMMAND_LINES


@pytest.mark.skipif(CURL is None, reason="there is no curl on this machine")
def test_the_contract_s_command_lines_run_as_they_stand(running: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {running.first_key()}"}
    started = requests.post(
        f"{running.url}{TRACES}/start",
        headers=headers,
        json={"task": "t", "session_id": "s"},
        timeout=500,
    ).json()

    for line in COMMAND_LINES:
        command = line.replace(HOSTED, running.url).replace("$TOKEN", running.first_key())
        command = command.replace("trace-a1b2c3d4", started["trace_id"])
        done = subprocess.run(
            [*shlex.split(command), "--silent", "--fail"],
            capture_output=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert "tool_stats" in answer or answer["trace_id"] == started["trace_id"]


def test_the_examples_of_answers_are_the_contract_s(running: ServerProcess) -> None:
    """Every JSON object that the contract shows as a response, in the OpenAPI document."""
    document = requests.get(f"{running.url}/openapi.json", timeout=500).json()
    for (method, path), theirs in ANSWERS.items():
        answer = document["paths"][f"{TRACES}{path}"][method.lower()]["responses"]["200"]
        ours = answer["content"]["application/json"]["example"]
        assert {path: without_additions(ours, theirs)} == {path: theirs}


def without_additions(ours: Any, theirs: Any, name: str = "") -> Any:
    """Return an example without the fields that the contract's has not, and with its ids."""
    if isinstance(theirs, dict):
        return {
            key: without_additions(ours[key], theirs[key], key) for key in theirs if key in ours
        }
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        return [without_additions(*pair) for pair in zip(ours, theirs, strict=True)]
    if name in ("trace_id", "step_id"):  # ours are longer
        assert ours.startswith(theirs.partition("-")[0] + "-")
        return theirs
    return ours
