"""A virtual environment per recorder, with the newest versions that pip resolves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers.contract import Script
from benchmarks.suite import REPOSITORY

FOLDER: Final = REPOSITORY / ".venv-peers"
"""To get newer versions, remove it."""
_LIMIT_S: Final = 1800


class NotInstalledError(Exception):
    """A recorder could not be installed; says what pip said."""


def interpreter_of(script: Script) -> Path:
    """Return the interpreter of the script's environment, which is made if it is not complete.

    Raises:
        NotInstalledError: pip refused, or took longer than half an hour.
    """
    environment = FOLDER / script.distribution
    interpreter = environment / "bin" / "python"
    stamp = environment / ".installed"
    wanted = "\n".join((sys.version, *script.requirements))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return interpreter
    print(f"installing {script.distribution} …", file=sys.stderr)
    shutil.rmtree(environment, ignore_errors=True)
    # The pip that comes with an older Python takes minutes over what a new one resolves at once.
    for command in (
        [sys.executable, "-m", "venv", str(environment)],
        [str(interpreter), "-m", "pip", "install", "--quiet", "--upgrade", "pip"],
        [str(interpreter), "-m", "pip", "install", "--quiet", *script.requirements],
    ):
        _run(command)
    stamp.write_text(wanted, encoding="utf-8")
    return interpreter


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"pip took more than {_LIMIT_S // 60} minutes") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        said = (errors or done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise NotInstalledError(said.removeprefix("ERROR: "))
