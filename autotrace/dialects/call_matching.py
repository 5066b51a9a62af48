"""Match the tool calls that models request with tool spans and with the answers of tools. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.messages import Message, ModelAnswer, RequestedToolCall
from autotrace.dialects.run_texts import failure_of
from autotrace.dialects.span_kinds import tool_name
from autotrace.dialects.span_messages import inputs, outputs
from autotrace.dialects.wrapped_values import arguments_of, dumps, find, loads, result_of
from autotrace.spool import record_fields
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord

_KEPT: Final = frozenset(
    {"trace", "id", "parent", "name", "start_ns", "end_ns", "sender", "owner", "sent_id"}
)
_LOOK_AHEAD: Final = 64
"""Among how many calls of a tool one with the same arguments is looked for."""


def translated_record(record: SpanRecord, attributes: dict[str, Any]) -> SpanRecord:
    """Return a record in the same place of the tree, with these attributes that are not None."""
    made: Any = {key: value for key, value in record.items() if key in _KEPT}
    made["attributes"] = {key: value for key, value in attributes.items() if value is not None}
    return made


def failed_record(record: SpanRecord, text: str | None) -> SpanRecord:
    """Mark a record as failed, and return it."""
    record["status"] = STATUS_ERROR
    if text:
        record["message"] = text
    return record


@dataclass
class Turn:
    """One call of a model."""

    record: SpanRecord
    asked: list[Message]
    said: list[Message]

    @property
    def calls(self) -> list[RequestedToolCall]:
        """Tool calls that the model requests."""
        return [call for message in self.said for call in message.calls]

    @property
    def answers(self) -> list[ModelAnswer]:
        """Answers of tools that the model receives."""
        return [answer for message in self.asked for answer in message.answers]


class ToolSpan:
    """A span of a tool call, and the request and answer that the models' spans hold of it."""

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
        """Fill in arguments and result that the span itself lacks."""
        if not isinstance(self.arguments, dict) and request.arguments is not None:
            self.arguments = request.arguments
        if answer is not None and self.result is None:
            self.result, failed = result_of(answer.content)
            self._failed |= failed or answer.failed

    def translated(self) -> SpanRecord:
        """Return the record of the tool call with the keys of semconv.py."""
        failing = self._failing or self.record
        error, kind = failure_of(failing, self.result) if self._failed else (None, None)
        return tool_record(
            self.record,
            self.name,
            self.call_id,
            self.arguments,
            self.result,
            self._failed,
            error,
            kind,
        )


def tool_record(
    record: SpanRecord,
    name: str,
    call_id: str | None,
    arguments: Any,
    result: Any,
    failed: bool,
    error: str | None,
    kind: str | None,
) -> SpanRecord:
    """Make the record of a tool call with the keys of semconv.py."""
    timeout = failed and any("timeout" in (text or "").lower()[:80] for text in (kind, error))
    made = translated_record(
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
    return failed_record(made, error) if failed else made


def turns_of(groups: Iterable[Sequence[SpanRecord]]) -> list[Turn]:
    """Make a turn of each call of a model, however many spans it has."""
    turns: list[Turn] = []
    for layers in groups:
        said = [outputs(layer) for layer in layers]
        asked = [inputs(layer) for layer in layers]
        turns.append(
            Turn(
                layers[0],
                next((m for m in asked if m), list[Message]()),
                next((m for m in said if m), list[Message]()),
            )
        )
    return _without_silent_copies(turns)


def _without_silent_copies(turns: Sequence[Turn]) -> list[Turn]:
    """Leave out spans without words that lie within one, of the same call, that has them."""
    kept: list[Turn] = []
    told_until_ns = 0
    for turn in sorted(turns, key=lambda t: (t.record["start_ns"], not t.said)):
        end_ns = turn.record.get("end_ns", 0)
        if turn.said:
            told_until_ns = max(told_until_ns, end_ns)
        elif end_ns <= told_until_ns:
            continue
        kept.append(turn)
    return kept


def new_answers(turn: Turn, following: Turn | None) -> list[ModelAnswer]:
    """Return the answers of tools between two calls of a model."""
    if following is None:
        return []
    before, after = len(turn.answers), following.answers
    return after[before:] if len(after) > before else list(after)


class UnmatchedAnswers:
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


class UnmatchedTools:
    """Tool calls that no request of a model has been found for yet."""

    def __init__(self, tools: Iterable[ToolSpan]) -> None:
        # Ordered: to look for the first key of a dict takes longer the more were deleted before it.
        self._by_name: dict[str, OrderedDict[int, ToolSpan]] = {}
        self._by_call_id: dict[tuple[str, str], deque[ToolSpan]] = {}
        for tool in tools:
            self._by_name.setdefault(tool.name, OrderedDict())[id(tool)] = tool
            if tool.call_id is not None:
                self._by_call_id.setdefault((tool.name, tool.call_id), deque()).append(tool)

    def claim(self, call: RequestedToolCall) -> ToolSpan | None:
        """Return the call that a model has asked for: by id, by its arguments, or the next one."""
        same = self._by_name.get(call.name)
        if not same:
            return None
        named = self._by_call_id.get((call.name, call.call_id or ""))
        found: ToolSpan | None = None
        while named and found is None:
            tool = named.popleft()
            found = tool if id(tool) in same else None
        if found is None:
            first = islice(same.values(), _LOOK_AHEAD)
            found = next((tool for tool in first if tool.arguments == call.arguments), None)
        found = found or next(iter(same.values()))
        del same[id(found)]
        return found
