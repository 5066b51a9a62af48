"""Runs `phoenix serve` on loopback only, for as long as whoever started it lives.

Executed by the Python of Phoenix's own virtual environment, with the arguments of `phoenix`.
Phoenix itself is unchanged; two things are added from outside because it has no setting for them:

* its gRPC port would listen on every interface;
* a parent killed with SIGKILL could not stop it: the end of standard input does.
"""

import os
import signal
import sys
import threading
from typing import Any

import grpc.aio
from phoenix.server.main import main  # pyright: ignore - not in the project's environment

ALL_INTERFACES = "[::]:"
LOOPBACK = "127.0.0.1:"

make_server: Any = grpc.aio.server


def make_loopback_server(*args: Any, **kwargs: Any) -> Any:
    server = make_server(*args, **kwargs)
    bind = server.add_insecure_port

    def bind_to_loopback(address: str) -> Any:
        if not address.startswith(ALL_INTERFACES):
            raise RuntimeError(f"expected an address on {ALL_INTERFACES} to narrow, got {address}")
        return bind(LOOPBACK + address.removeprefix(ALL_INTERFACES))

    server.add_insecure_port = bind_to_loopback
    return server


def stop_when_standard_input_ends() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    grpc.aio.server = make_loopback_server
    threading.Thread(target=stop_when_standard_input_ends, daemon=True).start()
    sys.argv[0] = "phoenix"
    main()
