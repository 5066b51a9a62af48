"""An agent whose decisions lie in a real store, and people who answer as soon as they are asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from autotrace.capture.approvals import decision_access as capture_deciding
from autotrace.capture.approvals.decision_spans import DecisionRecording
from autotrace.capture.recorder import current
from autotrace.decisions.api import Decisions
from autotrace.decisions.event_store import AppendedEvent
from autotrace.decisions.wiring import make_deciding
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

    def fail(*_: Any) -> None:
        raise AssertionError(_)

    deciding = make_deciding(
        load_settings(store=str(folder), **options),
        told,
        space=embedder.space,
        embed=lambda text: embedder.embed([text])[0],
        count=lambda name: None,
        note=fail,
    )
    return deciding, told


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

    def deciding_by(self, service: Any) -> None:
        """Have another service in place of the real one."""
        capture_deciding.current.open = lambda: service

    def when_asked(self, answer: Answer) -> None:
        """Have people answer each request, in a thread of their own."""

        def asked(decision_id: str) -> None:
            self.ids.append(decision_id)
            person = threading.Thread(target=answer, args=(decision_id,))
            self.people.append(person)
            person.start()

        self.told.asked = asked

    def approve(self, decision_id: str, approver: str = "ada") -> Decision:
        return self.deciding.service.resolve(decision_id, granted=True, approver=approver)

    def reject(self, decision_id: str, rationale: str | None = "too much") -> Decision:
        return self.deciding.service.resolve(
            decision_id, granted=False, approver="ada", rationale=rationale
        )

    @property
    def decisions(self) -> list[DecisionTrace]:
        """All decisions of this agent, oldest first."""
        found = self.deciding.library.list(actor=self.name)
        return [self.deciding.library.trace(each.decision_id) for each in reversed(found)]

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
        capture_deciding.current.open = lambda: deciding.service
        agent = Agent(name, deciding, recorded, told, store)
        try:
            yield agent
        finally:
            capture_deciding.current.open = None
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
    """The service, whose store fails to take an end."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    def close(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("gone")


class Ran(list[Any]):
    """What the bodies of tools have done."""
