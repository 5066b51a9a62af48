"""What an approval is bound to: the content of arguments, each content spelled in one way."""

from __future__ import annotations

import array
import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import ipaddress
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import uuid
import zoneinfo
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pydantic
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from autotrace.capture.approvals.arguments_hash import (
    are_finite,
    plain_arguments,
    show_call,
)
from autotrace.errors import InvalidArgumentError

ROOT = Path(__file__).parents[3]


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Rank(enum.IntEnum):
    FIRST = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(init=False, eq=False)
class Numbers(array.array):  # type: ignore[type-arg]
    name: str = ""


class Key:
    """Says that it is a secret, and holds more than that."""

    def __init__(self, value: str, target: str) -> None:
        self.value, self.target = value, target

    def get_secret_value(self) -> str:
        return self.value


class Code(enum.StrEnum):
    ONE = "one"


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


class Stamp(pydantic.BaseModel):
    at: datetime.datetime


class Private(pydantic.BaseModel):
    x: int
    _seen: int = pydantic.PrivateAttr(default=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: list[int]
    twice: int = dataclasses.field(default=2, kw_only=False)


class Slotted(str):
    __slots__ = ("extra",)


class Mode(enum.StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Flag(enum.Flag):
    A = 1
    B = 2


class Zone(datetime.tzinfo):
    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)


class OwnPath(pathlib.PurePosixPath):
    pass


Pair = namedtuple("Pair", "x y")


def slotted(extra: int) -> Slotted:
    made = Slotted("a")
    made.extra = extra  # type: ignore[attr-defined]
    return made


def private(seen: int) -> Private:
    made = Private(x=1)
    made._seen = seen  # pyright: ignore[reportPrivateUsage]
    return made


def ordered_with(attribute: str) -> Any:
    made: Any = OrderedDict(a=1)
    made.kind = attribute
    return made


def member_with(content: str, attribute: str = "") -> Any:
    made = str.__new__(Code, content)
    made._value_, made._name_ = "one", "ONE"
    if attribute:
        made._limit = attribute  # type: ignore[attr-defined]
    return made


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int

    return Local(1)


def zone_of_a_file() -> Any:
    place = next(p for base in zoneinfo.TZPATH if (p := Path(base) / "Europe/Paris").exists())
    with place.open("rb") as file:
        return NOON.astimezone(zoneinfo.ZoneInfo.from_file(file, key="Europe/Berlin"))


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
    lambda: memoryview(bytes(8)).cast("I"),
    lambda: memoryview(bytes(8)).cast("f"),
    lambda: memoryview(bytearray(8)).cast("f"),
    lambda: Text("a"),
    lambda: text_with("x"),
    lambda: text_with("y"),
    lambda: [1, 2],
    lambda: [2, 1],
    lambda: (1, 2),
    lambda: deque([1, 2]),
    lambda: deque([1, 2], 9),
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
    lambda: OrderedDict(a=1, b=2),
    lambda: OrderedDict(b=2, a=1),
    lambda: ordered_with("x"),
    lambda: defaultdict(int, a=1),
    lambda: defaultdict(list, a=1),
    lambda: MappingProxyType({"a": 1}),
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
    lambda: NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(0), "A")),
    lambda: NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))),
    lambda: NOON.astimezone(zoneinfo.ZoneInfo("Europe/Paris")),
    lambda: NOON.time().replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    lambda: NOON.time().replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    lambda: zoneinfo.ZoneInfo("Europe/Berlin"),
    lambda: datetime.timezone(datetime.timedelta(0), "X"),
    lambda: datetime.timezone(datetime.timedelta(hours=1), "X"),
    lambda: Stamp(at="2026-01-07T12:00:00Z").at,  # type: ignore[arg-type]
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
    lambda: np.array([0.0]),
    lambda: np.array([-0.0]),
    lambda: np.array([1], "<i4"),
    lambda: np.array([1 << 24], ">i4"),
    lambda: np.empty((0, 3), object),
    lambda: np.empty((0,), object),
    lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("c", "f8")]),
    lambda: np.array(
        [(1, 2.0)], dtype={"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [0, 16]}
    ),
    lambda: np.array([b"a"]),
    lambda: np.array([b"a"], "S2"),
    lambda: np.array(["a"]),
    lambda: np.datetime64("2026-01-07"),
    lambda: np.datetime64("2026", "Y"),
    lambda: np.datetime64("2026-01", "M"),
    lambda: np.array(["2026-01"], "M8[M]"),
    lambda: Frozen([1]),
    lambda: Frozen([1], 3),
    lambda: slotted(1),
    lambda: slotted(2),
    lambda: Key("a", "test"),
    lambda: Key("a", "production"),
    lambda: Code.ONE,
    lambda: member_with("two"),
    lambda: member_with("two", "1"),
    lambda: Mode.SLOW,
    lambda: Mode.FAST,
    lambda: "slow",
    lambda: Flag.A,
    lambda: Flag.A | Flag.B,
    lambda: Private(x=1),
    lambda: private(2),
    lambda: ipaddress.ip_address("fe80::1%a"),
    lambda: ipaddress.ip_address("fe80::1%b"),
    lambda: ipaddress.ip_interface("10.0.0.1/8"),
    lambda: ipaddress.ip_address("10.0.0.1"),
    lambda: uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
    lambda: complex(0.0, -0.0),
    lambda: complex(0.0, 0.0),
    lambda: "a\u200bb",
    lambda: "a\\u200bb",
    lambda: {"autotrace.type": "text", "escaped": "a\\u200bb"},
    lambda: {"a\u200bb": 1},
    lambda: {"a\\u200bb": 1},
    lambda: "rm\u00a0-rf",
    lambda: "rm -rf",
    lambda: "ls" + " " * 64 + "; rm -rf /",
    lambda: "ls" + " " * 65 + "; rm -rf /",
    lambda: "ls\\x20{64}; rm -rf /",
    lambda: "ls \x20{64}; rm -rf /",
    lambda: "é",
    lambda: "e\u0301",
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: float("-inf"),
    lambda: "nan",
    lambda: complex(1, float("nan")),
    lambda: decimal.Decimal("NaN"),
    lambda: decimal.Decimal("sNaN"),
    lambda: np.float32("nan"),
    lambda: np.array([1.0, float("inf")]),
]
HAS_NONE: list[Any] = [
    np.datetime64("NaT"),
    np.longdouble(1),
    np.array([1], dtype=np.dtype("i4", metadata={"unit": "m"})),
    NOON.replace(tzinfo=Zone()),
    OwnPath("a"),
    local_class(),
    defaultdict(lambda: 1),
    2**9000,
    memoryview(bytes(8))[::2],
    object(),
    SimpleNamespace(x=1),
    UserDict(a=1),
    lambda: None,
    print,
    Point,
    # types of extensions hold what no attribute shows
    Numbers("i", [1]),
    time.gmtime(0),
    os.stat(ROOT),
    iter([1]),
    (n for n in [1]),
    np.ma.array([1]),
    np.random.default_rng(),
    "\ud800",
    {"a": ["\ud800"]},
]


