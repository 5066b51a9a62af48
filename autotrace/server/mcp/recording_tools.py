"""The tools of decisions that were made already: recorded in one call, and found again."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from autotrace.models import Decision, DecisionCategory, DecisionStatus
from autotrace.server.auth.principal import Principal
from autotrace.server.mcp.decision_tools import OpenedDecision, TraceOfIt
from autotrace.server.mcp.response_limits import DEFAULT_MAX_BYTES, bounded
from autotrace.server.mcp.tool import Arguments, Filters, MaxBytes, Tool, ToolAnswer, ToolContext

# --- what they take


class _Alternative(Arguments):
    option: str = Field(description="What was considered.")
    rejected_because: str = Field(default="", description="Why it was not chosen.")


class _Record(Arguments):
    title: str = Field(description="The decision in a few words.")
    category: DecisionCategory = Field(description="What it is about.")
    context: str = Field(description="What made a decision necessary.")
    decision: str = Field(description="What was decided.")
    rationale: str = Field(description="Why.")
    alternatives_considered: list[_Alternative] = Field(
        default_factory=list[_Alternative], description="What else was considered."
    )
    tags: list[str] = Field(default_factory=list[str], description="Labels to search by.")
    constraints: list[str] = Field(
        default_factory=list[str], description="What limited the choice."
    )
    consequences: list[str] = Field(default_factory=list[str], description="What follows from it.")
    supersedes: str | None = Field(
        default=None, description="The decision_id of the decision that this one replaces."
    )
    trace_id: TraceOfIt = None


class _Search(Filters):
    query: str | None = Field(
        default=None,
        description="What is looked for, in words; decisions that mean something similar come "
        "first. Without it the newest come first.",
    )
    category: DecisionCategory | None = Field(default=None, description="Only this category.")
    tags: list[str] = Field(
        default_factory=list[str], description="Only decisions that have every one of these tags."
    )
    status: DecisionStatus | None = Field(default=None, description="Only this status.")
    limit: int = Field(default=20, ge=1, le=100, description="How many at most.")
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES


# --- what they answer with


class _Found(Decision):
    similarity: float | None = Field(
        default=None, description="Cosine similarity to the query, 0 to 1."
    )


class _FoundDecisions(ToolAnswer):
    decisions: list[_Found]
    count: int


# --- what they do


def _record(desk: ToolContext, given: _Record, by: Principal) -> OpenedDecision:
    decisions = desk.decisions.of(by, given.trace_id)
    recorded = decisions.record(**given.model_dump(exclude={"trace_id"}))
    return OpenedDecision.model_validate(recorded, from_attributes=True)


def _search(desk: ToolContext, given: _Search, by: Principal) -> _FoundDecisions:
    if given.query is not None:
        desk.decisions.catch_up(by)
    found = desk.decisions.of(by).search(**given.model_dump(exclude={"max_bytes"}))
    decisions = [_Found(**dict(item.decision), similarity=item.similarity) for item in found]
    return _FoundDecisions(decisions=decisions, count=len(decisions))


def _fit_search(answer: dict[str, Any], given: _Search) -> dict[str, Any]:
    rest = "ask with a larger max_bytes, or for something narrower"
    return bounded(answer, "decisions", given.max_bytes, lambda _: rest)


RECORD_TOOLS: Final[tuple[Tool[Any], ...]] = (
    Tool(
        name="decision_record",
        title="Record a decision that was made",
        description="Record a decision that has been made already, such as a choice of design, "
        "with its context, reason and alternatives, so that others find it with decision_search. "
        "One call creates, fills and commits it. Search first; name what it replaces in "
        "supersedes.",
        arguments=_Record,
        answer=OpenedDecision,
        run=_record,
    ),
    Tool(
        name="decision_search",
        title="Find earlier decisions",
        description="Find earlier decisions by meaning, before deciding something that may have "
        "been decided already. Heed superseded_by: the decision named there is the current one.",
        arguments=_Search,
        answer=_FoundDecisions,
        run=_search,
        fit=_fit_search,
        changes=False,
    ),
)
