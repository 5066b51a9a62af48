"""Draws the growth of costs, and prints their table: `python -m benchmarks.plot RESULTS SVG`.

RESULTS is what `python -m benchmarks growth --json RESULTS` wrote. Both axes of the plot are
logarithmic: a flat line is a flat cost, and a cost that grows with the number of traces rises like
the dotted line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, Final

from benchmarks.growth import COSTS, verdict

WIDTH: Final = 800
HEIGHT: Final = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 190, 20, 50
_LABEL_HEIGHT: Final = 16
_COLOURS: Final = (
    *("#1f77b4", "#17a2b8", "#d62728", "#ff7f0e"),
    *("#bcbd22", "#2ca02c", "#9467bd", "#8c7b6b"),
)
_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #333 }
.grid { stroke: #ddd }
.linear { stroke: #888; stroke-dasharray: 2 4 }
polyline { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #ccc }
  .grid { stroke: #444 }
}
"""

Series = Mapping[str, Mapping[int, float]]
"""Milliseconds by number of traces, by what was measured."""


def series_of(results: Mapping[str, Any], kind: str = "cpu") -> dict[str, dict[int, float]]:
    """Return what `growth` found.

    Args:
        results: Of `python -m benchmarks growth`.
        kind: `cpu` or `wall`.
    """
    series: dict[str, dict[int, float]] = {name: {} for name in COSTS}
    for fact in results["facts"]:
        family, _, rest = fact["name"].partition(".")
        what, _, traces = rest.partition(".")
        name = what.removesuffix(f"_{kind}")
        if family == "growth" and name != what:
            series[name][int(traces)] = fact["value"]
    return series


@dataclass(frozen=True)
class _Axes:
    """Where a value lies, both axes logarithmic and cut at powers of ten."""

    x_from: float
    x_to: float
    y_from: int
    y_to: int

    def x(self, traces: float) -> float:
        share = (log10(traces) - self.x_from) / (self.x_to - self.x_from)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, cost_ms: float) -> float:
        share = (log10(cost_ms) - self.y_from) / (self.y_to - self.y_from)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def drawn(series: Series) -> str:
    """Return the plot as SVG."""
    numbers = sorted({traces for costs in series.values() for traces in costs})
    values = [value for costs in series.values() for value in costs.values()]
    axes = _Axes(
        log10(numbers[0]), log10(numbers[-1]), floor(log10(min(values))), ceil(log10(max(values)))
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>CPU time of each operation by number of stored traces</title>",
        f"<style>{_STYLE}</style>",
        *_grid(axes, numbers),
        *_linear(axes, numbers),
    ]
    ends = {name: axes.y(costs[numbers[-1]]) for name, costs in series.items()}
    labels = _apart(ends)
    for colour, (name, costs) in zip(_COLOURS, series.items(), strict=True):
        points = " ".join(f"{axes.x(n):.1f},{axes.y(costs[n]):.1f}" for n in numbers)
        parts.append(f'<polyline points="{points}" stroke="{colour}"/>')
        parts += [
            f'<circle cx="{axes.x(n):.1f}" cy="{axes.y(costs[n]):.1f}" r="3" fill="{colour}"/>'
            for n in numbers
        ]
        x = axes.x(numbers[-1]) + 10
        parts.append(
            f'<text x="{x:.1f}" y="{labels[name] + 4:.1f}" style="fill: {colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _grid(axes: _Axes, numbers: Sequence[int]) -> list[str]:
    left, right = axes.x(numbers[0]), axes.x(numbers[-1])
    lines: list[str] = []
    for power in range(axes.y_from, axes.y_to + 1):
        y = axes.y(10.0**power)
        lines.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        lines.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    low, high = axes.y(10.0**axes.y_from), axes.y(10.0**axes.y_to)
    for traces in numbers:
        x = axes.x(traces)
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{low}" x2="{x:.1f}" y2="{high}"/>')
        lines.append(f'<text x="{x:.1f}" y="{low + 18}" text-anchor="middle">{traces:,}</text>')
    middle = (left + right) / 2
    lines.append(f'<text x="{middle:.1f}" y="{low + 38}" text-anchor="middle">stored traces</text>')
    lines.append(f'<text x="{left + 6}" y="{high + 14}">ms CPU</text>')
    return lines


def _linear(axes: _Axes, numbers: Sequence[int]) -> list[str]:
    """Return a line of a cost in proportion to the traces, from the lower left corner."""
    lowest = 10.0**axes.y_from
    last = min(numbers[-1], numbers[0] * 10.0 ** (axes.y_to - axes.y_from))
    x, y = axes.x(last), axes.y(lowest * last / numbers[0])
    return [
        f'<line class="linear" x1="{axes.x(numbers[0])}" y1="{axes.y(lowest)}" '
        f'x2="{x:.1f}" y2="{y:.1f}"/>',
        f'<text x="{x - 12:.1f}" y="{y + 4:.1f}" text-anchor="end">in proportion</text>',
    ]


def _apart(places: Mapping[str, float]) -> dict[str, float]:
    """Move labels apart that would lie on each other."""
    order = sorted(places, key=lambda name: places[name])
    moved = {name: places[name] for name in order}
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + _LABEL_HEIGHT)
    return moved


def table(results: Mapping[str, Any]) -> str:
    """Return the costs as a table in Markdown."""
    cpu, wall = series_of(results), series_of(results, "wall")
    numbers = sorted(next(iter(cpu.values())))
    head = ["ms CPU (on the clock) at", *(f"{n:,} traces" for n in numbers), "ratio", "growth"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, what in COSTS.items():
        figure = next(f for f in results["figures"] if f["name"] == f"growth.{name}")
        cells = [f"{cpu[name][n]:.1f} ({wall[name][n]:.1f})" for n in numbers]
        ratio = f"{figure['ratio']:.2f}"
        lines.append("| " + " | ".join([what, *cells, ratio, verdict(cpu[name])]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Draw, and print the table."""
    results, svg = map(Path, arguments)
    found = json.loads(results.read_text(encoding="utf-8"))
    svg.write_text(drawn(series_of(found)), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
