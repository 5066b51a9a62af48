"""Secrets in values are not recorded, and the user's hook has the last word."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest

from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.semconv import REDACTED

SK = "sk-proj-abcDEF1234567890abcd"


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


class Point(NamedTuple):
    x: int
    y: int


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

    @pydantic.computed_field
    @property
    def computed(self) -> int:
        raise AssertionError("a property was read")


class Frame(pydantic.RootModel[list[int]]):
    """A model that is its one value."""


def test_a_secret_key_is_redacted_at_any_depth(make: Any, counts: Counter[str]) -> None:
    value = {
        "user": "ann",
        "config": [{"API_KEY": "k1k1k1"}, Attrs(1, "k2k2k2"), User(name="x", password="k3k3k3")],
        "headers": {"Authorization": "Bearer k4k4k4"},
        "credentials": {"user": "u5u5u5", "deep": {"pin": 123456}},
    }
    found: list[str] = []

    text = make().json(value, found=found)

    assert json.loads(text) == {
        "user": "ann",
        "config": [
            {"API_KEY": REDACTED},
            {"a": 1, "api_key": REDACTED},
            {"name": "x", "pin": REDACTED, "password": REDACTED},
        ],
        "headers": {"Authorization": REDACTED},
        "credentials": REDACTED,
    }
    assert found == [
        "k1k1k1", "k2k2k2", "secret-pin", "k3k3k3", "Bearer k4k4k4", "u5u5u5", "123456",
    ]  # fmt: skip
    assert counts == {"redacted": 6}


def test_a_secret_argument_alone_is_redacted_counted_and_found(
    make: Any, counts: Counter[str]
) -> None:
    found: list[str] = []

    text = make().json({"user": "ann", "password": "hunter2", "pin_token": "abc"}, found=found)

    assert text == f'{{"user":"ann","password":"{REDACTED}","pin_token":"{REDACTED}"}}'
    assert found == ["hunter2"]  # "abc" is too short to be told from other text
    assert counts == {"redacted": 2}


def test_nothing_under_a_secret_key_says_so_itself() -> None:
    assert record({"password": None, "use_auth": True}) == {"password": None, "use_auth": True}

    value = {"password": None, "use_auth": True, "token": "", "cvv": 123}

    assert record(value) == {"password": None, "use_auth": True, "token": REDACTED, "cvv": REDACTED}


def test_names_given_for_one_call_are_redacted_in_any_case() -> None:
    shown = record({"IBAN": "DE00 1234", "n": {"iban": "x"}}, secret_keys=frozenset({"Iban"}))

    assert shown == {"IBAN": REDACTED, "n": {"iban": REDACTED}}
    assert record({"IBAN": "DE00 1234"}) == {"IBAN": "DE00 1234"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"use {SK} now", f"use {REDACTED} now"),
        (f"line\n{SK}", f"line\n{REDACTED}"),
        ("Bearer abcdef123456", f"Bearer {REDACTED}"),
        ("postgres://u:p@h/db", f"postgres://u:{REDACTED}@h/db"),
        ("github_pat_" + "a1_" * 8, REDACTED),
        ("ghs_" + "a1" * 18, REDACTED),
        ("AKIAIOSFODNN7EXAMPLE", REDACTED),
        ("AIza" + "x1" * 18, REDACTED),
        ("xoxb-12345678901-abc", REDACTED),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", REDACTED),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", REDACTED),
        (f"line\natk_0123456789ab_{'A1' * 24}x", f"line\natk_0123456789ab_{REDACTED}"),
        (f"Bearer%20atk_0123456789ab_{'A1' * 24}x", f"Bearer%20{REDACTED}"),
        (f"n%3D{SK}", f"n%3D{REDACTED}"),
        ("task-0193abcd-0193abcd and ASIA", "task-0193abcd-0193abcd and ASIA"),
    ],
)
def test_a_secret_known_by_its_looks_is_taken_out_of_strings(text: str, shown: str) -> None:
    assert record({"note": text}) == {"note": shown}
    assert record([text.encode()]) == [shown]
    assert shown in record({text: 1})


JWT = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIi" * 50 + ".c2lnbmF0dXJl"


@pytest.mark.parametrize("before", ["", JWT + " ", (JWT + " ") * 3])
def test_a_secret_across_the_cut_is_taken_out(before: str) -> None:
    """Also where secrets before it were taken out, so that text from behind the cut moves up."""
    encoder = Encoder(Redactor(), max_value_bytes=1000)

    class Shown:
        def __repr__(self) -> str:
            return text

    for start in range(700, 1600, 5):
        text = before.ljust(start, "x") + " " + JWT + " " + "y" * 3000
        for value in (text, {"a": text.encode()}, Shown()):
            assert "eyJ" not in encoder.json(value)
        assert "eyJ" not in encoder.text(text)


def test_a_repr_is_searched_for_secrets_as_text_is() -> None:
    class Client:
        def __repr__(self) -> str:
            return "Client(api_key='hunter2', n=1)"

    assert record(Client()) == f"Client(api_key='{REDACTED}', n=1)"


def test_switched_off_nothing_is_redacted_but_what_is_named() -> None:
    encoder = Encoder(Redactor(enabled=False))

    text = encoder.json({"password": "a", "note": SK, "x": 1}, secret_keys=frozenset({"x"}))

    assert json.loads(text) == {"password": "a", "note": SK, "x": REDACTED}


# --- the hook


def test_the_hook_sees_every_value_with_its_path_containers_first(make: Any) -> None:
    seen: list[tuple[str, Any]] = []

    def hook(path: str, value: Any) -> Any:
        seen.append((path, value))
        return value

    make(hook).json(
        {
            "user": {"name": "ann", "tags": ["x", ("y",)]},
            "password": "p",
            "d": Slotted(1, Point(2, 3)),
        },
        path="arguments",
    )

    assert [path for path, _ in seen] == [
        "arguments",
        "arguments.user",
        "arguments.user.name",
        "arguments.user.tags",
        "arguments.user.tags[0]",
        "arguments.user.tags[1]",
        "arguments.user.tags[1][0]",
        "arguments.d",
        "arguments.d.x",
        "arguments.d.nested",
        "arguments.d.nested.x",
        "arguments.d.nested.y",
    ]
    assert seen[3][1] == ["x", ("y",)]


def test_the_hook_reaches_into_wrapped_containers(make: Any) -> None:
    encoder = make(lambda path, value: "hidden" if path.endswith("name") else value)

    text = encoder.json([collections.UserDict(name="ann"), Frame([1]), {"name": 1}])

    assert json.loads(text) == [{"name": "hidden"}, [1], {"name": "hidden"}]


def test_what_the_hook_returns_is_recorded_and_redacted_like_any_value(make: Any) -> None:
    encoder = make(lambda path, value: {"token": "t", "n": 1} if path == "value.user" else value)
    found: list[str] = []

    assert json.loads(encoder.json({"user": "ann-marie"}, found=found)) == {
        "user": {"token": REDACTED, "n": 1}
    }
    assert "ann-marie" in found


def test_a_value_whose_hook_raises_is_redacted(make: Any, counts: Counter[str]) -> None:
    def hook(path: str, value: Any) -> Any:
        if path == "value.a":
            raise RuntimeError(path)
        return value

    assert json.loads(make(hook).json({"a": {"x": 1}, "b": 2})) == {"a": REDACTED, "b": 2}
    assert counts == {"hook_errors": 1, "redacted": 1}


def test_the_hook_sees_text_and_errors_too(make: Any) -> None:
    encoder = make(lambda path, value: value.replace("ann", "***"))

    _, message, stack = encoder.error(ValueError("ann was here"))

    assert encoder.text("ask ann", path="thought") == "ask ***"
    assert message == "*** was here"
    assert stack == "ValueError: *** was here\n"


class Picked(pydantic.BaseModel):
    user: str
    pin: str = "picked-pin"

    def __repr_args__(self) -> Any:
        return [("user", self.user)]


class Filtered(pydantic.BaseModel):
    user: str
    pin: str = "filtered-pin"

    def __repr_args__(self) -> Any:
        return [(name, item) for name, item in super().__repr_args__() if name not in {"pin"}]


class Renamed(pydantic.BaseModel):
    user: str
    age: int = 3

    def __repr_args__(self) -> Any:
        yield from super().__repr_args__()


def test_fields_that_repr_args_leaves_out_are_hidden_and_it_is_not_run() -> None:
    assert record([Picked(user="ann"), Filtered(user="ann")]) == [
        {"user": "ann", "pin": REDACTED},
        {"user": "ann", "pin": REDACTED},
    ]
    assert record(Renamed(user="ann")) == {"user": "ann", "age": 3}
