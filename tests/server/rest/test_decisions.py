"""Decisions over REST: what waits is listed and answered, once, by who may."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from autotrace.decision_requests import DecisionRequest
from autotrace.decisions import cedar_policies, policies, votes
from autotrace.decisions.receipts import ReceiptSigner
from autotrace.models import ApprovalRequest, DecisionTrace
from tests.server.serving import DECISIONS, App, Client, problem

RULE = {"title": "t", "category": "convention", "context": "c", "decision": "d", "rationale": "r"}


def asked(app: App, intent: str, **request: Any) -> str:
    """Have the agent `owner` ask for approval; return the decision's id."""
    by = app.served.keys.authenticate(app.client("owner").key)
    assert by is not None
    with app.served.lease(by) as tenant:
        decision = tenant.decisions(by).create(DecisionRequest(intent, "approve"))
        tenant.decisions(by).request_approval(
            decision.decision_id, ApprovalRequest(title="May I?", **request)
        )
    return decision.decision_id


@pytest.mark.parametrize(("answer", "status"), [("approve", "approved"), ("reject", "aborted")])
def test_an_answer_needs_no_body(app: App, answer: str, status: str) -> None:
    decision_id = asked(app, f"without.{answer}")

    answered = app.client("ada", "approver").post(f"{DECISIONS}/{decision_id}/{answer}", None)

    assert (answered.status_code, answered.json()["status"]) == (200, status)
    assert answered.json()["approval"]["rationale"] is None


def test_what_waits_is_listed_until_it_is_answered(app: App) -> None:
    ada = app.client("ada", "approver")
    first, second = asked(app, "first.one"), asked(app, "second.one")

    waiting = [each["decision_id"] for each in ada.get(f"{DECISIONS}/pending").json()["decisions"]]
    assert [each for each in waiting if each in (first, second)] == [first, second]

    approved = ada.post(f"{DECISIONS}/{first}/approve", {"rationale": "within budget"})
    rejected = ada.post(f"{DECISIONS}/{second}/reject", {})

    assert (approved.json()["status"], approved.json()["approval"]["approver"]) == (
        "approved",
        "ada",
    )
    assert approved.json()["approval"]["rationale"] == "within budget"
    assert (rejected.json()["status"], rejected.json()["approval"]["status"]) == (
        "aborted",
        "rejected",
    )
    waiting = [each["decision_id"] for each in ada.get(f"{DECISIONS}/pending").json()["decisions"]]
    assert not {first, second} & set(waiting)


def test_a_decision_is_shown_with_its_history(app: App) -> None:
    shown = app.client("reader", "approver").get(f"{DECISIONS}/{asked(app, 'shown.one')}").json()

    assert (shown["intent"], shown["agent"], shown["approval_required"]) == (
        "shown.one",
        "owner",
        True,
    )
    assert [event["sequence"] for event in shown["events"]] == list(range(len(shown["events"])))
    assert shown["events"][-1]["type"] == "approval_requested"


def test_an_agent_lists_its_own_envelopes_alone(app: App) -> None:
    decision_id = asked(app, "not.for.all")
    paths = (DECISIONS, f"{DECISIONS}/pending")

    def listed(agent: str, role: Any) -> list[bool]:
        answers = [app.client(agent, role).get(path).text for path in paths]
        return [decision_id in answer for answer in answers]

    assert listed("other", "agent") == [False, False]
    assert listed("owner", "agent") == listed("other", "approver") == [True, True]


def test_a_request_is_answered_once(app: App) -> None:
    ada, bob = app.client("ada", "approver"), app.client("bob", "admin")
    decision_id = asked(app, "once.only")
    ada.post(f"{DECISIONS}/{decision_id}/approve", {})

    again = bob.post(f"{DECISIONS}/{decision_id}/reject", {})

    assert (again.status_code, problem(again)["type"]) == (409, "decision_state")
    assert ada.get(f"{DECISIONS}/{decision_id}").json()["status"] == "approved"


def test_a_rationale_that_is_wanted_must_be_given(app: App) -> None:
    ada = app.client("ada", "approver")
    decision_id = asked(app, "why.so", require_rationale=True)

    refused = ada.post(f"{DECISIONS}/{decision_id}/approve", {})

    assert refused.status_code == 422
    assert problem(refused)["loc"] == ["rationale"]
    given = ada.post(f"{DECISIONS}/{decision_id}/approve", {"rationale": "seen the contract"})
    assert given.status_code == 200


