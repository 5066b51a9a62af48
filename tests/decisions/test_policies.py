"""Policies: registered once, evaluated with their inputs alone, never a yes by mishap."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotrace.decisions.policies import (
    Evaluated,
    PolicyFunction,
    evaluate,
    policy,
    policy_ids,
    remove_policy,
)
from autotrace.errors import InvalidArgumentError, PolicyError, PolicyNotFoundError

ROOT = Path(__file__).parents[2]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON)

CAP = """
from autotrace.decisions.policies import policy

@policy("cap")
def cap(inputs):
    names = {"gold", "silver", "bronze", "tin", "iron"}
    if inputs["tier"] in {"gold", "silver", "bronze", "tin", "iron"}:
        return "allow", "a tier of " + str(len(names))
    return "deny"
"""


def load(path: Path, source: str) -> ModuleType:
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("policies_of_a_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def version_of(path: Path, source: str) -> str:
    load(path, source)
    return evaluate("cap", {"tier": "gold"}).version


def answering(answer: Any) -> Evaluated:
    remove_policy("answering")
    policy("answering")(lambda _: answer)
    return evaluate("answering", {})


# --- what a policy says


def test_an_outcome_may_come_with_a_reason_in_words_or_as_an_object() -> None:
    assert answering("allow").rationale == {}
    assert answering(("deny", "too much")).rationale == {"reason": "too much"}
    assert answering(("requires_exception", {"limit": 20})).rationale == {"limit": 20}
    assert answering(("requires_exception", {})).outcome == "requires_exception"


def test_the_function_stays_what_it_was() -> None:
    def cap(inputs: dict[str, Any]) -> Any:
        return "deny" if inputs["discount"] > 0.2 else "allow"

    assert policy("cap")(cap) is cap
    assert evaluate("cap", {"discount": 0.25}).outcome == "deny"
    assert evaluate("cap", {"discount": 0.15}).outcome == "allow"


@pytest.mark.parametrize(
    "junk",
    [
        *(None, True, 1, "", "Allow", "approve", {"outcome": "allow"}, ["allow", "why"]),
        *(("allow",), ("allow", "why", "more"), ("allow", None), ("allow", {"at": object()})),
        *(("allow", {1: "one"}), ("allow", float("nan")), ("allow", {"x": float("nan")})),
    ],
    ids=range(15),
)
def test_what_is_no_outcome_is_an_error_that_names_the_policy(junk: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        answering(junk)
    assert caught.value.policy_id == "answering"
    assert "'answering'" in str(caught.value)


def test_a_policy_that_raises_gives_no_outcome_and_says_what_it_raised() -> None:
    @policy("cap")
    def cap(inputs: dict[str, Any]) -> Any:
        return inputs["discount"]

    with pytest.raises(PolicyError, match=r"'cap'.*KeyError\('discount'\)") as caught:
        evaluate("cap", {"discout": 1})
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_awaitable_is_no_outcome_and_is_not_left_unawaited() -> None:
    async def later() -> str:
        raise NotImplementedError

    with pytest.raises(PolicyError, match="coroutine"):
        answering(later())  # a warning of a coroutine never awaited would fail this test


def test_what_cannot_even_be_shown_is_an_error_all_the_same() -> None:
    class Hostile(Exception):
        def __repr__(self) -> str:
            raise RuntimeError

    @policy("cap")
    def cap(_: dict[str, Any]) -> Any:
        raise Hostile

    with pytest.raises(PolicyError, match="'cap'"):
        evaluate("cap", {})


def test_an_unknown_policy_is_named_with_those_there_are() -> None:
    policy("cap_v1")(lambda _: "allow")

    with pytest.raises(PolicyNotFoundError, match=r"'cap'.*cap_v1"):
        evaluate("cap", {})


# --- the inputs


@settings(max_examples=40)
@given(OBJECTS)
def test_a_policy_sees_its_inputs_and_can_change_nothing_of_the_callers(
    inputs: dict[str, Any],
) -> None:
    seen: list[str] = []

    def spoil(value: Any) -> None:
        for inner in list(value.values() if isinstance(value, dict) else value):
            if isinstance(inner, dict | list):
                spoil(inner)
        value.clear()

    def cap(given: dict[str, Any]) -> Any:
        seen.append(json.dumps(given))
        spoil(given)
        return "allow"

    remove_policy("cap")
    policy("cap")(cap)
    before = json.dumps(inputs)

    assert evaluate("cap", inputs) == evaluate("cap", inputs)
    assert json.dumps(inputs) == before
    assert seen == [before, before]


def test_a_rationale_is_a_copy() -> None:
    kept = {"limits": [20]}
    said = answering(("deny", kept))

    kept["limits"].append(30)

    assert said.rationale == {"limits": [20]}


def test_tuples_and_subclasses_arrive_as_plain_json() -> None:
    class Money(float):
        pass

    class Name(str):
        __slots__ = ()

    seen: list[Any] = []
    policy("cap")(lambda inputs: seen.append(inputs) or "allow")

    evaluate("cap", {"pair": (1, Money(2.5)), Name("who"): Name("me"), "yes": True})

    assert seen == [{"pair": [1, 2.5], "who": "me", "yes": True}]
    assert [type(value) for value in (seen[0]["pair"][1], seen[0]["who"])] == [float, str]


@pytest.mark.parametrize(
    ("inputs", "where"),
    [
        (["discount"], "list"),
        (None, "NoneType"),
        ({"a": [{"b": object()}]}, "inputs.a[0].b"),
        ({"a": {1: 2}}, "inputs.a has a key of type int"),
        ({"a": float("inf")}, "inputs.a is inf"),
        ({"a": "\ud800"}, "inputs.a holds text"),
        ({"a": b"bytes"}, "inputs.a"),
    ],
)
def test_inputs_that_are_no_json_object_are_refused_by_name(inputs: Any, where: str) -> None:
    policy("cap")(lambda _: "allow")

    with pytest.raises(InvalidArgumentError) as caught:
        evaluate("cap", inputs)

    assert caught.value.field == "inputs"
    assert where in str(caught.value)


def test_inputs_without_a_bottom_are_refused() -> None:
    policy("cap")(lambda _: "allow")
    endless: dict[str, Any] = {}
    endless["self"] = endless

    with pytest.raises(InvalidArgumentError, match="nested deeper"):
        evaluate("cap", endless)


# --- registration


def test_an_id_belongs_to_one_function_and_the_error_names_both() -> None:
    def first(_: dict[str, Any]) -> Any:
        return "deny"

    def second(_: dict[str, Any]) -> Any:
        return "allow"

    policy("cap")(first)

    with pytest.raises(InvalidArgumentError) as caught:
        policy("cap")(second)

    assert "first" in str(caught.value)
    assert "second" in str(caught.value)
    assert evaluate("cap", {}).outcome == "deny"

    remove_policy("cap")
    policy("cap")(second)
    assert evaluate("cap", {}).outcome == "allow"


def test_functions_of_one_name_made_at_different_places_are_not_the_same_policy() -> None:
    def register(limit: int) -> None:
        def cap(inputs: dict[str, Any]) -> Any:
            return "deny" if inputs["discount"] > limit else "allow"

        policy("cap")(cap)

    register(20)
    register(20)
    with pytest.raises(InvalidArgumentError, match="cap"):
        register(30)


def test_two_functions_of_one_module_cannot_have_one_id(tmp_path: Path) -> None:
    second = CAP.replace("def cap", "def cap_too").partition("import policy")[2]

    with pytest.raises(InvalidArgumentError, match=r"policies_of_a_test\.cap \(.*\.cap_too \("):
        load(tmp_path / "rules.py", CAP + second)


def test_a_module_loaded_again_replaces_its_policies_changed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "rules.py"
    first = version_of(path, CAP)
    assert version_of(path, CAP) == first

    path.unlink()
    changed = version_of(path, CAP.replace('return "deny"', 'return "requires_exception"  # now'))

    assert changed != first
    assert evaluate("cap", {"tier": "none"}).outcome == "requires_exception"


@pytest.mark.parametrize("bad", ["", " ", "a b", "-a", "a\n", "x" * 129, None, 3, "é", print])
def test_a_bad_id_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="policy_id"):
        policy(bad)


def _asynchronous() -> Any:
    async def cap(_: dict[str, Any]) -> Any:
        raise NotImplementedError

    return cap


def _generating() -> Any:
    def cap(_: dict[str, Any]) -> Any:
        yield "allow"

    return cap


@pytest.mark.parametrize(
    "function",
    [
        *(_asynchronous(), _generating(), lambda: "allow", lambda a, b: "allow"),
        *(lambda *, inputs: "allow", print, functools.partial(lambda a, b: "allow", 1), dict, None),
    ],
    ids=range(9),
)
def test_only_a_plain_function_of_one_argument_is_a_policy(function: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="plain function"):
        policy("cap")(function)
    assert "cap" not in policy_ids()


# --- versions


def test_the_version_is_the_hash_of_the_source(tmp_path: Path) -> None:
    function = CAP[CAP.index("@policy") :]

    assert version_of(tmp_path / "rules.py", CAP) == hashlib.sha256(function.encode()).hexdigest()


def test_the_version_does_not_depend_on_where_the_source_stands(tmp_path: Path) -> None:
    there = version_of(tmp_path / "rules.py", CAP)
    remove_policy("cap")
    moved = "# a licence\n\n" + CAP.replace("@policy", "if True:\n  @policy", 1)
    head, _, body = moved.partition("  @policy")

    assert version_of(
        tmp_path / "elsewhere.py", head + textwrap.indent("@policy" + body, "  ")
    ) == (there)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_a_policy_made_with_values_has_them_in_its_version(one: int, other: int) -> None:
    def version(limit: int, default: int) -> str:
        def cap(inputs: dict[str, Any], more: int = default) -> Any:
            return "deny" if inputs["discount"] > limit + more else "allow"

        remove_policy("cap")
        policy("cap")(cap)
        return evaluate("cap", {"discount": 1}).version

    assert version(one, 0) == version(one, 0)
    assert (version(one, 0) == version(other, 0)) == (one == other)
    assert (version(0, one) == version(0, other)) == (one == other)


def test_a_wrapped_policy_has_the_source_of_both_in_its_version() -> None:
    def logged(function: PolicyFunction) -> PolicyFunction:
        @functools.wraps(function)
        def wrapper(inputs: dict[str, Any]) -> Any:
            return function(inputs)

        return wrapper

    def careless(_: dict[str, Any]) -> Any:
        return "allow"

    def careful(_: dict[str, Any]) -> Any:
        return "deny"

    def version(function: PolicyFunction) -> str:
        remove_policy("cap")
        policy("cap")(function)
        return evaluate("cap", {}).version

    versions = [version(f) for f in (careless, careful, logged(careless), logged(careful))]
    assert len(set(versions)) == 4


def test_two_policies_of_one_line_have_versions_of_their_own() -> None:
    makers: list[Callable[..., Any]] = [lambda _: "allow", lambda _: "deny"]
    for number, maker in enumerate(makers):
        policy(f"cap{number}")(maker)

    assert evaluate("cap0", {}).version != evaluate("cap1", {}).version


@pytest.mark.parametrize("has_source", [True, False])
def test_every_process_finds_the_same_version(tmp_path: Path, *, has_source: bool) -> None:
    path = tmp_path / "rules.py"
    path.write_text(CAP, encoding="utf-8")
    name = str(path) if has_source else "<nowhere>"
    code = (
        "import sys, pathlib\n"
        "from autotrace.decisions.policies import evaluate\n"
        f"exec(compile(pathlib.Path({str(path)!r}).read_text(), {name!r}, 'exec'), {{}})\n"
        "print(evaluate('cap', {'tier': 'tin'}).version)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_without_source_the_code_is_the_version() -> None:
    def version(source: str) -> str:
        remove_policy("cap")
        exec(compile(source, "<nowhere>", "exec"), {"__name__": "nowhere"})
        return evaluate("cap", {"tier": "gold"}).version

    first = version(CAP)

    assert version("\n\n" + CAP) == first
    assert version(CAP.replace('"silver"', '"lead"')) != first
    assert version(CAP.replace("in {", "not in {")) != first
