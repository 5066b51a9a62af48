"""Write records of other instrumentations with our own keys. Pure.

Assembly knows the keys of semconv.py alone. So an agent's run becomes a task, a call of a model a
step, and a tool call a tool call; each other span keeps its place in the tree without attributes.
A call without a span of its own, which a model requested and a tool answered, gets one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from functools import cached_property
from typing import Final

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.call_matching import (
    ToolSpan,
    Turn,
    UnmatchedAnswers,
    UnmatchedTools,
    failed_record,
    new_answers,
    tool_record,
    translated_record,
    turns_of,
)
from autotrace.dialects.messages import ModelAnswer, RequestedToolCall
from autotrace.dialects.run_structure import AgentRun, TraceShape, is_foreign, shape_of
from autotrace.dialects.run_texts import (
    Failure,
    agent_of,
    failure_of,
    outcome_of,
    session_of,
    task_of,
)
from autotrace.dialects.span_kinds import is_handoff, span_kind, tool_name
from autotrace.dialects.wrapped_values import result_of
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord

_MAX_CALLS: Final = 1000
"""Limit on the calls that one output of a model may request."""
_MAX_SHARED_CHARS: Final = 10_000
"""Limit on the text of a run's failure in each call that it has cut short."""
_NO_FAILURE: Final = ("Command(", "ParentCommand(")
"""LangGraph reports a handoff as an error that begins so."""


def translate(
    spans: Mapping[str, SpanRecord], erased: Set[str] = frozenset()
) -> dict[str, SpanRecord]:
    """Return the spans of a trace with our own keys, by span id.

    Spans of our own are returned unchanged. The result depends on the set of spans alone.

    Args:
        spans: By span id.
        erased: Ids of tasks whose traces were deleted; spans below belong to no other run.
    """
    shape = shape_of(spans, erased)
    said = {i: translated_record(r, {}) if is_foreign(r) else r for i, r in spans.items()}
    for tool in shape.loose_tools:
        if tool["id"] not in shape.recorded:
            said[tool["id"]] = ToolSpan(tool, shape.failed_inside).translated()
    for run in shape.runs:
        for record in _Translator(run, shape).records():
            said[record["id"]] = record
    return said


