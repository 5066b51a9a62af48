"""From spans of other instrumentations to the same spans in our own words. Pure.

Assembly knows one language only: the keys of semconv.py. So this turns each span of another
instrumentation into one with our keys: an agent's run into a task, a call of a model into a step, a
tool call into a tool call; all else keeps its place in the tree and says nothing. Calls that have
no span, but were asked for by a model and answered, get one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.messages import Message, ModelAnswer, RequestedToolCall, inputs, outputs
from autotrace.dialects.run_structure import AgentRun, TraceShape, is_foreign, shape_of
from autotrace.dialects.run_texts import (
    agent_of,
    failure_of,
    outcome_of,
    session_of,
    task_of,
)
from autotrace.dialects.span_kinds import is_handoff, span_kind, tool_name
from autotrace.dialects.wrapped_values import arguments_of, dumps, find, loads, result_of
from autotrace.spool import record_fields
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord

_KEPT: Final = frozenset(
    {"trace", "id", "parent", "name", "start_ns", "end_ns", "sender", "owner", "sent_id"}
)
_MAX_CALLS: Final = 1000
"""How many calls one answer of a model may ask for."""
_MAX_SHARED_CHARS: Final = 10_000
"""How much of the failure of a run is said of each call that it has cut short."""
_LOOK_AHEAD: Final = 64
"""Among how many calls of a tool one with the same arguments is looked for."""
_NO_FAILURE: Final = ("Command(", "ParentCommand(")
"""How LangGraph reports a handoff: as an error that is none."""


def translate(
    spans: Mapping[str, SpanRecord], erased: Set[str] = frozenset()
) -> dict[str, SpanRecord]:
    """Return the spans of one OpenTelemetry trace in our own words, by span id.

    Spans of our own are returned as they are. The answer depends on the set of spans alone.

    Args:
        spans: By span id.
        erased: Tasks whose traces were deleted: what lies below is none of any other run.
    """
    shape = shape_of(spans, erased)
    said = {span_id: r if not is_foreign(r) else _silent(r) for span_id, r in spans.items()}
    for tool in shape.loose_tools:
        if tool["id"] not in shape.recorded:
            said[tool["id"]] = _ToolSpan(tool, shape.failed_inside).translated()
    for run in shape.runs:
        for record in _Translator(run, shape).records():
            said[record["id"]] = record
    return said


def _silent(record: SpanRecord) -> SpanRecord:
    return _with(record, {})


def _with(record: SpanRecord, attributes: dict[str, Any]) -> SpanRecord:
    made: Any = {key: value for key, value in record.items() if key in _KEPT}
    made["attributes"] = {key: value for key, value in attributes.items() if value is not None}
    return made


def _failed(record: SpanRecord, text: str | None) -> SpanRecord:
    record["status"] = STATUS_ERROR
    if text:
        record["message"] = text
    return record


@dataclass
class _Turn:
    """One call of a model."""

    record: SpanRecord
    asked: list[Message]
    said: list[Message]

    @property
    def calls(self) -> list[RequestedToolCall]:
        return [call for message in self.said for call in message.calls]

    @property
    def answers(self) -> list[ModelAnswer]:
        return [answer for message in self.asked for answer in message.answers]


class _ToolSpan:
    """A span of a tool call, and what its model said of it."""

    def __init__(self, record: SpanRecord, failed_inside: Mapping[str, SpanRecord]) -> None:
        self.record = record
        self.name = tool_name(record)
        attributes = record_fields.attributes(record)
        self.call_id = record_fields.as_text(find(attributes, attribute_keys.TOOL_CALL_IDS))
        self.arguments = arguments_of(
            find(attributes, attribute_keys.TOOL_ARGUMENTS)
            or self._in_event(attribute_keys.TOOL_MESSAGE_EVENT, "content")
        )
        given = find(attributes, attribute_keys.TOOL_RESULTS)
        if given is None:
            given = self._in_event(attribute_keys.CHOICE_EVENT, "message")
        self.result, self._failed = result_of(given)
        if loads(given) == {}:
            self.result = None  # LangSmith's, of a call that failed
        self._failing = record if record.get("status") == STATUS_ERROR else None
        self._failing = self._failing or failed_inside.get(record["id"])
        self._failed |= (
            self._failing is not None
            or attributes.get(attribute_keys.STRANDS_TOOL_STATUS) == "error"
        )

    def _in_event(self, name: str, key: str) -> Any:
        for event in self.record.get("events", []):
            if event["name"] == name:
                return record_fields.value(event, key)
        return None

    def merge_request(self, request: RequestedToolCall, answer: ModelAnswer | None) -> None:
        """Take over what the span itself leaves out."""
        if not isinstance(self.arguments, dict) and request.arguments is not None:
            self.arguments = request.arguments
        if answer is not None and self.result is None:
            self.result, failed = result_of(answer.content)
            self._failed |= failed or answer.failed

    def translated(self) -> SpanRecord:
        failing = self._failing or self.record
        error, kind = failure_of(failing, self.result) if self._failed else (None, None)
        return _tool_record(
            self.record,
            self.name,
            self.call_id,
            self.arguments,
            self.result,
            self._failed,
            error,
            kind,
        )


def _tool_record(
    record: SpanRecord,
    name: str,
    call_id: str | None,
    arguments: Any,
    result: Any,
    failed: bool,
    error: str | None,
    kind: str | None,
) -> SpanRecord:
    timeout = failed and any("timeout" in (text or "").lower()[:80] for text in (kind, error))
    made = _with(
        record,
        {
            semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: name,
            semconv.GEN_AI_TOOL_CALL_ID: call_id,
            semconv.GEN_AI_TOOL_CALL_ARGUMENTS: None if arguments is None else dumps(arguments),
            semconv.GEN_AI_TOOL_CALL_RESULT: None if result is None else dumps(result),
            semconv.TOOL_STATUS: ("timeout" if timeout else "error") if failed else None,
            semconv.ERROR_TYPE: kind if failed else None,
        },
    )
    return _failed(made, error) if failed else made


class _Translator:
    """Translates one run."""

    def __init__(self, run: AgentRun, shape: TraceShape) -> None:
        self._run = run
        self._recorded = shape.recorded
        self._tools = [_ToolSpan(record, shape.failed_inside) for record in run.tools]
        self._turns = [] if run.own else _turns(run.models.values())
        self._failing = None if run.own else self._find_failing()

    def records(self) -> list[SpanRecord]:
        rebuilt = self._join_calls()
        records = [t.translated() for t in self._tools if t.record["id"] not in self._recorded]
        if self._run.own:
            return records
        if self._run.is_manual and not (records or rebuilt):
            return []  # models that call no tool are no agent
        records += rebuilt
        records += [self._step(turn) for turn in self._turns]
        records += [self._handoff(record) for record in self._run.handoffs]
        for agent in self._run.sub_agents:
            records += self._managed(agent)
        return [*records, self._task()]

    def _task(self) -> SpanRecord:
        run = self._run
        everything = [run.opener, *run.agents, *(t.record for t in self._turns), *run.tools]
        error = None if self._failing is None else failure_of(self._failing)[0]
        outcome = error if error else outcome_of(run, [turn.said for turn in self._turns])
        return _with(
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
    def _failure(self) -> tuple[str | None, str | None]:
        """How the run failed, as it is said of the calls that it has cut short."""
        error, kind = (None, None) if self._failing is None else failure_of(self._failing)
        return error and error[:_MAX_SHARED_CHARS], kind and kind[:_MAX_SHARED_CHARS]

    def _find_failing(self) -> SpanRecord | None:
        """Return the span whose failure is that of the run: a tool's alone is not."""
        candidates = [self._run.opener]
        agents = [record for record in self._run.agents if span_kind(record) == "agent"]
        candidates += agents[-1:]
        if self._run.is_manual:
            candidates += [turn.record for turn in self._turns[-1:]]
        failing = [r for r in candidates if r.get("status") == STATUS_ERROR and not _is_handoff(r)]
        # The innermost knows best what has happened.
        return max(failing, key=lambda r: bool(failure_of(r)[0]), default=None)

    def _step(self, turn: _Turn) -> SpanRecord:
        thoughts = [m.thought for m in turn.said if m.thought]
        texts = [m.text for m in turn.said if m.text and m.role != "user"]
        names = ", ".join(call.name for call in turn.calls)
        made = _with(
            turn.record,
            {
                semconv.KIND: semconv.KIND_STEP,
                semconv.THOUGHT: "\n".join(thoughts or texts) or None,
                semconv.ACTION: f"call {names}" if names else None,
            },
        )
        if turn.record.get("status") == STATUS_ERROR:
            return _failed(made, failure_of(turn.record)[0])
        return made

    def _handoff(self, record: SpanRecord) -> SpanRecord:
        action = record.get("name", "").removeprefix(f"{semconv.EXECUTE_TOOL} ")
        return _with(record, {semconv.KIND: semconv.KIND_STEP, semconv.ACTION: action})

    def _managed(self, agent: SpanRecord) -> list[SpanRecord]:
        """Make the call by which an agent was asked, as its framework has no span for it."""
        call_id = _id(agent["id"], "call")
        sub = AgentRun(agent)
        failed = agent.get("status") == STATUS_ERROR
        error, kind = failure_of(agent) if failed else (None, None)
        call = _tool_record(
            {**agent, "id": call_id},
            agent_of(sub) or agent.get("name", ""),
            None,
            {"task": task_of(sub, [])},
            outcome_of(sub, []),
            failed,
            error,
            kind,
        )
        return [call]

    def _join_calls(self) -> list[SpanRecord]:
        """Tell tool spans what the models said of them; make spans of calls that have none."""
        open_tools = _UnmatchedTools(self._tools)
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
            answers = _Answers(_new_answers(turn, following))
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
        turn: _Turn,
        following: _Turn | None,
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
        error, kind = None, None
        if failed:
            cut_short = answer is None and self._failing is not None
            error, kind = self._failure if cut_short else failure_of(place, result)
        return _tool_record(
            place, call.name, call.call_id, call.arguments, result, failed, error, kind
        )


