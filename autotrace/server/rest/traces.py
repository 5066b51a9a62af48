"""REST for agents: decision traces, by the contract."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response

from autotrace.models import CompletedTrace, RecordedStep, RecordedToolCall, StartedTrace, Trace
from autotrace.server.app_state import State
from autotrace.server.auth.authenticate import Caller
from autotrace.server.http_errors import responses
from autotrace.server.rest import examples
from autotrace.server.rest.models import (
    CompleteBody,
    RecallAnswer,
    RecallBody,
    StartBody,
    StepBody,
    ToolCallBody,
    ToolStatsAnswer,
    ToolStatsQuery,
    TracesAnswer,
    TracesQuery,
)

PREFIX: Final = "/api/v1/public/memory/v2/traces"

router = APIRouter(prefix=PREFIX, tags=["traces"])

TraceId = Annotated[str, Path(description="The trace.", examples=[examples.TRACE_ID])]


def _answers(example: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    shown = {"content": {"application/json": {"example": example}}}
    return {200: shown, **responses(*statuses)}


@router.post("/start", summary="Begin a trace", responses=_answers(examples.STARTED))
def start(body: StartBody, caller: Caller, here: State) -> StartedTrace:
    """Begin recording a decision trace. Its `trace_id` names it in the calls that follow."""
    with here.lease(caller) as tenant:
        return tenant.traces.start(**dict(body), by=caller)


@router.post(
    "/{trace_id}/step", summary="Add a step", responses=_answers(examples.STEP, 403, 404, 409)
)
def step(trace_id: TraceId, body: StepBody, caller: Caller, here: State) -> RecordedStep:
    """Record a reasoning step: the agent's thought and the action it chose."""
    with here.lease(caller) as tenant:
        return tenant.traces.step(trace_id, **dict(body), by=caller)


@router.post(
    "/{trace_id}/tool_call",
    summary="Record a tool call",
    responses=_answers(examples.TOOL_CALL, 403, 404, 409),
)
def tool_call(
    trace_id: TraceId, body: ToolCallBody, caller: Caller, here: State
) -> RecordedToolCall:
    """Record a tool call that has ended, in the step named or else in the latest one."""
    with here.lease(caller) as tenant:
        return tenant.traces.tool_call(trace_id, **dict(body), by=caller)


@router.post(
    "/{trace_id}/complete",
    summary="Complete a trace",
    responses=_answers(examples.COMPLETED, 403, 404, 409),
)
def complete(trace_id: TraceId, body: CompleteBody, caller: Caller, here: State) -> CompletedTrace:
    """Close a trace, which makes it available for recall. The same again changes nothing."""
    with here.lease(caller) as tenant:
        return tenant.traces.complete(trace_id, **dict(body), by=caller)


@router.post("/recall", summary="Find similar traces", responses=_answers(examples.RECALL))
def recall(body: RecallBody, caller: Caller, here: State) -> RecallAnswer:
    """Find past completed traces whose tasks mean something similar, the most similar first."""
    with here.lease(caller) as tenant:
        return RecallAnswer.of(tenant.traces, **dict(body), by=caller)


# Before the route of one trace, which would match this path.
@router.get("/tool_stats", summary="How tools do", responses=_answers(examples.TOOL_STATS, 404))
def tool_stats(
    caller: Caller, here: State, query: Annotated[ToolStatsQuery, Query()]
) -> ToolStatsAnswer:
    """Return the statistics of tools across all traces, the most used first."""
    with here.lease(caller) as tenant:
        return ToolStatsAnswer.of(tenant.traces.tool_stats(**dict(query), by=caller))


@router.get("", summary="List traces", responses=_answers(examples.TRACES, 404))
def traces(caller: Caller, here: State, query: Annotated[TracesQuery, Query()]) -> TracesAnswer:
    """Return a page of traces, newest first."""
    with here.lease(caller) as tenant:
        found = tenant.traces.list(**dict(query), by=caller)
    last = found[-1].trace_id if len(found) == query.limit else None
    return TracesAnswer(traces=list(found), count=len(found), next=last)


@router.get("/{trace_id}", summary="Fetch a trace", responses=_answers(examples.TRACE, 404))
def trace(trace_id: TraceId, caller: Caller, here: State) -> Trace:
    """Fetch a trace with its steps, its tool calls, and its decisions as they stand now."""
    with here.lease(caller) as tenant:
        return tenant.traces.get(trace_id, by=caller)


@router.delete(
    "/{trace_id}",
    summary="Delete a trace",
    status_code=204,
    response_class=Response,
    responses=responses(403, 404),
)
def delete(trace_id: TraceId, caller: Caller, here: State) -> None:
    """Delete a trace with all that was recorded in it, for good. Its decisions stay."""
    with here.lease(caller) as tenant:
        tenant.traces.delete(trace_id, by=caller)
