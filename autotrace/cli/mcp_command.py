"""`autotrace mcp`: the tools of the server over standard input and output."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from autotrace.cli.command_options import EmbedderOption, StoreOption
from autotrace.cli.open_store import check_writable, chosen_embedding, load_policies
from autotrace.cli.serve_commands import need_packages
from autotrace.settings import load_settings

DEFAULT_AGENT: Final = "agent"


def mcp(
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="Agent in whose name it records and requests. Default: AUTOTRACE_AGENT, "
            "else 'agent'.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    embedder: EmbedderOption = None,
) -> None:
    """Serve the store as MCP tools over standard input and output, to the parent process.

    It needs no key: a user who may run programs here is trusted.
    """
    from autotrace.server.mcp.stdio_wire import take_wire

    wire = take_wire()
    need_packages("autotrace mcp")
    from autotrace.memory import Memory
    from autotrace.server.mcp.stdio import serve_stdio

    settings = load_settings(store=store).resolved()
    check_writable(settings)
    load_policies(settings)
    memory = Memory(settings, chosen_embedding(settings, embedder))
    memory.start()
    try:
        serve_stdio(memory, agent or settings.agent or DEFAULT_AGENT, wire)
    finally:
        memory.stop(settings.exit_timeout_ms / 1000, at_exit=True)
