"""Approval routes: named receivers of requests for approval."""

from __future__ import annotations

import inspect
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, Final, TypeAlias, cast

from autotrace.base.visible_text import visible
from autotrace.decisions.notify.delivery import Attempt, Sender
from autotrace.decisions.notify.webhooks import SlackWebhook, Webhook
from autotrace.decisions.to_models import visible_or_none
from autotrace.errors import InvalidArgumentError
from autotrace.models import Approval, Decision
from autotrace.semconv import APPROVAL_REQUESTED
from autotrace.settings import Settings

logger = logging.getLogger("autotrace")

DEFAULT_ROUTE: Final = "default"

Notify: TypeAlias = Callable[[dict[str, Any]], object]
"""Called with the notice; its result is ignored."""

Route: TypeAlias = Webhook | SlackWebhook | Notify

_routes: dict[str, Sender] = {}


@dataclass(frozen=True)
class _Called:
    """A function of the program, called once per notice."""

    notify: Notify
    name: str
    attempts: int = 1

    def send(self, notice: dict[str, Any], delivery_id: str) -> Attempt:
        try:
            answer = self.notify(notice)
        except Exception:
            logger.debug("the approval route %r raised", self, exc_info=True)
            raise
        if isinstance(answer, CoroutineType):
            cast("CoroutineType[Any, Any, Any]", answer).close()
            return Attempt("failed", f"{self!r} is async: use a plain function")
        return Attempt("delivered", f"{self!r} was called")

    def __repr__(self) -> str:
        return self.name


def add_route(name: str, route: Route) -> None:
    """Register who is notified of requests for approval that name this route.

    The route `default` is notified of those that name none. A second registration replaces the
    first.

    Args:
        name: Name of the route.
        route: A `Webhook`, a `SlackWebhook`, or a plain function that takes the notice, a dict. It
            is called in a background thread that all routes share, so it should return soon.

    Raises:
        InvalidArgumentError: The name is empty, or the route has another type.
    """
    if not isinstance(cast("object", name), str) or not name.strip():
        raise InvalidArgumentError("name", name, "a name for the route")
    if isinstance(route, Webhook | SlackWebhook):
        _routes[name] = route
        return
    if not callable(cast("object", route)) or _is_async(route):
        allowed = "a Webhook, a SlackWebhook, or a plain function (not async) of the notice"
        raise InvalidArgumentError(f"the route {name}", route, allowed)
    called = str(getattr(route, "__qualname__", type(route).__qualname__))
    _routes[name] = _Called(route, called)


def remove_route(name: str) -> None:
    """Remove a route, if one has this name."""
    _routes.pop(name, None)


def route_named(name: str | None, settings: Settings) -> Sender | None:
    """Return a route.

    Args:
        name: Name of the route; None, or `default`: the route `default`, else the webhook of the
            settings.
        settings: May name a webhook.

    Returns:
        None without a name and a default route.

    Raises:
        InvalidArgumentError: No route has this name.
    """
    found = _routes.get(DEFAULT_ROUTE if name is None else name)
    if found is None and name in (None, DEFAULT_ROUTE):
        found = _of_settings(settings)
    if found is None and name is not None:
        known = ", ".join(sorted(_routes)) or "none"
        allowed = f"the name of a route (there are: {known}); add_route adds one"
        raise InvalidArgumentError("approval_route_id", name, allowed)
    return found


def approval_notice(
    decision: Decision, approval: Approval, arguments: Any = None
) -> dict[str, Any]:
    """Return the notice of a request for approval.

    Args:
        decision: The decision.
        approval: The request.
        arguments: Arguments of the tool call, as the JSON that is hashed; None without a call.
    """
    times = approval.model_dump(mode="json", include={"requested_at", "expires_at"})
    command = f"autotrace decisions {{}} {shlex.quote(decision.decision_id)} --by NAME"
    why = ' --why "REASON"'
    return {
        "type": APPROVAL_REQUESTED,
        "decision_id": decision.decision_id,
        "approval_id": approval.id,
        "intent": visible(decision.intent),
        "title": visible_or_none(approval.title),
        "message": visible_or_none(approval.message),
        "requester": visible(approval.requester),
        **times,
        "approvals_needed": approval.approvals_needed,
        "require_rationale": approval.require_rationale,
        "head": decision.head,
        "arguments": arguments,
        "arguments_sha256": approval.arguments_sha256,
        "hidden": approval.hidden,
        "tool": None if approval.tool is None else approval.tool.model_dump(),
        "answer": {
            "approve": f"{command.format('approve')} --head {decision.head}"
            + (why if approval.require_rationale else ""),
            "reject": command.format("reject") + why,
        },
    }


def _is_async(route: Any) -> bool:
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in (route, getattr(route, "__call__", None))  # noqa: B004 - looked into
    )


def _of_settings(settings: Settings) -> Sender | None:
    if settings.approval_webhook_url is not None:
        secret = settings.approval_webhook_secret
        return Webhook(settings.approval_webhook_url, secret=secret)
    if settings.approval_slack_url is not None:
        return SlackWebhook(settings.approval_slack_url)
    return None