class _Translator:
    """Translates one run."""

    def __init__(self, run: AgentRun, shape: TraceShape) -> None:
        self._run = run
        self._recorded = shape.recorded
        self._tools = [ToolSpan(record, shape.failed_inside) for record in run.tools]
        self._turns = [] if run.own else turns_of(run.models.values())
        self._failing = None if run.own else self._find_failing()

    def records(self) -> list[SpanRecord]:
        rebuilt = self._join_calls()
        records = [t.translated() for t in self._tools if t.record["id"] not in self._recorded]
        if self._run.own:
            return records
        if self._run.is_manual and not (records or rebuilt):
            return []  # models that call no tool do not make an agent
        records += rebuilt
        records += [self._step(turn) for turn in self._turns]
        records += [self._handoff(record) for record in self._run.handoffs]
        records += map(self._managed, self._run.sub_agents)
        return [*records, self._task()]

    def _task(self) -> SpanRecord:
        run = self._run
        everything = [run.opener, *run.agents, *(t.record for t in self._turns), *run.tools]
        error = None if self._failing is None else failure_of(self._failing)[0]
        outcome = error if error else outcome_of(run, [turn.said for turn in self._turns])
        return translated_record(
            run.opener,
            {
                semconv.KIND: semconv.KIND_TASK,
                semconv.TASK: task_of(run, [turn.asked for turn in self._turns]),
                semconv.OUTCOME: outcome,
                semconv.SUCCESS: self._failing is None,
                semconv.GEN_AI_AGENT_NAME: agent_of(run),
                semconv.GEN_AI_CONVERSATION_ID: session_of(everything),
            },
        )

    @cached_property
    def _failure(self) -> Failure:
        """The failure of the run, cut, for the calls that it has cut short."""
        error, kind = Failure() if self._failing is None else failure_of(self._failing)
        return Failure(error and error[:_MAX_SHARED_CHARS], kind and kind[:_MAX_SHARED_CHARS])

    def _find_failing(self) -> SpanRecord | None:
        """Return the span whose failure is that of the run; a tool is not."""
        candidates = [self._run.opener]
        agents = [record for record in self._run.agents if span_kind(record) == "agent"]
        candidates += agents[-1:]
        if self._run.is_manual:
            candidates += [turn.record for turn in self._turns[-1:]]
        failing = [r for r in candidates if r.get("status") == STATUS_ERROR and not _is_handoff(r)]
        # The innermost span has the most precise error.
        return max(failing, key=lambda r: bool(failure_of(r)[0]), default=None)

    def _step(self, turn: Turn) -> SpanRecord:
        thoughts = [m.thought for m in turn.said if m.thought]
        texts = [m.text for m in turn.said if m.text and m.role != "user"]
        names = ", ".join(call.name for call in turn.calls)
        made = translated_record(
            turn.record,
            {
                semconv.KIND: semconv.KIND_STEP,
                semconv.THOUGHT: "\n".join(thoughts or texts) or None,
                semconv.ACTION: f"call {names}" if names else None,
            },
        )
        if turn.record.get("status") == STATUS_ERROR:
            return failed_record(made, failure_of(turn.record)[0])
        return made

    def _handoff(self, record: SpanRecord) -> SpanRecord:
        action = record.get("name", "").removeprefix(f"{semconv.EXECUTE_TOOL} ")
        return translated_record(record, {semconv.KIND: semconv.KIND_STEP, semconv.ACTION: action})

    def _managed(self, agent: SpanRecord) -> SpanRecord:
        """Make the call of a managed agent, as its framework has no span for it."""
        sub = AgentRun(agent)
        return tool_record(
            {**agent, "id": _id(agent["id"], "call")},
            agent_of(sub) or agent.get("name", ""),
            None,
            {"task": task_of(sub, [])},
            outcome_of(sub, []),
            failure_of(agent) if agent.get("status") == STATUS_ERROR else None,
        )

    def _join_calls(self) -> list[SpanRecord]:
        """Merge requests into tool spans; make spans of calls without one."""
        open_tools = UnmatchedTools(self._tools)
        rebuilt: list[SpanRecord] = []
        for index, turn in enumerate(self._turns):
            calls = [
                c
                for c in turn.calls
                if not is_handoff(c.name) and c.name != attribute_keys.FINAL_ANSWER
            ][:_MAX_CALLS]
            if not calls:
                continue
            following = self._turns[index + 1] if index + 1 < len(self._turns) else None
            answers = UnmatchedAnswers(new_answers(turn, following))
            for number, call in enumerate(calls):
                answer = answers.take(call, alone=len(calls) == 1)
                tool = open_tools.claim(call)
                if tool is not None:
                    tool.merge_request(call, answer)
                elif answer is not None or (following is None and self._failing is not None):
                    rebuilt.append(self._rebuilt(turn, following, number, call, answer))
        managed = {agent_of(AgentRun(agent)) for agent in self._run.sub_agents}
        return [r for r in rebuilt if tool_name(r) not in managed]

    def _rebuilt(
        self,
        turn: Turn,
        following: Turn | None,
        number: int,
        call: RequestedToolCall,
        answer: ModelAnswer | None,
    ) -> SpanRecord:
        start_ns = turn.record.get("end_ns", turn.record["start_ns"])
        end_ns = (
            self._run.opener.get("end_ns", start_ns)
            if following is None
            else following.record["start_ns"]
        )
        place: SpanRecord = {
            "trace": turn.record["trace"],
            "id": _id(turn.record["id"], str(number)),
            "parent": turn.record["id"],
            "name": f"{semconv.EXECUTE_TOOL} {call.name}",
            "start_ns": start_ns + number,  # which keeps them in the order of the request
            "end_ns": max(end_ns, start_ns + number),
        }
        if "owner" in turn.record:
            place["owner"] = turn.record["owner"]
        if "sender" in turn.record:
            place["sender"] = turn.record["sender"]
        result, failed = (None, True) if answer is None else result_of(answer.content)
        failed |= answer is not None and answer.failed
        failure = None
        if failed:
            cut_short = answer is None and self._failing is not None
            failure = self._failure if cut_short else failure_of(place, result)
        return tool_record(place, call.name, call.call_id, call.arguments, result, failure)


def _is_handoff(record: SpanRecord) -> bool:
    text = record.get("message", "") or failure_of(record)[0] or ""
    return text.startswith(_NO_FAILURE)


def _id(span_id: str, what: str) -> str:
    """Make the id of a span that was not recorded; always the same."""
    return hashlib.blake2b(f"{span_id}/{what}".encode(), digest_size=8).hexdigest()
