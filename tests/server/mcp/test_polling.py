"""The contract's example of polling for an approval runs as it is, but for the URL and the key."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from tests.server.mcp.conftest import Running
from tests.server.serving import DECISIONS

EXAMPLE = """
import requests
import time

def check_decision_status(decision_id, api_key):
    response = requests.post('https://mcp.tracemem.com',
        headers={'Authorization': f'Agent {api_key}'},
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "decision_get",
                "arguments": {
                    "decision_id": decision_id
                }
            }
        })

    result = response.json()
    decision_data = json.loads(result["result"]["content"][0]["text"])
    return decision_data

# Poll for approval
decision_id = "TMEM_abc123..."
for _ in range(30):  # Poll up to 30 times
    status = check_decision_status(decision_id, api_key)
    if status["status"] == "approved":
        print("Decision approved!")
        break
    elif status["status"] == "aborted":
        print("Decision was rejected")
        break
    time.sleep(2)  # Wait 2 seconds between polls
"""


def call(server: Running, key: str, tool: str, **arguments: Any) -> dict[str, Any]:
    answer = requests.post(
        f"{server.url}/mcp",
        headers={"Authorization": f"Agent {key}"},
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        },
        timeout=500,
    )
    return answer.json()["result"]["structuredContent"]


@pytest.mark.parametrize(
    ("word", "printed"),
    [("approve", "Decision approved!"), ("reject", "Decision was rejected")],
)
def test_the_contracts_example_polls_until_a_person_has_answered(
    server: Running,
    word: str,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    agents_key = server.keys["bot"]
    created = call(server, agents_key, "decision_create", intent="a.b", automation_mode="approve")
    decision_id = created["decision_id"]
    call(server, agents_key, "decision_request_approval", decision_id=decision_id)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        """In place of waiting: the person answers at the second poll."""
        slept.append(seconds)
        if len(slept) == 2:
            requests.post(
                f"{server.url}{DECISIONS}/{decision_id}/{word}",
                headers={"Authorization": f"Bearer {server.keys['approver']}"},
                json={},
                timeout=500,
            ).raise_for_status()

    monkeypatch.setattr(time, "sleep", sleep)
    program = EXAMPLE.replace("https://mcp.tracemem.com", server.url).replace(
        "TMEM_abc123...", decision_id
    )

    exec(compile(program, "example", "exec"), {"json": json, "api_key": agents_key})

    assert capsys.readouterr().out == f"{printed}\n"
    assert slept == [2, 2]
