"""An agent whose decisions lie in a real store, and people who answer as soon as they are asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from autotrace import active
from autotrace.base.health_counters import HealthCounters
from autotrace.capture.approvals.decision_spans import DecisionRecording
from autotrace.capture.recorder import current
from autotrace.decision_requests import ApprovalAnswer
from autotrace.decisions.api import Decisions
from autotrace.decisions.event_store import AppendedEvent
from autotrace.embedding.choice import embedding_of
from autotrace.errors import ApprovalPending, ApprovalRefused, StoreUnavailableError
from autotrace.models import Decision, DecisionTrace, TraceLocation
from autotrace.settings import load_settings
from autotrace.testing import Recording, recording
from tests.embedders import HashEmbedder

Answer = Callable[[str], Any]
"""What people do when they are asked, given the decision's id."""


class WithTheRecorderInUse:
    """What decisions need of capture, by whichever recorder is in use at the moment."""

    def __init__(self) -> None:
        self.asked: Callable[[str], None] | None = None
        self.happened: list[AppendedEvent] = []

    def value(self, value: Any, path: str) -> Any:
        return DecisionRecording(current.recorder).value(value, path)

    def text(self, value: Any, path: str) -> str:
        return DecisionRecording(current.recorder).text(value, path)

    def place(self) -> TraceLocation:
        return DecisionRecording(current.recorder).place()

    def event(self, happened: AppendedEvent) -> None:
        DecisionRecording(current.recorder).event(happened)
        self.happened.append(happened)
        if happened.event["type"] == "approval_requested" and self.asked is not None:
            self.asked(happened.decision_id)


def open_store(folder: Any, **options: Any) -> tuple[Decisions, WithTheRecorderInUse]:
    """Open the decisions of an embedded store."""
    embedder, told = HashEmbedder(), WithTheRecorderInUse()

    class Failing(HealthCounters):
        def record_failure(self, *failure: Any) -> None:
            raise AssertionError(failure)

    settings = load_settings(store=str(folder), **options)
    return Decisions(settings, told, Failing(), embedding_of(embedder)), told


@dataclass
class Agent:
    """The agent of one test."""

    name: str
    deciding: Decisions
    recorded: Recording
    told: WithTheRecorderInUse
    store: str
    ids: list[str] = field(default_factory=list[str])
    """Decisions on which approval was asked for."""
    failures: int = 0
    """How often the test has made something of ours fail."""
    people: list[threading.Thread] = field(default_factory=list[threading.Thread])

    def deciding_by(self, decisions: Any) -> None:
        """Put a stand-in in place of the decisions in use."""
        active.current.open = lambda: decisions

    def when_asked(self, answer: Answer) -> None:
        """Have people answer each request, in a thread of their own."""

        def asked(decision_id: str) -> None:
            self.ids.append(decision_id)
            person = threading.Thread(target=answer, args=(decision_id,))
            self.people.append(person)
            person.start()

        self.told.asked = asked

    def approve(self, decision_id: str, approver: str = "ada") -> Decision:
        return self.deciding.resolve(decision_id, ApprovalAnswer(granted=True, approver=approver))

    def reject(self, decision_id: str, rationale: str | None = "too much") -> Decision:
        return self.deciding.resolve(
            decision_id, ApprovalAnswer(granted=False, approver="ada", rationale=rationale)
        )

    @property
    def decisions(self) -> list[DecisionTrace]:
        """All decisions of this agent, oldest first."""
        found = self.deciding.list(actor=self.name)
        return [self.deciding.trace(each.decision_id) for each in reversed(found)]

    @property
    def decision(self) -> DecisionTrace:
        """The only decision of this agent."""
        (found,) = self.decisions
        return found


@contextmanager
def agent_in(
    store: str, deciding: Decisions, told: WithTheRecorderInUse, name: str, **options: Any
) -> Iterator[Agent]:
    """Be an agent of this name, whose spans are kept in memory."""
    with recording(agent=name, **options) as recorded:
        active.current.open = lambda: deciding
        agent = Agent(name, deciding, recorded, told, store)
        try:
            yield agent
        finally:
            active.current.open = None
            told.asked = None
            told.happened.clear()
            for person in agent.people:
                person.join()


def types_of(decision: DecisionTrace) -> list[str]:
    return [event.type for event in decision.events]


def pending(call: Callable[[], Any]) -> str:
    """Make a call that has to ask; return the id of its decision."""
    with pytest.raises(ApprovalPending) as caught:
        call()
    return caught.value.decision_id


def refused(call: Callable[[], Any]) -> str:
    """Make a call that is refused; return the reason."""
    with pytest.raises(ApprovalRefused) as caught:
        call()
    return caught.value.reason


class Failing:
    """Decisions whose store fails to take an end."""

    def __init__(self, decisions: Any) -> None:
        self._decisions = decisions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decisions, name)

    def end(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("gone")


class Ran(list[Any]):
    """What the bodies of tools have done."""
