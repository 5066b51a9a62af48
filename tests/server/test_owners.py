"""Who may add to a trace, whose it reads as, and what of it a key sees: with several keys."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace.base import grants
from autotrace.base.grants import GrantSigner, signer_of_key
from tests.embedders import HashEmbedder

from .serving import DECISIONS, TRACES, App, Client, application

PATH = "/v1/traces"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """A server over a store of this test alone."""
    with application(tmp_path / "store") as app:
        yield app


def span(trace: str, span_id: str, parent: str | None = None, **attributes: Any) -> dict[str, Any]:
    now = time.time_ns()
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    grant = named.pop("grant", None)
    made = {
        "traceId": trace,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": "any",
        "startTimeUnixNano": str(now - 10**6),
        "endTimeUnixNano": str(now),
        "attributes": [
            {"key": k, "value": {"boolValue" if isinstance(v, bool) else "stringValue": v}}
            for k, v in named.items()
        ],
        "traceState": grant and f"other=1,autotrace={grant}",
    }
    return {key: value for key, value in made.items() if value is not None}


def a_task(trace: str, span_id: str, outcome: str, parent: str | None = None, **more: Any) -> Any:
    told = {"autotrace__kind": "task", "autotrace__task": "pay", "autotrace__outcome": outcome}
    return span(trace, span_id, parent, **told, autotrace__success=True, **more)


def a_call(trace: str, name: str, parent: str, span_id: str | None = None, **more: Any) -> Any:
    told = {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": name}
    return span(trace, span_id or secrets.token_hex(8), parent, **told, **more)


def send(client: Client, *spans: Any) -> Any:
    scope = {"scope": {"name": "autotrace"}, "spans": list(spans)}
    answer = client.post(PATH, {"resourceSpans": [{"scopeSpans": [scope]}]})
    assert answer.status_code == 200
    return answer.json()


def tools(client: Client, trace_id: str) -> list[str]:
    steps = client.get(f"{TRACES}/{trace_id}").json()["steps"]
    return [call["tool_name"] for step in steps for call in step["tool_calls"]]


def begun(client: Client, task: str = "pay") -> tuple[str, str, str]:
    """Begin a trace over REST; return its id, and those of OpenTelemetry."""
    body = {"task": task, "session_id": "s"}
    trace_id = client.post(f"{TRACES}/start", body).json()["trace_id"]
    _, trace, task_span = trace_id.split("-")
    return trace_id, trace, task_span


def granted(client: Client, trace: str, at_s: float | None = None) -> str:
    signer = signer_of_key(client.key)
    assert signer is not None
    return signer.grant(trace, time.time() if at_s is None else at_s)


@pytest.mark.parametrize("first", ["ann", "bob"])
def test_a_forged_end_changes_nothing_whoever_sends_first(app: App, first: str) -> None:
    ann, bob, carol = (app.client(name) for name in ("ann", "bob", "carol"))
    trace, task = secrets.token_hex(16), secrets.token_hex(8)
    sends = {
        "ann": lambda: send(ann, a_task(trace, task, "paid"), a_call(trace, "search", task)),
        "bob": lambda: send(bob, a_task(trace, task, "FORGED"), a_call(trace, "forged", task)),
    }
    for name in sorted(sends, key=lambda name: name != first):
        sends[name]()

    own = ann.get(f"{TRACES}/trace-{trace}-{task}").json()
    assert (own["outcome"], own["recorded_by"]) == ("paid", "ann")
    assert tools(ann, f"trace-{trace}-{task}") == ["search"]
    listed = carol.get(TRACES).json()["traces"]
    assert {(t["recorded_by"], t["outcome"]) for t in listed} == {
        ("ann", "paid"),
        ("bob", "FORGED"),
    }
    for each in listed:
        assert carol.get(f"{TRACES}/{each['trace_id']}").json()["outcome"] == each["outcome"]


@pytest.mark.parametrize("role", ["agent", "approver", "admin"])
def test_nobody_s_key_adds_to_another_agent_s_open_trace_without_a_grant(
    app: App, role: Any
) -> None:
    ann, other = app.client("ann"), app.client("other", role)
    trace_id, trace, task = begun(ann)
    step_id = ann.post(f"{TRACES}/{trace_id}/step", {"thought": "t", "action": "a"}).json()
    step = step_id["step_id"].split("-")[2]

    for parent in (task, step, secrets.token_hex(8), ""):
        answer = send(other, a_call(trace, "forged", parent))
        assert answer["partialSuccess"]["rejectedSpans"] == "1"
        assert "inject()" in answer["partialSuccess"]["errorMessage"]

    assert tools(ann, trace_id) == []
    assert send(ann, a_call(trace, "own", step)) == {}
    assert tools(ann, trace_id) == ["own"]


def test_with_a_grant_another_key_adds_and_changes_nothing(app: App) -> None:
    ann, bob = app.client("ann"), app.client("bob")
    trace_id, trace, task = begun(ann)
    grant = granted(ann, trace)
    below = secrets.token_hex(8)

    assert send(bob, a_call(trace, "added", task, grant=grant)) == {}
    assert send(app.client("eve"), a_task(trace, task, "FORGED", grant=grant)) == {}
    assert send(bob, a_task(trace, below, "bob's part", task, grant=grant)) == {}
    assert ann.get(f"{TRACES}/{trace_id}").json()["status"] == "active"
    ann.post(f"{TRACES}/{trace_id}/complete", {"outcome": "paid", "success": True})

    assert ann.get(f"{TRACES}/{trace_id}").json()["outcome"] == "paid"
    assert tools(ann, trace_id) == ["added"]
    part = bob.get(f"{TRACES}/trace-{trace}-{below}").json()
    assert (part["recorded_by"], part["parent_trace_id"]) == ("bob", trace_id)
    assert ann("delete", f"{TRACES}/trace-{trace}-{below}").status_code == 403


def test_a_grant_holds_for_its_trace_its_time_and_an_unrevoked_key(app: App) -> None:
    ann, bob, elsewhere = app.client("ann"), app.client("bob"), app.client("eve", tenant="acme")
    trace_id, trace, task = begun(ann)
    right = granted(ann, trace)
    wrong = [
        granted(ann, secrets.token_hex(16)),
        granted(ann, trace, time.time() - grants.LIFETIME_S - 1),
        granted(bob, secrets.token_hex(16)),
        right[:-1] + ("A" if right[-1] != "A" else "B"),
        right.replace("1.", "1.0", 1),
        GrantSigner("local", b"\0" * 32).grant(trace, time.time()),
        granted(elsewhere, trace),
        "",
        "x" * 10_000,
    ]
    for grant in wrong:
        assert "partialSuccess" in send(bob, a_call(trace, "forged", task, grant=grant)), grant
    principal = app.served.keys.authenticate(ann.key)
    assert principal is not None
    app.served.keys.revoke(principal.key_id)
    assert "partialSuccess" in send(bob, a_call(trace, "forged", task, grant=right))
    del app.clients["ann", "agent", "default"]
    assert tools(app.client("ann"), trace_id) == []


def test_a_program_of_the_library_grants_with_its_store_s_secret(
    app: App, request: pytest.FixtureRequest
) -> None:
    bob = app.client("bob")
    autotrace.configure(
        app.served.settings.store, embedder=HashEmbedder(), agent="ann", flush_interval_ms=0
    )
    request.addfinalizer(autotrace.shutdown)
    with autotrace.task("pay the invoice") as running:
        headers = autotrace.inject()
        _, trace, parent, _ = headers["traceparent"].split("-")
        grant = grants.grant_in(headers["tracestate"])
        assert grant is not None
        assert len(headers["tracestate"]) <= 256
        send(bob, a_call(trace, "added", parent, grant=grant))
        send(bob, a_call(trace, "not_granted", parent))
        send(app.client("eve"), a_task(trace, parent, "FORGED", grant=grant))
        send(bob, a_task(trace, parent, "FORGED"))
        running.complete("paid 10 EUR")
    autotrace.flush()

    found = autotrace.get_trace(running.trace_id)
    assert (found.outcome, found.recorded_by) == ("paid 10 EUR", None)
    assert [call.tool_name for call in found.tool_calls] == ["added"]
    assert bob.get(f"{TRACES}/{running.trace_id}").json()["outcome"] == "paid 10 EUR"
    assert bob("delete", f"{TRACES}/{running.trace_id}").status_code == 403
    assert app.client("ann")("delete", f"{TRACES}/{running.trace_id}").status_code == 204


def test_who_calls_itself_by_another_name_owns_nothing_of_that_agent(app: App) -> None:
    ann, bob = app.client("ann"), app.client("bob")
    trace, task = secrets.token_hex(16), secrets.token_hex(8)
    send(ann, a_task(trace, task, "mine", gen_ai__agent__name="bob"))
    trace_id = f"trace-{trace}-{task}"

    assert bob("delete", f"{TRACES}/{trace_id}").status_code == 403
    body = {"outcome": "mine", "success": True}
    assert bob.post(f"{TRACES}/{trace_id}/complete", body).status_code == 403
    assert ann("delete", f"{TRACES}/{trace_id}").status_code == 204


def mcp(client: Client, tool: str, **arguments: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    answer = client.post("/mcp", call | {"params": {"name": tool, "arguments": arguments}})
    return answer.json()


def test_recall_says_whose_key_and_can_be_kept_to_agents(app: App) -> None:
    ann, bob = app.client("ann"), app.client("bob")
    for client, name in [(bob, "ann")] * 5 + [(ann, "ann")] + [(bob, "ann")] * 5:
        ids = secrets.token_hex(16), secrets.token_hex(8)
        send(client, a_task(*ids, "done", gen_ai__agent__name=name))

    body = {"query": "pay", "limit": 50}
    found = ann.post(f"{TRACES}/recall", body).json()["results"]
    assert sorted(each["recorded_by"] for each in found) == ["ann", "bob", "bob"]
    only = ann.post(f"{TRACES}/recall", body | {"agents": ["ann"]}).json()["results"]
    over_mcp = mcp(ann, "trace_recall", query="pay", agents=["ann"])["result"]["structuredContent"]
    assert only == over_mcp["results"]
    assert [each["recorded_by"] for each in only] == ["ann"]


def test_a_list_flooded_by_one_agent_can_be_kept_to_others_page_by_page(app: App) -> None:
    ann, bob = app.client("ann"), app.client("bob")
    own = []
    for number in range(5):
        own.insert(0, begun(ann, f"of ann {number}")[0])
        for _ in range(20):
            ids = secrets.token_hex(16), secrets.token_hex(8)
            send(bob, a_task(*ids, "forged", gen_ai__agent__name="ann"))

    assert {each["recorded_by"] for each in ann.get(f"{TRACES}?limit=20").json()["traces"]} == {
        "bob"
    }
    pages: list[str] = []
    where = f"{TRACES}?agents=ann&agents=carol&limit=2"
    after = ""
    while True:
        page = ann.get(f"{where}{after}").json()
        assert page["count"] == len(page["traces"]) <= 2
        pages += [each["trace_id"] for each in page["traces"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert pages == own
    assert ann.get(f"{TRACES}?agents=carol").json()["traces"] == []
    assert ann.get(f"{TRACES}?agent=ann&agents=ann").json()["count"] == 5


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (f"{TRACES}?recorded_by=ann", "status, session_id, agent, agents, limit, after"),
        (f"{TRACES}/tool_stats?tool=a", "limit, after"),
        (f"{DECISIONS}?agent=ann", "status, category, actor, limit, after"),
    ],
)
def test_a_list_refuses_a_filter_that_it_does_not_know(app: App, path: str, known: str) -> None:
    answer = app.client("ann").get(path)

    (problem,) = answer.json()["detail"]
    name = path.partition("?")[2].partition("=")[0]
    assert (answer.status_code, problem["loc"]) == (422, ["query", name])
    assert problem["msg"] == f"this is not known here: there are {known}"


@pytest.mark.parametrize("field", ["recorded_by", "own", "agnets"])
def test_recall_refuses_a_field_that_it_does_not_know(app: App, field: str) -> None:
    ann = app.client("ann")
    known = "query, success_only, limit, agents"

    answer = ann.post(f"{TRACES}/recall", {"query": "pay", field: ["ann"]})
    (problem,) = answer.json()["detail"]
    assert (answer.status_code, problem["loc"]) == (422, ["body", field])
    assert problem["msg"] == f"this is not known here: there are {known}"
    error = mcp(ann, "trace_recall", query="pay", **{field: ["ann"]})["error"]
    assert error["code"] == -32602
    assert error["data"] == f"{field}=['ann'] is not allowed: there are {known}, max_bytes"
    error = mcp(ann, "decision_search", **{field: ["ann"]})["error"]
    assert error["code"] == -32602


def test_an_empty_list_of_agents_is_refused_and_does_not_mean_everybody(app: App) -> None:
    ann = app.client("ann")

    assert ann.post(f"{TRACES}/recall", {"query": "pay", "agents": []}).status_code == 422
    assert mcp(ann, "trace_recall", query="pay", agents=[])["error"]["code"] == -32602


def test_operations_that_record_ignore_fields_that_they_do_not_know(app: App) -> None:
    body = {"task": "pay", "session_id": "s", "namespace": "of another server"}
    assert app.client("ann").post(f"{TRACES}/start", body).status_code == 200


def test_a_search_of_decisions_is_as_if_there_were_none_that_it_may_not_show(app: App) -> None:
    ann, bob = app.client("ann"), app.client("bob")

    def record(client: Client, title: str) -> None:
        fields = {"category": "infra", "context": "c", "decision": "d", "rationale": "r"}
        assert "result" in mcp(client, "decision_record", title=title, **fields)

    record(ann, "pay the invoice of the printer")
    record(bob, "pay the invoice of the paper")
    for _ in range(12):
        arguments = {"intent": "pay.the.invoice", "automation_mode": "propose"}
        created = mcp(bob, "decision_create", **arguments)["result"]["structuredContent"]
        closing = {"decision_id": created["decision_id"], "action": "commit"}
        assert "result" in mcp(bob, "decision_close", **closing, reason="pay the invoice")

    for query in ({}, {"query": "pay the invoice"}):
        found = mcp(ann, "decision_search", limit=2, **query)["result"]["structuredContent"]
        assert (found["count"], len(found["decisions"])) == (2, 2)
        assert {each["category"] for each in found["decisions"]} == {"infra"}
    listed = ann.get(f"{DECISIONS}?limit=2").json()
    assert [each["category"] for each in listed["decisions"]] == ["infra", "infra"]


SECRET = "SECRET-4711"


def test_no_answer_shows_an_agent_what_is_in_another_s_envelope(app: App) -> None:
    """Of any operation of the OpenAPI document, and any tool of MCP."""
    from .openapi import operations

    owner, other, approver = app.client("owner"), app.client("other"), app.client("a", "approver")
    trace_id, _, _ = begun(owner, "raise the salary")
    arguments = {"intent": "salary.raise", "automation_mode": "approve", "trace_id": trace_id}
    content = {f"{SECRET}-key": f"{SECRET}-value"}
    created = mcp(owner, "decision_create", **arguments, metadata=content)
    decision_id = created["result"]["structuredContent"]["decision_id"]
    mcp(owner, "decision_add_context", decision_id=decision_id, context=content, summary=SECRET)
    ask = {"title": f"{SECRET}-title", "message": SECRET}
    mcp(owner, "decision_request_approval", decision_id=decision_id, **ask)
    approver.post(f"{DECISIONS}/{decision_id}/reject", {"rationale": f"{SECRET}-why"})
    owner.post(f"{TRACES}/{trace_id}/complete", {"outcome": "no", "success": False})
    things = {"trace_id": trace_id, "decision_id": decision_id}
    hidden = (SECRET, decision_id)

    assert SECRET in owner.get(f"{TRACES}/{trace_id}").text
    assert SECRET in approver.get(f"{TRACES}/{trace_id}").text
    assert decision_id in owner.get(TRACES).text
    for operation in operations(app.http.get("/openapi.json").json()):
        path = operation.path.format(**things)
        answer = other(operation.method, path, operation.body())
        named = hidden if "decision_id" not in operation.names else (SECRET,)
        assert not [each for each in named if each in answer.text], f"{operation}: {answer.text}"
    recalling = {"query": "raise the salary", "success_only": False}
    assert decision_id not in other.post(f"{TRACES}/recall", recalling).text
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for tool in other.post("/mcp", listing).json()["result"]["tools"]:
        schema = tool["inputSchema"]
        given = {
            name: things.get(name) or _example(field)
            for name, field in schema["properties"].items()
            if name in schema.get("required", ()) or name in things
        }
        assert SECRET not in json.dumps(mcp(other, tool["name"], **given)), tool["name"]


def test_what_may_not_be_seen_takes_no_place_in_a_search(app: App) -> None:
    ann, bob = app.client("ann"), app.client("bob")

    def called(client: Client, tool: str, **arguments: Any) -> Any:
        return mcp(client, tool, **arguments)["result"]["structuredContent"]

    text = "the merger with initech"
    called(
        bob,
        "decision_record",
        title="lunch",
        category="architecture",
        context="noon",
        decision="soup",
        rationale="hungry",
    )
    for _ in range(3):
        hidden = called(ann, "decision_create", intent="merge", automation_mode="approve")
        called(
            ann,
            "decision_request_approval",
            decision_id=hidden["decision_id"],
            title=text,
            message=text,
        )

    def found(query: str | None) -> list[str]:
        given = {} if query is None else {"query": query}
        answer = called(bob, "decision_search", limit=1, **given)
        return [each["title"] for each in answer["decisions"]]

    # With one result less than there could be, bob would know that ann's envelope means this.
    assert (found(text), found("lunch"), found(None)) == (["lunch"], ["lunch"], ["lunch"])
    for limit in (1, 3):
        assert called(ann, "decision_search", query=text, limit=limit)["count"] == limit


def _example(field: Any) -> Any:
    kinds: dict[Any, Any] = {"object": {"a": 1}, "integer": 1, "boolean": False, "array": []}
    return field["enum"][0] if "enum" in field else kinds.get(field.get("type"), "salary.raise")


def test_every_order_of_three_senders_gives_each_their_own(app: App) -> None:
    names = ["ann", "bob", "carol"]
    for order in itertools.permutations(names):
        trace, task = secrets.token_hex(16), secrets.token_hex(8)
        for name in order:
            send(app.client(name), a_task(trace, task, f"of {name}"))
        for name in names:
            found = app.client(name).get(f"{TRACES}/trace-{trace}-{task}").json()
            assert (found["outcome"], found["recorded_by"]) == (f"of {name}", name)
