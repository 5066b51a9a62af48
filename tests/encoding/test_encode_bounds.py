"""What is recorded is bounded: valid JSON within its limits, in little time and memory."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.semconv import TRUNCATED

SK = "sk-proj-abcDEF1234567890abcd"
MARKER = TRUNCATED


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def make(counts: Counter[str]) -> Callable[..., Encoder]:
    """An encoder, with its limits, and with its counters in `counts`."""

    def count(name: str) -> None:
        counts[name] += 1

    def build(hook: Callable[[str, Any], Any] | None = None, **limits: int) -> Encoder:
        return Encoder(Redactor(hook=hook, count=count), **limits)

    return build


def record(value: Any, **options: Any) -> Any:
    """What a reader finds in the record of a value."""
    return json.loads(Encoder(Redactor()).json(value, **options))


def canonical_sha256(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=80)
    | st.sampled_from([SK, "Bearer abcdef123456", "postgres://u:p@h", "task-1-0193abcd0193abcd"]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["password", "api_key", "n", "token"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(
    JSON_VALUES | st.binary(max_size=2000) | st.text(max_size=3000),
    st.integers(256, 2000),
    st.integers(1, 8),
    st.integers(1, 20),
)
def test_the_json_is_valid_and_within_its_limit(
    value: Any, max_value_bytes: int, max_depth: int, max_items: int
) -> None:
    encoder = Encoder(
        Redactor(), max_value_bytes=max_value_bytes, max_depth=max_depth, max_items=max_items
    )
    large = {
        "first": value,
        "again": [value] * 4,
        "text": "\x00é\U0001f600" * 300,
        "b": b"\xff" * 600,
    }

    for each in (value, large):
        text = encoder.json(each)
        assert len(text.encode()) <= max_value_bytes
        json.loads(text)
        orjson.loads(text)


@given(st.text(st.characters(codec=None), max_size=2000), st.integers(256, 1500))
def test_text_is_within_its_limit(text: str, max_value_bytes: int) -> None:
    shown = Encoder(Redactor(), max_value_bytes=max_value_bytes).text(text)

    assert len(shown.encode()) <= max_value_bytes


@pytest.mark.parametrize("character", ["x", "é", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("length", [100, 126, 170, 251, 400, 501])
def test_text_just_within_its_limit_is_not_cut(character: str, length: int) -> None:
    text = character * length

    shown = Encoder(Redactor(), max_value_bytes=500).text(text)

    assert len(shown.encode()) <= 500
    assert (shown == text) == (len(text.encode()) <= 500)


def test_a_long_string_says_what_was_cut(make: Any, counts: Counter[str]) -> None:
    value = "é\n" * 1_500_000

    shown = json.loads(make().json(value))

    data = value.encode()
    assert shown[MARKER] == {
        "kind": "string",
        "length": 3_000_000,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert value.startswith(shown["value"])
    assert len(shown["value"]) > 100_000
    assert counts == {"truncated": 1}


@pytest.mark.parametrize(
    ("data", "encoding"), [(b"\x00\xff" * 500_000, "base64"), ("é".encode() * 500_000, "utf-8")]
)
def test_long_bytes_say_what_was_cut(data: bytes, encoding: str) -> None:
    shown = record(bytearray(data))

    assert shown[MARKER] == {
        "kind": "bytes",
        "length": len(data),
        "encoding": encoding,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    head = shown["value"].encode() if encoding == "utf-8" else base64.b64decode(shown["value"])
    assert head
    assert data.startswith(head)


@pytest.mark.parametrize("max_value_bytes", range(300, 308))
def test_base64_is_cut_where_it_can_be_decoded(max_value_bytes: int) -> None:
    data = b"\xff" * 10_000

    shown = json.loads(Encoder(Redactor(), max_value_bytes=max_value_bytes).json(data))

    assert data.startswith(base64.b64decode(shown["value"], validate=True))


def test_a_long_list_keeps_its_head_and_ends_in_a_marker(make: Any, counts: Counter[str]) -> None:
    value = list(range(30))

    shown = json.loads(make(max_items=10).json(value))

    assert shown[:-1] == value[:10]
    assert shown[-1] == {
        MARKER: {
            "kind": "array",
            "length": 30,
            "limit": "max_items",
            "sha256": canonical_sha256(value),
        }
    }
    assert counts == {"truncated": 1}


def test_a_long_object_keeps_its_head_and_has_a_marker_as_member() -> None:
    value = {f"k{number}": "x" * 50 for number in range(100)}

    shown = json.loads(Encoder(Redactor(), max_value_bytes=1000).json(value))
    marker = shown.pop(MARKER)

    assert marker == {
        "kind": "object",
        "length": 100,
        "limit": "max_value_bytes",
        "sha256": canonical_sha256(value),
    }
    assert list(shown.items()) == list(value.items())[: len(shown)]
    assert len(shown) > 5


def test_an_object_of_too_many_members_keeps_the_first(make: Any, counts: Counter[str]) -> None:
    shown = json.loads(make(max_items=2).json({"a": 1, "b": 2, "c": 3}))

    digest = canonical_sha256({"a": 1, "b": 2, "c": 3})
    cut = {"kind": "object", "length": 3, "limit": "max_items", "sha256": digest}
    assert shown == {"a": 1, "b": 2, MARKER: cut}
    assert counts == {"truncated": 1}


def test_a_deep_value_is_cut_at_the_limit_of_depth(make: Any, counts: Counter[str]) -> None:
    shown = json.loads(make(max_depth=2).json({"a": {"b": {"c": 1, "d": 2}}, "e": {"f": {}}}))

    cut = {"kind": "object", "length": 2, "limit": "max_depth", "sha256": None}
    assert shown == {"a": {"b": {MARKER: cut}}, "e": {"f": {}}}
    assert counts == {"truncated": 1}


def test_small_members_are_kept_whole_beside_a_large_one() -> None:
    value = {
        "html": "<p>" * 200_000,
        "status": 200,
        "headers": {"server": "x"},
        "text": "y" * 600_000,
    }

    shown = record(value)

    assert shown["status"] == 200
    assert shown["headers"] == {"server": "x"}
    assert len(shown["html"]["value"]) > 100_000
    assert len(shown["text"]["value"]) > 100_000


def test_a_digest_is_null_where_it_would_take_too_much_work() -> None:
    shown = record(list(range(1_000_000)))

    assert len(shown) == 10_001
    assert shown[-1][MARKER]["length"] == 1_000_000
    assert shown[-1][MARKER]["sha256"] is None


def test_a_marker_in_the_value_does_not_pass_for_one_of_the_cut() -> None:
    value = {MARKER: "forged", **{f"k{number}": number for number in range(100)}}

    shown = json.loads(Encoder(Redactor(), max_value_bytes=500).json(value))

    assert shown[MARKER]["length"] == 101
    assert list(shown)[-1] == MARKER


def test_a_long_name_is_cut_and_counted(make: Any, counts: Counter[str]) -> None:
    shown = json.loads(make().json({"k" * 1000: 1}))

    assert shown == {f"{'k' * 256}… (1000 characters)": 1}
    assert counts == {"truncated": 1}


def laughs() -> Any:
    value: Any = "lol"
    for _ in range(30):
        value = [value] * 10
    return value


def named_laughs() -> Any:
    value: Any = "lol"
    for _ in range(30):
        value = dict.fromkeys("abcdefghij", value)
    return value


def nested() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


HUGE: list[Callable[[], Any]] = [
    lambda: "x" * 50_000_000,
    lambda: ["x" * 50_000_000, 1],
    lambda: b"\x00" * 50_000_000,
    lambda: [None] * 5_000_000,
    lambda: dict.fromkeys(range(1_000_000)),
    lambda: ["x" * 200_000] * 10_000,
    lambda: [np.broadcast_to(np.float64(0), (10**9,))] * 20_000,
    laughs,
    named_laughs,
    nested,
]


@pytest.mark.parametrize("value", [pytest.param(make(), id=str(n)) for n, make in enumerate(HUGE)])
def test_a_huge_value_takes_little_memory(value: Any) -> None:
    encoder = Encoder(Redactor())
    tracemalloc.start()
    try:
        text = encoder.json(value)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert MARKER in text
    assert len(text) <= 262_144
    assert peak_bytes < 20_000_000


def test_limits_out_of_range_are_refused() -> None:
    for limits in ({"max_value_bytes": 255}, {"max_depth": 0}, {"max_depth": 65}, {"max_items": 0}):
        with pytest.raises(ValueError, match=next(iter(limits))):
            Encoder(Redactor(), **limits)
