"""Opik: `@track` under a client with every default, error reports and usage statistics off."""

from __future__ import annotations

import os

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "opik"
REQUIREMENTS = ("opik",)


def start(place: Place) -> Recorder:
    """Set up the client."""
    os.environ.update(
        OPIK_URL_OVERRIDE=f"{place.sink}/api",
        OPIK_WORKSPACE="default",
        OPIK_PROJECT_NAME="bench",
        OPIK_SENTRY_ENABLE="false",
        OPIK_ANALYTICS_ENABLE="false",
    )
    import opik

    client = opik.get_global_client()
    return Recorder(
        tool=opik.track(type="tool"), task=opik.track(), flush=client.flush, close=client.end
    )
