"""Every operation of the OpenAPI document, with every wrong key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autotrace.decision_requests import DecisionRequest
from autotrace.models import ApprovalRequest

from .openapi import Operation, operations
from .serving import DECISIONS, TRACES, App, Client

OPEN = {"/health", "/health/live"}
"""What may be asked without a key."""


@pytest.fixture(scope="module")
def all_operations(app: App) -> list[Operation]:
    return list(operations(app.http.get("/openapi.json").json()))


@pytest.fixture(scope="module")
def things(app: App) -> dict[str, str]:
    """A trace and a decision of the agent `owner`."""
    owner = app.client("owner")
    started = owner.post(f"{TRACES}/start", {"task": "owned", "session_id": "s1"}).json()
    principal = app.served.keys.authenticate(owner.key)
    assert principal is not None
    with app.served.lease(principal) as tenant:
        decision = tenant.decisions(principal).create(DecisionRequest("x.y", "approve"))
        tenant.decisions(principal).request_approval(
            decision.decision_id, ApprovalRequest(title="May I?")
        )
    return {"trace_id": started["trace_id"], "decision_id": decision.decision_id}


def ask(client: Client, operation: Operation, things: dict[str, str], **options: Any) -> Any:
    path = operation.path.format(**things)
    return client(operation.method, path, operation.body(), **options)


def standing(app: App, things: dict[str, str]) -> list[Any]:
    """Return how the trace and the decision stand."""
    owner = app.client("owner")
    return [
        owner.get(f"{TRACES}/{things['trace_id']}").json(),
        owner.get(f"{DECISIONS}/{things['decision_id']}").json(),
    ]


def test_every_operation_needs_a_key_but_those_that_may_be_open(
    all_operations: list[Operation],
) -> None:
    assert {each.path for each in all_operations if not each.needs_key} == OPEN
    assert len(all_operations) >= 15


def _revoked(app: App) -> str:
    made = app.served.keys.create("owner", "default", "admin")
    app.served.keys.revoke(made.key_id)
    return f"Bearer {made.key}"


def _of_another_secret(app: App) -> str:
    right, other = (app.served.keys.create("owner", "default", "admin") for _ in range(2))
    return f"Bearer atk_{right.key_id}_{other.key[-49:]}"


WRONG: dict[str, Callable[[App], str | None]] = {
    "none": lambda _: None,
    "empty": lambda _: "",
    "scheme alone": lambda _: "Bearer",
    "nothing after the scheme": lambda _: "Bearer ",
    "nonsense": lambda _: "Bearer nonsense",
    "another scheme": lambda app: f"Basic {app.client('owner', 'admin').key}",
    "no scheme": lambda app: app.client("owner", "admin").key,
    "unknown": lambda _: f"Agent atk_{'0' * 12}_{'A' * 43}",
    "cut": lambda app: f"Bearer {app.client('owner', 'admin').key[:-1]}",
    "revoked": _revoked,
    "of another secret": _of_another_secret,
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_without_a_valid_key_nothing_is_answered_or_changed(
    app: App, all_operations: list[Operation], things: dict[str, str], wrong: str
) -> None:
    before = standing(app, things)
    header = WRONG[wrong](app)
    headers = {} if header is None else {"Authorization": header}

    for operation in all_operations:
        # A wrong parameter or body does not come before the key.
        body = operation.body()
        wrong_body = None if body is None else {"unknown": 1}
        requests: list[tuple[dict[str, str], Any]] = [({}, body), ({"unknown": "1"}, wrong_body)]
        for query, sent in requests if operation.needs_key else []:
            answer = app.http.request(
                operation.method,
                operation.path.format(**things),
                params=query,
                json=sent,
                headers=headers,
            )
            assert answer.status_code == 401, f"{operation}: {answer.text}"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert things["trace_id"] not in answer.text

    assert standing(app, things) == before


def test_another_tenant_s_things_do_not_exist(
    app: App, all_operations: list[Operation], things: dict[str, str]
) -> None:
    before = standing(app, things)
    foreign = app.client("owner", "admin", "acme")

    for operation in all_operations:
        if not operation.needs_key:
            continue
        answer = ask(foreign, operation, things)
        if operation.names:
            assert answer.status_code == 404, f"{operation}: {answer.text}"
        else:
            assert "owned" not in answer.text, operation
            assert things["decision_id"] not in answer.text, operation

    assert standing(app, things) == before


@pytest.mark.parametrize("role", ["agent", "approver"])
def test_another_agent_s_key_reads_and_changes_nothing(
    app: App, all_operations: list[Operation], things: dict[str, str], role: Any
) -> None:
    before = standing(app, things)
    other = app.client("other", role)

    for operation in all_operations:
        if not operation.names:
            continue
        if operation.method == "GET":
            is_hidden = role == "agent" and "decision_id" in operation.names
            assert ask(other, operation, things).status_code == (403 if is_hidden else 200)
        elif "trace_id" in operation.names or role == "agent":
            answer = ask(other, operation, things)
            assert answer.status_code == 403, f"{operation}: {answer.text}"

    assert standing(app, things) == before


@pytest.mark.parametrize("role", ["agent", "approver", "admin"])
def test_nobody_answers_what_their_own_agent_asks(
    app: App, all_operations: list[Operation], things: dict[str, str], role: Any
) -> None:
    before = standing(app, things)
    own = app.client("owner", role)

    for operation in all_operations:
        if "decision_id" in operation.names and operation.method != "GET":
            answer = ask(own, operation, things)
            assert answer.status_code == 403, f"{operation}: {answer.text}"

    assert standing(app, things) == before


@pytest.mark.parametrize(
    ("role", "tenant"), [("agent", "default"), ("approver", "default"), ("admin", "acme")]
)
def test_metrics_are_for_those_who_run_the_server(app: App, role: Any, tenant: str) -> None:
    assert app.client("watcher", role, tenant).get("/metrics").status_code == 403
    assert app.client("watcher", "admin").get("/metrics").status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Agent", "AGENT"])
def test_both_schemes_open_every_endpoint(app: App, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {app.client('owner').key}"}

    assert app.http.get(f"{TRACES}/tool_stats", headers=headers).status_code == 200


def test_a_stranger_s_body_is_not_looked_at(app: App) -> None:
    answer = app.http.post(f"{TRACES}/start", content=b"x" * (5 * 1024 * 1024))

    assert answer.status_code == 401
