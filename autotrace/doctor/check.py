"""A finding of the doctor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict


class DoctorCheck(BaseModel):
    """The result of one check."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str
    fix: str | None = None
    """How to mend it; None if the status is `ok`."""


def ok(name: str, detail: str) -> DoctorCheck:
    """Return a check that found no fault."""
    return DoctorCheck(name=name, status="ok", detail=detail)


def warning(name: str, detail: str, fix: str) -> DoctorCheck:
    """Return a check that found a fault that loses no records."""
    return DoctorCheck(name=name, status="warning", detail=detail, fix=fix)


def error(name: str, detail: str, fix: str) -> DoctorCheck:
    """Return a check that found a fault that loses or hides records."""
    return DoctorCheck(name=name, status="error", detail=detail, fix=fix)


def guarded(name: str, check: Callable[[], DoctorCheck], fix: str | None = None) -> DoctorCheck:
    """Run a check; report any exception that it raises as its finding."""
    try:
        return check()
    except Exception as raised:  # noqa: BLE001 - see above
        return error(name, f"{type(raised).__name__}: {raised}", fix or "see what it says")
