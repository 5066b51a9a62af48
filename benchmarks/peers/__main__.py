"""Measures recorders side by side: `python -m benchmarks.peers [NAME …] [--size full|quick|tiny]`.

Without a name, all of them. The hand-written span, with which they are compared, is always in.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers import parts
from benchmarks.peers.contract import Script, load, names
from benchmarks.peers.environments import FOLDER, NotInstalledError, interpreter_of
from benchmarks.peers.parts import BASELINE, SIZES, Peer, Result, Size
from benchmarks.peers.processes import FailedError, sink_for, worker
from benchmarks.peers.progress import Progress
from benchmarks.peers.report import rendered
from benchmarks.suite import machine


def main(arguments: list[str] | None = None) -> int:
    """Install what is missing, measure, print the table, and write it all down."""
    known = names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--size", choices=sorted(SIZES), default="full", help="default: full")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="PATH",
        help="run all with this interpreter, which has their packages, and install nothing",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as JSON")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no such recorder: {', '.join(unknown)} (there are {', '.join(known)})")
    size = SIZES[options.size]
    file: Path = options.json or FOLDER / f"{size.name}.json"
    chosen = sorted({*options.names, BASELINE}) if options.names else known
    rows, peers = install([load(name) for name in chosen], options.python)
    progress = Progress(
        file.with_name(f"{file.name}.unfinished"),
        [size.name, [(peer.script.name, str(peer.interpreter), peer.version) for peer in peers]],
    )
    report = {
        "command": shlex.join(
            ["python", "-m", "benchmarks.peers", *options.names, "--size", size.name]
        ),
        "size": vars(size),
        **measure(rows, peers, size, progress),
    }
    print(rendered(report))
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    progress.finish()
    print(f"\nwritten to {file}", file=sys.stderr)
    return 0


def install(scripts: Sequence[Script], python: Path | None) -> tuple[dict[str, Result], list[Peer]]:
    """Install recorders, and begin the row of each.

    Args:
        scripts: The recorders.
        python: An interpreter that has the packages of all. Default: each gets its own.

    Returns:
        The rows by name, with the problem of each that could not be installed, and the others.
    """
    rows: dict[str, Result] = {}
    peers: list[Peer] = []
    for script in scripts:
        row = rows[script.name] = {
            "name": script.name,
            "distribution": script.distribution,
            "note": script.note,
        }
        try:
            interpreter = interpreter_of(script) if python is None else python.absolute()
            row["version"] = _version(script, interpreter)
        except (NotInstalledError, FailedError) as error:
            if script.name == BASELINE:
                raise
            row["problem"] = str(error)
        else:
            peers.append(Peer(script, interpreter, row["version"]))
    return rows, peers


def measure(
    rows: dict[str, Result], peers: Sequence[Peer], size: Size, progress: Progress
) -> dict[str, Any]:
    """Measure every part, and fill the rows in."""
    about = progress.part(
        "about", lambda: {"date": f"{datetime.now(tz=UTC):%-d %B %Y}", "machine": machine()}
    )
    for name, found in progress.part("speed", lambda: parts.speed(peers, size)).items():
        rows[name]["speed"] = found
    for title, part in (("killed", parts.kill), ("burst", parts.burst)):
        for peer in peers:
            print(f"{title}: {peer.script.name} …", file=sys.stderr)
            found = progress.part(f"{title} {peer.script.name}", _of_one(part, peer, size))
            rows[peer.script.name][title] = found
    return {**about, "recorders": list(rows.values())}


def _of_one(part: Callable[[Peer, Size], Result], peer: Peer, size: Size) -> Callable[[], Result]:
    def measured() -> Result:
        try:
            return part(peer, size)
        except FailedError as error:
            return {"problem": str(error)}

    return measured


def _version(script: Script, interpreter: Path) -> str:
    with (
        TemporaryDirectory(prefix="autotrace-peers-") as folder,
        sink_for(script, Path(folder) / "run") as sink,
        worker(interpreter, script, "version", sink.place) as asked,
    ):
        version: str = asked.answer(60)["version"]
    return version


if __name__ == "__main__":
    sys.exit(main())
