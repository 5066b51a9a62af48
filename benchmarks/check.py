"""Fails when a figure breaks its bound: `python -m benchmarks.check [--results FILE]`.

The bounds are in `bounds.toml`, beside this file. A benchmark with a figure beyond its bound is run
again, up to twice: another process may have been at work. What breaks its bound every time fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import suite
from benchmarks.measure import SIZES

BOUNDS_FILE: Final = Path(__file__).with_name("bounds.toml")
ATTEMPTS: Final = 3

Bounds = Mapping[str, Mapping[str, float]]
"""`at_most` or `at_least` by name of a figure or fact."""


@dataclass(frozen=True)
class Broken:
    """A bound that does not hold."""

    name: str
    why: str

    @property
    def benchmark(self) -> str:
        """Which benchmark measures it."""
        family = self.name.partition(".")[0]
        return "imports" if family == "import" else family


def load_bounds(size: str) -> Bounds:
    """Read the bounds for a size of run.

    Raises:
        KeyError: There are none for this size.
    """
    with BOUNDS_FILE.open("rb") as file:
        return tomllib.load(file)[size]


def broken(results: Mapping[str, Any], bounds: Bounds) -> list[Broken]:
    """Return the bounds that results break; one that was not measured is broken too."""
    values = {figure["name"]: figure["ratio"] for figure in results["figures"]}
    values |= {fact["name"]: fact["value"] for fact in results["facts"]}
    found: list[Broken] = []
    for name, bound in bounds.items():
        value = values.get(name)
        if value is None:
            found.append(Broken(name, "was not measured"))
        elif value > bound.get("at_most", float("inf")):
            found.append(Broken(name, f"is {value:.3f}, and may be at most {bound['at_most']}"))
        elif value < bound.get("at_least", float("-inf")):
            found.append(Broken(name, f"is {value:.3f}, and must be at least {bound['at_least']}"))
    return found


def settle(first: list[Broken], again: Callable[[list[str]], list[Broken]]) -> list[Broken]:
    """Measure what is broken again, and return what was broken every time.

    Args:
        first: What the first run broke.
        again: Runs the benchmarks of these names and returns what they break.
    """
    remaining = first
    for _ in range(ATTEMPTS - 1):
        if not remaining:
            break
        names = {one.name for one in remaining}
        benchmarks = [name for name in suite.BENCHMARKS if name in {b.benchmark for b in remaining}]
        for one in remaining:
            print(f"{one.name} {one.why}; measuring again", file=sys.stderr)
        remaining = [one for one in again(benchmarks) if one.name in names]
    return remaining


def main(arguments: list[str] | None = None) -> int:
    """Check, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__)
    parser.add_argument("--size", choices=("full", "quick"), default="quick")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="check these results; measure nothing"
    )
    options = parser.parse_args(arguments)
    if options.results is not None:
        results = json.loads(options.results.read_text(encoding="utf-8"))
        bounds = load_bounds(results["size"])
        found = broken(results, bounds)
    else:
        size = SIZES[options.size]
        bounds = load_bounds(size.name)

        def measured(benchmarks: list[str]) -> list[Broken]:
            results = suite.run(benchmarks, size)
            print(suite.rendered(results))
            return broken(results, bounds)

        bounded = {Broken(name, "").benchmark for name in bounds}
        found = settle(measured([n for n in suite.BENCHMARKS if n in bounded]), measured)
    for one in found:
        print(f"BROKEN {one.name} {one.why}")
    if not found:
        print(f"all {len(bounds)} bounds hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
