"""MCP over standard input and output: for the user who starts it, without a key."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio
from mcp.server.stdio import stdio_server

from autotrace.access.principal import DEFAULT_TENANT, LOCAL_KEY_ID, Principal
from autotrace.memory import Memory
from autotrace.server.mcp_server import make_server
from autotrace.server.mcp_tool import Desk
from autotrace.service.decisions import DecisionDesk
from autotrace.service.traces import TraceService


def serve_stdio(memory: Memory, agent: str) -> None:
    """Answer what comes in until it ends.

    Args:
        memory: What is served; started.
        agent: In whose name is recorded and asked.
    """
    by = Principal(LOCAL_KEY_ID, agent, DEFAULT_TENANT, "agent")
    traces = TraceService(memory)
    desk = Desk(traces, DecisionDesk(memory))

    @contextmanager
    def opened(_: Principal) -> Generator[Desk]:
        yield desk

    server = make_server(lambda _: by, opened)

    async def run() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    try:
        anyio.run(run)
    finally:
        traces.stop()
