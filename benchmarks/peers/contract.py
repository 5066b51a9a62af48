"""What a script of `recorders/` holds. Nothing else of the benchmark knows one from another.

    DISTRIBUTION = "langfuse"           # whose version is reported, and which environment it shares
    REQUIREMENTS = ("langfuse",)        # what pip installs into that environment
    NOTE = "log on"                     # optional: what tells it from another with the same package
    ANSWERS = {"/info": {…}}            # optional: what its server would answer, by end of path
    def start(place): …                 # set it up; import the package here, not at the top
    def delivered(place): …             # optional: what arrived, if not at the sink

The benchmark's own environment imports the script for its constants; the recorder's environment
runs it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import recorders

Function = Callable[..., Any]


@dataclass(frozen=True)
class Place:
    """Where a recorder runs."""

    folder: Path
    """Its home, its current directory, and the only place where it may leave files."""
    sink: str
    """Base URL of the HTTP server that takes in whatever it sends."""


@dataclass(frozen=True)
class Recorder:
    """A recorder that is set up."""

    tool: Callable[[Function], Function]
    """Makes a function a recorded tool, arguments and result included."""
    task: Callable[[Function], Function]
    """Makes a function without arguments the parent of the tool calls inside it."""
    flush: Callable[[], object]
    """Returns once all that was recorded is delivered."""
    close: Callable[[], object]
    """Ends it, as a program does that ends well."""


@dataclass(frozen=True)
class Script:
    """A script of `recorders/`, loaded."""

    name: str
    distribution: str
    requirements: tuple[str, ...]
    note: str
    answers: Mapping[str, Any]
    start: Callable[[Place], Recorder]
    delivered: Callable[[Place], Iterator[bytes]] | None
    """Gives the texts of what arrived; without it, they are the requests that the sink got."""


def load(name: str) -> Script:
    """Load the script of that name."""
    module = importlib.import_module(f"{recorders.__name__}.{name}")
    return Script(
        name=name,
        distribution=module.DISTRIBUTION,
        requirements=module.REQUIREMENTS,
        note=getattr(module, "NOTE", ""),
        answers=getattr(module, "ANSWERS", {}),
        start=module.start,
        delivered=getattr(module, "delivered", None),
    )


def names() -> list[str]:
    """Return the names of all scripts."""
    return sorted(module.name for module in pkgutil.iter_modules(recorders.__path__))