def _is_handoff(record: SpanRecord) -> bool:
    text = record.get("message", "") or failure_of(record)[0] or ""
    return text.startswith(_NO_FAILURE)


def _turns(groups: Iterable[Sequence[SpanRecord]]) -> list[_Turn]:
    """Make a turn of each call of a model, however many spans it has."""
    turns: list[_Turn] = []
    for layers in groups:
        said = [outputs(layer) for layer in layers]
        asked = [inputs(layer) for layer in layers]
        turns.append(
            _Turn(
                layers[0],
                next((m for m in asked if m), list[Message]()),
                next((m for m in said if m), list[Message]()),
            )
        )
    return _without_silent_copies(turns)


def _without_silent_copies(turns: Sequence[_Turn]) -> list[_Turn]:
    """Leave out spans without words that lie within one, of the same call, that has them."""
    kept: list[_Turn] = []
    told_until_ns = 0
    for turn in sorted(turns, key=lambda t: (t.record["start_ns"], not t.said)):
        end_ns = turn.record.get("end_ns", 0)
        if turn.said:
            told_until_ns = max(told_until_ns, end_ns)
        elif end_ns <= told_until_ns:
            continue
        kept.append(turn)
    return kept


def _new_answers(turn: _Turn, following: _Turn | None) -> list[ModelAnswer]:
    """Return what the tools answered between two calls of a model."""
    if following is None:
        return []
    before, after = len(turn.answers), following.answers
    return after[before:] if len(after) > before else list(after)


