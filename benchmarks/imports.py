"""What `import autotrace` costs and brings, beside the libraries it stands on.

Each round starts two fresh interpreters with `-X importtime`: one imports autotrace, the other the
OpenTelemetry SDK, wrapt and pydantic. Bytecode is compiled beforehand on either side, by the round
that does not count. A second pair of figures is the CPU time of interpreters without the option,
which by itself slows imports down, less that of one that imports nothing.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Fact, Metrics, Report, Size, compare, interleave

REPOSITORY = Path(__file__).parent.parent
OURS = "import autotrace"
FLOOR = "import opentelemetry.sdk.trace, wrapt, pydantic"
UNWANTED = frozenset(
    {
        *("chromadb", "onnxruntime", "tokenizers", "numpy", "grpc"),
        *("starlette", "fastapi", "uvicorn", "mcp"),
        *("typer", "click", "rich"),
        *("autotrace.cli", "autotrace.server", "autotrace.store"),
    }
)
"""Packages of the store, of servers and of the command line."""
_LINE = re.compile(r"import time: *(\d+) \| *(\d+) \|( *)(\S+)")


def imported(statement: str) -> dict[str, int]:
    """Return the modules that a statement imports in a fresh interpreter, with their own time.

    Returns:
        Microseconds by module, without those of modules imported by it, and without what the
        interpreter imports to start.
    """
    process = _python("-X", "importtime", "-c", statement)
    modules: dict[str, int] = {}
    started = False
    for own_us, _, indent, name in _LINE.findall(process.stderr):
        if started:
            modules[name] = int(own_us)
        elif name == "site" and len(indent) == 1:
            started = True
    if not modules:
        raise RuntimeError(f"no import times in what {statement!r} printed: {process.stderr[:500]}")
    return modules


def unwanted(modules: dict[str, int]) -> list[str]:
    """Return those modules that an import of autotrace must not bring."""
    return sorted(
        name
        for name in modules
        if any(name == package or name.startswith(package + ".") for package in UNWANTED)
    )


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if not k.startswith(("AUTOTRACE_", "PYTHON"))},
        capture_output=True,
        text=True,
        check=True,
    )


def _cpu_ms(statement: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _python("-c", statement)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3


def _round(statement: str) -> Metrics:
    return {
        "importtime": sum(imported(statement).values()) / 1e3,
        "cpu": max(_cpu_ms(statement) - _cpu_ms("pass"), 1.0),
    }


def run(size: Size) -> Report:
    """Measure."""
    modules = imported(OURS)
    results = interleave(
        {"ours": lambda: _round(OURS), "floor": lambda: _round(FLOOR)}, size.import_rounds
    )
    sides = ("ours", "floor")
    return Report(
        [
            compare(
                "import.time",
                f"`{OURS}`, to `{FLOOR}`, by -X importtime",
                "ms",
                results,
                sides,
                "importtime",
            ),
            compare(
                "import.cpu",
                "the same without -X importtime, CPU time beyond an empty interpreter's",
                "ms CPU",
                results,
                sides,
                "cpu",
            ),
        ],
        [
            Fact("import.modules", f"modules that `{OURS}` brings", "modules", len(modules)),
            Fact(
                "import.unwanted",
                "of the store, a server or the command line: " + ", ".join(unwanted(modules)),
                "modules",
                len(unwanted(modules)),
            ),
        ],
    )
