"""The commands of `autotrace` that read, delete and rebuild traces."""

from __future__ import annotations

import logging
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

import autotrace
from autotrace.base.page_limits import DEFAULT_TOOLS, MAX_PAGE, MAX_RECALL
from autotrace.base.plural import counted
from autotrace.cli import (
    approver_commands,
    backup_commands,
    decision_commands,
    mcp_command,
    render,
    serve_commands,
)
from autotrace.cli.command_options import (
    AfterOption,
    AgentOption,
    AgentsOption,
    EmbedderOption,
    IdArgument,
    JsonOption,
    LimitOption,
    SessionOption,
    StoreOption,
    command_of,
    complete_id,
    make_app,
    print_list,
    print_model,
    print_models,
    show_next_page,
)
from autotrace.cli.formatting import one_line
from autotrace.cli.open_store import (
    chosen_embedding,
    existing_store,
    named_embedding,
    open_reader,
    open_store,
)
from autotrace.cli.terminal import Screen, busy, complain, print_json, progress
from autotrace.ids import TRACE_ID_LENGTH
from autotrace.models import TraceStatus
from autotrace.semconv import TRACE_ID_PREFIX
from autotrace.settings import load_settings

if TYPE_CHECKING:
    from autotrace.traces.reader import Reader

_TASK_CHARACTERS: Final = 60

app = make_app(
    "Decision memory for AI agents: show recorded traces, and recall them by meaning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(approver_commands.app, name="approver")
app.add_typer(decision_commands.app, name="decisions")
app.add_typer(serve_commands.keys_app, name="keys")
_command = command_of(app)
_command(serve_commands.serve)
_command(mcp_command.mcp)
_command(backup_commands.backup)
_command(backup_commands.restore)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autotrace {autotrace.__version__}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the log, and the stack of an error.")
    ] = False,
) -> None:
    logger = logging.getLogger("autotrace")
    if debug:
        logging.basicConfig()
        logger.setLevel(logging.DEBUG)
    else:
        # Commands print errors and warnings themselves.
        logger.addHandler(logging.NullHandler())


