"""The parts that commands share: apps, options, error handling, output."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup

from autotrace.base.page_limits import MAX_PAGE
from autotrace.cli import BROKEN_PIPE_CODE
from autotrace.cli.terminal import Screen, complain, print_json
from autotrace.errors import AutotraceError, InvalidArgumentError
from autotrace.models import DecisionCategory, DecisionStatus

_log = logging.getLogger("autotrace.cli")
_M = TypeVar("_M", bound=BaseModel)

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        help="The store: a folder, or http(s)://host:port of a Chroma server. "
        "Default: AUTOTRACE_STORE, else ./.autotrace.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer with a JSON document.")]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="MODULE:NAME",
        help="The embedder that the application configures. Default: AUTOTRACE_EMBEDDER, "
        "else the default one.",
        show_default=False,
    ),
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=MAX_PAGE, help="Maximum number of results.")
]
AfterOption = Annotated[
    str | None,
    typer.Option(
        "--after", metavar="ID", help="Continue after this one, the last of the previous page."
    ),
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", help="Only traces of this agent.", show_default=False)
]
AgentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--agents",
        metavar="NAME",
        help="Only traces that this agent recorded with its key, or on this machine under its "
        "name. Repeat it to allow several agents.",
    ),
]
SessionOption = Annotated[
    str | None, typer.Option("--session", help="Only traces of this session.", show_default=False)
]
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The id, or its beginning if no other id has it.")
]
DecisionStatusOption = Annotated[
    DecisionStatus | None, typer.Option("--status", help="Only decisions of this status.")
]
CategoryOption = Annotated[
    DecisionCategory | None,
    typer.Option("--category", help="Only decisions recorded in this category."),
]
WhyOption = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="The reason.")]
HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="HASH",
        help="The head that `show` printed: refused if the decision has changed since. Default: on "
        "a terminal, the one shown before the question; else that of the request.",
    ),
]


def _check_name(name: str) -> str:
    """Raise BadParameter unless a name is given."""
    if not name.strip():
        raise typer.BadParameter(
            "give your name: it is kept with the decision for good; the name of the requester is "
            "refused",
            param_hint="--by",
        )
    return name


ByOption = Annotated[
    str,
    typer.Option(
        "--by",
        metavar="NAME",
        help="Your name. Required.",
        callback=_check_name,
        show_default=False,
    ),
]

_PYDANTIC_PREFIX: Final = "Value error, "


class _PlainErrors:
    """Removes the prefix of pydantic from errors in arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc] # pyright: ignore
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(_PYDANTIC_PREFIX)
            raise


class _Command(_PlainErrors, TyperCommand):
    pass


class _Group(_PlainErrors, TyperGroup):
    pass


def make_app(help_text: str, **options: Any) -> typer.Typer:
    """Return an app without boxes, which rich would draw into pipes and files."""
    return typer.Typer(cls=_Group, help=help_text, rich_markup_mode=None, **options)


def command_of(app: typer.Typer) -> Callable[[Callable[..., None]], None]:
    """Return a decorator that adds a command to an app, under the function's name."""

    def add(function: Callable[..., None]) -> None:
        name = function.__name__.strip("_")
        app.command(name=name, cls=_Command)(guarded(function))

    return add


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that reports a failure as one line and an exit code."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise typer.Exit(BROKEN_PIPE_CODE) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:  # noqa: BLE001 - a terminal gets one line, not a stack
            _log.debug("the command failed:", exc_info=True)
            line = str(error)
            if not isinstance(error, AutotraceError):
                line = f"{type(error).__name__}: {error} (where: autotrace --debug ...)"
            complain("error", line)
            raise typer.Exit(1) from None

    return run


def complete_id(given: str, prefix: str, length: int, newest: Callable[[], Sequence[str]]) -> str:
    """Complete the beginning of an id, with or without its prefix.

    Args:
        given: The id or its beginning.
        prefix: Prefix of all ids of this kind.
        length: Length of a whole id.
        newest: Returns the newest ids, which are searched.

    Raises:
        InvalidArgumentError: Several ids begin with it.
    """
    start = given if given.startswith(prefix) else prefix + given
    if len(start) >= length:
        return start
    matching = [whole for whole in newest() if whole.startswith(start)]
    if not matching:
        return given
    if len(matching) > 1:
        some = ", ".join(matching[:4]) + (", ..." if len(matching) > 4 else "")
        allowed = f"longer, as {len(matching)} ids begin with it: {some}"
        raise InvalidArgumentError("ID", given, allowed)
    return matching[0]


def print_model(model: _M, show: Callable[[Screen, _M], None], *, as_json: bool) -> None:
    """Print a model as JSON, or as `show` does for a person."""
    if as_json:
        print_json(model.model_dump(mode="json"))
    else:
        show(Screen(), model)


def print_models(
    name: str,
    models: Sequence[_M],
    show: Callable[[Screen, Sequence[_M]], None],
    *,
    as_json: bool,
) -> None:
    """Print models as one JSON document, or as `show` does for a person."""
    if as_json:
        print_list(name, models)
    else:
        show(Screen(), models)


def print_list(name: str, models: Sequence[BaseModel], **more: Any) -> None:
    """Print models as one JSON document, under a name, with their number."""
    items = [model.model_dump(mode="json") for model in models]
    print_json({name: items, "count": len(items)} | more)


def show_next_page(found: Sequence[object], limit: int, last_id: Callable[[], str]) -> None:
    """Print the option that continues a list, on a terminal, if the page is full."""
    screen = Screen()
    if len(found) == limit and screen.bounded:
        screen.line("older ones: the same command with", style="dim")
        screen.whole(f"--after {last_id()}", style="dim")
