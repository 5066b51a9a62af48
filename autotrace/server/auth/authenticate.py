"""Recognise the caller by `Authorization: Bearer <key>` or `Agent <key>`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import anyio.to_thread
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPBase
from starlette.requests import HTTPConnection

from autotrace.server.access_log import seen_by
from autotrace.server.app_state import served_by
from autotrace.server.auth.principal import Principal

SCHEMES: Final = ("bearer", "agent")

_bearer = HTTPBearer(
    scheme_name="Bearer", description="A key of `autotrace keys create`.", auto_error=False
)
_agent = HTTPBase(
    scheme="Agent", scheme_name="Agent", description="The same key.", auto_error=False
)


def presented_key(connection: HTTPConnection) -> str | None:
    """Return the key that a request presents, if it presents one."""
    scheme, _, key = connection.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() in SCHEMES else None


async def recognise(connection: HTTPConnection) -> Principal:
    """Return the caller of a request; count the request once in its rate.

    Raises:
        NotAuthenticatedError: The key is missing, unknown, or revoked.
        LimitExceededError: The key has asked for too much.
        StoreError: The keys cannot be read.
    """
    seen = seen_by(connection)
    if seen.principal is None:
        served, presented = served_by(connection), presented_key(connection)
        if presented is None or served.keys.is_current:
            seen.principal = served.recognise(presented)
        else:
            seen.principal = await anyio.to_thread.run_sync(served.recognise, presented)
        # After the principal is set, so that the log names the key that asks too often.
        served.rates.take(seen.principal.key_id)
    return seen.principal


async def _caller(
    request: Request,
    bearer: Annotated[Any, Security(_bearer)],
    agent: Annotated[Any, Security(_agent)],
) -> Principal:
    del bearer, agent  # named for the OpenAPI document
    return await recognise(request)


Caller = Annotated[Principal, Depends(_caller)]
"""Parameter of a route that receives the principal of the key; without a key: 401."""
