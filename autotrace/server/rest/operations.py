"""REST for operators: health, liveness and metrics."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

import autotrace
from autotrace.server.app_state import State
from autotrace.server.auth.authenticate import Caller
from autotrace.server.http_errors import responses

router = APIRouter(tags=["operations"])

_BEHIND_AFTER_S: Final = 5.0
"""How long records may wait while none is stored, before storing counts as behind."""
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class ServerHealth(BaseModel):
    """Health of the server and its store."""

    status: Literal["ok", "degraded", "unavailable"]
    """`degraded`: records are on disk, and storing them fails or lags."""
    store: Literal["reachable", "unreachable"]
    version: str


class Liveness(BaseModel):
    """Liveness of the server."""

    status: Literal["ok"] = "ok"


@router.get(
    "/health",
    summary="Whether the server and its store answer",
    response_model=ServerHealth,
    responses={503: {"model": ServerHealth, "description": "The store does not answer"}},
)
def health(here: State) -> Response:
    """Report whether the server and its store answer; checked once a second at most.

    While storing fails or lags the status is `degraded`, with 200: spans are still taken in.
    """
    reachable = here.store_check.is_reachable()
    behind = here.tenants.behind_s() > _BEHIND_AFTER_S
    found = ServerHealth(
        status="unavailable" if not reachable else "degraded" if behind else "ok",
        store="reachable" if reachable else "unreachable",
        version=autotrace.__version__,
    )
    return JSONResponse(found.model_dump(), 200 if reachable else 503)


@router.get("/health/live", summary="Whether the server answers")
async def live() -> Liveness:
    """Report that the server answers, with or without its store."""
    return Liveness()


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics"},
        **responses(403),
    },
)
def metrics(caller: Caller, here: State) -> Response:
    """Return what all workers have counted. For admins of the default tenant."""
    caller.require_operator()
    return Response(here.metrics.render(), media_type=_METRICS_TYPE)
