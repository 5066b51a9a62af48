"""`autotrace decisions`: list, answer, end, search and verify decisions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from autotrace.base.page_limits import MAX_FOUND, MAX_PAGE
from autotrace.cli import render_decisions as views
from autotrace.cli.command_options import (
    AfterOption,
    ByOption,
    CategoryOption,
    DecisionStatusOption,
    EmbedderOption,
    HeadOption,
    IdArgument,
    JsonOption,
    LimitOption,
    StoreOption,
    WhyOption,
    command_of,
    complete_id,
    guarded,
    make_app,
    print_model,
    print_models,
    show_next_page,
)
from autotrace.cli.open_store import open_decisions, open_search
from autotrace.cli.terminal import Screen, complain, print_json
from autotrace.decision_requests import ApprovalAnswer
from autotrace.errors import InvalidArgumentError
from autotrace.ids import DECISION_ID_LENGTH
from autotrace.models import Checkpoint, Decision, Receipt
from autotrace.semconv import DECISION_ID_PREFIX

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions

_Kept = TypeVar("_Kept", bound=BaseModel)

app = make_app(
    "List decisions, newest first; or show, answer, end or verify one.",
    invoke_without_command=True,
)
_command = command_of(app)


@app.callback()
@guarded
def _list(  # pyright: ignore[reportUnusedFunction] - typer calls it
    context: typer.Context,
    pending: Annotated[
        bool,
        typer.Option("--pending", help="Only decisions that await an answer, oldest first."),
    ] = False,
    status: DecisionStatusOption = None,
    category: CategoryOption = None,
    limit: LimitOption = 20,
    after: AfterOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    if pending and (status is not None or category is not None or after is not None):
        hint = "without --status, --category and --after"
        raise typer.BadParameter("lists all that wait", param_hint=f"--pending ({hint})")
    with open_decisions(store) as decisions:
        if pending:
            found = decisions.pending()[:limit]
        else:
            after = None if after is None else _full_id(decisions, after)
            found = decisions.list(status=status, category=category, limit=limit, after=after)
    print_models("decisions", found, views.show_decisions, as_json=as_json)
    if not pending and not as_json:
        show_next_page(found, limit, lambda: found[-1].decision_id)


def _full_id(decisions: Decisions, given: str) -> str:
    newest = decisions.newest_ids
    return complete_id(given, DECISION_ID_PREFIX, DECISION_ID_LENGTH, lambda: newest(MAX_PAGE))


@_command
def show(decision_id: IdArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show one decision: the request, the arguments, the answer, and the history."""
    with open_decisions(store) as decisions:
        found = decisions.trace(_full_id(decisions, decision_id))
    print_model(found, views.show_decision, as_json=as_json)


