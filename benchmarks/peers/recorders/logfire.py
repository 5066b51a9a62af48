"""Logfire: `@instrument` with the result recorded, which it does not do unless asked to."""

from __future__ import annotations

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "logfire"
REQUIREMENTS = ("logfire",)
ANSWERS = {"/v1/info": {"project_name": "bench", "project_url": "http://127.0.0.1"}}


def start(place: Place) -> Recorder:
    """Set it up; printing every span to the console, its default, is off."""
    import logfire

    logfire.configure(
        token="pylf_v1_us_none",
        console=False,
        advanced=logfire.AdvancedOptions(base_url=place.sink),
    )
    return Recorder(
        tool=logfire.instrument(record_return=True),
        task=logfire.instrument(),
        flush=logfire.force_flush,
        close=logfire.shutdown,
    )
