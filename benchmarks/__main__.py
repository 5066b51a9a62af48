"""Runs the benchmarks: `python -m benchmarks [NAME …] [--size full|quick|tiny] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import suite
from benchmarks.measure import SIZES


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for, print it, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(suite.BENCHMARKS))
    parser.add_argument("--size", choices=sorted(SIZES), default="full", help="default: full")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as JSON")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(suite.BENCHMARKS))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    results = suite.run(options.names or list(suite.BENCHMARKS), SIZES[options.size])
    print(suite.rendered(results))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
