"""Run the other process of chroma_process.py, which opens Chroma."""

from __future__ import annotations

import contextlib
import os
import pickle
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from autotrace.store.chroma_embedded import open_client
from autotrace.store.chroma_process import HOLD


def main(pipe: Connection) -> None:
    """Run the received calls until the socket is closed.

    Args:
        pipe: Connection to the process that started this one.
    """
    database = _Database()
    lock = -1
    with contextlib.suppress(EOFError, OSError):  # the caller is gone, or has closed the socket
        while True:
            method, collection, args, kwargs = pipe.recv()
            if method == HOLD:
                before, lock = lock, reduction.recv_handle(pipe)
                if before >= 0:
                    os.close(before)
                continue
            target = database.collections[collection] if collection else database
            try:
                answer = True, getattr(target, method)(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - sent to the caller
                answer = False, _portable(error)
            pipe.send(answer)


class _Database:
    """Wrap the client of Chroma, and return only values that can be pickled."""

    def __init__(self) -> None:
        self.collections: dict[str, Any] = {}
        self._client: Any = None

    def open(self, path: str) -> None:
        self._client = open_client(path)

    def get_or_create_collection(self, name: str, **options: Any) -> None:
        self.collections[name] = self._client.get_or_create_collection(name, **options)

    def list_collections(self) -> list[str]:
        return [collection.name for collection in self._client.list_collections()]

    def delete_collection(self, name: str) -> None:
        self._client.delete_collection(name)

    def get_max_batch_size(self) -> int:
        return self._client.get_max_batch_size()

    def close(self) -> None:
        self._client.close()


def _portable(error: Exception) -> Exception:
    """Return an error, or an InternalError in its place if it does not pickle."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    except Exception:  # noqa: BLE001 - the class of the error may raise any other
        from chromadb.errors import InternalError

        return InternalError(repr(error))
    return error
