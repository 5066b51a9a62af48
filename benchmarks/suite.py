"""The benchmarks there are, how they are run, and how their results read."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Size

BENCHMARKS: Final = (
    *("capture", "export", "recall", "imports", "context"),
    *("growth", "sustained", "shared", "footprint", "decisions", "server", "soak"),
)
"""Modules of this package with a `run(size)`."""
REPOSITORY: Final = Path(__file__).parent.parent
_PACKAGES: Final = (
    *("chromadb", "opentelemetry-sdk", "wrapt", "pydantic", "orjson", "onnxruntime", "numpy"),
)


def run(names: Sequence[str], size: Size) -> dict[str, Any]:
    """Run benchmarks, each in an interpreter of its own, and return what they found.

    Raises:
        subprocess.CalledProcessError: One of them failed; it has said why on stderr.
    """
    results: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks", *names, "--size", size.name]),
        "size": size.name,
        "machine": machine(),
        "versions": versions(),
        "figures": [],
        "facts": [],
    }
    for name in names:
        print(f"measuring {name} …", file=sys.stderr)
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", name, size.name],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        report = json.loads(process.stdout)
        results["figures"] += report["figures"]
        results["facts"] += report["facts"]
    return results


def machine() -> dict[str, Any]:
    """Say what the figures were measured on, and how busy it was."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_before": [round(value, 2) for value in load],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of the libraries that matter to the figures."""
    import autotrace

    return {"autotrace": autotrace.__version__} | {name: version(name) for name in _PACKAGES}


def rendered(results: dict[str, Any]) -> str:
    """Return results as text for a terminal."""
    machine_ = results["machine"]
    lines = [
        f"$ {results['command']}",
        f"{machine_['cpu']}, {machine_['cores']} cores, {machine_['python']}, "
        f"load {' '.join(map(str, machine_['load_before']))}",
        ", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        "",
        f"{'figure':28}{'ratio':>8}  {'min to max':14}{'ours':>10}{'baseline':>10}  unit",
    ]
    for figure in results["figures"]:
        span = f"{figure['ratio_min']:.2f} to {figure['ratio_max']:.2f}"
        lines.append(
            f"{figure['name']:28}{figure['ratio']:8.2f}  {span:14}"
            f"{figure['ours']:10.2f}{figure['baseline']:10.2f}  {figure['unit']}"
        )
    lines += ["", *(f"{f['name']}: {f['value']:.4g} {f['unit']}" for f in results["facts"]), ""]
    lines += [f"{figure['name']}: {figure['what']}" for figure in results["figures"]]
    return "\n".join(lines)
