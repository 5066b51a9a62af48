"""The command line `autotrace`: adapters over the library, without rules of their own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

if TYPE_CHECKING:
    from autotrace.cli.streams import Unread

__all__ = ["main"]

BROKEN_PIPE_CODE = 1
"""Exit code after the reader of the output has closed it, also of typer and rich."""

_LASTING: Final = (["serve"], ["mcp"])


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    unread: Unread | None = None
    try:
        # Imported here, so that Ctrl-C during imports still exits with 130.
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
        # As `ls >&-` does. A service continues without its output.
        sys.stderr.write("error: standard output is closed\n")
        code = code or BROKEN_PIPE_CODE
    try:
        sys.stderr.flush()
    except OSError:
        pass  # standard error is closed as well
    # A thread may still run inside Chroma or onnxruntime: a regular exit would wait for it or crash
    # it. Spans that it has not stored are safe in the spool.
    os._exit(code)


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        # The terminal may not be able to encode recorded text.
        cast("Any", stream).reconfigure(errors="backslashreplace")
    from autotrace.cli.commands import app

    try:
        app(prog_name="autotrace")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
