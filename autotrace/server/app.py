"""The ASGI application: REST, MCP and OTLP over one state."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

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
from autotrace.server.http_errors import handle_errors
from autotrace.server.mcp.http import CORS_HEADERS, McpEndpoint, McpRefusals
from autotrace.server.request_body import MCP_PATHS, BodyLimits
from autotrace.server.rest import decisions, operations, traces

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("autotrace.server")

_SAVE_USES_EVERY_S: Final = 60.0
_DESCRIPTION: Final = (
    "Decision memory for AI agents: record what an agent was asked, thought, did and decided, "
    "and recall it by meaning."
)


def create_app(served: AppState) -> FastAPI:
    """Return the application of one worker; it stops `served` when it ends."""
    mcp = McpEndpoint(served)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with _stopping(served), mcp.running(), anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, _warm_up, served)
            tasks.start_soon(_save_uses, served)
            yield
            tasks.cancel_scope.cancel()

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
    app.router.routes += [Route(path, mcp, methods=["POST"]) for path in MCP_PATHS]

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
    app.add_middleware(AccessLogMiddleware, served=served)
    return app


@asynccontextmanager
async def _stopping(served: AppState) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            timeout_s = served.server.stop_timeout_ms / 1000
            if not await anyio.to_thread.run_sync(served.stop, timeout_s):
                _log.warning("the last records are on disk, and are stored at the next start")


def _warm_up(served: AppState) -> None:
    """Load the embedder and open the default tenant before a request."""
    try:
        served.embedding.embedder.embed(["a first text"])
        with served.tenants.lease(DEFAULT_TENANT):
            pass
    except Exception as error:  # noqa: BLE001 - requests report it, and the server runs on
        _log.warning("not ready yet: %s: %s", type(error).__name__, error)


async def _save_uses(served: AppState) -> None:
    while True:
        await anyio.sleep(_SAVE_USES_EVERY_S)
        await anyio.to_thread.run_sync(served.save_uses)


class HeadAsGet:
    """ASGI middleware that answers HEAD as GET without a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            scope["method"] = "HEAD"  # uvicorn computes the length of the body from it
            if message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        # Not a copy: the router writes the route into it.
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, without_body)
        finally:
            scope["method"] = "HEAD"
