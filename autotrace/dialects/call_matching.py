"""Match requested tool calls with tool spans and answers. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.messages import Message, ModelAnswer, RequestedToolCall
from autotrace.dialects.run_texts import Failure, failure_of
from autotrace.dialects.span_kinds import tool_name
from autotrace.dialects.span_messages import inputs, outputs
from autotrace.dialects.wrapped_values import arguments_of, dumps, find, loads, result_of
from autotrace.spool import record_fields
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord

_KEPT: Final = frozenset(
    {"trace", "id", "parent", "name", "start_ns", "end_ns", "sender", "owner", "sent_id"}
)
_LOOK_AHEAD: Final = 64
"""Number of calls of a tool that are searched for one with the same arguments."""


def translated_record(record: SpanRecord, attributes: dict[str, Any]) -> SpanRecord:
    """Return a record in the same place with the attributes not None."""
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
    """One call of a model: its input and its output."""

    record: SpanRecord
    asked: list[Message]
    said: list[Message]

    @property
    def calls(self) -> list[RequestedToolCall]:
        """Tool calls that the model requests."""
        return [call for message in self.said for call in message.calls]

    @property
    def answers(self) -> list[ModelAnswer]:
        """Answers of tools in the input."""
        return [answer for message in self.asked for answer in message.answers]


class ToolSpan:
    """A span of a tool call, with its request and answer in models' spans."""

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
        failure = failure_of(self._failing or self.record, self.result) if self._failed else None
        return tool_record(
            self.record, self.name, self.call_id, self.arguments, self.result, failure
        )


def tool_record(
    record: SpanRecord,
    name: str,
    call_id: str | None,
    arguments: Any,
    result: Any,
    failure: Failure | None,
) -> SpanRecord:
    """Make the record of a tool call with the keys of semconv.py."""
    error, kind = failure or Failure()
    timeout = any("timeout" in (text or "").lower()[:80] for text in (kind, error))
    failed_as = "timeout" if timeout else "error"
    made = translated_record(
        record,
        {
            semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: name,
            semconv.GEN_AI_TOOL_CALL_ID: call_id,
            semconv.GEN_AI_TOOL_CALL_ARGUMENTS: None if arguments is None else dumps(arguments),
            semconv.GEN_AI_TOOL_CALL_RESULT: None if result is None else dumps(result),
            semconv.TOOL_STATUS: None if failure is None else failed_as,
            semconv.ERROR_TYPE: kind,
        },
    )
    return made if failure is None else failed_record(made, error)


def turns_of(groups: Iterable[Sequence[SpanRecord]]) -> list[Turn]:
    """Make a turn of each call of a model, however many spans it has."""
    turns: list[Turn] = []
    for layers in groups:
        asked = next((m for m in map(inputs, layers) if m), list[Message]())
        said = next((m for m in map(outputs, layers) if m), list[Message]())
        turns.append(Turn(layers[0], asked, said))
    return _without_silent_copies(turns)


def _without_silent_copies(turns: Sequence[Turn]) -> list[Turn]:
    """Leave out silent spans inside of a span of the same call."""
    kept: list[Turn] = []
    covered_until_ns = 0
    for turn in sorted(turns, key=lambda t: (t.record["start_ns"], not t.said)):
        end_ns = turn.record.get("end_ns", 0)
        if turn.said:
            covered_until_ns = max(covered_until_ns, end_ns)
        elif end_ns <= covered_until_ns:
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
    """Answers of tools whose calls are not found yet."""

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
        """Return the answer to a call: by id, by tool name, or the next unnamed."""
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
    """Tool spans whose requests are not found yet."""

    def __init__(self, tools: Iterable[ToolSpan]) -> None:
        # Ordered, as the first key of a dict takes longer to find after deletions before it.
        self._by_name: dict[str, OrderedDict[int, ToolSpan]] = {}
        self._by_call_id: dict[tuple[str, str], deque[ToolSpan]] = {}
        for tool in tools:
            self._by_name.setdefault(tool.name, OrderedDict())[id(tool)] = tool
            if tool.call_id is not None:
                self._by_call_id.setdefault((tool.name, tool.call_id), deque()).append(tool)

    def claim(self, call: RequestedToolCall) -> ToolSpan | None:
        """Return the span of a request: by id, by its arguments, or the next one."""
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
