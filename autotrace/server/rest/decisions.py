"""REST for approvers: list decisions, show them, approve or reject them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query

from autotrace.decision_requests import ApprovalAnswer
from autotrace.models import Decision, DecisionTrace
from autotrace.server.app_state import State
from autotrace.server.auth.authenticate import Caller
from autotrace.server.http_errors import responses
from autotrace.server.rest import examples
from autotrace.server.rest.models import EMPTY_ANSWER, DecisionsAnswer, DecisionsQuery, ResolveBody

PREFIX: Final = "/api/v1/decisions"

router = APIRouter(prefix=PREFIX, tags=["decisions"])

DecisionId = Annotated[str, Path(description="The decision.", examples=[examples.DECISION_ID])]
_RESOLVING: Final[dict[str, Any]] = {"responses": responses(403, 404, 409)}


@router.get("", summary="List decisions", responses=responses(404))
def decisions(
    caller: Caller, here: State, query: Annotated[DecisionsQuery, Query()]
) -> DecisionsAnswer:
    """Return a page of decisions, newest first."""
    with here.lease(caller) as tenant:
        found = tenant.decisions(caller).list(**dict(query))
    last = found[-1].decision_id if len(found) == query.limit else None
    return DecisionsAnswer(decisions=found, count=len(found), next=last)


# Before the route of one decision, which would match this path.
@router.get("/pending", summary="List what waits for an answer", responses=responses())
def pending(caller: Caller, here: State) -> DecisionsAnswer:
    """Return every decision that waits for an answer, the oldest first."""
    with here.lease(caller) as tenant:
        found = tenant.decisions(caller).pending()
    return DecisionsAnswer(decisions=found, count=len(found))


@router.get("/{decision_id}", summary="Show a decision", responses=responses(403, 404))
def show(decision_id: DecisionId, caller: Caller, here: State) -> DecisionTrace:
    """Return a decision with its history, the oldest event first."""
    with here.lease(caller) as tenant:
        return tenant.decisions(caller).trace(decision_id)


@router.post("/{decision_id}/approve", summary="Approve what a decision asks for", **_RESOLVING)
def approve(
    decision_id: DecisionId, caller: Caller, here: State, body: ResolveBody = EMPTY_ANSWER
) -> Decision:
    """Approve in the name of the key's agent; more approvers may be needed after this one."""
    answer = ApprovalAnswer(True, caller.agent, **body.model_dump())
    with here.lease(caller) as tenant:
        return tenant.decisions(caller).resolve(decision_id, answer)


@router.post("/{decision_id}/reject", summary="Reject what a decision asks for", **_RESOLVING)
def reject(
    decision_id: DecisionId, caller: Caller, here: State, body: ResolveBody = EMPTY_ANSWER
) -> Decision:
    """Reject in the name of the key's agent, which ends the decision."""
    answer = ApprovalAnswer(False, caller.agent, **body.model_dump())
    with here.lease(caller) as tenant:
        return tenant.decisions(caller).resolve(decision_id, answer)
