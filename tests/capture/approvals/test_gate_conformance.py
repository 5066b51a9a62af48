"""A gated function behaves as the undecorated one, to whoever calls it, once it may run.

The scripts of the conformance matrix, with a gate that asks nobody, and with one that everybody has
approved: a stand-in for decisions, as these are about functions and not about stores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from opentelemetry import context as otel_context

from autotrace import active, step, task, tool
from autotrace.base import blocking_calls
from autotrace.capture.approvals.gate import ApprovalCall
from autotrace.decision_requests import DecisionEnd
from tests.capture.scripts import SCRIPTS, is_thrown_into_unstarted
from tests.capture.spans import Spans
from tests.capture.subjects import HOSTS, KINDS, OPAQUE_HOSTS, foreign, hosted, plain
from tests.capture.test_conformance_matrix import run
from tests.cases import case

MODES: Final[dict[str, Any]] = {"asks nobody": lambda arguments: False, "approved": True}
STACKS: Final[dict[str, Callable[[Any], Any]]] = {
    "bare": lambda gate: gate,
    "above a foreign decorator": lambda gate: lambda f: gate(foreign(f)),
    "below a foreign decorator": lambda gate: lambda f: foreign(gate(f)),
    "above step": lambda gate: lambda f: gate(step(f)),
    "below a tool": lambda gate: lambda f: tool(gate(f)),
}


class Approved:
    """Decisions that are all approved."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def check_route(self, *_: Any) -> None: ...

    def open_call(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(decision_id="d", status="approved")

    def until_answered(self, *_: Any) -> Generator[float, None, None]:
        yield from ()

    def check_answer(self, *_: Any, **__: Any) -> None: ...

    def claim(self, *_: Any, **__: Any) -> None:
        self.ends.append("claimed")

    def end(self, decision_id: str, end: DecisionEnd, **_: Any) -> None:
        self.ends.append(end.action)


@pytest.fixture
def approved(monkeypatch: pytest.MonkeyPatch) -> Approved:
    # In place, so that a script that counts the turns of its event loop counts the same; and of
    # any arguments, as scripts pass exceptions to be raised.
    monkeypatch.setattr(blocking_calls, "running_library", lambda: None)
    monkeypatch.setattr(ApprovalCall, "_fingerprint", lambda self: "00")
    monkeypatch.setattr(ApprovalCall, "_check_apart", lambda self: None)
    made = Approved()
    monkeypatch.setattr(active.current, "open", lambda: made)
    return made


def cases() -> Iterator[tuple[str, str, str]]:
    yield from itertools.product(KINDS, HOSTS, STACKS)
    yield from itertools.product(KINDS, OPAQUE_HOSTS, ("bare", "below a tool"))


def runs_at_once(kind: str, host: str, stack: str) -> bool:
    """Whether the gate is passed by the call, and not when what it returns begins to run."""
    says_async = kind in ("async", "async generator") and host.startswith(
        "adapted"
    )  # it waits on the event loop
    return stack == "above a foreign decorator" or (host in OPAQUE_HOSTS and not says_async)


@pytest.mark.parametrize(("kind", "host", "stack"), list(cases()))
def test_a_gated_function_behaves_as_without(
    kind: str, host: str, stack: str, spans: Spans, approved: Approved
) -> None:
    # A gate that asks nobody is out of the way, whatever it stands above or below.
    modes = MODES if stack == "bare" else ("approved",)
    context = otel_context.get_current()
    for script, mode in itertools.product(SCRIPTS[kind], modes):
        is_wrong = script.__name__.startswith("is_called_wrongly")  # says so in other words
        keeps = runs_at_once(kind, host, stack) and script is is_thrown_into_unstarted
        if is_wrong or keeps:
            continue
        with case(script.__name__, mode):
            spans.clear()
            approved.ends.clear()
            check_script(kind, host, stack, script, mode, approved)
            assert not spans.open_or_ended_twice()
            assert otel_context.get_current() == context


def check_script(
    kind: str, host: str, stack: str, script: Callable[[Any], Any], mode: str, approved: Approved
) -> None:
    """Run one script with and without the gate."""
    wrap, gate = STACKS[stack], tool(name="subject", requires_approval=MODES[mode])
    with task("outer"):
        expected = run(script, hosted(kind, host, wrap(plain)), "here")
        seen = run(script, hosted(kind, host, wrap(gate)), "here")
    assert seen == expected
    recorded = SCRIPTS[kind][script]
    ran = mode == "approved" and (recorded is not None or runs_at_once(kind, host, stack))
    assert approved.ends[:1] == (["claimed"] if ran else [])
    if ran and recorded is not None:
        failed = recorded.status is not None
        assert approved.ends[1:] == ["abort" if failed else "commit"]
