"""The functions of `autotrace.decisions`, and decisions bound to the caller of a server."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from autotrace import decisions
from autotrace.decision_requests import ApprovalAnswer, DecisionEnd, DecisionRequest, GatedCall
from autotrace.decisions.api import Decisions
from autotrace.decisions.policies import Evaluated
from autotrace.errors import NotPermittedError
from autotrace.models import NOWHERE, ApprovalRequest
from autotrace.server.auth.principal import Principal
from tests.cases import case
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
    made = agent.deciding.create(DecisionRequest("a.b", actor="bot")).decision_id
    keyed = agent.deciding.for_caller(Principal("k", "ada", "default", "admin"), NOWHERE)

    with pytest.raises(NotPermittedError, match="API key"):
        keyed.answer(made, ApprovalAnswer(granted=True, approver="ada"))
    with pytest.raises(NotPermittedError, match="API key"):
        keyed.erase(made, by="ada")


def test_a_key_writes_its_own_agent_whatever_name_is_given(agent: Agent) -> None:
    keyed = agent.deciding.for_caller(Principal("k", "bot", "default", "agent"), NOWHERE)
    made = keyed.create(DecisionRequest("a.b", "autonomous")).decision_id

    keyed.close(made, "abort", by="somebody else")

    decision = agent.deciding.trace(made)
    assert (decision.agent, decision.events[-1].by) == ("bot", "bot")


def test_a_key_of_another_agent_neither_reads_nor_changes(agent: Agent) -> None:
    made = agent.deciding.create(DecisionRequest("a.b", actor="bot")).decision_id
    keyed = agent.deciding.for_caller(Principal("k", "eve", "default", "agent"), NOWHERE)
    call, answer = GatedCall("bot", {"name": "pay"}, "00"), ApprovalAnswer(True, "eve")
    evaluated = Evaluated("any", "0", "allow", {})
    refused: dict[str, Callable[[], Any]] = {
        "get": lambda: keyed.get(made),
        "trace": lambda: keyed.trace(made),
        "trace_for_approver": lambda: keyed.trace_for_approver(made),
        "receipt": lambda: keyed.receipt(made),
        "add_context": lambda: keyed.add_context(made, {"a": 1}),
        "evaluate": lambda: keyed.evaluate(made, "any", {}),
        "ask_policy": lambda: keyed.ask_policy("any", {}),
        "record_evaluation": lambda: keyed.record_evaluation(made, evaluated, {}, by="bot"),
        "request_approval": lambda: keyed.request_approval(made, ApprovalRequest()),
        "check_route": lambda: keyed.check_route(None),
        "until_answered": lambda: next(keyed.until_answered(made, 0)),
        "open_call": lambda: keyed.open_call(call),
        "check_call": lambda: keyed.check_call(made, call),
        "check_answer": lambda: keyed.check_answer(made, by="bot"),
        "claim": lambda: keyed.claim(made, call),
        "hiding_key": keyed.hiding_key,
        "close": lambda: keyed.close(made, "abort", by="bot"),
        "end": lambda: keyed.end(made, DecisionEnd("abort"), by="bot"),
        "erase": lambda: keyed.erase(made, by="bot"),
        "resolve": lambda: keyed.resolve(made, answer),
        "answer": lambda: keyed.answer(made, answer),
        "approve": lambda: keyed.approve(made, "eve"),
        "reject": lambda: keyed.reject(made, "eve"),
        "verify": lambda: keyed.verify(made),
        "check": lambda: keyed.check(made),
        "check_all": keyed.check_all,
        "checkpoint": keyed.checkpoint,
        "verify_checkpoint": lambda: keyed.verify_checkpoint(agent.deciding.checkpoint()),
        "newest_ids": lambda: keyed.newest_ids(1),
    }
    # These open decisions of the key's own agent, or leave out decisions that it may not see.
    others = {"create", "record", "list", "pending", "search", "existing"}
    wiring = {"for_caller", "shut_down"}
    methods = {name for name, _ in inspect.getmembers(Decisions, inspect.isfunction)}
    public = {name for name in methods if not name.startswith("_")}
    assert public == {*refused, *others, *wiring}, "name the new method here, with its rule"

    for name, call_it in refused.items():
        with case(name), pytest.raises(NotPermittedError):
            call_it()
    assert made not in {each.decision_id for each in keyed.list(limit=1000)}
    assert keyed.existing([made]) == []
