"""A tool of the MCP server: texts for agents, a function, its models.

The models give the schemas that clients see, the validation of arguments and the form of answers,
for every tool and transport. Schemas are short and simple: hosts put them into every prompt, and
some refuse references, lists of types, or properties without a type.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar, cast, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from autotrace.errors import AutotraceError
from autotrace.server.auth.principal import Principal
from autotrace.server.mcp.response_limits import LARGEST_BYTES, SMALLEST_BYTES, bounded_whole

if TYPE_CHECKING:
    from autotrace.server.tenants import Tenant

_KINDS: Final = ("object", "array", "string", "number", "boolean", "null")
_SINGLE: Final[Sequence[Mapping[str, Any]]] = [
    {"type": kind} for kind in ("object", "string", "number", "boolean")
]
_ROW: Final = {"type": "array", "items": {"anyOf": _SINGLE}}
_ANYTHING: Final = {
    "anyOf": [*_SINGLE, {"type": "array", "items": {"anyOf": [*_SINGLE, _ROW]}}],
}
"""One type at a time, and not null, which some hosts do not know."""
_BRIEF: Final = frozenset({"Approval", "Decision", "Evaluation", "Execution"})
"""Models inside of answers, of which a schema lists the required members alone."""


class Arguments(BaseModel):
    """Arguments of a tool; unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Filters(Arguments):
    """Arguments of a search; unknown ones, perhaps filters, are refused."""

    model_config = ConfigDict(extra="forbid")


MaxBytes = Annotated[
    int,
    Field(
        ge=SMALLEST_BYTES,
        le=LARGEST_BYTES,
        description="Size of the answer at most. `more` says how to ask for the rest.",
    ),
]
"""The argument `max_bytes` of a tool with large answers."""


class ToolAnswer(BaseModel):
    """Answer of a tool, without members that are null."""

    model_config = ConfigDict(frozen=True)

    @model_serializer(mode="wrap")
    def _without_nulls(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if value is not None}


A = TypeVar("A", bound=Arguments)
Fit = Callable[[dict[str, Any], A], dict[str, Any]]


def _fit_whole(answer: dict[str, Any], _given: Arguments) -> dict[str, Any]:
    return bounded_whole(answer)


class UnknownToolError(AutotraceError):
    """No tool has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no tool {_short.repr(name)}: there are {', '.join(known)}")


class MissingParameterError(AutotraceError):
    """A required parameter was not given."""

    def __init__(self, *names: str) -> None:
        super().__init__(", ".join(f"{name} is required" for name in names))


class InvalidParameterError(AutotraceError):
    """A parameter has a value that is not allowed."""

    def __init__(self, name: str, value: object, problem: str) -> None:
        super().__init__(f"{name}={_short.repr(value)} is not allowed: {problem}")


_REST: Final[Mapping[str, Any]] = {
    "left_out": {"type": "integer", "description": "How many items are left out."},
    "more": {"type": "string", "description": "How to ask for what is left out or cut."},
}
_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = 100


@dataclass(frozen=True)
class Tool(Generic[A]):
    """One tool of the server.

    Args:
        title: A name for people.
        description: What it does, when to call it and what comes back, for an agent.
        run: Its function `_name(tenant, given, by)`, whose annotations are the models of its
            arguments and its answer; any thread may call it.
        fit: Cuts an answer to the allowed size.
        changes: Whether it changes anything.
        destroys: Whether its changes cannot be undone.
        repeatable: Whether the same call again changes nothing more.
    """

    title: str
    description: str
    run: Callable[[Tenant, A, Principal], BaseModel]
    fit: Fit[A] = _fit_whole
    changes: bool = True
    destroys: bool = False
    repeatable: bool = False

    @cached_property
    def name(self) -> str:
        """Its name, that of its function."""
        return self.run.__name__.removeprefix("_")

    @cached_property
    def _models(self) -> dict[str, Any]:
        return get_type_hints(self.run)

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of its arguments."""
        return schema_of(self._models["given"])

    @property
    def output_schema(self) -> dict[str, Any]:
        """JSON Schema of its answer."""
        schema = schema_of(self._models["return"], is_answer=True)
        if "max_bytes" in self._models["given"].model_fields:
            schema["properties"] |= _REST
        return schema

    def call(self, tenant: Tenant, arguments: Mapping[str, Any], by: Principal) -> dict[str, Any]:
        """Run the tool; return a JSON object by the schema of its answer.

        A null argument counts as not given.

        Raises:
            MissingParameterError: A required parameter is missing.
            InvalidParameterError: A parameter has a value that is not allowed.
            AutotraceError: The tool raised it.
        """
        given = self._parsed(arguments)
        answer = self.run(tenant, given, by)
        return self.fit(answer.model_dump(mode="json"), given)

    def _parsed(self, arguments: Mapping[str, Any]) -> A:
        model: type[A] = self._models["given"]
        fields = model.model_fields
        given = {
            name: value
            for name, value in arguments.items()
            if value is not None or (name in fields and fields[name].annotation is Any)
        }
        try:
            return model.model_validate(given)
        except ValidationError as error:
            raise _parameter_error(error, list(fields)) from None


