"""Policies written in Cedar, evaluated by cedarpy (the extra `cedar`).

Cedar skips a policy that it cannot evaluate, so that a `forbid` that fails forbids nothing. Here
an error of any policy is a `PolicyError`.

An exception waives a `forbid`, but permits nothing: a denial can be excepted only if Cedar would
allow the request without the policies that carry `@requires_exception`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from autotrace.base.canonical_json import sha256_of
from autotrace.decisions.policies import Policy, add_policy, check_policy_id
from autotrace.errors import InvalidArgumentError, MissingExtraError, PolicyError

if TYPE_CHECKING:
    import cedarpy

DEFAULT_PRINCIPAL: Final = 'Agent::"agent"'
DEFAULT_ACTION: Final = 'Action::"decide"'
DEFAULT_RESOURCE: Final = 'Decision::"decision"'

_REQUEST: Final = ("principal", "action", "resource")
_EXCEPTION: Final = "requires_exception"

EntityId = str | Mapping[str, str]
"""`User::"alice"`, or `{"type": "User", "id": "alice"}`."""


def cedar_policy(
    policy_id: str,
    policies: str | Path,
    *,
    entities: Sequence[Mapping[str, Any]] = (),
    schema: str | Path | Mapping[str, Any] | None = None,
    principal: EntityId = DEFAULT_PRINCIPAL,
    action: EntityId = DEFAULT_ACTION,
    resource: EntityId = DEFAULT_RESOURCE,
) -> None:
    """Register a set of Cedar policies as one policy of this process.

    Inputs become a request: `principal`, `action` and `resource` are taken from the inputs of these
    names, else from the arguments here; `entities` of the inputs are added to those here. `context`
    is the context; without it, all other inputs are. Over a server the principal is the agent of
    the client's key, with the type of `principal` here; inputs with `principal` or `entities` are
    refused.

    If Cedar allows the request, the outcome is `allow`. If it denies it, the outcome is
    `requires_exception` if it would allow it without the `forbid` policies annotated
    `@requires_exception("reason")`, else `deny`.

    Args:
        policy_id: Its id.
        policies: Cedar text, or a file with it, which is read now.
        entities: Entities in Cedar's JSON form.
        schema: A schema, or its file, in either of Cedar's forms, to check policies, entities and
            requests against.
        principal: Default principal.
        action: Default action.
        resource: Default resource.

    Raises:
        MissingExtraError: cedarpy is not installed.
        InvalidArgumentError: The id is not allowed or taken; or Cedar refuses policies, schema or
            entities: the error names the line.
        OSError: A file cannot be read.
    """
    cedarpy = _engine()
    check_policy_id(policy_id)
    text, place = _text_of(policies)
    schema_text = None if schema is None else _schema_of(schema)
    known = [dict(entity) for entity in entities]
    defaults: dict[str, Any] = {"principal": principal, "action": action, "resource": resource}
    try:
        parsed_schema = None if schema_text is None else cedarpy.Schema.from_str(schema_text)
    except ValueError as error:
        raise InvalidArgumentError("schema", policy_id, f"a Cedar schema: {error}") from None
    try:
        base = cedarpy.Entities.from_json_str(json.dumps(known), parsed_schema)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError("entities", policy_id, f"Cedar entities: {error}") from None
    parsed = _parse(text)
    if parsed_schema is not None:
        _validate(text, parsed, parsed_schema)
    evaluated = _CedarSet(policy_id, parsed, base, parsed_schema, defaults)
    version = sha256_of(
        {"policies": text, "schema": schema_text, "entities": known, "defaults": defaults}
    )
    add_policy(
        Policy(
            policy_id,
            version,
            evaluated.decide,
            place or "Cedar policies",
            place,
            evaluated.decide_for,
        )
    )


def _engine() -> Any:
    """Return the module cedarpy, which ships partial types.

    Raises:
        MissingExtraError: cedarpy is not installed.
    """
    try:
        import cedarpy
    except ImportError:
        raise MissingExtraError("a Cedar policy", "cedar") from None
    return cast("Any", cedarpy)


class _Rule(NamedTuple):
    """One policy of a set."""

    name: str
    effect: str
    exception: str | None
    """Reason in its annotation; None without one."""


class _Parsed(NamedTuple):
    rules: dict[str, _Rule]
    """By the id that Cedar assigned."""
    all: cedarpy.PolicySet
    firm: cedarpy.PolicySet
    """Policies that no exception waives."""

    def named(self, message: str) -> str:
        """Replace the numbers that Cedar gave to policies by their names."""
        for number, rule in self.rules.items():
            message = message.replace(f"`{number}`", f"`{rule.name}`")
        return message


class _CedarSet:
    """A parsed set of policies with entities, schema and defaults. Methods raise PolicyError."""

    def __init__(
        self,
        policy_id: str,
        parsed: _Parsed,
        entities: cedarpy.Entities,
        schema: cedarpy.Schema | None,
        defaults: Mapping[str, Any],
    ) -> None:
        self._id = policy_id
        self._parsed = parsed
        self._entities = entities
        self._schema = schema
        self._defaults = defaults

    def decide_for(self, inputs: dict[str, Any], agent: str) -> Any:
        """Evaluate a request of a client's agent."""
        principal = {"type": _type_of(self._defaults["principal"]), "id": agent}
        return self.decide({**inputs, "principal": principal})

    def decide(self, inputs: dict[str, Any]) -> Any:
        """Evaluate a request made of inputs."""
        request, entities = self._request(inputs)
        allowed, determining = self._ask(request, entities, self._parsed.all)
        waived = [rule for rule in determining if rule.exception is not None]
        outcome = "allow" if allowed else "deny"
        if waived and self._ask(request, entities, self._parsed.firm)[0]:
            outcome = "requires_exception"
        rationale: dict[str, Any] = {
            "cedar": "Allow" if allowed else "Deny",
            "policies": [_spelled(rule) for rule in determining],
        }
        if not determining:
            rationale["reason"] = "no policy permits it"
        elif reasons := [rule.exception for rule in waived if rule.exception]:
            rationale["reason"] = "; ".join(reasons)
        return outcome, rationale

    def _request(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], cedarpy.Entities]:
        asked = {name: inputs.pop(name, self._defaults[name]) for name in _REQUEST}
        more = inputs.pop("entities", [])
        asked["context"] = inputs.pop("context") if "context" in inputs else inputs
        if inputs and asked["context"] is not inputs:
            names = ", ".join(sorted(inputs))
            raise PolicyError(self._id, f"next to context, the inputs have unknown names: {names}")
        if not isinstance(asked["context"], dict):
            raise PolicyError(self._id, "the context is not an object")
        try:
            entities = cast("Any", self._entities)
            if more != []:
                entities = entities.with_added_json_str(json.dumps(more), self._schema)
        except ValueError as error:
            raise PolicyError(self._id, f"Cedar refuses the entities: {error}") from None
        return asked, entities

    def _ask(
        self,
        request: dict[str, Any],
        entities: cedarpy.Entities,
        policies: cedarpy.PolicySet,
    ) -> tuple[bool, list[_Rule]]:
        cedarpy = _engine()
        try:
            result = cedarpy.is_authorized(request, policies, entities, self._schema)
        except Exception as error:
            raise PolicyError(self._id, f"Cedar refuses the request: {error!r}") from error
        if result.diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
            errors = "; ".join(result.diagnostics.errors) or "no decision"
            raise PolicyError(self._id, f"Cedar reports: {self._parsed.named(errors)}")
        rules = [self._parsed.rules[found] for found in sorted(result.diagnostics.reasons)]
        return bool(result.allowed), rules


