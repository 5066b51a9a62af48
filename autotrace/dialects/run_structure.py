"""Find the runs among spans of other instrumentations. Pure.

A *run* becomes a trace: the outermost agent; without one the outermost workflow; without either the
root of a program that calls models and tools by hand. A task of our own is a run too. An agent
directly inside an agent or workflow is a part of that run; one inside a tool call is a sub-agent,
with a run of its own. A call of a tool or model may have up to four nested spans (layers); the
outermost is the call, or else our own record of it. The structure does not depend on arrival order.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Final

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.span_kinds import Kind, span_kind, tool_name
from autotrace.spool import record_fields
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord
from autotrace.spool.span_roles import role_of


def is_foreign(record: SpanRecord) -> bool:
    """Return whether a span of another instrumentation lacks our own keys."""
    if "scope" not in record:
        return False
    return semconv.KIND not in record_fields.attributes(record)


@dataclass
class AgentRun:
    """One run, with its spans in order."""

    opener: SpanRecord
    own: bool = False
    """Whether its opener is a task of our own, with spans of others inside."""
    is_manual: bool = False
    """Whether it is the root of a program that calls models and tools by hand."""
    agents: list[SpanRecord] = field(default_factory=list[SpanRecord])
    """Agents and workflows that are parts of it."""
    models: dict[str, list[SpanRecord]] = field(default_factory=dict[str, list[SpanRecord]])
    """Calls of models, each with its layers, the outermost first; by the span id of that one."""
    tools: list[SpanRecord] = field(default_factory=list[SpanRecord])
    handoffs: list[SpanRecord] = field(default_factory=list[SpanRecord])
    sub_agents: list[SpanRecord] = field(default_factory=list[SpanRecord])
    """Agents that it calls like tools, without a span of the call."""


@dataclass
class TraceShape:
    """The runs of one OpenTelemetry trace, and tool calls outside of them."""

    runs: list[AgentRun]
    loose_tools: list[SpanRecord]
    """Tool calls in no run."""
    failed_inside: dict[str, SpanRecord]
    """Failed inner span of a tool call, by the span id of the outermost."""
    recorded: Set[str] = frozenset()
    """Span ids of tool calls that contain our own record of the same call."""


@dataclass(frozen=True)
class _Place:
    """Position of a span, from which the positions of those below it follow."""

    run: str | None = None
    """Span id of the run that it opens or lies in."""
    in_tool: bool = False
    """Whether a tool call lies between it and the run, or is it."""
    tool: tuple[str, str] | None = None
    """Name and span id of the call of which a span below may be a layer."""
    model: str | None = None
    """Span id of the call of a model of which a span below may be a layer."""
    layer_of: str | None = None
    """Span id of the call of which this span is a layer itself."""


_NOWHERE: Final = _Place()
_OPENERS: Final[frozenset[Kind]] = frozenset({"agent", "workflow"})


class _Shaper:
    def __init__(self, spans: Mapping[str, SpanRecord], erased: Set[str]) -> None:
        self._spans = spans
        self._ordered = sorted(
            spans.values(), key=lambda r: (r["start_ns"], -r.get("end_ns", 2**63), r["id"])
        )
        self._kinds: dict[str, Kind] = {}
        self._own_tasks = set(erased)
        self._own_tools: dict[str, str] = {}
        for record in self._ordered:
            attributes = record_fields.attributes(record)
            if is_foreign(record) and record["id"] not in erased:
                self._kinds[record["id"]] = span_kind(record)
            elif role_of(record) == "task":
                self._own_tasks.add(record["id"])
            elif attributes.get(semconv.GEN_AI_OPERATION_NAME) == semconv.EXECUTE_TOOL:
                self._own_tools[record["id"]] = str(attributes.get(semconv.GEN_AI_TOOL_NAME))
        self._tops: dict[str, SpanRecord] = {}
        self._places: dict[str, _Place] = {}
        self._recorded: set[str] = set()
        by_depth = self._parents_first()
        self._by_hand = self._roots_by_hand()
        for record in by_depth:
            above = self._places.get(record.get("parent") or "", _NOWHERE)
            self._places[record["id"]] = self._place(record, above)

    def _parents_first(self) -> list[SpanRecord]:
        """Order spans after the ones above them, and find the top of each."""
        ordered: list[SpanRecord] = []
        for record in self._ordered:
            path: list[SpanRecord] = []
            on_path: set[str] = set()
            at: SpanRecord | None = record
            while at is not None and at["id"] not in self._tops and at["id"] not in on_path:
                path.append(at)
                on_path.add(at["id"])
                at = self._spans.get(at.get("parent") or "")
            # Damaged data may hold a cycle: then the last one found is its top.
            top = self._tops.get(at["id"]) if at is not None else None
            for below in reversed(path):
                top = top or below
                self._tops[below["id"]] = top
                ordered.append(below)
        return ordered

    def _reaches_root(self, record: SpanRecord) -> bool:
        """Return whether no further span of its process can arrive above a span."""
        top = self._tops[record["id"]]
        return not top.get("parent") or bool(top.get("remote"))

    def _roots_by_hand(self) -> set[str]:
        """Find the roots below which models or tools are called without an agent."""
        below: dict[str, list[Kind]] = {}
        for record in self._ordered:
            top = self._tops[record["id"]]["id"]
            if record["id"] in self._own_tasks:
                below.setdefault(top, []).append("agent")
            elif record["id"] in self._kinds and record["id"] != top:
                below.setdefault(top, []).append(self._kinds[record["id"]])
        return {
            top
            for top, kinds in below.items()
            if self._kinds.get(top, "other") == "other"
            and top not in self._own_tasks
            and top not in self._own_tools
            and self._reaches_root(self._spans[top])
            and not _OPENERS & set(kinds)
            and ("llm" in kinds or sum(kind == "tool" for kind in kinds) > 1)
        }

    def _place(self, record: SpanRecord, above: _Place) -> _Place:
        span_id = record["id"]
        if span_id in self._own_tasks or span_id in self._by_hand:
            return _Place(run=span_id)
        if span_id in self._own_tools:
            name = self._own_tools[span_id]
            if above.tool is not None and above.tool[0] == name:
                self._recorded.add(above.tool[1])
            return _Place(above.run, in_tool=True, tool=(name, span_id))
        kind = self._kinds.get(span_id)
        if kind == "tool":
            name = tool_name(record)
            if above.tool is not None and above.tool[0] == name:
                return replace(above, model=None, layer_of=above.tool[1])
            return _Place(above.run, in_tool=True, tool=(name, span_id))
        if kind == "llm":
            return replace(above, tool=None, model=above.model or span_id, layer_of=above.model)
        if kind in _OPENERS:
            opens = self._opens(record, kind, above)
            return _Place(span_id) if opens else _Place(above.run, in_tool=above.in_tool)
        return replace(above, layer_of=None)

    def _opens(self, record: SpanRecord, kind: Kind | None, above: _Place) -> bool:
        if kind == "agent":
            return above.run is None or above.in_tool or _is_managed(record)
        return above.run is None and not above.in_tool and self._reaches_root(record)

    def shape(self) -> TraceShape:
        """Sort the spans into runs."""
        runs = {
            record["id"]: AgentRun(
                record, record["id"] in self._own_tasks, record["id"] in self._by_hand
            )
            for record in self._ordered
            if self._places[record["id"]].run == record["id"]
        }
        shape = TraceShape(list(runs.values()), [], {}, self._recorded)
        for record in self._ordered:
            place, kind = self._places[record["id"]], self._kinds.get(record["id"])
            run = runs.get(place.run or "")
            if kind == "tool" and place.layer_of is not None:
                if record.get("status") == STATUS_ERROR:
                    shape.failed_inside[place.layer_of] = record
            elif kind == "tool":
                (shape.loose_tools if run is None else run.tools).append(record)
            elif kind is not None and run is not None:
                self._sort_in(record, kind, run, runs)
        return shape

    def _sort_in(
        self, record: SpanRecord, kind: Kind, run: AgentRun, runs: Mapping[str, AgentRun]
    ) -> None:
        span_id = record["id"]
        if kind == "llm":
            outermost = self._places[span_id].layer_of or span_id
            run.models.setdefault(outermost, []).append(record)
        elif kind == "handoff":
            run.handoffs.append(record)
        elif kind in _OPENERS and run.opener is not record:
            run.agents.append(record)
        elif kind == "agent" and _is_managed(record):
            above = self._places.get(record.get("parent") or "", _NOWHERE)
            if above.run is not None and not above.in_tool:
                runs[above.run].sub_agents.append(record)


def _is_managed(record: SpanRecord) -> bool:
    """Return whether an agent may be called like a tool without a span."""
    return record.get("scope") == attribute_keys.SMOLAGENTS_SCOPE


def shape_of(spans: Mapping[str, SpanRecord], erased: Set[str] = frozenset()) -> TraceShape:
    """Find the runs among the spans of one OpenTelemetry trace.

    Args:
        spans: By span id.
        erased: Ids of deleted tasks, which still bound their runs.
    """
    return _Shaper(spans, erased).shape()
