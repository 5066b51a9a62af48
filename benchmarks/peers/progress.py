"""What a run has measured so far, on disk, so that an interrupted one can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Progress:
    """The parts of one run.

    Args:
        file: Where they are kept.
        run: What is measured; parts of a run that measured anything else are not used.
    """

    def __init__(self, file: Path, run: Any) -> None:
        self._file = file
        self._data: dict[str, Any] = {"run": run, "parts": {}}
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            if before["run"] == json.loads(json.dumps(run)):
                self._data = before

    def part(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return a part, which is measured if it was not before the interruption."""
        parts = self._data["parts"]
        if name not in parts:
            parts[name] = measure()
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._data), encoding="utf-8")
        return parts[name]

    def finish(self) -> None:
        """Forget all, once it is reported."""
        self._file.unlink(missing_ok=True)
