"""Spans as a hostile sender makes them: any key with any value, any time, any parent."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import strategies as st

from autotrace import semconv
from autotrace.dialects import attribute_keys

NOW_NS = 1_700_000_000_000_000_000


def _strings_of(module: Any) -> set[str]:
    """Return every string that a module names, by itself or in a collection."""
    found: set[str] = set()
    for name, value in vars(module).items():
        if name.isupper():
            found |= {value} if isinstance(value, str) else set()
            found |= (
                {v for v in value if isinstance(v, str)} if hasattr(value, "__iter__") else set()
            )
    return found


KEYS = sorted(
    _strings_of(semconv) | _strings_of(attribute_keys) | {"metadata", "gen_ai.prompt.0.content"}
)
SCOPES = [semconv.SCOPE, "", "x", "langsmith", "ai"]
SCOPES += [
    attribute_keys.ADK_SCOPE,
    attribute_keys.SMOLAGENTS_SCOPE,
    attribute_keys.PYDANTIC_AI_SCOPE,
]
WORDS = (
    *("role", "content", "parts", "type", "kind", "tool_calls", "function", "name", "arguments"),
    *(
        "messages",
        "message",
        "data",
        "kwargs",
        "lc",
        "id",
        "output",
        "inputs",
        "args",
        "ai",
        "tool",
    ),
    *("tool_call", "tool_result", "toolResult", "response", "result", "error", "status", "text"),
)
WORSE = (
    *("task", "step", "decision", "execute_tool", "invoke_agent", "chat", "AGENT", "TOOL", "LLM"),
    *("", " ", "\0", "\U0001f600", "x" * 3000, "false", "NaN", "1e999", "9" * 5000, "[", "\\ud800"),
    *("{'a': '\\ud800'}", "{'a': 1e999, 1: (2,)}", "[" * 300 + "]" * 300, "[" * 90 + "]" * 90),
    *('{"tool_call":' * 200 + "{}" + "}" * 200, '{"type":"ai","data":' * 150 + "{}" + "}" * 150),
    *('{"kind":"ai","data":{"content":"x"}}', '{"messages":[["user","x"]]}', '"\\ud800"'),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS + WORSE),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=10,
)
_text = st.sampled_from(WORSE + WORDS) | _json.map(json.dumps) | _json.map(repr) | st.text()
_OF_64_BITS = (0, 1, -1, 2**63 - 1, -(2**63), 2**64 - 1)
_scalar = st.one_of(
    _text.map(lambda text: {"stringValue": text.encode("utf-8", "replace").decode()}),
    st.sampled_from(_OF_64_BITS).map(lambda n: {"intValue": str(n)}),
    st.sampled_from((0.5, 1e308, "NaN", "Infinity")).map(lambda n: {"doubleValue": n}),
    st.booleans().map(lambda flag: {"boolValue": flag}),
    st.binary(max_size=4).map(lambda b: {"bytesValue": b64encode(b).decode()}),
    st.just({}),
)
VALUES = st.recursive(
    _scalar,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: {"arrayValue": {"values": values}})
        | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3).map(
            lambda held: {"kvlistValue": {"values": [_pair(*item) for item in held.items()]}}
        )
    ),
    max_leaves=5,
)
TIMES = st.sampled_from((1, NOW_NS, 10**18, 2**63 - 2, 2**63 - 1)) | st.integers(
    NOW_NS, NOW_NS + 10**9
)
NAMES = ("", "x", "execute_tool ", "execute_tool a", "agent run", "call_llm", "\0", "y" * 2000)


def _pair(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


@st.composite
def attributes(draw: st.DrawFn) -> list[Any]:
    """Draw attributes of which some say that the span is one of ours."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=7))
    kinds = (semconv.KIND, "task"), (semconv.KIND, "step"), (semconv.GEN_AI_OPERATION_NAME, "chat")
    pairs += [
        (key, {"stringValue": value})
        for key, value in (*kinds, (semconv.GEN_AI_OPERATION_NAME, "execute_tool"))
        if draw(st.integers(0, 2)) == 0
    ]
    return [_pair(*pair) for pair in pairs]


@st.composite
def batches(draw: st.DrawFn, *, trace: str = "ee" * 16, max_spans: int = 6) -> dict[str, Any]:
    """Draw a request with spans of one trace: repeated ids, cycles, parents that are nowhere."""
    scopes: list[Any] = []
    for _ in range(draw(st.integers(1, max_spans))):
        events = st.fixed_dictionaries(
            {
                "name": st.sampled_from(
                    [*attribute_keys.MESSAGE_EVENTS, attribute_keys.CHOICE_EVENT, "exception"]
                ),
                "timeUnixNano": TIMES.map(str),
                "attributes": attributes(),
            }
        )
        span = {
            "traceId": trace,
            "spanId": f"{draw(st.integers(1, 8)):016x}",
            "parentSpanId": f"{draw(st.integers(0, 9)):016x}",
            "name": draw(st.sampled_from(NAMES)),
            "startTimeUnixNano": str(draw(TIMES)),
            "endTimeUnixNano": str(draw(TIMES)),
            "attributes": draw(attributes()),
            "events": draw(st.lists(events, max_size=2)),
            "status": {"code": draw(st.integers(0, 2)), "message": draw(st.sampled_from(WORDS))},
        }
        scopes.append({"scope": {"name": draw(st.sampled_from(SCOPES))}, "spans": [span]})
    return {"resourceSpans": [{"scopeSpans": scopes}]}
