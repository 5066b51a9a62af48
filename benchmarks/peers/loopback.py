"""No network but this machine's own, for a process that runs other people's code."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any, Final

REFUSED: Final = "refused to reach"
"""How a line on standard error begins; the name of the other machine is its last word."""


def stay_on_this_machine() -> None:
    """Refuse to look up or connect to any other machine, and say so on standard error."""
    socket.socket.connect = _local_only(socket.socket.connect)
    socket.socket.connect_ex = _local_only(socket.socket.connect_ex)
    look_up = socket.getaddrinfo

    def local_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_local(host):
            _say(host)
            raise socket.gaierror(socket.EAI_NONAME, f"only this machine, not {host}")
        return look_up(host, *arguments, **options)

    socket.getaddrinfo = local_look_up


def _local_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_locally(this: socket.socket, address: Any) -> Any:
        if this.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            _say(address[0])
            raise ConnectionRefusedError(f"only this machine, not {address[0]}")
        return connect(this, address)

    return connect_locally


def _is_local(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in (None, "", "localhost", "::1") or str(name).startswith("127.")


def _say(host: Any) -> None:
    print(f"{REFUSED} {host}", file=sys.stderr, flush=True)
