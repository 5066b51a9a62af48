"""Runs one benchmark and prints what it found as JSON: `python -m benchmarks.worker NAME SIZE`."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.measure import SIZES

if __name__ == "__main__":
    name, size = sys.argv[1:]
    report = importlib.import_module(f"benchmarks.{name}").run(SIZES[size])
    print(json.dumps(report.to_json()))
