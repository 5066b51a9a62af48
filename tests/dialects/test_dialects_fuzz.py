"""Dialects read what anybody sends: no value of any attribute makes reading fail."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from autotrace.dialects import attribute_keys
from autotrace.dialects.wrapped_values import loads
from autotrace.spool.span_records import SpanRecord
from autotrace.traces.assembly import build_trace, summarize
from autotrace.traces.tree import Tree

TRACE = "cd" * 16
WORDS = (
    *("role", "content", "parts", "type", "kind", "tool_calls", "function", "name", "arguments"),
    *("messages", "message", "data", "kwargs", "lc", "id", "output", "outputs", "inputs", "args"),
    *("input_str", "tool_name", "error", "status", "text", "thought", "response", "result"),
    *("tool_call", "text", "reasoning", "assistant", "user", "tool", "generations", "choices"),
)
NAMES = [
    *(
        name
        for value in vars(attribute_keys).values()
        if isinstance(value, tuple)
        for name in value
    ),
    *(
        value
        for name, value in vars(attribute_keys).items()
        if name.isupper() and isinstance(value, str)
    ),
    *("llm.input_messages.0.message.content", "llm.output_messages.0.message.tool_calls.0.x"),
    *("gen_ai.prompt.0.content", "gen_ai.completion.0.tool_calls.0.name", "metadata"),
    *("gen_ai.operation.name", "error.type"),
]
KINDS = [
    *("AGENT", "CHAIN", "LLM", "TOOL", "agent", "workflow", "task", "tool", "chat", "llm", "chain"),
    *("invoke_agent", "execute_tool", "invoke_workflow", "ai.generateText", "ai.toolCall"),
    *("ai.generateText.doGenerate", "tools/call", "handoff"),
]
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
values = plain | plain.map(json.dumps) | plain.map(repr) | st.sampled_from(KINDS)


@st.composite
def records(draw: st.DrawFn) -> list[SpanRecord]:
    made: list[SpanRecord] = []
    for number in range(1, draw(st.integers(2, 6))):
        start_ns = draw(st.integers(1, 50))
        record = SpanRecord(
            trace=TRACE,
            id=f"{number:016x}",
            parent=draw(st.none() | st.integers(1, 7).map(lambda n: f"{n:016x}")),
            name=draw(
                st.sampled_from(["", "agent run", "running tool", "x.tool", "invoke_agent a"])
            ),
            start_ns=start_ns,
            end_ns=start_ns + draw(st.integers(-5, 50)),
            scope=draw(
                st.sampled_from(
                    ["", attribute_keys.ADK_SCOPE, attribute_keys.SMOLAGENTS_SCOPE, "pydantic-ai"]
                )
            ),
            status=draw(st.integers(0, 2)),
            attributes=draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=6)),
        )
        if draw(st.booleans()):
            name = draw(
                st.sampled_from(
                    [*attribute_keys.MESSAGE_EVENTS, attribute_keys.CHOICE_EVENT, "exception"]
                )
            )
            content: dict[str, Any] = {"content": draw(values), "message": draw(values)}
            record["events"] = [{"name": name, "time_ns": 1, "attributes": content}]
        made.append(record)
    return made


@settings(max_examples=60)
@given(made=records(), data=st.data())
def test_whatever_spans_hold_they_are_read_alike_in_any_order(
    made: list[SpanRecord], data: st.DataObject
) -> None:
    def told(of: list[SpanRecord]) -> list[str]:
        tree = Tree(of)
        assert made[0]["id"] in tree.spans
        for task in tree.tasks:
            summarize(tree, task)
        return [build_trace(tree, task).model_dump_json() for task in tree.tasks]

    assert told(data.draw(st.permutations(made))) == told(made)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(-9, 99), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(value=st.lists(plain, max_size=3) | st.dictionaries(st.text(), plain, max_size=3))
def test_the_repr_of_plain_data_is_read_as_its_json_would_be(value: Any) -> None:
    assert loads(repr(value)) == json.loads(json.dumps(value))


@given(text=st.text(st.sampled_from("[{'\"\\x41uN(), :1a-NoneTrueb.#\n}])"), max_size=60))
def test_what_is_no_repr_stays_text(text: str) -> None:
    read = loads("[" + text)
    assert read == "[" + text or isinstance(read, list)