class _Answers:
    """Answers of tools that no call has been found for yet."""

    def __init__(self, answers: Iterable[ModelAnswer]) -> None:
        self._left = dict(enumerate(answers))
        self._named = sum(bool(answer.name) for answer in self._left.values())
        self._by_id: dict[str, deque[int]] = {}
        self._by_name: dict[str | None, deque[int]] = {}
        for number, answer in self._left.items():
            if answer.call_id:
                self._by_id.setdefault(answer.call_id, deque()).append(number)
            self._by_name.setdefault(answer.name, deque()).append(number)

    def take(self, call: RequestedToolCall, *, alone: bool) -> ModelAnswer | None:
        """Return the answer to a call: by id, by the name of the tool, or the next without one."""
        found = self._first(self._by_id.get(call.call_id or ""))
        if found is None:
            found = self._first(self._by_name.get(call.name))
        if found is None and (alone or not self._named):
            found = self._first(self._by_name.get(None))
        if found is None:
            return None
        answer = self._left.pop(found)
        self._named -= bool(answer.name)
        return answer

    def _first(self, numbers: deque[int] | None) -> int | None:
        while numbers:
            number = numbers.popleft()
            if number in self._left:
                return number
        return None


class _UnmatchedTools:
    """Tool calls that no request of a model has been found for yet."""

    def __init__(self, tools: Iterable[_ToolSpan]) -> None:
        # Ordered: to look for the first key of a dict takes longer the more were deleted before it.
        self._by_name: dict[str, OrderedDict[int, _ToolSpan]] = {}
        self._by_call_id: dict[tuple[str, str], deque[_ToolSpan]] = {}
        for tool in tools:
            self._by_name.setdefault(tool.name, OrderedDict())[id(tool)] = tool
            if tool.call_id is not None:
                self._by_call_id.setdefault((tool.name, tool.call_id), deque()).append(tool)

    def claim(self, call: RequestedToolCall) -> _ToolSpan | None:
        """Return the call that a model has asked for: by id, by its arguments, or the next one."""
        same = self._by_name.get(call.name)
        if not same:
            return None
        named = self._by_call_id.get((call.name, call.call_id or ""))
        found: _ToolSpan | None = None
        while named and found is None:
            tool = named.popleft()
            found = tool if id(tool) in same else None
        if found is None:
            first = islice(same.values(), _LOOK_AHEAD)
            found = next((tool for tool in first if tool.arguments == call.arguments), None)
        found = found or next(iter(same.values()))
        del same[id(found)]
        return found


def _id(span_id: str, what: str) -> str:
    """Make the id of a span that nobody has recorded: always the same."""
    return hashlib.blake2b(f"{span_id}/{what}".encode(), digest_size=8).hexdigest()
