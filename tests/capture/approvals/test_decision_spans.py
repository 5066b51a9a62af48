"""One short span for each event of a decision, where it happens, and without what people wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from autotrace import semconv, step, task
from autotrace.capture.approvals.decision_block import decision
from autotrace.capture.approvals.decision_spans import DecisionRecording, current_trace_location
from autotrace.capture.propagation import attach, inject
from autotrace.decision_requests import ApprovalAnswer, DecisionRequest
from autotrace.decisions.api import Decisions
from autotrace.decisions.policies import policy
from autotrace.models import NOWHERE
from autotrace.testing import recording
from tests.capture.spans import Spans, attribute
from tests.decisions.agents import Agent, WithTheRecorderInUse


@pytest.fixture
def spans(
    agent: Agent,
    provider: TracerProvider,
    store_of_the_session: tuple[str, Decisions, WithTheRecorderInUse],
) -> Iterator[Spans]:
    """The spans of an application's own provider, which keeps links."""
    found = Spans(provider)
    with recording(tracer_provider=provider, agent=agent.name):
        yield found
    assert not found.open_or_ended_twice()


def of_decisions(spans: Spans) -> list[ReadableSpan]:
    return [s for s in spans.ended if attribute(s, semconv.KIND) == semconv.KIND_DECISION]


def test_each_event_is_a_span_that_says_which_and_nothing_of_its_content(
    agent: Agent, spans: Spans
) -> None:
    @policy("fine")
    def fine(inputs: dict[str, object]) -> str:
        return "allow"

    secret = "a secret of the customer"
    with task("x"), step("y"), decision("order.create", metadata={"why": secret}) as d:
        d.add_context({"who": secret}, summary=secret)
        d.evaluate("fine", {"who": secret})
        d.request_approval(secret, secret)
        agent.deciding.resolve(
            d.decision_id, ApprovalAnswer(granted=True, approver="ada", rationale=secret)
        )
        d.commit({"what": secret})
    trace = agent.deciding.trace(d.decision_id)
    made = of_decisions(spans)
    assert [s.name for s in made] == [f"decision {event.type}" for event in trace.events]
    assert [attribute(s, semconv.DECISION_EVENT) for s in made] == [e.type for e in trace.events]
    assert [attribute(s, semconv.DECISION_EVENT_ID) for s in made] == [
        e.event_id for e in trace.events
    ]
    assert {attribute(s, semconv.DECISION_ID) for s in made} == {d.decision_id}
    assert {attribute(s, semconv.DECISION_INTENT) for s in made} == {"order.create"}
    assert [attribute(s, semconv.DECISION_STATUS) for s in made] == [
        *("open", "open", "open"),
        *("needs_approval", "approved", "committed"),
    ]
    assert [attribute(s, semconv.DECISION_OUTCOME) for s in made][2] == "allow"
    assert {tuple(spans.path_to(s)) for s in made} == {("task", "step", "decision")}
    assert secret not in json.dumps([json.loads(s.to_json()) for s in made])


def test_an_event_outside_of_any_span_belongs_where_the_decision_was_opened(
    agent: Agent, spans: Spans
) -> None:
    with task("x"), step("y"), decision("order.create") as d:
        d.request_approval()
        opened = of_decisions(spans)[0]
        headers = inject()
        with attach({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}):
            agent.approve(d.decision_id)
        elsewhere = of_decisions(spans)[-1]
    assert elsewhere.parent is not None
    assert f"{elsewhere.parent.trace_id:032x}" == "1" * 32
    (link,) = elsewhere.links
    assert opened.parent is not None
    assert link.context.span_id == opened.parent.span_id
    assert headers["traceparent"].split("-")[1] == f"{link.context.trace_id:032x}"

    with task("x"):
        waiting = agent.deciding.create(DecisionRequest("a.b", actor="bot"))
    agent.deciding.close(waiting.decision_id, "abort", by="ada")
    outside, task_span = of_decisions(spans)[-1], spans.tasks[-1]
    assert outside.parent is not None
    assert task_span.context is not None
    assert outside.parent.span_id == task_span.context.span_id
    assert outside.parent.is_remote
    assert outside.links == ()


def test_where_a_decision_was_opened_is_kept_with_it(agent: Agent) -> None:
    with task("x") as t, step("y"), decision("order.create") as d:
        assert d.decision.trace_id == t.trace_id
        at = current_trace_location()
        assert at.otel is not None
        assert t.trace_id.split("-")[1] == at.otel[0]
    assert current_trace_location() == NOWHERE


def test_a_span_that_fails_harms_no_decision(agent: Agent) -> None:
    class Broken:
        def start_span(self, *_: object, **__: object) -> None:
            raise RuntimeError("no tracer")

    from autotrace.capture.recorder import current

    recorder = current.recorder
    assert recorder is not None
    before, recorder.tracer = recorder.tracer, Broken()  # type: ignore[assignment]
    try:
        with decision("order.create") as d:
            pass
    finally:
        recorder.tracer = before
    assert d.status == "committed"
    agent.failures = 2


def test_without_a_recorder_values_are_still_redacted() -> None:
    alone = DecisionRecording()
    assert alone.value({"password": "x", "n": 1}, "context") == {"password": "[REDACTED]", "n": 1}
    assert alone.text("token=abcdef123456", "title") == "token=[REDACTED]"
