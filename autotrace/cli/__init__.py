"""The command line: `autotrace`. Adapters over the library; no rule lives here."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

if TYPE_CHECKING:
    from autotrace.cli.streams import Unread

__all__ = ["main"]

BROKEN_PIPE_CODE = 1
"""What typer and rich end with, too, when whoever reads the output has left."""

_LASTING: Final = (["serve"], ["mcp"])


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    unread: Unread | None = None
    try:
        # Not at the top of the module: Ctrl-C while anything is imported ends the command in order.
        from autotrace.cli.streams import open_standard_streams

        unread = open_standard_streams()
        code = _run()
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except OSError:
        code = code or BROKEN_PIPE_CODE
    if unread is not None and unread.written_bytes and sys.argv[1:2] not in _LASTING:
        # As `ls >&-` does. A service goes on without its output.
        sys.stderr.write("error: standard output is closed\n")
        code = code or BROKEN_PIPE_CODE
    try:
        sys.stderr.flush()
    except OSError:
        pass  # nobody is left to tell
    # A thread may still be inside Chroma or onnxruntime, and the interpreter's way to end would
    # wait for it, or pull the floor from under it. What it has not stored is safe in the spool.
    os._exit(code)


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        # Recorded text may be in any script; a terminal that lacks it must not stop the answer.
        cast("Any", stream).reconfigure(errors="backslashreplace")
    from autotrace.cli.commands import app

    try:
        app(prog_name="autotrace")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
