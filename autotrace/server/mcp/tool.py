"""What a tool of the MCP server is: a name, words for agents, models of both ends, a function.

The schemas that clients see, the checks of what they send and the form of what they get are made
of the models here, once, for every tool and every transport.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar

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
from autotrace.server.mcp.response_limits import (
    LARGEST_BYTES,
    SMALLEST_BYTES,
    bounded_whole,
)
from autotrace.server.mcp.schemas import schema_of

if TYPE_CHECKING:
    from autotrace.server.decision_api import DecisionApi
    from autotrace.server.remote_traces import TraceService


@dataclass(frozen=True)
class ToolContext:
    """What tools work on: one tenant's services."""

    traces: TraceService
    decisions: DecisionApi


class Arguments(BaseModel):
    """What a tool takes; what it does not know is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Filters(Arguments):
    """What a tool that searches takes; what it does not know is refused.

    It may be a filter, and must not seem to be applied.
    """

    model_config = ConfigDict(extra="forbid")


MaxBytes = Annotated[
    int,
    Field(
        ge=SMALLEST_BYTES,
        le=LARGEST_BYTES,
        description="Size of the answer at most. `more` says how to ask for the rest.",
    ),
]
"""What a tool takes as `max_bytes` whose answer may be large."""


class ToolAnswer(BaseModel):
    """What a tool answers, without what there is not."""

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
    """There is no such tool."""

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
    """One tool.

    Args:
        name: Its name.
        title: A name for people.
        description: What it does, when to call it and what comes back, for an agent.
        arguments: What it takes.
        answer: What it returns.
        run: Does it; any thread may call it.
        fit: Makes an answer as large as it may be.
        changes: Whether it changes anything.
        destroys: Whether what it changes cannot be taken back.
        repeatable: Whether the same call again changes nothing more.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    answer: type[BaseModel]
    run: Callable[[ToolContext, A, Principal], BaseModel]
    fit: Fit[A] = _fit_whole
    changes: bool = True
    destroys: bool = False
    repeatable: bool = False

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of what it takes."""
        return schema_of(self.arguments)

    @property
    def output_schema(self) -> dict[str, Any]:
        """JSON Schema of what it returns."""
        schema = schema_of(self.answer, is_answer=True)
        if "max_bytes" in self.arguments.model_fields:
            schema["properties"] |= _REST
        return schema

    def call(
        self, desk: ToolContext, arguments: Mapping[str, Any], by: Principal
    ) -> dict[str, Any]:
        """Run it.

        Args:
            desk: What it works on.
            arguments: As they came; a null is as good as nothing.
            by: Who calls it.

        Returns:
            A JSON object, which fits the schema of what it returns.

        Raises:
            MissingParameterError: A required parameter is not there.
            InvalidParameterError: One has a value that is not allowed.
            AutotraceError: What the tool raises.
        """
        given = self._parsed(arguments)
        answer = self.run(desk, given, by)
        return self.fit(answer.model_dump(mode="json"), given)

    def _parsed(self, arguments: Mapping[str, Any]) -> A:
        fields = self.arguments.model_fields
        given = {
            name: value
            for name, value in arguments.items()
            if value is not None or (name in fields and fields[name].annotation is Any)
        }
        try:
            return self.arguments.model_validate(given)
        except ValidationError as error:
            raise _parameter_error(error, list(fields)) from None


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
    """Return an answer as the text of a result: the same JSON object."""
    return json.dumps(answer, ensure_ascii=False)
