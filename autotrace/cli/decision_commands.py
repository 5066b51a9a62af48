"""`autotrace decisions`: see what agents ask for, answer, and prove what happened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from autotrace.cli import render_decisions as views
from autotrace.cli.command_options import (
    EmbedderOption,
    JsonOption,
    StoreOption,
    command_of,
    complete_id,
    guarded,
    print_list,
)
from autotrace.cli.open_store import open_deciding, open_search
from autotrace.cli.terminal import Screen, complain, print_json
from autotrace.decisions.api import Decisions
from autotrace.decisions.queries import MAX_FOUND, MAX_PAGE
from autotrace.errors import InvalidArgumentError
from autotrace.ids import DECISION_ID_LENGTH
from autotrace.models import Checkpoint, Decision, DecisionCategory, DecisionStatus, Receipt
from autotrace.semconv import DECISION_ID_PREFIX

_Kept = TypeVar("_Kept", bound=BaseModel)

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List decisions, the newest first; or look at one, answer it, end it, prove it.",
)
_command = command_of(app)


IdArgument = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the decision, or how it begins if that says which."),
]
StatusOption = Annotated[
    DecisionStatus | None, typer.Option("--status", help="Only decisions of this status.")
]
CategoryOption = Annotated[
    DecisionCategory | None,
    typer.Option("--category", help="Only those recorded in this category."),
]
WhyOption = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="The reason.")]


def _named(name: str) -> str:
    """Require the name of who answers.

    Raises:
        BadParameter: There is none.
    """
    if not name.strip():
        raise typer.BadParameter(
            "name who does this: it is kept with the decision for good, and who asks for "
            "approval cannot give it",
            param_hint="--by",
        )
    return name


ByOption = Annotated[
    str,
    typer.Option(
        "--by", metavar="NAME", help="Who does this. Required.", callback=_named, show_default=False
    ),
]


@app.callback()
@guarded
def _list(  # pyright: ignore[reportUnusedFunction] - typer calls it
    context: typer.Context,
    pending: Annotated[
        bool, typer.Option("--pending", help="Only those that wait for an answer, oldest first.")
    ] = False,
    status: StatusOption = None,
    category: CategoryOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many at most.")
    ] = 20,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="ID", help="Go on after this decision, the last of the page before."
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    if pending and (status is not None or category is not None or after is not None):
        hint = "without --status, --category and --after"
        raise typer.BadParameter("lists all that wait", param_hint=f"--pending ({hint})")
    with open_deciding(store) as deciding:
        if pending:
            found = deciding.pending()[:limit]
        else:
            found = deciding.list(
                status=status,
                category=category,
                limit=limit,
                after=None if after is None else _full_id(deciding, after),
            )
    if as_json:
        print_list("decisions", found)
        return
    screen = Screen()
    views.show_decisions(screen, found)
    if len(found) == limit and screen.bounded and not pending:
        screen.line("older ones: the same command with", style="dim")
        screen.whole(f"--after {found[-1].decision_id}", style="dim")


def _full_id(deciding: Decisions, given: str) -> str:
    newest = deciding.library.newest_ids
    return complete_id(given, DECISION_ID_PREFIX, DECISION_ID_LENGTH, lambda: newest(MAX_PAGE))


@_command
def show(decision_id: IdArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show one decision: what is asked, the arguments, the answer, and its history."""
    with open_deciding(store) as deciding:
        found = deciding.trace(_full_id(deciding, decision_id))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        views.show_decision(Screen(), found)


HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="HASH",
        help="The head that `show` printed: refused if the decision has changed since. Default: on "
        "a terminal, the one shown before the question; else that of the request.",
    ),
]


