"""Weave: `@op` under a client with every default, error reports off."""

from __future__ import annotations

import os

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "weave"
REQUIREMENTS = ("weave",)
_PROJECT = {"id": "bench", "name": "bench", "entityName": "bench"}
ANSWERS = {
    "/server_info": {"min_required_weave_python_version": "0.0.1"},
    "/graphql": {
        "data": {
            "viewer": {"id": "none", "username": "none", "defaultEntity": {"name": "bench"}},
            "project": _PROJECT,
            "model": _PROJECT,
            "upsertModel": {"project": _PROJECT, "model": _PROJECT, "inserted": True},
        }
    },
    "obj/create": {"digest": "x" * 43},
    "file/create": {"digest": "y" * 43},
    "files/create": {"digest": "y" * 43},
    "upsert_batch": {"res": []},
    "complete": {"res": []},
}


def start(place: Place) -> Recorder:
    """Set up the client."""
    os.environ.update(
        WANDB_BASE_URL=place.sink,
        WF_TRACE_SERVER_URL=place.sink,
        WANDB_API_KEY="0" * 40,
        WANDB_ENTITY="bench",
        WANDB_ERROR_REPORTING="false",
        WB_SENTRY="false",
        WEAVE_PRINT_CALL_LINK="false",
        WEAVE_IMPLICITLY_PATCH_INTEGRATIONS="false",
    )
    import weave

    client = weave.init("bench/bench")
    return Recorder(
        tool=weave.op(kind="tool"),
        task=weave.op(kind="agent"),
        flush=client.flush,
        close=client.finish,
    )