@_command
def demo(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="PATH|URL",
            help="Store to record into. Default: a folder that is removed at the end.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a small agent, and recall its work by meaning."""
    from autotrace import demo as demonstration

    with tempfile.TemporaryDirectory(prefix="autotrace-demo-") as temporary:
        place = store or temporary
        # Not the spool that AUTOTRACE_SPOOL names: it belongs to another store.
        spool = None if store else str(Path(temporary, "spool"))
        with busy("loading the embedding model") as say:
            embedder = chosen_embedding(load_settings(store=place), None).embedder
            embedder.embed([demonstration.REQUEST])
            autotrace.configure(place, spool=spool, embedder=embedder)
            try:
                shown = demonstration.run(f"demo-{secrets.token_hex(4)}", say)
            finally:
                autotrace.shutdown()
    if as_json:
        print_json({name: to_jsonable_python(value) for name, value in shown._asdict().items()})
        return
    render.show_demo(Screen(), shown)
    if store is None:
        complain("note", "this was in a temporary folder; --store ./.autotrace keeps it")


@_command
def traces(
    status: Annotated[
        TraceStatus | None, typer.Option("--status", help="Only traces of this status.")
    ] = None,
    session: SessionOption = None,
    agent: AgentOption = None,
    agents: AgentsOption = None,
    limit: LimitOption = 20,
    after: AfterOption = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """List traces, newest first."""
    with open_reader(store, embedder) as reader:
        found = reader.list_traces(
            status=status,
            session_id=session,
            agent=agent,
            agents=agents or None,
            limit=limit,
            after=None if after is None else _full_id(reader, after),
        )
    print_models("traces", found, render.show_traces, as_json=as_json)
    if not as_json:
        show_next_page(found, limit, lambda: found[-1].trace_id)


@_command
def show(
    trace_id: IdArgument,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trace: its steps, tool calls and outcome."""
    with open_reader(store, embedder) as reader:
        found = reader.get_trace(_full_id(reader, trace_id))
    print_model(found, render.show_trace, as_json=as_json)


@_command
def delete(
    trace_id: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete one trace with its steps and tool calls, permanently.

    Traces of nested tasks stay, and so do decisions: `autotrace decisions erase` is for those.
    """
    from autotrace.traces.deletion import erase_trace

    with open_store(store, embedder, recalls=True) as opened:
        found = opened.reader.get_trace(_full_id(opened.reader, trace_id))
        if not yes:
            what = one_line(found.task, _TASK_CHARACTERS)
            typer.confirm(f"delete {found.trace_id} ({what})?", abort=True, err=True)
        with busy("deleting"):
            erase_trace(opened.connection, opened.embedder, found.trace_id)
    if as_json:
        print_json({"deleted": found.trace_id})
    else:
        Screen().line(f"{found.trace_id} is deleted")


def _full_id(reader: Reader, given: str) -> str:
    def newest() -> list[str]:
        return [trace.trace_id for trace in reader.list_traces(limit=MAX_PAGE)]

    return complete_id(given, TRACE_ID_PREFIX, TRACE_ID_LENGTH, newest)


@_command
def recall(
    query: Annotated[
        str, typer.Argument(metavar="TASK", help="The current task, in your own words.")
    ],
    failed_too: Annotated[bool, typer.Option("--all", help="Include traces that failed.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_RECALL, help="Maximum number of results.")
    ] = 10,
    agent: AgentOption = None,
    agents: AgentsOption = None,
    session: SessionOption = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            "--tool", help="Only traces that called this tool. Repeat it to require several."
        ),
    ] = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find past traces of similar tasks."""
    with open_reader(store, embedder, recalls=True) as reader:
        where: dict[str, Any] = {
            "agent": agent,
            "agents": agents or None,
            "session_id": session,
            "tools": tool,
        }
        found = reader.recall(query, success_only=not failed_too, limit=limit, **where)
        failure = None if failed_too else reader.nearer_failure(query, found, **where)
    print_models("results", found, render.show_recall, as_json=as_json)
    if failure is not None:
        complain("note", f"a trace that failed is nearer ({failure.similarity:.2f}): add --all")


@_command
def tools(
    limit: LimitOption = DEFAULT_TOOLS,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="TOOL",
            help="Continue after this tool, the last one of a page.",
        ),
    ] = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the error rate and duration of each tool."""
    with open_reader(store, embedder) as reader:
        page = reader.tool_stats_page(limit=limit, after=after)
    if as_json:
        others = None if page.others is None else page.others.model_dump(mode="json")
        print_list("tool_stats", page.tools, left_out=page.left_out, others=others)
    else:
        render.show_tool_page(Screen(), page)


@_command
def doctor(
    store: StoreOption = None, embedder: EmbedderOption = None, as_json: JsonOption = False
) -> None:
    """Check the installation and the store; name each problem and its fix."""
    from autotrace.doctor import diagnose

    settings = load_settings(store=store)
    checks: list[BaseModel] = []
    healthy = True
    screen = Screen()
    found = diagnose(settings, named_embedding(settings, embedder))
    while True:
        with busy("looking"):
            check = next(found, None)
        if check is None:
            break
        healthy = healthy and check.status != "error"
        checks.append(check)
        if not as_json:
            render.show_check(screen, check)
    if as_json:
        print_list("checks", checks)
    if not healthy:
        raise typer.Exit(1)


@_command
def rebuild(
    store: StoreOption = None, embedder: EmbedderOption = None, as_json: JsonOption = False
) -> None:
    """Rebuild indexes and statistics from the log.

    Use it for a damaged index, for another embedder, and to retry records that the store refused.
    No record is lost, and an interrupted rebuild can be run again.
    """
    from autotrace.worker.rebuild_and_retry import rebuild_and_retry
    from autotrace.worker.wiring import Store

    settings = existing_store(store)
    opened = Store(settings, chosen_embedding(settings, embedder))
    try:
        with ExitStack() as shown:
            report = shown.enter_context(progress(f"rebuilding {settings.store}"))

            def store_backlog() -> None:
                shown.close()
                with open_reader(store, embedder):
                    pass  # opening stores the records written during the rebuild

            done = rebuild_and_retry(opened, progress=report, store_backlog=store_backlog)
    except KeyboardInterrupt:
        complain("note", "not finished: run it again")
        raise
    finally:
        opened.close()
    if done.set_aside:
        complain(
            "warning",
            f"refused again and kept: {counted(done.set_aside, 'record')}: {done.set_aside_reason}",
        )
    if as_json:
        print_json(done.model_dump(exclude={"set_aside_reason", "unindexed_decisions"}))
        return
    Screen().line(
        f"{done.store} is rebuilt: {counted(done.traces, 'trace')}, "
        f"{counted(done.tool_calls, 'tool call')}, {counted(done.decisions, 'decision')}, "
        f"embedding space {done.space}"
    )
    if done.refused_texts:
        complain(
            "note", f"the embedder refused {counted(done.refused_texts, 'task text')}: not recalled"
        )
    if done.unindexed_decisions:
        complain(
            "note",
            f"damaged or refused, not found by meaning: "
            f"{counted(done.unindexed_decisions, 'decision')}",
        )
    if done.retried:
        Screen().line(f"stored that had been set aside: {counted(done.retried, 'record')}")