@_command
def approve(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    head: HeadOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve what a decision asks for; the agent that waits goes on."""
    _answer(store, decision_id, granted=True, by=by, why=why, head=head, as_json=as_json)


@_command
def reject(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    head: HeadOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject what a decision asks for; the agent is told why."""
    _answer(store, decision_id, granted=False, by=by, why=why, head=head, as_json=as_json)


def _answer(
    store: str | None,
    decision_id: str,
    *,
    granted: bool,
    by: str,
    why: str | None,
    head: str | None,
    as_json: bool,
) -> None:
    def answer(deciding: Decisions, full_id: str) -> Decision:
        shown = head
        if shown is None and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
            shown = _ask(deciding, full_id, granted=granted)
        return deciding.answer(full_id, granted=granted, approver=by, rationale=why, head=shown)

    _change(store, decision_id, answer, as_json=as_json)


def _ask(deciding: Decisions, decision_id: str, *, granted: bool) -> str | None:
    """Show a decision that waits, have the answer confirmed, and return the head shown."""
    found = deciding.library.trace(decision_id, whole=granted)
    if found.status != "needs_approval":
        return None  # nothing to ask about: the error says why
    views.show_decision(Screen(), found)
    typer.confirm("approve this?" if granted else "reject this?", abort=True, err=True)
    return found.head


@_command
def commit(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a decision whose agent has died, as one that took effect."""
    _close(store, decision_id, "commit", by=by, why=why, as_json=as_json)


@_command
def abort(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a decision whose agent has died, as one that came to nothing."""
    _close(store, decision_id, "abort", by=by, why=why, as_json=as_json)


def _close(
    store: str | None,
    decision_id: str,
    action: str,
    *,
    by: str,
    why: str | None,
    as_json: bool,
) -> None:
    def close(deciding: Decisions, full_id: str) -> Decision:
        return deciding.close(full_id, action, by=by, reason=why)

    _change(store, decision_id, close, as_json=as_json)


@_command
def erase(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase what was written in a decision; that it happened stays, and verifies."""

    def erase(deciding: Decisions, full_id: str) -> Decision:
        return deciding.erase(full_id, by=by, reason=why)

    _change(store, decision_id, erase, as_json=as_json)


def _change(
    store: str | None,
    decision_id: str,
    change: Callable[[Decisions, str], Decision],
    *,
    as_json: bool,
) -> None:
    with open_deciding(store) as deciding:
        changed = change(deciding, _full_id(deciding, decision_id))
    if as_json:
        print_json(changed.model_dump(mode="json"))
    else:
        views.show_changed(Screen(), changed)


@_command
def search(
    query: Annotated[str, typer.Argument(metavar="WORDS", help="What it is about.")],
    category: CategoryOption = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only those with this tag; more than once: all of them."),
    ] = None,
    status: StatusOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_FOUND, help="How many at most.")
    ] = 20,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find decisions that mean something similar."""
    with open_search(store, embedder) as deciding:
        found = deciding.search(
            query,
            category=category,
            tags=tag or (),
            status=status,
            limit=limit,
        )
    if as_json:
        print_list("decisions", found)
    else:
        views.show_found(Screen(), found)


@_command
def verify(
    decision_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The decision. Default: all of them.")
    ] = None,
    receipt_file: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="A receipt kept elsewhere, as `receipt ID --json` printed it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    checkpoint_file: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="A checkpoint kept elsewhere: what it names must still be there.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no event was changed or dropped, and that the receipts are right."""
    if receipt_file is not None and decision_id is None:
        raise typer.BadParameter("belongs to one decision: name its ID", param_hint="--receipt")
    kept = _kept(receipt_file, Receipt, "--receipt", "receipt ID --json")
    point = _kept(checkpoint_file, Checkpoint, "--checkpoint", "checkpoint")
    with open_deciding(store) as deciding:
        if decision_id is None:
            checked = deciding.proof.check_all(point)
        else:
            checked = [deciding.proof.check(_full_id(deciding, decision_id), kept, point)]
    if as_json:
        print_list("verifications", checked)
    else:
        views.show_verifications(Screen(), checked)
    if not all(verification.ok for verification in checked):
        raise typer.Exit(1)


def _kept(path: Path | None, model: type[_Kept], option: str, command: str) -> _Kept | None:
    """Read what an earlier command printed."""
    try:
        return None if path is None else model.model_validate_json(path.read_bytes())
    except ValidationError:
        allowed = f"a file with what `autotrace decisions {command}` printed"
        raise InvalidArgumentError(option, str(path), allowed) from None


@_command
def checkpoint(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write it. Default: standard output."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Sign the number of events and the head of every decision, to be kept elsewhere."""
    with open_deciding(store) as deciding:
        signed = deciding.proof.checkpoint()
    if out is None:
        print_json(signed.model_dump())
    else:
        new = out.with_name(f"{out.name}.new")  # a full disk must not cost the one before
        new.write_text(signed.model_dump_json() + "\n", encoding="utf-8")
        new.replace(out)
    if left_out := signed.checkpoint_data["left_out"]:
        complain("error", f"left out (`decisions verify` says why): {', '.join(left_out)}")
        raise typer.Exit(1)


@_command
def receipt(
    decision_id: IdArgument, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Print the signed statement of how a decision has ended."""
    with open_deciding(store) as deciding:
        signed = deciding.receipt(_full_id(deciding, decision_id))
    if as_json:
        print_json(signed.model_dump(mode="json"))
    else:
        views.show_receipt(Screen(), signed)
