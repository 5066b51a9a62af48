"""The table of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.peers.parts import BASELINE

Row = dict[str, Any]
_NOT_MEASURED = "see below"


def rendered(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    machine, size = report["machine"], report["size"]
    rows: list[Row] = sorted(report["recorders"], key=_order)
    columns = [
        "recorder",
        "caller's time",
        "caller's CPU",
        "total CPU",
        f"kept of {size['killed_calls']:,} calls after SIGKILL",
        "the same, destination down",
        f"lost of a burst of {size['burst_spans']:,} spans",
    ]
    return "\n".join(
        [
            f"`{report['command']}`, {report['date']}: {machine['cpu']}, {machine['cores']} cores, "
            f"{machine['python']}, load before {machine['load_before'][0]}.",
            "",
            f"| {' | '.join(columns)} |",
            "|---" * len(columns) + "|",
            *(f"| {' | '.join(_cells(row))} |" for row in rows),
            "",
            *(f"- {label(row)}{note}" for row in rows for note in _notes(row)),
        ]
    ).rstrip()


def _order(row: Row) -> tuple[float, str]:
    """Fastest first; what was not measured last."""
    wall = row.get("speed", {}).get("wall")
    ratio = float("inf") if wall is None else wall["ratio"]
    return (1.0 if row["name"] == BASELINE else ratio), row["name"]


def _cells(row: Row) -> list[str]:
    if "problem" in row:
        return [label(row), *[_NOT_MEASURED] * 6]
    speed, killed, burst = row["speed"], row["killed"], row["burst"]
    return [
        label(row),
        *(_ratio(speed.get(metric)) for metric in ("wall", "cpu", "total")),
        *(_range(killed.get(sink, {}).get("kept")) for sink in ("sink_up", "sink_down")),
        _range([burst["lost"]] if "lost" in burst else None),
    ]


def label(row: Row) -> str:
    """Return what the table calls a recorder."""
    name = " ".join(filter(None, (row["distribution"], row.get("version"))))
    return f"{name} ({row['note']})" if row["note"] else name


def _ratio(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return _NOT_MEASURED
    spread = f"{figure['ratio_min']:.2f} to {figure['ratio_max']:.2f}"
    return f"{figure['ratio']:.2f} ({spread}), {figure['ours']:.0f} µs"


def _range(values: list[int] | None) -> str:
    if values is None:
        return _NOT_MEASURED
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _notes(row: Row) -> Iterator[str]:
    """Say what went wrong, and what else should be known."""
    if "problem" in row:
        yield f": {row['problem']}"
        return
    speed, killed, burst = row["speed"], row["killed"], row["burst"]
    parts = {
        "speed": speed,
        "SIGKILL": killed,
        "SIGKILL, destination up": killed.get("sink_up", {}),
        "SIGKILL, destination down": killed.get("sink_down", {}),
        "burst": burst,
    }
    for title, found in parts.items():
        if "problem" in found:
            yield f", {title}: {found['problem']}"
    if speed.get("arrived", 0) < speed.get("calls", 0):
        yield f", speed: {speed['arrived']:,} of {speed['calls']:,} calls arrived"
    if speed.get("refused_hosts"):
        yield f" wanted to reach {', '.join(speed['refused_hosts'])}"
