"""Check texts, cache rows and normalise vectors for every embedder."""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatMatrix: TypeAlias = npt.NDArray[np.float32]
    """One row per text, each of length 1 (or 0, where the embedder gave only zeros)."""


class RowCache:
    """Cache the rows of recent texts, because agents repeat task texts.

    The key is a digest, so that the cache does not keep texts of the user. It has no lock, which a
    fork could find held: each dict operation is atomic, and a lost race costs a second computation.
    """

    def __init__(self, limit: int = 1_024) -> None:
        self._limit = limit
        self._rows: OrderedDict[bytes, Any] = OrderedDict()

    def rows(self, texts: list[str], compute: Callable[[list[str]], FloatMatrix]) -> FloatMatrix:
        """Return a row per text; call `compute` once for those not cached."""
        import numpy as np

        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        found = {key: row for key in keys if (row := self._remembered(key)) is not None}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            for key, row in zip(missing, compute(list(missing.values())), strict=True):
                # A copy: a view would keep the rows of its whole batch alive.
                found[key] = self._rows[key] = row.copy()
        while len(self._rows) > self._limit:
            self._rows.popitem(last=False)
        return np.stack([found[key] for key in keys])

    def _remembered(self, key: bytes) -> Any:
        row = self._rows.get(key)
        if row is not None:
            try:
                self._rows.move_to_end(key)
            except KeyError:  # another thread has evicted it; the row is still valid
                pass
        return row


def as_texts(texts: Sequence[str]) -> Sequence[str]:
    """Raise InvalidArgumentError for a str, which is a sequence of str too."""
    if isinstance(texts, str):
        raise InvalidArgumentError("texts", texts[:80], "a list of texts, not one text")
    return texts


def no_rows(dimensions: int) -> FloatMatrix:
    """Return the rows of an empty list of texts."""
    import numpy as np

    return np.zeros((0, dimensions), dtype=np.float32)


def normalised(rows: npt.NDArray[np.float64]) -> FloatMatrix:
    """Scale each row to length 1; a row of zeros stays as it is."""
    import numpy as np

    # Divide by the largest component first: squares of extreme values would be 0 or inf.
    peak = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(peak == 0, 1, peak)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length == 0, 1, length)).astype(np.float32)


_importing = threading.RLock()


def import_whole(*names: str) -> None:
    """Import packages; a fork in another thread waits for the end."""
    # A child forked while another thread imports a package could never import it. So a fork waits
    # for the import, once for some 0.3 s.
    with _importing:
        for name in names:
            importlib.import_module(name)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_importing.acquire,
        after_in_parent=_importing.release,
        after_in_child=_importing.release,
    )
