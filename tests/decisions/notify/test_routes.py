"""Routes: who is told, by name; and what they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from autotrace.decisions.notify.delivery import Deliveries, Sender
from autotrace.decisions.notify.routes import add_route, approval_notice, remove_route, route_named
from autotrace.decisions.notify.webhooks import SlackWebhook, Webhook
from autotrace.errors import InvalidArgumentError
from autotrace.models import Approval, ApprovedTool, Decision
from autotrace.settings import Settings, load_settings

NONE = Settings()
AT = datetime(2026, 1, 7, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_routes() -> Iterator[None]:
    yield
    for name in ("default", "ops", "other"):
        remove_route(name)


def told(route: Sender, notice: dict[str, Any]) -> list[tuple[str, str, int]]:
    deliveries, reports = Deliveries(), list[tuple[str, str, int]]()
    deliveries.deliver(route, notice, lambda *report: reports.append(report))
    assert deliveries.drain(60)
    return reports


def named(name: str | None = None, settings: Settings = NONE) -> Sender:
    found = route_named(name, settings)
    assert found is not None
    return found


def test_without_a_route_nobody_is_told() -> None:
    add_route("ops", Webhook("http://ops.example"))

    assert route_named(None, NONE) is None


def test_the_default_route_is_told_where_none_is_named() -> None:
    webhook = Webhook("http://default.example")
    add_route("default", webhook)
    add_route("ops", SlackWebhook("http://ops.example"))
    settings = load_settings(approval_webhook_url="http://settings.example")

    assert named() is named("default") is named(None, settings) is webhook
    assert isinstance(named("ops"), SlackWebhook)


def test_the_settings_give_a_default_route() -> None:
    webhook = load_settings(approval_webhook_url="http://a.example", approval_webhook_secret="s")
    slack = load_settings(approval_slack_url="http://b.example/T/B/x")

    assert (
        named(None, webhook) == named("default", webhook) == Webhook("http://a.example", secret="s")
    )
    assert named(None, slack) == SlackWebhook("http://b.example/T/B/x")


@pytest.mark.parametrize("name", ["oops", "", "default"])
def test_an_unknown_route_is_refused_and_the_known_are_named(name: str) -> None:
    add_route("ops", print)
    add_route("other", print)

    with pytest.raises(InvalidArgumentError, match="there are: ops, other"):
        route_named(name, NONE)


def test_a_route_added_again_takes_the_place_of_the_first() -> None:
    add_route("ops", Webhook("http://a.example"))
    add_route("ops", Webhook("http://b.example"))

    assert named("ops") == Webhook("http://b.example")
    remove_route("ops")
    remove_route("ops")
    with pytest.raises(InvalidArgumentError):
        route_named("ops", NONE)


def test_a_function_is_told_in_the_background() -> None:
    seen: list[tuple[Any, threading.Thread]] = []

    def notify(notice: dict[str, Any]) -> None:
        seen.append((notice, threading.current_thread()))

    add_route("ops", notify)

    ((status, note, attempts),) = told(named("ops"), {"type": "approval.requested"})

    assert (status, attempts) == ("delivered", 1)
    assert "notify" in note
    assert seen[0][0] == {"type": "approval.requested"}
    assert seen[0][1] is not threading.current_thread()


def test_a_function_that_raises_has_failed_at_once_and_its_text_is_not_told() -> None:
    calls: list[int] = []

    def notify(notice: dict[str, Any]) -> None:
        calls.append(1)
        raise ConnectionError("https://host/TOKEN")

    add_route("ops", notify)

    ((status, note, attempts),) = told(named("ops"), {})

    assert (status, attempts, calls) == ("failed", 1, [1])
    assert "notify raised ConnectionError" in note
    assert "TOKEN" not in note


async def _async_function(notice: dict[str, Any]) -> None:
    raise NotImplementedError


class _AsyncCallable:
    async def __call__(self, notice: dict[str, Any]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("route", [None, "http://host", 3, _async_function, _AsyncCallable()])
def test_what_nobody_can_be_told_by_is_refused(route: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="the route ops"):
        add_route("ops", route)


def test_a_function_that_turns_out_to_be_async_has_failed() -> None:
    add_route("ops", lambda notice: _async_function(notice))

    ((status, note, _),) = told(named("ops"), {})  # a warning would fail this test

    assert status == "failed"
    assert "async" in note


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_route_has_a_name(name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        add_route(name, print)


def decision_and_approval(**more: Any) -> tuple[Decision, Approval]:
    decision = Decision(
        decision_id="decision-1",
        intent="order.discount",
        status="needs_approval",
        automation_mode="approve",
        created_at=AT,
        approval_required=True,
        head="abc",
        actor="order-bot",
        agent="order-bot",
    )
    approval = Approval(
        id="approval-1", status="pending", requester="order-bot", requested_at=AT, **more
    )
    return decision, approval


def test_a_notice_says_what_is_asked_and_how_to_answer() -> None:
    asked = decision_and_approval(
        title="25 %",
        message="please",
        expires_at=AT.replace(hour=13),
        approvals_needed=2,
        require_rationale=True,
        arguments_sha256="ab" * 32,
        hidden=["card"],
        tool=ApprovedTool(name="give", module="shop", qualname="give", source_sha256="cd" * 32),
    )

    notice = approval_notice(*asked, {"discount": 0.25})

    assert json.loads(json.dumps(notice)) == {
        "type": "approval.requested",
        "decision_id": "decision-1",
        "approval_id": "approval-1",
        "intent": "order.discount",
        "title": "25 %",
        "message": "please",
        "requester": "order-bot",
        "requested_at": "2026-01-07T12:00:00Z",
        "expires_at": "2026-01-07T13:00:00Z",
        "approvals_needed": 2,
        "require_rationale": True,
        "head": "abc",
        "arguments": {"discount": 0.25},
        "arguments_sha256": "ab" * 32,
        "hidden": ["card"],
        "tool": {
            "name": "give",
            "module": "shop",
            "qualname": "give",
            "source_sha256": "cd" * 32,
        },
        "answer": {
            "approve": 'autotrace decisions approve decision-1 --by NAME --head abc --why "REASON"',
            "reject": 'autotrace decisions reject decision-1 --by NAME --why "REASON"',
        },
    }


def test_what_would_not_be_seen_is_written_out_in_a_notice() -> None:
    asked = decision_and_approval(title="pay\u202e", message="a\u200bb\x1b[0m")

    notice = approval_notice(*asked)

    assert (notice["title"], notice["message"]) == ("pay\\u202e", "a\\u200bb\\x1b[0m")


def test_what_nobody_said_is_null_in_a_notice_and_slack_takes_it() -> None:
    notice = approval_notice(*decision_and_approval())

    assert {name for name, value in notice.items() if value is None} == {
        *("title", "message", "expires_at", "arguments", "arguments_sha256", "tool"),
    }
    assert notice["answer"]["approve"] == (
        "autotrace decisions approve decision-1 --by NAME --head abc"
    )
    message = SlackWebhook("http://slack.example").payload(notice)
    assert message["blocks"][0]["text"]["text"] == "Approval requested: order.discount"
    assert "None" not in json.dumps(message)
