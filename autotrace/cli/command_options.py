"""What commands share: their options, and how they fail."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from autotrace.cli import BROKEN_PIPE_CODE
from autotrace.cli.terminal import complain, print_json
from autotrace.errors import AutotraceError, InvalidArgumentError

_log = logging.getLogger("autotrace.cli")

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


def command_of(app: typer.Typer) -> Callable[[Callable[..., None]], None]:
    """Return a decorator that adds a command to an app, under the function's name."""

    def add(function: Callable[..., None]) -> None:
        app.command(name=function.__name__.strip("_"))(guarded(function))

    return add


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function of a command with its failures as one line and an exit code."""

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
        except AutotraceError as error:
            _log.debug("what failed:", exc_info=True)
            complain("error", str(error))
            raise typer.Exit(1) from None
        except Exception as error:  # noqa: BLE001 - a person at a terminal wants a line, not a stack
            _log.debug("what failed:", exc_info=True)
            complain("error", f"{type(error).__name__}: {error} (where: autotrace --debug ...)")
            raise typer.Exit(1) from None

    return run


def complete_id(given: str, prefix: str, length: int, newest: Callable[[], Sequence[str]]) -> str:
    """Complete the beginning of an id, with or without its prefix, if it is one.

    Args:
        given: What was typed.
        prefix: How all ids of this kind begin.
        length: How long a whole one is.
        newest: Returns the newest ids, among which it is looked for.

    Raises:
        InvalidArgumentError: Several begin so; names some.
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


def print_list(name: str, models: Sequence[BaseModel], **more: Any) -> None:
    """Print models as one JSON document, under a name, with their number."""
    items = [model.model_dump(mode="json") for model in models]
    print_json({name: items, "count": len(items)} | more)
