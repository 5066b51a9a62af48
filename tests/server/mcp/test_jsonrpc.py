"""The contract of decision envelopes, as plain JSON-RPC POSTs: whole responses, codes, statuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autotrace.server.mcp.server import TOOLS
from autotrace.server.request_body import MCP_PATHS
from tests.server.mcp.conftest import Api, open_api
from tests.server.test_wrong_keys import WRONG

UNKNOWN = "decision-" + "0" * 32


def plain(value: Any) -> Any:
    """Return an answer with a word in place of everything that differs from run to run."""
    text = json.dumps(value)
    text = re.sub(r'"(decision|event|approval|trace|step)-[0-9a-f-]+"', r'"\1-…"', text)
    text = re.sub(r'"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)"', '"time"', text)
    text = re.sub(r'"[0-9a-f]{64}"', '"sha256"', text)
    return json.loads(text)


def opened(api: Api, **options: Any) -> str:
    given = {"intent": "customer.order.create", "automation_mode": "propose"} | options
    return api.call("decision_create", **given)["decision_id"]


@pytest.mark.parametrize("path", MCP_PATHS)
def test_a_plain_post_gets_one_json_object_with_the_answer_as_text_and_as_an_object(
    api: Api, path: str
) -> None:
    decision_id = opened(api)
    params = {"name": "decision_get", "arguments": {"decision_id": decision_id}}

    response = api.post(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, path=path
    )

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    text = answer["result"]["content"][0]["text"]
    assert plain(json.loads(text)) == {
        "decision_id": "decision-…",
        "intent": "customer.order.create",
        "status": "open",
        "automation_mode": "propose",
        "created_at": "time",
        "approval_required": False,
    }
    assert answer == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "content": [{"type": "text", "text": text}],
            "structuredContent": json.loads(text),
            "isError": False,
        },
    }
    assert json.loads(text)["created_at"].endswith("Z")


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/event-stream", "text/html", ""]
)
def test_what_a_client_accepts_changes_nothing(api: Api, accept: str) -> None:
    response = api.client.post(
        "/",
        json={"jsonrpc": "2.0", "id": 1, "method": "ping"},
        headers={"Authorization": f"Agent {api.keys['bot']}", "Accept": accept},
    )

    assert (response.status_code, response.json()) == (
        200,
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    )


def test_the_life_of_a_decision_as_its_tools_tell_it(api: Api) -> None:
    created = api.call(
        "decision_create",
        intent="customer.order.create",
        automation_mode="approve",
        actor="night shift",
        instance="i-1",
        version="2.0",
        metadata={"order": 7},
    )
    decision_id = created["decision_id"]
    assert plain(created) == {
        "decision_id": "decision-…",
        "status": "open",
        "created_at": "time",
    }

    added = api.call(
        "decision_add_context", decision_id=decision_id, payload={"risk": 0.12}, summary="low"
    )
    assert plain(added) == {"event_id": "event-…", "timestamp": "time"}

    asked = api.call(
        "decision_request_approval",
        decision_id=decision_id,
        title="25 % discount",
        message="for a good customer",
        require_rationale=True,
        expires_in_seconds=3600,
    )
    assert plain(asked) == {
        "approval_id": "approval-…",
        "status": "pending",
        "delivery": {
            "status": "pending",
            "note": "no approval route is set up: nobody was notified",
        },
    }

    waiting = {
        "decision_id": "decision-…",
        "intent": "customer.order.create",
        "status": "needs_approval",
        "automation_mode": "approve",
        "created_at": "time",
        "approval_required": True,
        "approval": {
            "hidden": [],
            "id": "approval-…",
            "status": "pending",
            "title": "25 % discount",
            "message": "for a good customer",
            "requested_at": "time",
            "expires_at": "time",
        },
    }
    assert plain(api.call("decision_get", decision_id=decision_id)) == waiting

    api.answer(decision_id, "approve", rationale="within budget")
    answered = {
        "status": "approved",
        "approver": "ada",
        "rationale": "within budget",
        "resolved_at": "time",
    }
    approved = waiting | {
        "status": "approved",
        "approval_required": False,
        "approval": waiting["approval"] | answered,
    }
    assert plain(api.call("decision_get", decision_id=decision_id)) == approved

    closing = {"action": "commit", "summary": {"order": "o-1"}}
    closed = api.call("decision_close", decision_id=decision_id, **closing)
    assert plain(closed) == {
        "decision_id": "decision-…",
        "status": "committed",
        "closed_at": "time",
    }
    assert api.call("decision_close", decision_id=decision_id, **closing) == closed, "idempotent"
    assert plain(api.call("decision_get", decision_id=decision_id)) == approved | {
        "status": "committed",
        "closed_at": "time",
    }

    trace = api.call("decision_trace", decision_id=decision_id)
    said = {name: trace[name] for name in ("actor", "agent", "actor_label")}
    assert said == {"actor": "bot", "agent": "bot", "actor_label": "night shift"}
    assert [(event["type"], event["by"]) for event in trace["events"]] == [
        ("created", "bot"),
        ("context_added", "bot"),
        ("approval_requested", "bot"),
        ("approval_granted", "ada"),
        ("closed", "bot"),
    ]
    assert trace["events"][1]["context"] == {"risk": 0.12}

    receipt = api.call("decision_receipt", decision_id=decision_id)
    assert plain(receipt["receipt_data"]) == {
        "decision_id": "decision-…",
        "intent": "customer.order.create",
        "status": "committed",
        "created_at": "time",
        "closed_at": "time",
        "agent_id": "bot",
        "events": 5,
        "head": "sha256",
    }
    assert {"decision_id", "status", "signature", "signed_at"} <= receipt.keys()


def test_a_rejected_decision_is_aborted_and_says_why(api: Api) -> None:
    decision_id = opened(api)
    api.call("decision_request_approval", decision_id=decision_id)
    api.answer(decision_id, "reject", rationale="too much")

    found = api.call("decision_get", decision_id=decision_id)

    assert found["status"] == "aborted"
    assert found["approval_required"] is False
    approval = found["approval"]
    assert (approval["status"], approval["approver"], approval["rationale"]) == (
        "rejected",
        "ada",
        "too much",
    )


def test_rollback_means_abort(api: Api) -> None:
    closed = api.call("decision_close", decision_id=opened(api), action="rollback", reason="no")

    assert closed["status"] == "aborted"


def test_recorded_decisions_are_found_by_meaning_category_and_tags(api: Api) -> None:
    record = {
        "category": "dependency",
        "context": "a queue is needed",
        "rationale": "it is there already",
    }
    first = api.call(
        "decision_record", title="RabbitMQ for jobs", decision="use RabbitMQ", **record
    )
    second = api.call(
        "decision_record",
        title="Postgres for jobs",
        decision="use Postgres as the queue",
        alternatives_considered=[{"option": "Redis", "rejected_because": "one more service"}],
        tags=["queue", "jobs"],
        supersedes=first["decision_id"],
        **record,
    )
    assert plain(second) == {
        "decision_id": "decision-…",
        "status": "committed",
        "created_at": "time",
    }

    found = api.call("decision_search", query="Postgres for jobs queue", category="dependency")
    assert found["count"] == 2
    best = found["decisions"][0]
    assert best["decision_id"] == second["decision_id"]
    assert best["supersedes"] == first["decision_id"]
    assert best["alternatives_considered"] == [
        {"option": "Redis", "rejected_because": "one more service"}
    ]
    assert 0 < best["similarity"] <= 1
    assert found["decisions"][1]["superseded_by"] == second["decision_id"]

    both_tags = api.call("decision_search", tags=["jobs", "queue"], status="committed")
    assert [d["decision_id"] for d in both_tags["decisions"]] == [second["decision_id"]]
    assert api.call("decision_search", tags=["jobs", "nothing"])["count"] == 0


INVALID = [
    ("decision_get", {}, -32600, "decision_id is required"),
    ("decision_get", None, -32600, "decision_id is required"),
    ("decision_get", {"decision_id": None}, -32600, "decision_id is required"),
    (
        "decision_create",
        {"automation_mode": "propose"},
        -32600,
        "intent is required",
    ),
    (
        "decision_create",
        {},
        -32600,
        "intent is required, automation_mode is required",
    ),
    (
        "decision_evaluate",
        {"decision_id": UNKNOWN, "policy_id": "p"},
        -32600,
        "inputs is required",
    ),
    (
        "decision_create",
        {"intent": "a.b", "automation_mode": "yolo"},
        -32602,
        "automation_mode='yolo' is not allowed: "
        "it must be 'propose', 'approve', 'override' or 'autonomous'",
    ),
    (
        "decision_get",
        {"decision_id": 7},
        -32602,
        "decision_id=7 is not allowed: it must be a valid string",
    ),
    (
        "decision_search",
        {"limit": 101},
        -32602,
        "limit=101 is not allowed: it must be less than or equal to 100",
    ),
    (
        "trace_tool_call",
        {
            "trace_id": "t",
            "tool_name": "x",
            "arguments": {},
            "result": None,
            "duration_ms": -1,
            "status": "success",
        },
        -32602,
        "duration_ms=-1 is not allowed: it must be greater than or equal to 0",
    ),
    ("decision_get", {"decision_id": "nonsense"}, -32603, "Decision not found"),
    ("decision_get", {"decision_id": UNKNOWN}, -32603, "Decision not found"),
    ("trace_get", {"trace_id": "nonsense"}, -32603, "Trace not found"),
]
MESSAGES = {-32600: "Invalid Request", -32602: "Invalid params", -32603: "Internal error"}


@pytest.mark.parametrize(("tool", "arguments", "code", "data"), INVALID)
def test_a_call_that_cannot_be_done_says_what_is_wrong(
    api: Api, tool: str, arguments: Any, code: int, data: str
) -> None:
    params = {"name": tool} | ({} if arguments is None else {"arguments": arguments})

    response = api.post({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": params})

    assert response.status_code == 200
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": "q",
        "error": {"code": code, "message": MESSAGES[code], "data": data},
    }


def test_what_the_state_does_not_allow_is_an_error_that_names_it_and_changes_nothing(
    api: Api,
) -> None:
    decision_id = opened(api)
    api.call("decision_request_approval", decision_id=decision_id)
    before = api.call("decision_trace", decision_id=decision_id)

    status, error = api.refused("decision_close", decision_id=decision_id, action="commit")

    assert (status, error["code"], error["message"]) == (200, -32603, "Internal error")
    assert "needs_approval" in error["data"]
    assert api.call("decision_trace", decision_id=decision_id) == before


def test_an_unknown_policy_is_an_invalid_parameter(api: Api) -> None:
    status, error = api.refused(
        "decision_evaluate", decision_id=opened(api), policy_id="nope", inputs={"a": 1}
    )

    assert (status, error["code"], error["message"]) == (200, -32602, "Invalid params")
    assert "'nope'" in error["data"]


MALFORMED = [
    (b"", None, -32700, "Parse error"),
    (b'{"jsonrpc": "2.0", ', None, -32700, "Parse error"),
    (b"\xff\xfe", None, -32700, "Parse error"),
    (b'{"jsonrpc": "2.0", "id": 3, "method": "x", "params": {', 3, -32700, "Parse error"),
    (b'{"method":"x","params":{"id":9,"a":\'},"jsonrpc":"2.0","id":"q"}', "q", -32700, None),
    (b'{"params":{"id":9,"a":.5},"id":3,"method":"x","jsonrpc":"2.0"} ', 3, -32700, None),
    (b'{"jsonrpc":"2.0","method":"x","params":{"a":.5,"id":9}}', None, -32700, None),
    (b"null", None, -32600, "Invalid Request"),
    (b"[]", None, -32600, "Invalid Request"),
    (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', None, -32600, "Invalid Request"),
    (b"{}", None, -32600, "Invalid Request"),
    (b'{"id": 3, "method": "ping"}', 3, -32600, "Invalid Request"),
    (b'{"jsonrpc": "1.0", "id": 3, "method": "ping"}', 3, -32600, "Invalid Request"),
    (b'{"jsonrpc": "2.0", "id": 3}', 3, -32600, "Invalid Request"),
    (b'{"jsonrpc": "2.0", "id": 3, "method": 5}', 3, -32600, "Invalid Request"),
    (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', None, -32600, "Invalid Request"),
    (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', 1.5, -32600, "Invalid Request"),
    (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', None, -32600, "Invalid Request"),
    (b'{"jsonrpc": "2.0", "id": 3, "method": "ping", "params": [1]}', 3, -32602, "Invalid params"),
    (b'{"jsonrpc": "2.0", "id": 3, "method": "tools/call"}', 3, -32600, "Invalid Request"),
    (
        b'{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": 1}}',
        3,
        -32602,
        "Invalid params",
    ),
    (
        b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"x","arguments":[1]}}',
        3,
        -32602,
        "Invalid params",
    ),
    (
        b'{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "no_such"}}',
        3,
        -32601,
        "Method not found",
    ),
    (b'{"jsonrpc": "2.0", "id": 3, "method": "no/such"}', 3, -32601, "Method not found"),
    (b'{"jsonrpc": "2.0", "id": 3, "method": "resources/list"}', 3, -32601, "Method not found"),
    (b'{"jsonrpc": "2.0", "id": 3, "method": "initialize"}', 3, -32602, "Invalid params"),
]


@pytest.mark.parametrize(("body", "request_id", "code", "message"), MALFORMED)
def test_what_is_no_request_gets_the_error_of_json_rpc_in_http_200(
    api: Api, body: bytes, request_id: int | str | None, code: int, message: str | None
) -> None:
    response = api.post(body)

    assert response.status_code == 200
    answer = response.json()
    error = answer.pop("error")
    assert answer == {"jsonrpc": "2.0", "id": request_id}
    assert error["code"] == code
    assert message is None or error["message"] == message
    assert isinstance(error["data"], str)
    assert error["data"]


@pytest.mark.parametrize("path", MCP_PATHS)
@pytest.mark.parametrize("key", [None, "", "atk_", "atk_000000000000_" + "A" * 43, "\x7f"])
def test_without_a_valid_key_the_answer_is_401(api: Api, path: str, key: str | None) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    response = api.post(body, by=key, path=path)

    assert response.status_code == 401
    assert "Agent" in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("path", MCP_PATHS)
def test_only_post_is_served(api: Api, path: str) -> None:
    response = api.client.get(path, headers={"Authorization": f"Bearer {api.keys['bot']}"})

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


def test_a_body_of_another_kind_is_refused(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.keys['bot']}", "Content-Type": "text/plain"}

    assert api.client.post("/mcp", content=b"{}", headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1:8484", 200),
        ("http://[::1]:1", 200),
        ("http://evil.example.com", 403),
        ("http://localhost.evil.example.com", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_a_page_of_a_foreign_site_may_not_call(api: Api, origin: str, status: int) -> None:
    response = api.client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "ping"},
        headers={"Authorization": f"Bearer {api.keys['bot']}", "Origin": origin},
    )

    assert response.status_code == status


def test_a_key_that_asks_too_much_is_told_when_to_ask_again(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    with open_api(tmp_path / "store", requests_per_second=0.01, request_burst=1) as api:
        assert api.post(body).status_code == 200

        response = api.post(body)

        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 100
        assert api.post(body, by="other").status_code == 200


def test_a_limit_that_a_tool_hits_is_429_too(tmp_path: Path) -> None:
    with open_api(tmp_path / "store", max_open_traces=1) as api:
        api.call("trace_start", task="t", session_id="s")

        response = api.response("trace_start", {"task": "t", "session_id": "s"})

        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
        assert response.json()["error"]["code"] == -32603


# --- who may do what

FILLED: dict[str, Any] = {
    "intent": "a.b",
    "automation_mode": "propose",
    "context": {"a": 1},
    "policy_id": "p",
    "inputs": {"a": 1},
    "action": "abort",
    "thought": "t",
    "tool_name": "x",
    "arguments": {},
    "result": None,
    "duration_ms": 1,
    "status": "success",
    "outcome": "done",
    "success": True,
    "task": "t",
    "session_id": "s",
    "query": "q",
    "title": "t",
    "category": "other",
    "decision": "d",
    "rationale": "r",
}
"""A value for each parameter that some tool requires beside ids."""


def filled(tool: str, **ids: str) -> dict[str, Any]:
    """Return arguments with which a tool of one decision or trace can be called."""
    required = TOOLS[tool].input_schema.get("required", [])
    given = {name: FILLED[name] for name in required if name not in ids and name != "action"}
    if "action" in required:
        given["action"] = "abort" if tool.startswith("decision") else "call x"
    if tool == "decision_evaluate":
        given["inputs"] = {"a": 1}
    if tool == "decision_record":
        given["context"] = "a text, here"
    return given | ids


OF_ONE = {
    id_name: [
        name for name, tool in TOOLS.items() if id_name in tool.input_schema.get("required", [])
    ]
    for id_name in ("decision_id", "trace_id")
}
ALL_OF_ONE = [(tool, id_name) for id_name, tools in OF_ONE.items() for tool in tools]


def made(api: Api, id_name: str) -> str:
    if id_name == "decision_id":
        return opened(api)
    return api.call("trace_start", task="something", session_id="s")["trace_id"]


@pytest.mark.parametrize(("tool", "id_name"), ALL_OF_ONE)
def test_another_tenants_things_do_not_exist(api: Api, tool: str, id_name: str) -> None:
    arguments = filled(tool, **{id_name: made(api, id_name)})

    status, error = api.refused(tool, by="foreign", **arguments)

    assert (status, error["code"], error["message"]) == (200, -32603, "Internal error")
    assert error["data"] in ("Decision not found", "Trace not found")


@pytest.mark.parametrize("by", ["other", "approver"])
@pytest.mark.parametrize(("tool", "id_name"), [t for t in ALL_OF_ONE if TOOLS[t[0]].changes])
def test_what_is_another_agents_cannot_be_changed(
    api: Api, tool: str, id_name: str, by: str
) -> None:
    made_id = made(api, id_name)
    look = "decision_trace" if id_name == "decision_id" else "trace_get"
    before = api.call(look, **{id_name: made_id})

    status, error = api.refused(tool, by=by, **filled(tool, **{id_name: made_id}))

    assert (status, error["code"], error["message"]) == (403, -32603, "Internal error")
    assert "another agent" in error["data"]
    assert api.call(look, **{id_name: made_id}) == before


@pytest.mark.parametrize("by", ["other", "approver", "admin"])
def test_traces_and_recorded_decisions_are_for_every_agent_of_the_tenant(api: Api, by: str) -> None:
    said = dict.fromkeys(("title", "context", "decision", "rationale"), "said")
    recorded = api.call("decision_record", category="other", **said)["decision_id"]
    trace_id = made(api, "trace_id")

    assert api.call("decision_get", by=by, decision_id=recorded)["status"] == "committed"
    assert api.call("trace_get", by=by, trace_id=trace_id)["agent"] == "bot"


@pytest.mark.parametrize("tool", ["decision_get", "decision_trace", "decision_receipt"])
def test_an_agent_does_not_see_the_envelope_of_another_one(api: Api, tool: str) -> None:
    decision_id = opened(api)
    api.call("decision_close", decision_id=decision_id, action="commit")

    status, error = api.refused(tool, by="other", decision_id=decision_id)

    assert (status, error["code"], error["message"]) == (403, -32603, "Internal error")
    assert "another agent" in error["data"]
    for by in ("bot", "approver", "admin"):
        assert api.call(tool, by=by, decision_id=decision_id)["status"] == "committed"


def test_an_admin_changes_what_is_another_agents(api: Api) -> None:
    decision_id = opened(api)

    closed = api.call("decision_close", by="admin", decision_id=decision_id, action="abort")

    assert closed["status"] == "aborted"
    assert api.call("decision_trace", decision_id=decision_id)["agent"] == "bot"


@pytest.mark.parametrize("wrong", list(WRONG))
@pytest.mark.parametrize("path", MCP_PATHS)
def test_no_tool_is_called_without_a_valid_key(api: Api, path: str, wrong: str) -> None:
    ids = {id_name: made(api, id_name) for id_name in OF_ONE}
    looks = {"decision_id": "decision_trace", "trace_id": "trace_get"}
    before = [api.call(look, **{name: ids[name]}) for name, look in looks.items()]
    header = WRONG[wrong](api.app)
    headers = {} if header is None else {"Authorization": header}

    for tool in TOOLS:
        required = TOOLS[tool].input_schema.get("required", [])
        given = filled(tool, **{name: ids[name] for name in ids.keys() & set(required)})
        params = {"name": tool, "arguments": given}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = api.client.post(path, json=body, headers=headers)
        assert answer.status_code == 401, f"{tool}: {answer.text}"
        assert "result" not in answer.json(), tool

    assert [api.call(look, **{name: ids[name]}) for name, look in looks.items()] == before


@pytest.mark.parametrize("tool", sorted(TOOLS.keys() - {tool for tool, _ in ALL_OF_ONE}))
def test_what_a_tool_finds_is_of_ones_own_tenant(api: Api, tool: str) -> None:
    said = dict.fromkeys(("title", "context", "decision", "rationale"), "only-here")
    recorded = api.call("decision_record", category="other", **said)["decision_id"]
    trace_id = api.call("trace_start", task="only-here", session_id="s")["trace_id"]
    call: dict[str, Any] = {
        "tool_name": "only-here",
        "arguments": {},
        "result": 1,
        "duration_ms": 1,
    }
    api.call("trace_tool_call", trace_id=trace_id, status="success", **call)
    api.call("trace_complete", trace_id=trace_id, outcome="only-here", success=True)
    optional = TOOLS[tool].input_schema["properties"]
    named = {"trace_id": trace_id, "supersedes": recorded}
    asked = {"query": "only-here"} if "query" in optional else {}

    seen = api.response(tool, filled(tool) | asked, by="foreign")
    assert seen.status_code == 200
    for found in ("only-here", trace_id, recorded):
        assert found not in seen.text
    for name in named.keys() & optional.keys():
        status, error = api.refused(tool, by="foreign", **filled(tool) | {name: named[name]})
        assert status == 200
        assert "not found" in error["data"].lower() or "no " in error["data"], error


def test_a_revoked_key_is_no_key(api: Api) -> None:
    made_key = api.served.keys.create("bot", "default", "agent")
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert api.post(body, by=made_key.key).status_code == 200

    api.served.keys.revoke(made_key.key_id)

    assert api.post(body, by=made_key.key).status_code == 401