def _type_of(entity: EntityId) -> str:
    """Return the type in `User::"alice"`, or in `{"type": "User", "id": "alice"}`."""
    return entity.partition('::"')[0] if isinstance(entity, str) else entity["type"]


def _spelled(rule: _Rule) -> dict[str, str]:
    spelled = {"policy": rule.name, "effect": rule.effect}
    if rule.exception is not None:
        spelled[_EXCEPTION] = rule.exception
    return spelled


def _text_of(policies: str | Path) -> tuple[str, str | None]:
    """Return the text and, of a file, its path."""
    if isinstance(policies, Path):
        return policies.read_text(encoding="utf-8"), str(policies.resolve())
    return policies, None


def _schema_of(schema: str | Path | Mapping[str, Any]) -> str:
    return json.dumps(schema) if isinstance(schema, Mapping) else _text_of(schema)[0]


def _parse(text: str) -> _Parsed:
    """Return the policies of a text.

    Raises:
        InvalidArgumentError: The text is not a set of policies that can be evaluated.
    """
    cedarpy = _engine()
    try:
        everything = cedarpy.PolicySet.from_str(text)
        form = cast("dict[str, Any]", json.loads(cedarpy.policies_to_json_str(text)))
    except ValueError as error:
        raise InvalidArgumentError(
            "policies", _where(text, str(error)), f"Cedar policies: {error}"
        ) from None
    static = cast("dict[str, dict[str, Any]]", form["staticPolicies"])
    if form["templates"]:
        raise InvalidArgumentError(
            "policies", "a template", "policies without ?principal, ?resource"
        )
    if not static:
        raise InvalidArgumentError("policies", "", "at least one Cedar policy")
    rules = {number: _rule(number, one) for number, one in static.items()}
    for rule in rules.values():
        if rule.exception is not None and rule.effect != "forbid":
            allowed = f"on a forbid: the {rule.effect} {rule.name} has nothing to waive"
            raise InvalidArgumentError("policies", f"@{_EXCEPTION}", allowed)
    firm = {number: one for number, one in static.items() if rules[number].exception is None}
    firm_form = json.dumps(form | {"staticPolicies": firm})
    return _Parsed(rules, everything, cedarpy.PolicySet.from_json_str(firm_form))


def _rule(number: str, one: Mapping[str, Any]) -> _Rule:
    annotations = cast("dict[str, str | None]", one.get("annotations") or {})
    exception = (annotations[_EXCEPTION] or "") if _EXCEPTION in annotations else None
    return _Rule(annotations.get("id") or number, str(one["effect"]), exception)


def _validate(text: str, parsed: _Parsed, schema: cedarpy.Schema) -> None:
    """Raise InvalidArgumentError unless the policies conform to the schema."""
    result = _engine().validate_policies(text, schema)
    if not result.validation_passed:
        errors = "; ".join(parsed.named(error.error) for error in result.errors)
        raise InvalidArgumentError("policies", "not valid", f"as their schema has it: {errors}")


def _where(text: str, problem: str) -> str:
    """Return the lines of a syntax error, of which cedarpy gives only the message.

    The text is parsed with one line more each time: the bad policy begins after the last line up to
    which the text parses, and the error is in the first line that gives the same message.
    """
    cedarpy = _engine()
    lines = text.splitlines()
    begins, shows = 0, len(lines)
    for count in range(1, len(lines) + 1):
        try:
            cedarpy.PolicySet.from_str("\n".join(lines[:count]))
            begins = count
        except ValueError as error:
            if str(error) == problem and count < shows and "end of input" not in problem:
                shows = count
    while begins < shows - 1 and _is_empty(lines[begins]):
        begins += 1
    at = f"line {shows}"
    return at if begins + 1 == shows else f"{at}, in the policy that begins on line {begins + 1}"


def _is_empty(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped.startswith("//")
