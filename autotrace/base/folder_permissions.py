"""Who can write to the folders of a store (pure but for looking at them)."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER: Final = stat.S_IXGRP | stat.S_IXOTH


def why_not_trusted(path: Path) -> str | None:
    """Return why a folder must not be used, with the command that mends it; None if it may.

    A user who can write to a store can forge approvals, and Chroma unpickles files in it. So a
    folder, or a symbolic link to it, must belong to this user or root, and no other user may write
    to it or to its reachable contents.
    """
    if not hasattr(os, "geteuid"):
        return None  # Windows: modes have no meaning there, and a new folder has its parent's ACL
    try:
        for each in _places(path):
            found = _look(each)
            if found is None:
                continue
            if found.st_uid not in (os.geteuid(), 0):
                return _of_another_user(path, each, found.st_uid)
            if found.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(found.st_mode):
                return _writable(path, each, found.st_mode)
    except OSError as error:
        return f"a folder that can be read ({error.strerror})"
    return None


def _places(path: Path) -> Iterator[Path]:
    yield path  # a symbolic link
    folder = path.resolve()
    yield folder
    found = _look(folder)
    if found is not None and found.st_mode & _OTHERS_ENTER:
        # Two levels: the databases of traces, decisions and keys, the spools, the tenants.
        yield from _inside(folder, 2)


def _look(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:  # not made yet, or another process has removed it
        return None


def _inside(folder: Path, levels: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        yield Path(entry.path)
        if levels > 1 and entry.is_dir(follow_symlinks=False):
            # Nothing is read from a folder that this user may not list, such as `lost+found`.
            with contextlib.suppress(PermissionError):
                yield from _inside(Path(entry.path), levels - 1)


def _writable(path: Path, each: Path, mode: int) -> str:
    what = f"{each} has the mode {stat.S_IMODE(mode):04o}, so that others can write to it"
    return (
        f"a folder that nobody else can write to ({what}); "
        f"if nobody has, mend it with `chmod -R go-w {shlex.quote(str(path))}`, "
        "or name a folder that does not exist yet"
    )


def _of_another_user(path: Path, each: Path, owner: int) -> str:
    return (
        f"a folder of this user or root ({each} belongs to the user {owner}, "
        f"this process runs as {os.geteuid()}); run as that user, or name another folder, or, if "
        f"you trust what is in it, take it over with "
        f"`chown -hR {os.geteuid()} {shlex.quote(str(path))}`"
    )
