"""The queries and bodies of REST that other surfaces do not share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from autotrace.base.page_limits import DEFAULT_TOOLS, MAX_AGENTS, MAX_PAGE, MAX_RECALL
from autotrace.models import (
    Decision,
    DecisionCategory,
    DecisionStatus,
    RecallResult,
    ToolStats,
    ToolStatsPage,
    TraceStatus,
    TraceSummary,
)
from autotrace.server.remote_traces import MAX_DURATION_MS
from autotrace.server.rest import examples

if TYPE_CHECKING:
    from autotrace.server.auth.principal import Principal
    from autotrace.server.consistent_reads import TraceReading


@dataclass(frozen=True)
class Between:
    """Annotates an integer from `low` to `high`; the error names both."""

    low: int
    high: int

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._check, core_schema.int_schema(ge=self.low, le=self.high)
        )

    def _check(self, value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> int:
        try:
            # JSON does not distinguish 5.0 from 5.
            whole: int = check(
                int(value) if isinstance(value, float) and value.is_integer() else value
            )
        except ValidationError as error:
            msg = "must be a whole number from {low} to {high}"
            bounds = {"low": self.low, "high": self.high}
            raise PydanticCustomError("value_not_allowed", msg, bounds) from error
        return whole


Named = Annotated[str, Field(min_length=1, pattern=r"\S")]
"""A text that is not blank."""


class _Query(BaseModel):
    # An unknown parameter may be a filter, misspelled or of another server. It is refused, as the
    # answer must not look filtered when it is not.
    model_config = ConfigDict(extra="forbid", frozen=True)


class DecisionsQuery(_Query):
    """Filters and page of a list of decisions."""

    status: DecisionStatus | None = Field(None, description="Only decisions of this status.")
    category: DecisionCategory | None = Field(
        None, description="Only decisions recorded in this category."
    )
    actor: str | None = Field(None, description="Only decisions that this one asked.")
    limit: Annotated[int, Between(1, MAX_PAGE)] = Field(50, description="Size of a page.")
    after: str | None = Field(None, description="Id of the last decision of the page before.")


class TracesQuery(_Query):
    """Filters and page of a list of traces."""

    status: TraceStatus | None = Field(None, description="Only traces of this status.")
    session_id: str | None = Field(None, description="Only traces of this session.")
    agent: str | None = Field(
        None, description="Only traces of this agent, as programs called themselves."
    )
    agents: list[str] | None = Field(
        None,
        description="Only traces that this agent recorded, as in recall; more than once: that "
        "one of them recorded.",
        min_length=1,
        max_length=MAX_AGENTS,
    )
    limit: Annotated[int, Between(1, MAX_PAGE)] = Field(50, description="Size of a page.")
    after: str | None = Field(None, description="Id of the last trace of the page before.")


class ToolStatsQuery(_Query):
    """Page of the statistics of tools."""

    limit: Annotated[int, Between(1, MAX_PAGE)] = Field(
        DEFAULT_TOOLS, description="Size of a page."
    )
    after: str | None = Field(None, description="Name of the last tool of the page before.")


class _Body(BaseModel):
    # Strict: "5" is not a number, and 1 is not true. Unknown fields are ignored: clients of the
    # contract may send some that only other servers know.
    model_config = ConfigDict(strict=True, frozen=True)


class StartBody(_Body):
    """A trace to begin."""

    task: Named = Field(
        description="What the agent is trying to accomplish.",
        examples=["Find the best Italian restaurants near the conference venue"],
    )
    session_id: Named = Field(description="Session identifier.", examples=["session-abc123"])
    triggered_by_memory_id: str | None = Field(
        default=None, description="Memory ID that triggered this trace.", examples=["mem_xyz"]
    )


class StepBody(_Body):
    """A turn of reasoning."""

    thought: str = Field(
        description="Agent's reasoning at this step.",
        examples=["I need to search for Italian restaurants."],
    )
    action: str = Field(description="Action decided upon.", examples=["call web_search"])
    observations: list[str] | None = Field(
        default=None,
        description="Environment observations.",
        examples=[["Found 15 results", "Top 3 have 4.5+ star ratings"]],
    )


class ToolCallBody(_Body):
    """A call of a tool that has ended."""

    tool_name: Named = Field(description="Tool that was called.", examples=["web_search"])
    arguments: dict[str, Any] = Field(
        description="Arguments passed to the tool.",
        examples=[{"query": "Italian restaurants near Moscone Center SF", "limit": 10}],
    )
    result: Any = Field(
        description="Return value from the tool.",
        examples=[{"results": ["Trattoria Milano", "Perbacco", "Coqueta"]}],
    )
    duration_ms: Annotated[int, Between(0, MAX_DURATION_MS)] = Field(
        description="Execution time in milliseconds.", examples=[420]
    )
    status: Literal["success", "error", "timeout"] = Field(
        description="How it ended.", examples=["success"]
    )
    memory_id: str | None = Field(default=None, description="Memory ID used/created by this call.")
    step_id: str | None = Field(
        default=None, description="Step to attach to (defaults to latest).", examples=[None]
    )


class CompleteBody(_Body):
    """How a task has ended."""

    outcome: str = Field(
        description="What came of it.", examples=["Found top 3 Italian restaurants."]
    )
    success: bool = Field(description="Whether the task was solved.", examples=[True])


class RecallBody(_Body):
    """A query for past traces. Unknown fields are refused, as unknown parameters are."""

    model_config = ConfigDict(extra="forbid")

    query: Named = Field(
        description="Natural language task description.",
        examples=["find restaurants near a venue"],
    )
    success_only: bool = Field(default=True, description="Return only successful traces.")
    limit: Annotated[int, Between(1, MAX_RECALL)] = Field(default=10, description="Max results.")
    agents: list[str] | None = Field(
        default=None,
        description="Only traces that these agents recorded: with a key of theirs, or, for "
        "programs on the store's machine, under their name.",
        min_length=1,
        max_length=MAX_AGENTS,
        examples=[["concierge"]],
    )


class RecallAnswer(BaseModel):
    """Past traces, the most similar first."""

    results: list[RecallResult]
    count: int
    note: str | None = Field(
        default=None,
        description="Says that a trace that failed is nearer than all results, and how to see it; "
        "null: none is.",
    )

    @classmethod
    def of(
        cls,
        traces: TraceReading,
        query: str,
        success_only: bool,
        limit: int,
        agents: Sequence[str] | None,
        by: Principal,
    ) -> Self:
        """Recall traces, and note a failed one that is nearer than all of them."""
        found = traces.recall(query, success_only, limit, agents=agents, by=by)
        note = None
        if success_only:
            failure = traces.memory.reader.nearer_failure(query, found, agents=agents)
            if failure is not None:
                near = f"a trace that failed is nearer ({failure.similarity:.2f})"
                note = f"{near}: ask with success_only=false"
        return cls(results=list(found), count=len(found), note=note)


class ToolStatsAnswer(BaseModel):
    """A page of the statistics of tools, the most used first."""

    tool_stats: list[ToolStats]
    count: int
    left_out: int = Field(
        default=0, description="How many tools come after this page: `after` the last one of it."
    )
    others: ToolStats | None = Field(
        default=None,
        description="All calls of the tools left out, and of tools that are not counted by name, "
        "together; null: there are none.",
    )

    @classmethod
    def of(cls, page: ToolStatsPage) -> Self:
        """Make the answer from a page."""
        tools, others, left_out = page
        return cls(tool_stats=tools, count=len(tools), left_out=left_out, others=others)


class TracesAnswer(BaseModel):
    """A page of traces, the newest first."""

    traces: list[TraceSummary]
    count: int
    next: str | None = Field(
        description="`after` of the next page; null: there is no other page.", default=None
    )


class ResolveBody(_Body):
    """An approver's answer."""

    rationale: str | None = Field(
        default=None, description="Why.", examples=["Within the budget of this quarter."]
    )
    head: str | None = Field(
        default=None,
        description="The `head` of the decision as you looked at it; 409 if it has moved since. "
        "Left out: an approval refers to the decision as it was when approval was requested.",
        examples=[examples.HEAD],
    )
    signature: str | None = Field(
        default=None,
        description="Your signature of this answer, by Ed25519; base64. Requests that name "
        "`approver_keys` accept signed approvals alone.",
        examples=[None],
    )
    public_key: str | None = Field(
        default=None,
        description="The public key that verifies the signature; base64 of its 32 bytes.",
        examples=[None],
    )


EMPTY_ANSWER: Final = ResolveBody()
"""Answer of a request without a body."""


class DecisionsAnswer(BaseModel):
    """Decisions."""

    decisions: list[Decision]
    count: int
    next: str | None = Field(
        description="`after` of the next page; null: there is no other page.", default=None
    )
