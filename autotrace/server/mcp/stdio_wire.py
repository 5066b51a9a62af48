"""Take standard input and output for a protocol alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_STDERR: Final = 2
_READ_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Wire:
    """The descriptors of the connection to the host.

    Args:
        incoming: Descriptor that the host writes to.
        outgoing: Descriptor that it reads from.
        host_pid: Process that has started this one.
    """

    incoming: int
    outgoing: int
    host_pid: int

    def lines(self) -> Iterator[bytes]:
        """Yield each line of the input, without its end."""
        parts: list[bytes] = []
        while data := os.read(self.incoming, _READ_BYTES):
            first, *others = data.split(b"\n")
            parts.append(first)
            for line in others:
                yield b"".join(parts)
                parts = [line]
        yield b"".join(parts)

    def write(self, line: bytes) -> None:
        """Write one line."""
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(self.outgoing, rest) :]


def take_wire() -> Wire:
    """Take standard input and output for the protocol alone.

    From now on, this process and its children print to standard error, and find standard input at
    its end. To be called before any code of the user is imported.

    Raises:
        OSError: Standard input or output is closed.
    """
    for descriptor in (0, 1):
        os.fstat(descriptor)
    # Standard error may be closed: then it, and not the wire, gets the number 2.
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(nothing, 0)
    os.dup2(_STDERR, 1)
    os.close(nothing)
    return Wire(incoming, outgoing, os.getppid())
