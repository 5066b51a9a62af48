"""Run Chroma in another process for a forked one, where it would hang.

A forked process (fork_safety.py) starts another one by exec, which opens Chroma and runs the calls
it receives (chroma_process_main.py). Calls, results and errors are pickled over a private pair of
sockets. The caller keeps the rules of chroma_embedded.py. The other process holds the lock file as
well, so that a caller that dies does not release it during a write. It ends when the socket closes.
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
"""Forks, so that a program that waits for its children does not receive this one."""
_BOOT_TIMEOUT_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 240.0
"""Far longer than one call takes, even on a busy machine; later, the process counts as hung."""
HOLD: Final = "hold"
"""Sent in place of a method; the descriptor of the lock file follows."""

_clients: weakref.WeakSet[RemoteClient] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)


class RemoteClient:
    """Call the client of Chroma in another process.

    It has the methods that the store uses. Any thread may call them.

    Args:
        path: Folder of the database.
        lock: Descriptor of the store's lock file, which must be held.

    Raises:
        StoreUnavailableError: The other process cannot be started.
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
            start_new_session=True,  # so that Ctrl-C in a terminal does not reach it
            timeout=_BOOT_TIMEOUT_S,
            check=True,
        )

    def hold(self, lock: int) -> None:
        """Pass the held lock to the other process, in case this one dies.

        Raises:
            Exception: Chroma's InternalError if that process is gone.
        """
        with self._speaking():
            self._pipe.send((HOLD, "", (), {}))
            reduction.send_handle(self._pipe, lock, os.getpid())

    def call(self, collection: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of a collection, or of the client if its name is empty.

        Raises:
            Exception: The error of the method; Chroma's InternalError if that process is gone.
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
        """Open or make a collection."""
        self.call("", "get_or_create_collection", name, **options)
        return RemoteCollection(self, name)

    def list_collections(self) -> list[RemoteCollection]:
        """Return all collections."""
        return [RemoteCollection(self, name) for name in self.call("", "list_collections")]

    def delete_collection(self, name: str) -> None:
        """Delete a collection and its records."""
        self.call("", "delete_collection", name)

    def get_max_batch_size(self) -> int:
        """Return the number of records that Chroma accepts in one call."""
        return self.call("", "get_max_batch_size")

    def close(self) -> None:
        """Close Chroma, and end the other process."""
        from chromadb.errors import InternalError

        with contextlib.suppress(InternalError):  # it is gone already
            self.call("", "close")
        self._pipe.close()

    def abandon(self) -> None:
        """Close the pipe in a forked child.

        The other process belongs to the parent, and detects its end by the end of the pipe.
        """
        self._lock = threading.Lock()
        self._pipe.close()


class RemoteCollection:
    """Call the methods of `schema.Collection` through a `RemoteClient`.

    Args:
        client: The client.
        name: Name of the collection.
    """

    def __init__(self, client: RemoteClient, name: str) -> None:
        self._client = client
        self.name = name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *args, **kwargs: self._client.call(self.name, method, *args, **kwargs)