def spelled(value: Any) -> str:
    return show_call({"name": "tool"}, {"x": value}).sha256


def test_no_two_contents_are_spelled_alike_and_each_always_the_same() -> None:
    first, second = ([spelled(make()) for make in MAKERS] for _ in range(2))
    assert first == second
    for (a, one), (b, other) in itertools.combinations(enumerate(first), 2):
        assert one != other, (MAKERS[a](), MAKERS[b]())


def test_the_spelling_is_the_same_in_every_process() -> None:
    code = (
        "from tests.capture.approvals.test_spelling import MAKERS, spelled\n"
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
            show_call({"name": "tool"}, {"fine": 1, "order": inside})
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
    assert show_call({}, {"a": 1, "b": 2}) == show_call({}, {"b": 2, "a": 1})


def test_a_zone_read_from_a_file_is_refused_whatever_key_it_is_given() -> None:
    with pytest.raises(InvalidArgumentError, match="time zone"):
        spelled(zone_of_a_file())


def test_more_than_a_person_reads_is_refused_and_not_cut() -> None:
    assert show_call({}, {"x": "a" * 1_000_000}).arguments == {"x": "a" * 1_000_000}
    for value in ("a" * 1_100_000, [1] * 400_000, np.zeros(400_000)):
        with pytest.raises(InvalidArgumentError, match=r"x=.*cannot be approved in part"):
            spelled(value)


def test_the_hash_is_that_of_the_json_that_is_shown() -> None:
    tool = {"name": "pay", "module": "shop"}
    for make in MAKERS:
        call = show_call(tool, {"x": make()})
        document = rfc8785.dumps({"tool": tool, "arguments": call.arguments})
        assert call.sha256 == hashlib.sha256(document).hexdigest()
        assert json.loads(json.dumps(call.arguments)) == call.arguments


def test_nothing_that_is_shown_is_invisible() -> None:
    shown = show_call({}, {"x": ["cat\u202e", {"a\u200b": 1}, "\x1b[2K", "rm\u00a0-rf"]}).arguments
    text = json.dumps(shown, ensure_ascii=False)
    assert not [c for c in text if c in "\u202e\u200b\x1b\u00a0"]
    assert shown["x"][0] == {"autotrace.type": "text", "escaped": "cat\\u202e"}


def test_the_name_of_the_tool_counts() -> None:
    pay, refund = (show_call({"name": name}, {"x": 1}) for name in ("pay", "refund"))
    assert pay.sha256 != refund.sha256


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
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab."),
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


class Money:
    def __init__(self, amount: Any) -> None:
        self.amount = amount


@pytest.mark.parametrize("number", [float("nan"), decimal.Decimal("NaN"), np.float64("inf")])
def test_a_number_that_compares_with_nothing_is_found_wherever_it_is(number: Any) -> None:
    for value in (number, [object(), {"a": (number,)}], Point(number), Money({"x": number})):
        assert not are_finite({"file": object(), "order": value})
        with pytest.raises(InvalidArgumentError):
            plain_arguments({"order": value})
    assert are_finite({"file": object(), "text": "nan\ud800", "zone": NOON.replace(tzinfo=Zone())})


KEYS = st.sampled_from(["a", "a.", "autotrace.type", "value", "escaped", "parts"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, 0.5, 2**53, 2**53 + 1, b"a", "a\u200b", "a\\u200b", "int"])
    | st.sampled_from([NOON, NOON.replace(tzinfo=None), decimal.Decimal(1), Colour.RED, Mode.SLOW]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=2)
        | st.dictionaries(st.integers(0, 1) | KEYS, inner, max_size=2)
        | st.lists(st.integers(0, 2), max_size=2).map(frozenset)
        | st.builds(Point, inner, inner)
        | st.dictionaries(KEYS, inner, max_size=2).map(OrderedDict)
    ),
    max_leaves=6,
)


def content(value: Any) -> Any:
    """Return what a value is, as a key that equals another's if type and content do."""
    kind = type(value)
    if kind is OrderedDict:
        return kind, tuple((content(k), content(v)) for k, v in value.items())
    if kind is dict:
        return kind, frozenset((content(k), content(v)) for k, v in value.items())
    if kind is Point:
        return kind, content(value.x), content(value.y)
    if kind in (list, tuple):
        return kind, tuple(map(content, value))
    return kind, (repr(value) if kind is not frozenset else frozenset(map(content, value)))


@given(VALUES, VALUES)
def test_values_are_shown_alike_if_and_only_if_type_and_content_are_equal(
    one: Any, other: Any
) -> None:
    shown = [show_call({}, {"x": value}) for value in (one, other)]
    is_same = content(one) == content(other)
    assert (shown[0].sha256 == shown[1].sha256) == is_same
    alike = json.dumps(shown[0].arguments, sort_keys=True) == json.dumps(
        shown[1].arguments, sort_keys=True
    )
    assert alike == is_same
