"""Every type of value becomes JSON, on the hot path and on the full walk alike."""

from __future__ import annotations

import array
import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import math
import pathlib
import types
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.semconv import REDACTED

SK = "sk-proj-abcDEF1234567890abcd"


def record(value: Any, **options: Any) -> Any:
    """What a reader finds in the record of a value."""
    return json.loads(Encoder(Redactor()).json(value, **options))


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "y"


class Odd(float, enum.Enum):
    """Its content as a float is not its value."""

    def __new__(cls, label: str, number: float) -> Odd:
        member = float.__new__(cls, number)
        member._value_ = label
        return member

    ONE = "one", 1.0


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    item: str
    password: str = "hunter2"
    callback: Any = len
    fixed: int = dataclasses.field(default=7, init=False)


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    x: int
    nested: Point


@attrs.define
class Attrs:
    a: int
    api_key: str = "keykeykey"


class User(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    name: str
    pin: pydantic.SecretStr = pydantic.SecretStr("secret-pin")

    @pydantic.model_serializer
    def _serialize(self) -> dict[str, Any]:
        raise AssertionError("a serializer was called")

    @functools.cached_property
    def cached(self) -> str:
        return "kept beside the fields"

    @pydantic.computed_field
    @property
    def computed(self) -> int:
        raise AssertionError("a property was read")


class Child:
    def __init__(self) -> None:
        self.y = 1


class Plain:
    """No repr of its own: shown by its attributes."""

    def __init__(self) -> None:
        self.x = 1
        self._token = "t0ken"
        self.child = Child()

    @property
    def danger(self) -> int:
        raise AssertionError("a property was read")


def function() -> None:
    """Something to be named."""


class Frame(pydantic.RootModel[list[int]]):
    """A model that is its one value."""


VALUES = [
    (None, None),
    (True, True),
    (2**63, 2**63),
    (-(2**63), -(2**63)),
    (2**70, str(2**70)),
    (-(2**70), str(-(2**70))),
    (10**3000, hex(10**3000)),
    (1 << (1 << 21), "<int of 2097153 bits>"),
    (0.1, 0.1),
    (-0.0, -0.0),
    (math.nan, "NaN"),
    (math.inf, "Infinity"),
    (-math.inf, "-Infinity"),
    ("naïve \U0001f600 \x00", "naïve \U0001f600 \x00"),
    ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
    ((1, "a"), [1, "a"]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a", "c"}), ["a", "b", "c"]),
    (collections.deque([1, 2], maxlen=2), [1, 2]),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.items(), [["a", 1]]),
    (array.array("d", [1.5]), [1.5]),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (collections.defaultdict(int, a=1), {"a": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (collections.UserDict(a=collections.UserList([1])), {"a": [1]}),
    (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (types.SimpleNamespace(a=1, password="hunter2"), {"a": 1, "password": REDACTED}),
    (Point(1, 2), {"x": 1, "y": 2}),
    (Order("tea"), {"item": "tea", "password": REDACTED, "callback": "len", "fixed": 7}),
    (Slotted(1, Point(2, 3)), {"x": 1, "nested": {"x": 2, "y": 3}}),
    (Attrs(1), {"a": 1, "api_key": REDACTED}),
    (User(name="ann", more=[1]), {"name": "ann", "pin": REDACTED, "more": [1]}),
    (Frame([1, 2]), [1, 2]),
    (Color.RED, "red"),
    (Level.HIGH, 3),
    (Word.YES, "y"),
    (Odd.ONE, "one"),
    (dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), "2026-01-02T03:04:05.000006+00:00"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(1, 2, 3), "01:02:03"),
    (dt.timedelta(days=1, hours=2, seconds=0.5), "P1DT2H0.5S"),
    (dt.timedelta(seconds=-90), "-PT1M30S"),
    (dt.timedelta(0), "PT0S"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("1.10"), "1.10"),
    (pathlib.PurePosixPath("/tmp/x"), "/tmp/x"),
    (b"text\n", "text\n"),
    (bytearray("é", "utf-8"), "é"),
    (memoryview(b"abc"), "abc"),
    (memoryview(b"abcd")[::2], "ac"),
    (b"\x00\xff", {"autotrace.bytes": {"length": 2, "encoding": "base64"}, "value": "AP8="}),
    (np.float64(1.5), 1.5),
    (np.int32(3), 3),
    (np.bool_(True), True),
    (np.str_("s"), "s"),
    (np.float32("nan"), "NaN"),
    (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (np.array(5), 5),
    (np.array([1, None, {"token": "t0ken"}], dtype=object), [1, None, {"token": REDACTED}]),
    (np.array(["2026-01-02"], dtype="M8[ns]"), ["2026-01-02T00:00:00.000000000"]),
    (np.datetime64("2026-01-02T00:00:00.000000001"), "2026-01-02T00:00:00.000000001"),
    (
        ValueError("no password=hunter2"),
        {"type": "ValueError", "message": f"no password={REDACTED}"},
    ),
    (function, f"{__name__}.function"),
    (Plain, f"{__name__}.Plain"),
    (Plain().__init__, f"{__name__}.Plain.__init__"),
    (len, "len"),
    (collections, "collections"),
    (iter([1]), "<list_iterator>"),
    (range(3), "range(0, 3)"),
    (complex(1, 2), "(1+2j)"),
    (object(), "<object>"),
    (
        Plain(),
        {
            "type": f"{__name__}.Plain",
            "attributes": {"x": 1, "_token": REDACTED, "child": f"<{__name__}.Child>"},
        },
    ),
]


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=lambda value: type(value).__name__)
def test_every_type_has_its_json(value: Any, shown: Any) -> None:
    assert record(value) == shown
    assert record({"inside": value}) == {"inside": shown}
    assert record([value]) == [shown]


def test_what_a_model_caches_is_no_field_of_it() -> None:
    user = User(name="ann")
    assert user.cached

    assert record(user) == {"name": "ann", "pin": REDACTED}


def test_a_model_of_pydantic_1_is_shown_by_its_fields() -> None:
    from pydantic import v1

    class Old(v1.BaseModel):
        name: str
        password: str

    assert record(Old(name="ann", password="hunter2")) == {"name": "ann", "password": REDACTED}


def test_keys_of_any_type_become_names_and_none_is_lost() -> None:
    value = {
        1: "int", "1": "str", None: 0, True and 2.5: 1, (1, 2): 2, Color.RED: 3, math.nan: 4,
        b"raw": 5, dt.date(2026, 1, 2): 6, 2**70: 7, "\ud800": 8,
    }  # fmt: skip

    assert record(value) == {
        "1": "int", "1 #2": "str", "null": 0, "2.5": 1, "(1, 2)": 2, "red": 3, "NaN": 4,
        "raw": 5, "2026-01-02": 6, str(2**70): 7, "\\ud800": 8,
    }  # fmt: skip


def test_iterators_and_generators_are_shown_by_type_and_not_consumed() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    generator, mapped = numbers(), map(str, [1])

    async def main() -> Any:
        coroutine = asyncio.sleep(0)
        shown = record([generator, mapped, coroutine])
        await coroutine
        return shown

    shown = asyncio.run(main())

    assert shown[0].startswith("<generator ")
    assert shown[1] == "<map>"
    assert shown[2] == "<coroutine sleep>"
    assert list(generator) == [1]
    assert list(mapped) == ["1"]


def test_a_cycle_is_marked_with_how_far_up_it_leads() -> None:
    inner: dict[str, Any] = {}
    value = {"a": [inner]}
    inner["up"] = value
    twice = [1]

    assert record(value) == {"a": [{"up": {"autotrace.cycle": 3}}]}
    assert record([twice, twice]) == [[1], [1]]


def test_what_is_recorded_is_the_value_at_that_moment() -> None:
    value = {"a": [1]}
    text = Encoder(Redactor()).json(value)
    value["a"].append(2)

    assert text == '{"a":[1]}'


# --- the hot path and the full walk agree

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


@given(JSON_VALUES, st.sampled_from([256, 300, 1000, 262_144]))
def test_the_hot_path_and_the_full_walk_write_the_same(value: Any, max_value_bytes: int) -> None:
    direct = Encoder(Redactor(), max_value_bytes=max_value_bytes)
    walked = Encoder(Redactor(hook=lambda _, value: value), max_value_bytes=max_value_bytes)
    found_direct: list[str] = []
    found_walked: list[str] = []

    assert direct.json(value, found=found_direct) == walked.json(value, found=found_walked)
    assert set(found_direct) == set(found_walked)


CLEAN_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('abc é\n"\\', max_size=80),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("xyz"), inner, max_size=6),
    max_leaves=30,
)


@given(CLEAN_VALUES)
def test_a_plain_value_comes_back_as_it_was(value: Any) -> None:
    assert json.loads(Encoder(Redactor()).json(value)) == value
