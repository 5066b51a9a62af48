"""Cedar policies: what Cedar says, and no yes where it could not tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from autotrace.decisions.cedar_policies import cedar_policy
from autotrace.decisions.policies import evaluate, policy_ids, remove_policy
from autotrace.errors import InvalidArgumentError, MissingExtraError, PolicyError

RULES = """
@id("agents may")
permit(principal, action, resource);

@id("cap")
@requires_exception("a discount of more than 20 %")
forbid(principal, action, resource) when { context has discount && context.discount > 20 };

@id("bulk")
@requires_exception("more than 100 pieces")
forbid(principal, action, resource) when { context has pieces && context.pieces > 100 };

@id("embargo")
forbid(principal, action, resource) when { context has country && context.country == "XX" };
"""

SCHEMA = """
entity User { age: Long };
entity Order;
action "sell" appliesTo { principal: User, resource: Order, context: { discount: Long } };
"""


def said(inputs: dict[str, Any], rules: str = RULES, **options: Any) -> tuple[str, dict[str, Any]]:
    remove_policy("sales")
    cedar_policy("sales", rules, **options)
    found = evaluate("sales", inputs)
    return found.outcome, found.rationale


def test_what_cedar_allows_is_allowed_by_the_policy_that_is_named() -> None:
    assert said({"discount": 20}) == (
        "allow",
        {"cedar": "Allow", "policies": [{"policy": "agents may", "effect": "permit"}]},
    )


def test_a_denial_by_annotated_policies_alone_may_be_excepted() -> None:
    outcome, rationale = said({"discount": 30, "pieces": 101})

    assert outcome == "requires_exception"
    assert rationale["cedar"] == "Deny"
    assert [rule["policy"] for rule in rationale["policies"]] == ["cap", "bulk"]
    assert rationale["reason"] == "a discount of more than 20 %; more than 100 pieces"


def test_one_policy_without_the_annotation_makes_it_a_denial() -> None:
    outcome, rationale = said({"discount": 30, "country": "XX"})

    assert outcome == "deny"
    assert [rule["policy"] for rule in rationale["policies"]] == ["cap", "embargo"]


def test_an_exception_does_not_permit_what_nothing_permits() -> None:
    forbidding = RULES.replace("permit(principal,", 'permit(principal == User::"boss",')

    assert said({"discount": 30}, forbidding)[0] == "deny"
    assert said({"discount": 30, "principal": 'User::"boss"', "country": "DE"}, forbidding)[0] == (
        "requires_exception"
    )
    assert said({"discount": 10}, forbidding) == (
        "deny",
        {"cedar": "Deny", "policies": [], "reason": "no policy permits it"},
    )


def test_an_annotation_without_a_reason_and_policies_without_an_id_do_too() -> None:
    bare = "permit(principal, action, resource);\n@requires_exception\n"
    outcome, rationale = said({}, bare + "forbid(principal, action, resource);")

    assert outcome == "requires_exception"
    assert rationale["policies"] == [
        {"policy": "policy1", "effect": "forbid", "requires_exception": ""}
    ]


ONE_REQUEST = """permit(
    principal == User::"alice", action == Action::"sell", resource == Order::"7"
) when { context == {discount: 5} && principal.age > 17 };"""

ALICE = {"uid": {"type": "User", "id": "alice"}, "attrs": {"age": 18}, "parents": []}


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        (
            {
                "principal": 'User::"alice"',
                "action": {"type": "Action", "id": "sell"},
                "resource": 'Order::"7"',
                "context": {"discount": 5},
                "entities": [ALICE],
            },
            {},
        ),
        (
            {"discount": 5},
            {
                "principal": {"type": "User", "id": "alice"},
                "action": 'Action::"sell"',
                "resource": 'Order::"7"',
                "entities": [ALICE],
            },
        ),
    ],
    ids=["all from the inputs", "all from the registration"],
)
def test_a_request_is_made_of_inputs_and_defaults(
    inputs: dict[str, Any], options: dict[str, Any]
) -> None:
    assert said(inputs, ONE_REQUEST, **options)[0] == "allow"
    assert said(inputs, ONE_REQUEST, **options, schema=SCHEMA)[0] == "allow"


def test_who_acts_on_what_has_names_where_nobody_says() -> None:
    rules = 'permit(principal == Agent::"agent", action == Action::"decide", resource is Decision);'

    assert said({}, rules)[0] == "allow"


def test_a_policy_that_cannot_be_evaluated_is_never_a_yes() -> None:
    careless = RULES.replace("context has discount && ", "")

    with pytest.raises(PolicyError, match=r"`cap`.*discount"):
        said({"country": "DE"}, careless)  # Cedar itself says Allow


@pytest.mark.parametrize(
    "inputs",
    [
        {"discount": None},
        {"discount": 0.5},
        {"principal": "nonsense"},
        {"principal": 3},
        {"action": {"type": "Action"}},
        {"context": [1]},
        {"context": {}, "discount": 30},
        {"entities": "nonsense"},
        {"entities": [{"uid": 1}]},
        {"entities": None},
    ],
    ids=json.dumps,
)
def test_a_request_that_cedar_cannot_read_is_an_error(inputs: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match="'sales'"):
        said(inputs)


def test_entities_of_the_inputs_cannot_replace_those_of_the_registration() -> None:
    older = ALICE | {"attrs": {"age": 99}}

    with pytest.raises(PolicyError, match="duplicate"):
        said({"entities": [older]}, entities=[ALICE])


def test_a_request_against_the_schema_is_an_error() -> None:
    request = {"principal": 'User::"a"', "action": 'Action::"sell"', "resource": 'Order::"1"'}
    rules = "permit(principal, action, resource);"

    assert said(request | {"context": {"discount": 1}}, rules, schema=SCHEMA)[0] == "allow"
    with pytest.raises(PolicyError, match="not valid"):
        said(request | {"context": {"discount": "much"}}, rules, schema=SCHEMA)
    with pytest.raises(PolicyError, match="conform"):
        said(request | {"entities": [ALICE | {"attrs": {}}]}, rules, schema=SCHEMA)


# --- registration


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        (
            RULES.replace("context.discount >", "context."),
            "line 7, in the policy that begins on line 5",
        ),
        (RULES.replace("> 100 };", "> 100 }"), "line 13, in the policy that begins on line 9"),
        (RULES + "\n// the end\n\nforbid(", "line 18'"),
        (RULES.replace('@id("bulk")', "@id(bulk)"), "line 9'"),
        ("permit(principal, action, resource) when { foo(1) };", "line 1'"),
    ],
    ids=range(5),
)
def test_a_syntax_error_is_found_at_registration_and_its_line_is_named(
    rules: str, where: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        cedar_policy("sales", rules)

    assert where in str(caught.value)
    assert "sales" not in policy_ids()


@pytest.mark.parametrize(
    ("rules", "options", "what"),
    [
        ("", {}, "at least one"),
        ("// nothing yet", {}, "at least one"),
        ("permit(principal == ?principal, action, resource);", {}, "template"),
        ("@requires_exception permit(principal, action, resource);", {}, "on a forbid"),
        (RULES, {"schema": "entity {"}, "schema"),
        (RULES, {"schema": {"": {"entityTypes": 3}}}, "schema"),
        (RULES, {"entities": [{"uid": 3}]}, "entities"),
        (RULES, {"schema": SCHEMA, "entities": [ALICE | {"attrs": {}}]}, "entities"),
        (RULES.replace("context has pieces && ", ""), {"schema": SCHEMA}, "bulk"),
    ],
    ids=range(9),
)
def test_what_cannot_be_evaluated_is_refused_at_registration(
    rules: str, options: dict[str, Any], what: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=what):
        cedar_policy("sales", rules, **options)
    assert "sales" not in policy_ids()


def test_the_version_changes_with_policies_schema_entities_and_defaults() -> None:
    variants: list[dict[str, Any]] = [
        {"policies": RULES},
        {"policies": RULES + " "},
        {"policies": RULES, "entities": [ALICE]},
        {"policies": RULES, "principal": 'User::"alice"'},
        {"policies": "permit(principal, action, resource);"},
        {"policies": "permit(principal, action, resource);", "schema": SCHEMA},
    ]

    def version(policies: str, **options: Any) -> str:
        remove_policy("sales")
        cedar_policy("sales", policies, **options)
        request = {"action": 'Action::"sell"', "resource": 'Order::"1"', "principal": 'User::"a"'}
        return evaluate("sales", request | {"context": {"discount": 1}}).version

    versions = [version(**variant) for variant in variants]
    assert len(set(versions)) == len(versions)
    assert [version(**variant) for variant in variants] == versions
    assert {len(found) for found in versions} == {64}


def test_a_file_is_read_and_read_again_when_it_is_registered_again(tmp_path: Path) -> None:
    path = tmp_path / "sales.cedar"
    path.write_text(RULES, encoding="utf-8")
    cedar_policy("sales", path)
    cedar_policy("sales", path)
    path.write_text("forbid(principal, action, resource);", encoding="utf-8")
    assert evaluate("sales", {}).outcome == "allow"

    cedar_policy("sales", path)

    assert evaluate("sales", {}).outcome == "deny"
    with pytest.raises(InvalidArgumentError, match=r"sales\.cedar"):
        cedar_policy("sales", RULES)


def test_without_cedarpy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cedarpy", None)

    with pytest.raises(MissingExtraError, match=r"autotrace-agents\[cedar\]"):
        cedar_policy("sales", RULES)
