"""Chroma in a process of its own, for a program that must not use it itself.

A process that Chroma would hang in (fork_safety.py) starts another one, by exec, that opens Chroma
and does what it is told (chroma_process_main.py). The two speak over a pair of sockets that nobody
else has: a call is pickled, and so is what it returns or raises.

What keeps several processes apart (chroma_embedded.py) stays with the caller, with one exception: a
caller that dies would let go of the lock with a write under way. So the other process holds the
lock file as well, and lets go when the write is done. It ends when the socket is closed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from typing import Any, Final

from autotrace.errors import StoreUnavailableError

_BOOT: Final = """
import os, sys
if os.fork():
    os._exit(0)
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from autotrace.store.chroma_process_main import main
main(pipe)
"""
"""Forks, so that a program that waits for its children never meets this one."""
_BOOT_TIMEOUT_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 240.0
"""Far longer than one call takes, of a machine however busy: it hangs, or is stopped."""
HOLD: Final = "hold"
"""Instead of a method: the descriptor of the lock file follows."""

_clients: weakref.WeakSet[RemoteClient] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)


class RemoteClient:
    """What the store uses of Chroma's client, done by another process. Any thread may use it.

    Args:
        path: The database.
        lock: Descriptor of the store's lock file, which must be held.

    Raises:
        StoreUnavailableError: No process can be started.
    """

    def __init__(self, path: str, lock: int) -> None:
        self._lock = threading.Lock()
        self._pipe, its_end = Pipe()
        _clients.add(self)
        try:
            self._start(its_end)
            self._pipe.send(sys.path)
        except (OSError, subprocess.SubprocessError) as error:
            self._pipe.close()
            msg = (
                "this process was forked from one that had opened Chroma, so that Chroma would "
                f"hang in it, and no process can be started that opens it instead ({error!r}): "
                "fork before anything is read or recalled, start processes by spawn or "
                "forkserver, or use a Chroma server"
            )
            raise StoreUnavailableError(msg) from error
        finally:
            its_end.close()
        try:
            self.hold(lock)
            self.call("", "open", path)
        except BaseException:
            self._pipe.close()
            raise

    def _start(self, its_end: Connection) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            msg = "this program is no Python that could be started again"
            raise OSError(msg)
        subprocess.run(  # noqa: S603 - the command is constant
            [sys.executable, "-I", "-W", "ignore", "-c", _BOOT, str(its_end.fileno())],
            pass_fds=[its_end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
            timeout=_BOOT_TIMEOUT_S,
            check=True,
        )

    def hold(self, lock: int) -> None:
        """Have the other process hold the lock that is held now, in case this one dies.

        Raises:
            Exception: Chroma's InternalError if that process is gone.
        """
        with self._speaking():
            self._pipe.send((HOLD, "", (), {}))
            reduction.send_handle(self._pipe, lock, os.getpid())

    def call(self, collection: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the collection with a name, or, with none, of the client.

        Raises:
            Exception: Whatever it raises there; Chroma's InternalError if that process is gone.
        """
        with self._speaking():
            self._pipe.send((method, collection, args, kwargs))
            if not self._pipe.poll(_ANSWER_TIMEOUT_S):
                self._pipe.close()
                raise EOFError
            succeeded, answer = self._pipe.recv()
        if not succeeded:
            raise answer
        return answer

    @contextlib.contextmanager
    def _speaking(self) -> Generator[None]:
        try:
            with self._lock:
                yield
        except (OSError, EOFError) as error:
            from chromadb.errors import InternalError

            msg = "the process that had opened Chroma is gone, or hangs"
            raise InternalError(msg) from error

    def get_or_create_collection(self, name: str, **options: Any) -> RemoteCollection:
        """Open a collection, or make it."""
        self.call("", "get_or_create_collection", name, **options)
        return RemoteCollection(self, name)

    def list_collections(self) -> list[RemoteCollection]:
        """Return all there are."""
        return [RemoteCollection(self, name) for name in self.call("", "list_collections")]

    def delete_collection(self, name: str) -> None:
        """Delete a collection with all that is in it."""
        self.call("", "delete_collection", name)

    def get_max_batch_size(self) -> int:
        """Return how many records Chroma takes in one call."""
        return self.call("", "get_max_batch_size")

    def close(self) -> None:
        """Have Chroma closed, and the process end."""
        from chromadb.errors import InternalError

        with contextlib.suppress(InternalError):  # it is gone already
            self.call("", "close")
        self._pipe.close()

    def abandon(self) -> None:
        """In a forked child: leave the process to the parent, whose end it must be able to see."""
        self._lock = threading.Lock()
        self._pipe.close()


class RemoteCollection:
    """A collection of a `RemoteClient`: the methods of schema.Collection.

    Args:
        client: Who it is of.
        name: Its name.
    """

    def __init__(self, client: RemoteClient, name: str) -> None:
        self._client = client
        self.name = name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *args, **kwargs: self._client.call(self.name, method, *args, **kwargs)
