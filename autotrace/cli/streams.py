"""Replace standard streams that the parent process has closed (`autotrace traces >&-`)."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Unread(io.RawIOBase):
    """Counts and discards written bytes."""

    written_bytes = 0

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: ReadableBuffer, /) -> int:
        length = memoryview(data).nbytes
        self.written_bytes += length
        return length


def open_standard_streams() -> Unread | None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise the next opened file, such as the database, gets the number of a standard stream, and
    output of libraries goes into it.

    Returns:
        The stream that counts discarded output; None if standard output is open.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free
    unread = None
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process
    if sys.stdout is None:
        unread = Unread()
        sys.stdout = _text(unread)
    if sys.stderr is None:
        sys.stderr = _text(Unread())
    return unread


def _text(sink: Unread) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(sink), encoding="utf-8", write_through=True)
