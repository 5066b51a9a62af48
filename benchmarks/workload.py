"""Made-up agents' work: tasks, and vectors for their texts that were computed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from autotrace import semconv
from autotrace.embedding.embedder import default_embedder
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import trace_id_of

Vectors = npt.NDArray[np.float32]

EMBEDDER = "benchmarks.workload:LookupEmbedder"
"""Its import path, by which the process that stores gets it too."""
VARIED_EMBEDDER = "benchmarks.workload:VariedEmbedder"
DIMENSIONS = default_embedder().dimensions

_START_NS = 1_700_000_000_000_000_000
_SECOND_NS = 1_000_000_000
_VERBS = ("Find", "Compare", "Book", "Summarise", "Cancel", "Translate", "Plan", "Check")
_THINGS = (
    *("Italian restaurants", "direct flights", "quiet hotels", "unpaid invoices"),
    *("support tickets", "failed builds", "travel insurance", "conference talks"),
    *("rental cars", "contract clauses", "sales figures", "patient letters"),
    *("test results", "bus connections", "wedding photographers", "open positions"),
)
_PLACES = (
    *("near the venue", "in Lisbon", "for next Monday", "under 200 euros", "of last quarter"),
    *("for a family of five", "with the best reviews", "before the deadline"),
)


def task_texts(number: int, *, prefix: str = "") -> list[str]:
    """Return so many different task texts."""
    texts: list[str] = []
    for index in range(number):
        rest, verb = divmod(index, len(_VERBS))
        rest, thing = divmod(rest, len(_THINGS))
        rest, place = divmod(rest, len(_PLACES))
        again = f", request {rest}" if rest else ""
        texts.append(f"{prefix}{_VERBS[verb]} {_THINGS[thing]} {_PLACES[place]}{again}")
    return texts


def clustered_vectors(number: int, centres: Vectors, *, seed: int = 0) -> Vectors:
    """Return so many random unit vectors around the centres, as the vectors of texts are.

    Real task texts lie in clusters. Around its centre a vector is spread so that its cosine to the
    centre is about 0.8.
    """
    random = np.random.default_rng(seed)
    chosen = centres[random.integers(0, len(centres), number)]
    spread = 0.75 / np.sqrt(centres.shape[1])
    vectors = chosen + spread * random.standard_normal(chosen.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_vectors(number: int, *, seed: int = 0) -> Vectors:
    """Return so many random unit vectors, clustered around a few random centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((64, DIMENSIONS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return clustered_vectors(number, centres.astype(np.float32), seed=seed + 1)


class LookupEmbedder:
    """Gives vectors that were computed beforehand, so that what is measured is not the model.

    Args:
        vectors: Vector by text; any other text has the same constant one.
    """

    space = default_embedder().space
    dimensions = DIMENSIONS

    def __init__(self, vectors: dict[str, Any] | None = None) -> None:
        self._vectors = vectors or {}
        self._constant = random_vectors(1)[0]

    def know(self, vectors: dict[str, Any]) -> None:
        """Have these vectors in place of the ones before."""
        self._vectors = vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Look the vectors up."""
        return np.stack([self._vectors.get(text, self._constant) for text in texts])


class VariedEmbedder:
    """Gives each text a vector of its own, in clusters, at next to no cost."""

    space = default_embedder().space
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self._centres = random_vectors(64)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Make vectors up."""
        vectors = [clustered_vectors(1, self._centres, seed=crc32(text.encode())) for text in texts]
        return np.concatenate(vectors)


def stored_spans(number: int, text: str, first_ns: int = _START_NS) -> tuple[str, list[SpanRecord]]:
    """Return the id and the three span records of a small trace: a task that called two tools.

    Args:
        number: Of the trace; they start a second apart, and every tenth has failed.
        text: Its task.
        first_ns: When the first one started.
    """
    trace, span = f"{number + 1:032x}", f"{number + 1:016x}"
    start_ns = first_ns + number * _SECOND_NS
    task: SpanRecord = {
        "trace": trace,
        "id": span,
        "parent": None,
        "name": "invoke_agent planner",
        "start_ns": start_ns,
        "end_ns": start_ns + _SECOND_NS // 2,
        "attributes": {
            semconv.GEN_AI_OPERATION_NAME: semconv.INVOKE_AGENT,
            semconv.KIND: semconv.KIND_TASK,
            semconv.TASK: text,
            semconv.GEN_AI_AGENT_NAME: "planner",
            semconv.GEN_AI_CONVERSATION_ID: f"session-{number % 500}",
            semconv.OUTCOME: "The best two are listed",
            semconv.SUCCESS: number % 10 != 0,
        },
    }
    calls: list[SpanRecord] = [
        {
            "trace": trace,
            "id": f"{(number + 1) * 2 + call:08x}cccccccc",
            "parent": span,
            "name": "execute_tool web_search",
            "start_ns": start_ns + call * 1_000_000,
            "end_ns": start_ns + call * 1_000_000 + 500_000,
            "attributes": {
                semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
                semconv.GEN_AI_TOOL_NAME: "web_search",
                semconv.GEN_AI_TOOL_CALL_ARGUMENTS: '{"query":"quiet hotels","limit":5}',
                semconv.GEN_AI_TOOL_CALL_RESULT: '{"count":2}',
            },
        }
        for call in range(2)
    ]
    return trace_id_of(task), [task, *calls]
