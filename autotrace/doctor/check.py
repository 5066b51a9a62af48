"""What the doctor says of one thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict


class DoctorCheck(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str
    fix: str | None = None
    """What to do about it; None when it is ok."""


def guarded(name: str, check: Callable[[], DoctorCheck], fix: str | None = None) -> DoctorCheck:
    """Look; that looking fails, in whatever way, is a finding too."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - see above
        detail = f"{type(error).__name__}: {error}"
        return DoctorCheck(name=name, status="error", detail=detail, fix=fix or "see what it says")
