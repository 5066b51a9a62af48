"""MCP over standard input and output, for its user; without a key."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter
from pydantic import ValidationError

from autotrace.memory import Memory
from autotrace.server.auth.principal import DEFAULT_TENANT, LOCAL_KEY_ID, Principal
from autotrace.server.mcp.json_rpc import (
    INVALID_REQUEST,
    JsonRpcError,
    RequestId,
    answerable_ids,
    id_of,
    members_of,
    read_message,
)
from autotrace.server.mcp.server import make_server
from autotrace.server.mcp.stdio_wire import Wire
from autotrace.server.remote_traces import TraceService
from autotrace.server.tenants import Tenant

_log = logging.getLogger("autotrace.server")

_Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
_Outgoing = MemoryObjectSendStream[SessionMessage]

_CHECK_EVERY_S: Final = 1.0
"""Interval of the check whether the host still runs."""
_LAST_ANSWERS_S: Final = 30.0
"""How long the end of the input waits for the answers to what came before it."""


def serve_stdio(memory: Memory, agent: str, wire: Wire) -> None:
    """Answer messages until the input or the parent process ends.

    Args:
        memory: Memory to serve; started.
        agent: Agent in whose name is recorded and asked.
        wire: Input and output.
    """
    by = Principal(LOCAL_KEY_ID, agent, DEFAULT_TENANT, "agent")
    tenant = Tenant(DEFAULT_TENANT, memory, TraceService(memory))
    server = make_server(lambda _: by, lambda _: nullcontext(tenant))

    async def run() -> None:
        async with _connected(wire) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    try:
        anyio.run(run)
    finally:
        tenant.traces.stop()


@asynccontextmanager
async def _connected(wire: Wire) -> AsyncGenerator[tuple[_Incoming, _Outgoing]]:
    """Yield the streams of the SDK; end them after the body, or with the host."""
    to_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception]()
    outgoing, from_server = anyio.create_memory_object_stream[SessionMessage]()
    transport = _Transport(wire)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transport.read, to_server)
        tasks.start_soon(transport.write, from_server, tasks.cancel_scope)
        tasks.start_soon(_end_with_host, wire.host_pid, tasks.cancel_scope)
        yield incoming, outgoing
        with anyio.move_on_after(_LAST_ANSWERS_S):
            await transport.has_written.wait()
        tasks.cancel_scope.cancel()


class _Transport:
    """Reads and writes lines, and keeps the ids of unanswered requests."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._under_way: set[RequestId] = set()
        self._is_idle = anyio.Event()
        self._reading = anyio.CapacityLimiter(1)
        self._writing = anyio.CapacityLimiter(1)
        self.has_written = anyio.Event()

    async def read(self, to_server: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Pass on messages until the input ends and all are answered."""
        lines = self._wire.lines()
        async with to_server:
            while (line := await self._line_of(lines)) is not None:
                if line.strip() and (message := await self._message_in(line)) is not None:
                    await to_server.send(message)
            # At the end of its input, the SDK cancels the requests that it still answers.
            with anyio.move_on_after(_LAST_ANSWERS_S):
                while self._under_way:
                    self._is_idle = anyio.Event()
                    await self._is_idle.wait()

    async def write(
        self, from_server: MemoryObjectReceiveStream[SessionMessage], session: anyio.CancelScope
    ) -> None:
        """Write every message until the host has closed its end."""
        try:
            async with from_server:
                async for message in from_server:
                    line = _line_with(message)
                    await self._write(line)
                    self._answered(id_of(message.message.model_dump(include={"id"})))
        except OSError as error:  # the host has closed its end
            _log.info("the host does not read the answers any more: %s", error)
            session.cancel()
        finally:
            self.has_written.set()

    async def _line_of(self, lines: Iterator[bytes]) -> bytes | None:
        return await anyio.to_thread.run_sync(
            next, lines, None, abandon_on_cancel=True, limiter=self._reading
        )

    async def _write(self, line: bytes) -> None:
        await anyio.to_thread.run_sync(
            self._wire.write, line, abandon_on_cancel=True, limiter=self._writing
        )

    async def _message_in(self, line: bytes) -> SessionMessage | None:
        """Return the message in a line; answer any other line at once."""
        incoming = read_message(line)
        refusal = incoming.refusal
        if refusal is None:
            try:
                message = jsonrpc_message_adapter.validate_python(incoming.message, by_name=False)
            except ValidationError as error:
                refusal = JsonRpcError(INVALID_REQUEST, str(error))
            else:
                self._begun(incoming.message, incoming.request_id)
                return SessionMessage(message)
        answers = [refusal.body(each) for each in answerable_ids(incoming)]
        if not answers:
            _log.warning("a line that is not a message was ignored: %s", refusal.data)
        for answer in answers:
            await self._write(json.dumps(answer).encode("ascii"))
        return None

    def _begun(self, message: dict[str, Any], request_id: RequestId | None) -> None:
        if message.get("method") == "notifications/cancelled":
            cancelled: Any = members_of(message.get("params")).get("requestId")
            self._answered(cancelled if isinstance(cancelled, str | int) else None)
        elif request_id is not None and "method" in message:
            self._under_way.add(request_id)

    def _answered(self, request_id: RequestId | None) -> None:
        if request_id is not None:
            self._under_way.discard(request_id)
        if not self._under_way:
            self._is_idle.set()


def _line_with(message: SessionMessage) -> bytes:
    return message.message.model_dump_json(by_alias=True, exclude_unset=True).encode()


async def _end_with_host(host_pid: int, session: anyio.CancelScope) -> None:
    """End a session whose host is gone, though its input is still open."""
    while os.getppid() == host_pid:  # which does not change on Windows
        await anyio.sleep(_CHECK_EVERY_S)
    _log.info("the process that has started this one is gone")
    session.cancel()
