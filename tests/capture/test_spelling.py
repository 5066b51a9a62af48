"""What an approval is bound to: the content of arguments, each content spelled in one way."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import itertools
import pathlib
import socket
import subprocess
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.capture.spelling import fingerprint, plain_arguments
from autotrace.errors import InvalidArgumentError

ROOT = Path(__file__).parents[2]


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Rank(enum.IntEnum):
    FIRST = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


class Labelled(Point):
    def __init__(self, label: str) -> None:
        super().__init__(1, 2)
        self.label = label


@dataclasses.dataclass
class Vector:
    x: Any
    y: Any = 0


@attrs.define
class Box:
    x: Any


class Model(pydantic.BaseModel):
    x: Any
    secret: pydantic.SecretStr = pydantic.SecretStr("s")


class Loose(pydantic.BaseModel, extra="allow"):
    x: int


class Patch(pydantic.BaseModel):
    email: str | None = None


class Text(str):
    pass


Pair = namedtuple("Pair", "x y")


def text_with(attribute: str) -> Text:
    made = Text("a")
    made.kind = attribute  # type: ignore[attr-defined]
    return made


NOON = datetime.datetime(2026, 1, 7, 12, tzinfo=datetime.UTC)
MAKERS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: Labelled("a"),
    lambda: Labelled("b"),
    lambda: Patch(),
    lambda: Patch(email=None),  # `exclude_unset` tells them apart
    lambda: True,
    lambda: 1,
    lambda: 1.0,
    lambda: -0.0,
    lambda: 0.0,
    lambda: 0.5,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 2**70,
    lambda: 2**70 + 1,
    lambda: {"autotrace.number": str(2**70)},
    lambda: {"autotrace.type": "bytes", "value": "YQ=="},
    lambda: "1",
    lambda: "a",
    lambda: "YQ==",
    lambda: b"a",
    lambda: bytearray(b"a"),
    lambda: memoryview(b"a"),
    lambda: Text("a"),
    lambda: text_with("x"),
    lambda: text_with("y"),
    lambda: [1, 2],
    lambda: [2, 1],
    lambda: (1, 2),
    lambda: deque([1, 2]),
    lambda: Pair(1, 2),
    lambda: {1, 2},
    lambda: frozenset({1, 2}),
    lambda: [[1, 2]],
    lambda: {"a": 1},
    lambda: {"a": 1.0},
    lambda: {1: "a"},
    lambda: {"1": "a"},
    lambda: [[1, "a"]],
    lambda: OrderedDict(a=1),
    lambda: defaultdict(int, a=1),
    lambda: Counter("a"),
    lambda: Colour.RED,
    lambda: Colour.GREEN,
    lambda: Rank.FIRST,
    lambda: Point(1),
    lambda: Point(1, 1),
    lambda: Vector(1),
    lambda: Box(1),
    lambda: Box("1"),
    lambda: Model(x=1),
    lambda: Model(x=1, secret=pydantic.SecretStr("t")),
    lambda: Loose(x=1),
    lambda: Loose(x=1, y=2),  # type: ignore[call-arg]
    lambda: decimal.Decimal("1.0"),
    lambda: decimal.Decimal("1.00"),
    lambda: fractions.Fraction(1, 2),
    lambda: complex(1, 2),
    lambda: range(3),
    lambda: range(0, 3, 2),
    lambda: slice(3),
    lambda: ...,
    lambda: NOON,
    lambda: NOON.replace(tzinfo=None),
    lambda: NOON.astimezone(zoneinfo.ZoneInfo("Europe/Berlin")),
    lambda: NOON.date(),
    lambda: NOON.time(),
    lambda: datetime.timedelta(days=1, microseconds=1),
    lambda: uuid.UUID(int=1),
    lambda: pathlib.PurePosixPath("/a"),
    lambda: pathlib.PureWindowsPath("/a"),
    lambda: np.int64(1),
    lambda: np.float64(1),
    lambda: np.float32(1),
    lambda: np.array([1, 2]),
    lambda: np.array([1.0, 2.0]),
    lambda: np.array([[1], [2]]),
    lambda: np.array([1, "a", None], dtype=object),
    lambda: np.datetime64("2026-01-07"),
]
HAS_NONE: list[Any] = [
    object(),
    SimpleNamespace(x=1),
    UserDict(a=1),
    lambda: None,
    print,
    Point,
    iter([1]),
    (n for n in [1]),
    np.ma.array([1]),
    np.random.default_rng(),
    "\ud800",
    {"a": ["\ud800"]},
]


def spelled(value: Any) -> str:
    return fingerprint("tool", {"x": value})


def test_no_two_contents_are_spelled_alike_and_each_always_the_same() -> None:
    first, second = ([spelled(make()) for make in MAKERS] for _ in range(2))
    assert first == second
    for (a, one), (b, other) in itertools.combinations(enumerate(first), 2):
        assert one != other, (MAKERS[a](), MAKERS[b]())


def test_the_spelling_is_the_same_in_every_process() -> None:
    code = (
        "from tests.capture.test_spelling import MAKERS, spelled\n"
        "for make in MAKERS: print(spelled(make()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [spelled(make()) for make in MAKERS]


@pytest.mark.parametrize("value", HAS_NONE, ids=lambda value: type(value).__name__)
def test_what_has_no_spelling_is_refused_by_name_and_not_shown(value: Any) -> None:
    for inside in (value, [value], {"k": value}, Point(value)):
        with pytest.raises(InvalidArgumentError, match="order=") as caught:
            fingerprint("tool", {"fine": 1, "order": inside})
        assert " at 0x" not in str(caught.value)


def test_open_files_and_sockets_are_refused() -> None:
    with Path(__file__).open() as file, socket.socket() as connection:
        for value in (file, connection):
            with pytest.raises(InvalidArgumentError):
                spelled(value)


def test_what_contains_itself_or_is_too_deep_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(InvalidArgumentError, match="contains itself, or is nested"):
            spelled(value)
    twice = [1]
    assert spelled([twice, twice]) == spelled([[1], [1]])


def test_the_order_of_keys_and_members_does_not_count() -> None:
    assert spelled({"a": 1, "b": 2}) == spelled({"b": 2, "a": 1})
    assert spelled({1: "a", (2,): "b"}) == spelled({(2,): "b", 1: "a"})
    assert fingerprint("t", {"a": 1, "b": 2}) == fingerprint("t", {"b": 2, "a": 1})


def test_the_name_of_the_tool_counts() -> None:
    assert fingerprint("pay", {"x": 1}) != fingerprint("refund", {"x": 1})


def test_a_policy_sees_plain_json() -> None:
    arguments = {
        "point": Point((1, 2), {"a"}),
        "when": NOON,
        "amount": decimal.Decimal("1.50"),
        "colour": Colour.GREEN,
        "array": np.array([[1, 2]]),
        "by_number": {1: "a"},
        "float": 1.0,
    }
    assert plain_arguments(arguments) == {
        "point": {"x": [1, 2], "y": ["a"]},
        "when": "2026-01-07T12:00:00+00:00",
        "amount": "1.50",
        "colour": 2,
        "array": [[1, 2]],
        "by_number": {"1": "a"},
        "float": 1.0,
    }
    with pytest.raises(InvalidArgumentError, match="same as text"):
        plain_arguments({"x": {1: "a", "1": "b"}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab."),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab."), inner, max_size=3),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1, 1.0 and True apart."""
    return repr(_ordered(one)) == repr(_ordered(other))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


@given(JSON, JSON)
def test_json_is_spelled_alike_if_and_only_if_it_is_the_same(one: Any, other: Any) -> None:
    assert (spelled(one) == spelled(other)) == same(one, other)
