"""The one ASGI application: REST, MCP and OTLP over the same services."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import anyio
import anyio.to_thread
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

import autotrace
from autotrace.server import otlp
from autotrace.server.access_log import AccessLogMiddleware
from autotrace.server.app_state import AppState
from autotrace.server.auth.principal import DEFAULT_TENANT
from autotrace.server.head import HeadAsGet
from autotrace.server.http_errors import handle_errors
from autotrace.server.limits import BodyLimits
from autotrace.server.mcp.http import CORS_HEADERS, McpEndpoint
from autotrace.server.mcp.refusals import PATHS, McpRefusals
from autotrace.server.rest import decisions, operations, traces

_log = logging.getLogger("autotrace.server")

Lifespan = Callable[[AppState], AbstractAsyncContextManager[None]]
"""What runs as long as the application does."""

_SAVE_USES_EVERY_S: Final = 60.0
_DESCRIPTION: Final = (
    "Decision memory for AI agents: record what an agent was asked, thought, did and decided, "
    "and recall it by meaning."
)


def create_app(served: AppState) -> FastAPI:
    """Return the application that serves one worker's parts.

    It stops what it serves when it ends.
    """
    mcp = McpEndpoint(served)
    lifespans: list[Lifespan] = [_stopping, _warm, _saving_uses, lambda _: mcp.running()]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for enter in lifespans:
                await stack.enter_async_context(enter(served))
            yield

    app = FastAPI(
        title="autotrace",
        version=autotrace.__version__,
        description=_DESCRIPTION,
        # Their pages load programs from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.served = served
    handle_errors(app)
    for router in (operations.router, traces.router, decisions.router, otlp.router):
        app.include_router(router)
    app.router.routes += [Route(path, mcp, methods=["POST"]) for path in PATHS]

    # The last one added is the outermost.
    app.add_middleware(BodyLimits, settings=served.server)
    app.add_middleware(McpRefusals, settings=served.server)
    if served.server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=served.server.cors_origins,
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type", *CORS_HEADERS],
        )
    app.add_middleware(HeadAsGet)
    app.add_middleware(AccessLogMiddleware, metrics=served.metrics)
    return app


@asynccontextmanager
async def _stopping(served: AppState) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            timeout_s = served.server.stop_timeout_ms / 1000
            if not await anyio.to_thread.run_sync(served.stop, timeout_s):
                _log.warning("what was recorded last is on disk, and stored at the next start")


@asynccontextmanager
async def _warm(served: AppState) -> AsyncGenerator[None]:
    """Load the embedder, and store what was left, before somebody waits for it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, _warm_up, served)
        yield


def _warm_up(served: AppState) -> None:
    try:
        served.embedding.embedder.embed(["a first text"])
        with served.tenants.lease(DEFAULT_TENANT):
            pass
    except Exception as error:  # noqa: BLE001 - whoever asks is told, and the server goes on
        _log.warning("not ready yet: %s: %s", type(error).__name__, error)


@asynccontextmanager
async def _saving_uses(served: AppState) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_save_uses, served)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _save_uses(served: AppState) -> None:
    while True:
        await anyio.sleep(_SAVE_USES_EVERY_S)
        await anyio.to_thread.run_sync(served.save_uses)