def tool(
    title: str,
    description: str,
    *,
    fit: Fit[Any] = _fit_whole,
    changes: bool = True,
    destroys: bool = False,
    repeatable: bool = False,
) -> Callable[[Callable[[Tenant, A, Principal], BaseModel]], Tool[A]]:
    """Make a tool of a function; see `Tool`."""
    return lambda run: Tool(title, description, run, fit, changes, destroys, repeatable)


def _parameter_error(error: ValidationError, known: list[str]) -> AutotraceError:
    found = error.errors(include_url=False, include_context=False)
    missing = [str(e["loc"][0]) for e in found if e["type"] == "missing" and len(e["loc"]) == 1]
    if missing:
        return MissingParameterError(*missing)
    first = found[0]
    name = ".".join(map(str, first["loc"])) or "arguments"
    if first["type"] == "extra_forbidden":
        return InvalidParameterError(name, first["input"], f"there are {', '.join(known)}")
    problem = first["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    return InvalidParameterError(name, first["input"], problem)


def to_json_text(answer: Mapping[str, Any]) -> str:
    """Return an answer as JSON text."""
    return json.dumps(answer, ensure_ascii=False)


def schema_of(model: type[BaseModel], *, is_answer: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of a model.

    Only the schema of an answer names what may be null; a null argument may be left out.
    """
    schema = model.model_json_schema()
    plain = _Schema(schema.pop("$defs", {}), is_answer).plain(schema)
    plain.setdefault("properties", {})
    plain.pop("description", None)  # of the class: for programmers
    return plain


@dataclass
class _Schema:
    definitions: Mapping[str, Any]
    is_answer: bool
    spelled: set[str] = field(default_factory=set[str])
    """Models that an answer has spelled already; it spells each once."""

    def plain(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.plain(item) for item in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        node = dict(cast("dict[str, Any]", node))
        if (reference := node.pop("$ref", None)) is not None:
            node = self._model(reference.rpartition("/")[2]) | node
        if "properties" in node:
            node["properties"] = {
                name: self._typed(self.plain(each)) for name, each in node["properties"].items()
            }
        for keyword in ("items", "anyOf", "additionalProperties"):
            if keyword in node:
                node[keyword] = self.plain(node[keyword])
        node.pop("title", None)
        if self.is_answer or node.get("default", ...) is None:
            node.pop("default", None)  # of no use in an answer
        return self._of_one_kind(node) if "anyOf" in node else node

    def _model(self, name: str) -> dict[str, Any]:
        model = dict(self.definitions[name])
        model.pop("description", None)
        if not self.is_answer or "properties" not in model:
            return model
        if name in self.spelled:
            return {"type": "object"}
        self.spelled.add(name)
        if name in _BRIEF:
            model["properties"] = {
                each: model["properties"][each] for each in model.get("required", ())
            }
        return model

    def _of_one_kind(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a choice between one kind and null as that kind."""
        kinds = [kind for kind in node["anyOf"] if kind != {"type": "null"}]
        if len(kinds) != 1 or len(kinds) == len(node["anyOf"]):
            return node
        (kind,) = kinds
        del node["anyOf"]
        if not self.is_answer:
            return kind | node
        if "enum" in kind:
            kind = kind | {"enum": [*kind["enum"], None]}
        return kind | node | {"type": [kind["type"], "null"]}

    def _typed(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a property of any type with all types, as some hosts need one."""
        if node.keys() & {"type", "anyOf", "enum"}:
            return node
        return node | ({"type": list(_KINDS)} if self.is_answer else _ANYTHING)
