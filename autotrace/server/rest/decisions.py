"""REST for those who answer decisions: what waits, what it is about, yes or no."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query

from autotrace.decisions.queries import MAX_PAGE
from autotrace.models import Decision, DecisionCategory, DecisionStatus, DecisionTrace
from autotrace.server.app_state import State
from autotrace.server.auth.authenticate import Caller
from autotrace.server.http_errors import responses
from autotrace.server.parameters import KNOWN_PARAMETERS
from autotrace.server.rest import examples
from autotrace.server.rest.models import NO_WORDS, Between, DecisionsAnswer, ResolveBody

PREFIX: Final = "/api/v1/decisions"

router = APIRouter(prefix=PREFIX, tags=["decisions"])

DecisionId = Annotated[str, Path(description="The decision.", examples=[examples.DECISION_ID])]
_RESOLVING: Final[dict[str, Any]] = {"responses": responses(403, 404, 409)}


@router.get("", summary="List decisions", responses=responses(404), dependencies=[KNOWN_PARAMETERS])
def decisions(
    caller: Caller,
    here: State,
    status: Annotated[
        DecisionStatus | None, Query(description="Only decisions of this status.")
    ] = None,
    category: Annotated[
        DecisionCategory | None, Query(description="Only decisions recorded in this category.")
    ] = None,
    actor: Annotated[str | None, Query(description="Only decisions that this one asked.")] = None,
    limit: Annotated[int, Between(1, MAX_PAGE), Query(description="Size of a page.")] = 50,
    after: Annotated[
        str | None, Query(description="Id of the last decision of the page before.")
    ] = None,
) -> DecisionsAnswer:
    """Return a page of decisions, newest first."""
    with here.lease(caller) as tenant:
        found = tenant.decisions.of(caller).list(
            status=status, category=category, actor=actor, limit=limit, after=after
        )
    last = found[-1].decision_id if len(found) == limit else None
    return DecisionsAnswer(decisions=list(found), count=len(found), next=last)


# Before the route of one decision, which would take this for an id.
@router.get("/pending", summary="List what waits for an answer", responses=responses())
def pending(caller: Caller, here: State) -> DecisionsAnswer:
    """Return every decision that waits for an answer, the oldest first."""
    with here.lease(caller) as tenant:
        found = tenant.decisions.of(caller).pending()
    return DecisionsAnswer(decisions=list(found), count=len(found))


@router.get("/{decision_id}", summary="Show a decision", responses=responses(403, 404))
def show(decision_id: DecisionId, caller: Caller, here: State) -> DecisionTrace:
    """Return a decision with its history, the oldest event first."""
    with here.lease(caller) as tenant:
        return tenant.decisions.of(caller).trace(decision_id)


@router.post("/{decision_id}/approve", summary="Approve what a decision asks for", **_RESOLVING)
def approve(
    decision_id: DecisionId, caller: Caller, here: State, body: ResolveBody = NO_WORDS
) -> Decision:
    """Say yes, in the name of the key's agent; more approvers may be needed after this one."""
    with here.lease(caller) as tenant:
        return tenant.decisions.of(caller).resolve(decision_id, granted=True, **body.model_dump())


@router.post("/{decision_id}/reject", summary="Reject what a decision asks for", **_RESOLVING)
def reject(
    decision_id: DecisionId, caller: Caller, here: State, body: ResolveBody = NO_WORDS
) -> Decision:
    """Say no, in the name of the key's agent, which ends the decision."""
    with here.lease(caller) as tenant:
        return tenant.decisions.of(caller).resolve(decision_id, granted=False, **body.model_dump())
