"""The commands: what each takes, which question it asks of the library, how the answer is shown."""

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
    EmbedderOption,
    JsonOption,
    StoreOption,
    command_of,
    complete_id,
    print_list,
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
from autotrace.traces.reader import DEFAULT_TOOLS, MAX_PAGE, MAX_RECALL, Reader

if TYPE_CHECKING:
    pass

_TASK_CHARACTERS: Final = 60

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich help would draw boxes into pipes and files.
    rich_markup_mode=None,
    help="Decision memory for AI agents: look at what was recorded, and recall it by meaning.",
)


app.add_typer(approver_commands.app, name="approver")
app.add_typer(decision_commands.app, name="decisions")
app.add_typer(serve_commands.keys_app, name="keys")
_command = command_of(app)
_command(serve_commands.serve)
_command(mcp_command.mcp)
_command(backup_commands.backup)
_command(backup_commands.restore)


AgentOption = Annotated[
    str | None, typer.Option("--agent", help="Only traces of this agent.", show_default=False)
]
AgentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--agents",
        metavar="NAME",
        help="Only traces that this agent recorded with its key, or on this machine under its "
        "name; more than once: that one of them recorded.",
    ),
]
SessionOption = Annotated[
    str | None, typer.Option("--session", help="Only traces of this session.", show_default=False)
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autotrace {autotrace.__version__}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the log, and where an error came from.")
    ] = False,
) -> None:
    logger = logging.getLogger("autotrace")
    if debug:
        logging.basicConfig()
        logger.setLevel(logging.DEBUG)
    else:
        # What matters of it is said in a line of its own.
        logger.addHandler(logging.NullHandler())


@_command
def demo(
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="PATH|URL",
            help="Where to record. Default: a folder that is removed at the end.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a small agent, and find its work again by meaning."""
    from autotrace import demo as demonstration

    with tempfile.TemporaryDirectory(prefix="autotrace-demo-") as temporary:
        place = store or temporary
        # Elsewhere than in a spool that AUTOTRACE_SPOOL names, which belongs to another store.
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
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many at most.")
    ] = 20,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="ID", help="Go on after this trace, the last of the page before."
        ),
    ] = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """List traces, the newest first."""
    with open_reader(store, embedder) as reader:
        found = reader.list_traces(
            status=status,
            session_id=session,
            agent=agent,
            agents=agents or None,
            limit=limit,
            after=None if after is None else _full_id(reader, after),
        )
    if as_json:
        print_list("traces", found)
        return
    screen = Screen()
    render.show_traces(screen, found)
    if len(found) == limit and screen.bounded:
        screen.line("older ones: the same command with", style="dim")
        screen.whole(f"--after {found[-1].trace_id}", style="dim")


@_command
def show(
    trace_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of the trace, or how it begins if that says which."),
    ],
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trace: its steps, tool calls and outcome."""
    with open_reader(store, embedder) as reader:
        found = reader.get_trace(_full_id(reader, trace_id))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        render.show_trace(Screen(), found)


@_command
def delete(
    trace_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of the trace, or how it begins if that says which."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete one trace with all that was recorded in it, for good.

    Traces of tasks inside it stay, and so do its decisions: `autotrace decisions erase` is for
    those.
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
        str, typer.Argument(metavar="TASK", help="The task at hand, in your own words.")
    ],
    failed_too: Annotated[
        bool, typer.Option("--all", help="Also traces that failed; else only those that succeeded.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_RECALL, help="How many at most.")
    ] = 10,
    agent: AgentOption = None,
    agents: AgentsOption = None,
    session: SessionOption = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(
            "--tool", help="Only traces that called this tool; more than once: all of them."
        ),
    ] = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find past traces whose task means something similar."""
    with open_reader(store, embedder, recalls=True) as reader:
        where: dict[str, Any] = {
            "agent": agent,
            "agents": agents or None,
            "session_id": session,
            "tools": tool,
        }
        found = reader.recall(query, success_only=not failed_too, limit=limit, **where)
        failure = None if failed_too else reader.nearer_failure(query, found, **where)
    if as_json:
        print_list("results", found)
    else:
        render.show_recall(Screen(), found)
    if failure is not None:
        complain("note", f"a trace that failed is nearer ({failure.similarity:.2f}): add --all")


@_command
def tools(
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MAX_PAGE, help="How many at most.")
    ] = DEFAULT_TOOLS,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="TOOL", help="Go on after this tool, the last of the page before."
        ),
    ] = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how often each tool fails, and how long it takes."""
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
    """Check that everything is in place, and say what is not."""
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
    """Build indexes and statistics anew from the log.

    For an index that is damaged, for a change of embedder, and for records that the store refused,
    which are tried again. Nothing recorded is lost by it, and a rebuild that was interrupted is
    simply run again.
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
                    pass  # opening stores what was recorded during the rebuild

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