def test_a_signed_answer_is_taken_and_one_that_does_not_fit_changes_nothing(app: App) -> None:
    ada, bob = (
        ReceiptSigner(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2)
    )
    client, keys = app.client("ada", "approver"), [ada.public_key]
    decision_id = asked(app, "signed.one", approver_keys=keys)
    where = f"{DECISIONS}/{decision_id}"
    shown = client.get(where)
    assert shown.json()["approval"]["approver_keys"] == keys
    read = DecisionTrace.model_validate_json(shown.content)
    yes, no, foreign, other = (
        votes.sign(read, signer, granted=granted, approver=name).model_dump()
        for signer, granted, name in (
            *((ada, True, "ada"), (ada, False, "ada")),
            *((bob, True, "ada"), (ada, True, "bob")),
        )
    )
    wrong = [({}, "signature"), (yes | {"public_key": None}, "signature"), (no, "signature")]
    for body, field in [*wrong, (foreign, "public_key"), (other, "signature")]:
        refused = client.post(f"{where}/approve", body)
        assert (refused.status_code, problem(refused)["loc"]) == (422, [field])
    assert client.post(f"{where}/reject", yes).status_code == 422
    assert client.get(where).json() == shown.json()

    answer = client.post(f"{where}/approve", yes).json()

    assert answer["status"] == "approved"
    assert [vote["public_key"] for vote in answer["approval"]["votes"]] == keys


@pytest.mark.parametrize("path", ["", "/approve", "/reject"])
def test_an_unknown_decision_is_not_found(app: App, path: str) -> None:
    ada = app.client("ada", "approver")
    where = f"{DECISIONS}/decision-unknown{path}"

    answer = ada.post(where, {}) if path else ada.get(where)

    assert (answer.status_code, problem(answer)["type"]) == (404, "decision_not_found")


def test_decisions_are_listed_page_by_page(app: App) -> None:
    by = app.served.keys.authenticate(app.client("pager").key)
    assert by is not None
    with app.served.lease(by) as tenant:
        made = [
            tenant.decisions(by).create(DecisionRequest("paged.one")).decision_id for _ in "abc"
        ]
    pager = app.client("pager")

    first = pager.get(DECISIONS, params={"actor": "pager", "limit": 2}).json()
    second = pager.get(
        DECISIONS, params={"actor": "pager", "limit": 2, "after": first["next"]}
    ).json()

    pages = [[each["decision_id"] for each in page["decisions"]] for page in (first, second)]
    assert pages == [made[:0:-1], made[:1]]
    assert (first["count"], second["count"], second["next"]) == (2, 1, None)
    assert pager.get(DECISIONS, params={"status": "closed"}).status_code == 422
    committed = pager.get(DECISIONS, params={"actor": "pager", "status": "committed"}).json()
    assert committed["decisions"] == []


def tool(client: Client, name: str, **arguments: Any) -> Any:
    """Call a tool; return its answer, or the text of its error."""
    called = {"name": name, "arguments": arguments}
    body = client.post(
        "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
    )
    answer = body.json()
    return answer["error"]["data"] if "error" in answer else answer["result"]["structuredContent"]


# --- whose decision it is


def test_an_agent_supersedes_what_its_own_agent_recorded_and_nothing_else(app: App) -> None:
    bob, ann, root = app.client("bob"), app.client("ann"), app.client("root", "admin")
    for other in (ann, root):
        rule = tool(other, "decision_record", **RULE)["decision_id"]
        refused = tool(bob, "decision_record", **RULE, supersedes=rule)
        assert "belongs to another agent" in refused
        assert root.get(f"{DECISIONS}/{rule}").json()["superseded_by"] is None
    own = tool(bob, "decision_record", **RULE)["decision_id"]
    newer = tool(bob, "decision_record", **RULE, supersedes=own)["decision_id"]
    assert bob.get(f"{DECISIONS}/{own}").json()["superseded_by"] == newer
    others: tuple[tuple[str, Any], ...] = (("root", "admin"), ("ada", "approver"))
    for agent, role in others:
        rule = tool(ann, "decision_record", **RULE)["decision_id"]
        newer = tool(app.client(agent, role), "decision_record", **RULE, supersedes=rule)
        assert ann.get(f"{DECISIONS}/{rule}").json()["superseded_by"] == newer["decision_id"]


