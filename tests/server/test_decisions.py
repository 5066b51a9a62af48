"""Decisions over REST: what waits is listed and answered, once, by who may."""

from __future__ import annotations

from typing import Any

import pytest

from autotrace.models import ApprovalRequest

from .serving import DECISIONS, App, problem


def asked(app: App, intent: str, **request: Any) -> str:
    """Have the agent `owner` ask for approval; return the decision's id."""
    by = app.served.keys.authenticate(app.client("owner").key)
    assert by is not None
    with app.served.using(by) as tenant:
        decision = tenant.decisions.create(intent, "approve", by=by)
        tenant.decisions.request_approval(
            decision.decision_id, ApprovalRequest(title="May I?", **request), by=by
        )
    return decision.decision_id


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


@pytest.mark.parametrize("path", ["", "/approve", "/reject"])
def test_an_unknown_decision_is_not_found(app: App, path: str) -> None:
    ada = app.client("ada", "approver")
    where = f"{DECISIONS}/decision-unknown{path}"

    answer = ada.post(where, {}) if path else ada.get(where)

    assert (answer.status_code, problem(answer)["type"]) == (404, "decision_not_found")


def test_decisions_are_listed_page_by_page(app: App) -> None:
    by = app.served.keys.authenticate(app.client("pager").key)
    assert by is not None
    with app.served.using(by) as tenant:
        made = [tenant.decisions.create("paged.one", "propose", by=by).decision_id for _ in "abc"]
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
