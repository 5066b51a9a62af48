"""The functions of `autotrace.decisions`, and decisions bound to the caller of a server."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from autotrace import decisions
from autotrace.errors import NotPermittedError
from autotrace.models import NOWHERE, ApprovalRequest
from autotrace.server.auth.principal import Principal
from tests.decisions.agents import Agent


def test_every_public_name_resolves() -> None:
    missing = [name for name in decisions.__all__ if not hasattr(decisions, name)]
    assert missing == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(decisions, "no_such_name")


def test_functions_have_the_parameters_of_the_methods_without_self() -> None:
    assert str(inspect.signature(decisions.get)) == "(decision_id: 'str') -> 'Decision'"
    assert list(inspect.signature(decisions.erase).parameters) == ["decision_id", "by", "reason"]


def test_a_key_cannot_sign_for_the_approver_of_this_machine_nor_erase(agent: Agent) -> None:
    made = agent.deciding.service.create("a.b", actor="bot").decision_id
    keyed = agent.deciding.for_caller(Principal("k", "ada", "default", "admin"), NOWHERE)

    with pytest.raises(NotPermittedError, match="API key"):
        keyed.answer(made, granted=True, approver="ada")
    with pytest.raises(NotPermittedError, match="API key"):
        keyed.erase(made, by="ada")


def test_a_key_writes_its_own_agent_whatever_name_is_given(agent: Agent) -> None:
    keyed = agent.deciding.for_caller(Principal("k", "bot", "default", "agent"), NOWHERE)
    made = keyed.create("a.b", "autonomous").decision_id

    keyed.close(made, "abort", by="somebody else")

    decision = agent.deciding.trace(made)
    assert (decision.agent, decision.events[-1].by) == ("bot", "bot")


def test_a_key_of_another_agent_neither_reads_nor_changes(agent: Agent) -> None:
    made = agent.deciding.service.create("a.b", actor="bot").decision_id
    keyed = agent.deciding.for_caller(Principal("k", "eve", "default", "agent"), NOWHERE)
    calls: list[Callable[[], Any]] = [
        lambda: keyed.get(made),
        lambda: keyed.trace(made),
        lambda: keyed.receipt(made),
        lambda: keyed.add_context(made, {"a": 1}),
        lambda: keyed.evaluate(made, "any", {}),
        lambda: keyed.request_approval(made, ApprovalRequest()),
        lambda: keyed.close(made, "abort", by="bot"),
        lambda: keyed.resolve(made, granted=True),
    ]

    for call in calls:
        with pytest.raises(NotPermittedError):
            call()
    assert made not in {each.decision_id for each in keyed.list(limit=1000)}
