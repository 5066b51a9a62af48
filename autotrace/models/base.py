"""Base class of the models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Frozen model that ignores unknown fields, so that newer records can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore")