def test_superseding_does_not_show_that_there_is_what_may_not_be_seen(app: App) -> None:
    bob, hidden, unknown = app.client("bob"), asked(app, "se.cret"), "decision-" + "0" * 32

    errors = [
        str(tool(bob, "decision_record", **RULE, supersedes=each)).replace(each, "ID")
        for each in (hidden, unknown)
    ]

    assert errors[0] == errors[1]
    assert tool(app.client("owner"), "decision_trace", decision_id=hidden)["superseded_by"] is None


def test_an_actor_is_a_label_that_bars_nobody_and_is_not_who_asks(app: App) -> None:
    made = tool(
        app.client("owner"),
        "decision_create",
        intent="a.b",
        automation_mode="approve",
        actor="zoe",
    )
    where = f"{DECISIONS}/{made['decision_id']}"
    tool(app.client("owner"), "decision_request_approval", decision_id=made["decision_id"])

    answered = app.client("zoe", "approver").post(f"{where}/approve", {})

    assert answered.status_code == 200
    said = answered.json()
    assert (said["actor"], said["agent"], said["actor_label"]) == ("owner", "owner", "zoe")
    assert said["approval"]["requester"] == "owner"


# --- what was seen


def test_what_was_added_after_the_look_is_not_approved_with_it(app: App) -> None:
    ada, owner = app.client("ada", "approver"), app.client("owner")
    decision_id = asked(app, "seen.one")
    seen = ada.get(f"{DECISIONS}/{decision_id}").json()["head"]
    tool(owner, "decision_add_context", decision_id=decision_id, context={"amount": 10**9})

    for body in ({}, {"head": seen}):
        refused = ada.post(f"{DECISIONS}/{decision_id}/approve", body)
        assert (refused.status_code, problem(refused)["type"]) == (409, "decision_state")
    head = ada.get(f"{DECISIONS}/{decision_id}").json()["head"]
    approved = ada.post(f"{DECISIONS}/{decision_id}/approve", {"head": head})

    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    granted = ada.get(f"{DECISIONS}/{decision_id}").json()["events"][-1]
    assert (granted["type"], granted["head"]) == ("approval_granted", head)


# --- who a policy is asked for


CLAIMS: list[dict[str, Any]] = [
    {"principal": 'User::"root"'},
    {"entities": []},
    {"context": {"principal": "root"}},
    {"context": {}, "entities": [{}]},
    {"agent": "root"},
    {"context": {"actor": "root"}},
]


@pytest.mark.parametrize("inputs", CLAIMS)
@pytest.mark.parametrize("by_reference", [False, True])
def test_a_client_cannot_say_who_asks(app: App, inputs: Any, by_reference: bool) -> None:
    policies.policy("allow_all")(_allow_all)
    owner, decision_id = app.client("owner"), asked(app, "who.asks")
    given = {"inputs": inputs}
    if by_reference:
        added = tool(owner, "decision_add_context", decision_id=decision_id, context=inputs)
        given = {"inputs_ref": added["event_id"]}

    refused = tool(
        owner, "decision_evaluate", decision_id=decision_id, policy_id="allow_all", **given
    )

    assert "inputs." in refused
    assert "'owner'" in refused
    own = {"agent": "owner", "context": {"actor": "owner"}}
    allowed = tool(
        owner, "decision_evaluate", decision_id=decision_id, policy_id="allow_all", inputs=own
    )
    assert allowed["outcome"] == "allow"


def _allow_all(inputs: dict[str, Any]) -> policies.PolicyAnswer:
    return "allow"


def test_the_principal_of_a_cedar_policy_is_the_agent_of_the_key(app: App) -> None:
    cedar_policies.cedar_policy("for_ann", 'permit(principal == Robot::"ann", action, resource);',
        principal='Robot::"nobody"')  # fmt: skip
    outcomes: dict[str, str] = {}
    for agent in ("ann", "bob"):
        opened = tool(app.client(agent), "decision_create", intent="a.b", automation_mode="propose")
        said = tool(
            app.client(agent),
            "decision_evaluate",
            decision_id=opened["decision_id"],
            policy_id="for_ann",
            inputs={"what": "prod"},
        )
        outcomes[agent] = said["outcome"]

    assert outcomes == {"ann": "allow", "bob": "deny"}
    policies.remove_policy("for_ann")
