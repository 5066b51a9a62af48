"""Weave with its write-ahead log, which is off unless asked for."""

from __future__ import annotations

import os

from benchmarks.peers.contract import Place, Recorder
from benchmarks.peers.recorders import weave

DISTRIBUTION = weave.DISTRIBUTION
REQUIREMENTS = weave.REQUIREMENTS
NOTE = "write-ahead log on"
ANSWERS = weave.ANSWERS


def start(place: Place) -> Recorder:
    """Set up the client."""
    os.environ["WEAVE_ENABLE_WAL"] = "true"
    return weave.start(place)
