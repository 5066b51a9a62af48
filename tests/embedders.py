"""An embedder for tests of what is not about meaning: quick, and the same text, the same vector."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


@functools.lru_cache(maxsize=4096)
def _direction(word: str, dimensions: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=dimensions)


class HashEmbedder:
    """Words to random directions: texts that share words are similar."""

    space = "test-hash"
    dimensions = 384

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        total = np.zeros(self.dimensions)
        for word in text.lower().split():
            total += _direction(word, self.dimensions)
        norm = float(np.linalg.norm(total))
        return (total / norm if norm else total).tolist()


class SmallEmbedder(HashEmbedder):
    """The same in so few dimensions that Chroma's approximate index misses none of thousands.

    Random directions of many dimensions are as far from each other as can be, which no meaning
    is; of 1,200 such texts with most words in common the index misses up to a quarter.
    """

    space = "test-small"
    dimensions = 16
