"""Folders of recorded data: readable by their owner alone, ignored by git."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STORE_FOLDER_NAME: Final = ".autotrace"


def private_directory(path: Path) -> None:
    """Make a directory, and each missing one above it, open to its owner alone.

    A new `.autotrace` folder has a `.gitignore` of all its files: traces hold texts of users.
    """
    if path.is_dir():
        return
    if path.parent != path:
        private_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.name == STORE_FOLDER_NAME:
        (path / ".gitignore").write_text("*\n", encoding="ascii")