@_command
def approve(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    head: HeadOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve the request of a decision; the agent that waits continues."""
    answer = _answer_with(ApprovalAnswer(True, by, why, head), confirm=not as_json)
    _change(store, decision_id, answer, as_json=as_json)


@_command
def reject(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    head: HeadOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject the request of a decision; the agent gets the reason."""
    answer = _answer_with(ApprovalAnswer(False, by, why, head), confirm=not as_json)
    _change(store, decision_id, answer, as_json=as_json)


def _answer_with(answer: ApprovalAnswer, *, confirm: bool) -> Callable[[Decisions, str], Decision]:
    """Return a function that answers; on a terminal it shows the decision first and asks."""

    def run(decisions: Decisions, decision_id: str) -> Decision:
        given = answer
        if given.head is None and confirm and sys.stdin.isatty() and sys.stdout.isatty():
            given = replace(given, head=_confirm(decisions, decision_id, given))
        return decisions.answer(decision_id, given)

    return run


def _confirm(decisions: Decisions, decision_id: str, answer: ApprovalAnswer) -> str | None:
    """Show a decision, have the answer confirmed, and return the head shown."""
    read = decisions.trace_for_approver if answer.granted else decisions.trace
    found = read(decision_id)
    if found.status != "needs_approval":
        return None  # the error of the answer names the reason
    views.show_decision(Screen(), found)
    typer.confirm(f"{answer.operation} this?", abort=True, err=True)
    return found.head


@_command
def commit(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Commit a decision whose agent has died after it took effect."""
    _close(store, decision_id, "commit", by, why, as_json=as_json)


@_command
def abort(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Abort a decision whose agent has died before it took effect."""
    _close(store, decision_id, "abort", by, why, as_json=as_json)


def _close(
    store: str | None, decision_id: str, action: str, by: str, why: str | None, *, as_json: bool
) -> None:
    def close(decisions: Decisions, full_id: str) -> Decision:
        return decisions.close(full_id, action, by=by, reason=why)

    _change(store, decision_id, close, as_json=as_json)


@_command
def erase(
    decision_id: IdArgument,
    by: ByOption = "",
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase the texts of a decision; its events stay, and verify."""

    def erase(decisions: Decisions, full_id: str) -> Decision:
        return decisions.erase(full_id, by=by, reason=why)

    _change(store, decision_id, erase, as_json=as_json)


def _change(
    store: str | None,
    decision_id: str,
    change: Callable[[Decisions, str], Decision],
    *,
    as_json: bool,
) -> None:
    with open_decisions(store) as decisions:
        changed = change(decisions, _full_id(decisions, decision_id))
    print_model(changed, views.show_changed, as_json=as_json)


@_command
def search(
    query: Annotated[str, typer.Argument(metavar="WORDS", help="Text to search for.")],
    category: CategoryOption = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Only decisions with this tag. Repeat it to require several."),
    ] = None,
    status: DecisionStatusOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_FOUND, help="Maximum number of results.")
    ] = 20,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find decisions of similar meaning."""
    with open_search(store, embedder) as decisions:
        found = decisions.search(
            query, category=category, tags=tag or (), status=status, limit=limit
        )
    print_models("decisions", found, views.show_found, as_json=as_json)


@_command
def verify(
    decision_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The decision. Default: all decisions.")
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
            help="A checkpoint kept elsewhere: its decisions must still be there.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify that no event was changed or dropped, and that the receipts are valid."""
    if receipt_file is not None and decision_id is None:
        raise typer.BadParameter("belongs to one decision: name its ID", param_hint="--receipt")
    kept = _read_kept(receipt_file, Receipt, "--receipt", "receipt ID --json")
    point = _read_kept(checkpoint_file, Checkpoint, "--checkpoint", "checkpoint")
    with open_decisions(store) as decisions:
        if decision_id is None:
            checked = decisions.check_all(point)
        else:
            checked = [decisions.check(_full_id(decisions, decision_id), kept, point)]
    print_models("verifications", checked, views.show_verifications, as_json=as_json)
    if not all(verification.ok for verification in checked):
        raise typer.Exit(1)


def _read_kept(path: Path | None, model: type[_Kept], option: str, command: str) -> _Kept | None:
    """Read a file that an earlier command printed."""
    try:
        return None if path is None else model.model_validate_json(path.read_bytes())
    except ValidationError:
        allowed = f"a file that `autotrace decisions {command}` printed"
        raise InvalidArgumentError(option, str(path), allowed) from None


@_command
def checkpoint(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="File to write. Default: standard output."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Sign the number of events and the head of every decision; keep the file elsewhere."""
    with open_decisions(store) as decisions:
        signed = decisions.checkpoint()
    if out is None:
        print_json(signed.model_dump())
    else:
        new = out.with_name(f"{out.name}.new")  # a full disk must not cost the previous one
        new.write_text(signed.model_dump_json() + "\n", encoding="utf-8")
        new.replace(out)
    if left_out := signed.checkpoint_data["left_out"]:
        complain("error", f"left out (`decisions verify` names the reason): {', '.join(left_out)}")
        raise typer.Exit(1)


@_command
def receipt(
    decision_id: IdArgument, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Print the signed statement of how a decision has ended."""
    with open_decisions(store) as decisions:
        signed = decisions.receipt(_full_id(decisions, decision_id))
    print_model(signed, views.show_receipt, as_json=as_json)
