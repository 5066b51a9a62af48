"""A FastAPI application whose one endpoint does nothing: the floor of any server built on it."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.post("/{_path:path}")
async def nothing(_path: str) -> dict[str, str]:
    """Do nothing."""
    return {"trace_id": "none", "step_id": "none"}
