"""Refusing query parameters that a route does not have.

Those who search and list give filters. One that is not known, or not spelled right, must not be
answered with everything, as if it had been applied.
"""

from __future__ import annotations

from typing import Final

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from autotrace.server.auth.authenticate import Caller
from autotrace.server.http_errors import UNKNOWN, unknown_field


def _check_known(request: Request, caller: Caller) -> None:
    del caller  # who has no valid key learns nothing of the route
    route = request.scope["route"]
    assert isinstance(route, APIRoute)  # noqa: S101 - it is a dependency of such routes
    known = [parameter.alias for parameter in route.dependant.query_params]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        problem = {"loc": ("query", unknown[0]), "msg": unknown_field(known), "type": UNKNOWN}
        raise RequestValidationError([problem])


KNOWN_PARAMETERS: Final = Depends(_check_known)
"""The dependency of a route that refuses query parameters which it does not have."""
