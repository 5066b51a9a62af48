"""Run all-MiniLM-L6-v2 with onnxruntime and tokenizers.

The model uses one thread and small batches, because it runs in the background of the user's
program. `docs/explanation/embedding.md` has the figures behind the limits.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from autotrace.base.event_loops import is_refusal
from autotrace.base.json_text import well_formed
from autotrace.embedding.model_files import (
    DEFAULT_SPACE,
    Files,
    chroma_cache,
    chroma_download,
    files_in,
    offline_extra,
    unavailable,
)
from autotrace.embedding.vectors import RowCache, as_texts, import_whole, no_rows, normalised

if TYPE_CHECKING:
    from autotrace.embedding.vectors import FloatMatrix

DEFAULT_DIMENSIONS: Final = 384
_MAX_TOKENS: Final = 256
"""Input length on which the model was trained; Chroma truncates to the same length."""
_MAX_CHARACTERS: Final = 8_192
"""Limits the tokenizer to some 8 ms; 256 tokens of prose are about 1,200 characters."""
_PLAIN_WORD: Final = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_NOT_PLAIN: Final = re.compile(
    r"[a-zA-Z0-9]{101}|\[(?:CLS|SEP|PAD|MASK|UNK)\]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
"""Words too long for the tokenizer, special tokens of the model, and control characters."""
_BATCH_TEXTS: Final = 32
_BATCH_TOKENS: Final = 512
"""Padded tokens of one run. A larger batch is slower per text, and its memory is not released:
32 texts of 256 tokens would run at half the speed and leave the process 1.3 GB larger."""
_DOWNLOAD_RETRY_S: float = 60.0
"""Time before a failed download is retried, so that not every text waits for a timeout."""

_PROBE: Final = "This is an example sentence"
_PROBE_HEAD: Final = (
    *(0.0677, 0.0635, 0.0487, 0.0793, 0.0374, 0.0027),
    *(0.0394, -0.0071, 0.0594, 0.0315, 0.0601, -0.0529),
)
"""First values of the vector of `_PROBE` in this space. The cosine with it is 0.9995 for the int8
file, 0.95 for coarse quantisations, and about 0 for another model of 384 dimensions."""
_SAME_MODEL_COSINE: Final = 0.8
_SAME_ROW_COSINE: Final = 1 - 1e-5
_PROBE_COMPANION: Final = "A longer text in the same batch, so that the probe has padding. " * 2


_log = logging.getLogger(__name__)


class MiniLmEmbedder:
    """Embed texts with all-MiniLM-L6-v2, which is loaded at the first text.

    Thread-safe and fork-safe.

    Args:
        model_path: The only folder to load `model.onnx` and `tokenizer.json` from. None: Chroma's
            cache, the extra `offline`, Chroma's download, in this order.

    Raises:
        EmbedderUnavailableError: `model_path` lacks one of the two files.
    """

    def __init__(self, model_path: str | None = None) -> None:
        self.space: Final = DEFAULT_SPACE
        self.dimensions: Final = DEFAULT_DIMENSIONS
        self._model_path = model_path
        if model_path is not None:
            try:
                files_in(Path(model_path).expanduser())
            except FileNotFoundError as error:
                raise unavailable([(f"model_path={model_path!r}", error)], model_path) from error
        self._cache = RowCache()
        self._download_failure: tuple[float, str] | None = None
        self._start_unloaded()
        _fork_sensitive.add(self)

    def _start_unloaded(self) -> None:
        self._loading = threading.Lock()
        self._model: tuple[str, _MiniLm] | None = None

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """Return one L2-normalised float32 row per text, in order.

        A text is truncated to 256 tokens, and to 8,192 characters.

        Raises:
            EmbedderUnavailableError: No place has the weights; the error names each place tried.
        """
        import_whole("numpy")
        cut = [well_formed(text[:_MAX_CHARACTERS]) for text in as_texts(texts)]
        if not cut:
            return no_rows(self.dimensions)
        return self._cache.rows(cut, lambda missing: self._loaded()[1].encode(missing))

    def reads(self, text: str) -> str:
        """Return the beginning of a text that determines its vector.

        Raises:
            EmbedderUnavailableError: No place has the weights; the error names each place tried.
        """
        cut = well_formed(text[:_MAX_CHARACTERS])
        # An ASCII character makes at most one token; another one may make several.
        if cut.isascii() and len(cut) < _MAX_TOKENS - 1:
            return cut
        return self._loaded()[1].reads(cut)

    def tokens(self, text: str) -> str:
        """Return the words that the model reads of a text, separated by spaces.

        Texts with the same words have the same vector. A word that is not in the vocabulary becomes
        `[UNK]`.

        Raises:
            EmbedderUnavailableError: No place has the weights; the error names each place tried.
        """
        cut = well_formed(text[:_MAX_CHARACTERS])
        # The vocabulary has every printable ASCII character, both alone and as part of a word.
        if cut.isascii() and len(cut) < _MAX_TOKENS - 1 and not _NOT_PLAIN.search(cut):
            return " ".join(_PLAIN_WORD.findall(cut.lower()))
        return self._loaded()[1].words(cut)

    def load(self) -> str:
        """Load the model now instead of at the first text.

        Returns:
            The place of the weights, for display.

        Raises:
            EmbedderUnavailableError: No place has the weights; the error names each place tried.
        """
        return self._loaded()[0]

    def _loaded(self) -> tuple[str, _MiniLm]:
        model = self._model
        if model is None:
            with self._loading:
                # onnxruntime 1.29 and later sends telemetry unless this is set before its import.
                # A value set by the program is kept.
                os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
                import_whole("numpy", "onnxruntime", "tokenizers")
                model = self._model = self._model or self._load()
        return model

    def _load(self) -> tuple[str, _MiniLm]:
        path = self._model_path
        places: list[tuple[str, Callable[[], Files]]] = [
            ("Chroma's cache", lambda: files_in(chroma_cache())),
            ("the extra [offline]", offline_extra),
            ("Chroma's download", self._download),
        ]
        if path is not None:
            places = [(f"model_path={path!r}", lambda: files_in(Path(path).expanduser()))]
        tried: list[tuple[str, Exception]] = []
        for place, find in places:
            try:
                model = _MiniLm(find())
            except Exception as error:
                if is_refusal(error):  # the error is not about the place
                    raise
                tried.append((place, error))
                continue
            for skipped, error in tried:
                if not isinstance(error, FileNotFoundError):  # found, but unusable
                    _log.warning("weights from %s instead of %s: %s", place, skipped, error)
            return place, model
        raise unavailable(tried, path)

    def _download(self) -> Files:
        if self._download_failure is not None:
            failed_at, reason = self._download_failure
            if time.monotonic() - failed_at < _DOWNLOAD_RETRY_S:
                raise ConnectionError(f"failed less than {_DOWNLOAD_RETRY_S:g} s ago: {reason}")
        try:
            return chroma_download()
        except Exception as error:
            self._download_failure = (time.monotonic(), str(error))
            raise


class _MiniLm:
    """Compute rows from texts, without state between calls."""

    def __init__(self, files: Files) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.enable_truncation(max_length=_MAX_TOKENS)
        self._tokenizer.no_padding()
        runtime = cast("Any", onnxruntime)  # its types are incomplete
        options = runtime.SessionOptions()
        # One thread, so that the model leaves the other cores to the program.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(
            str(files.model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs: list[str] = [node.name for node in self._session.get_inputs()]
        # Some exports also return a pooled vector; the token states are the output with three axes.
        self._output: str = next(
            node.name for node in self._session.get_outputs() if len(node.shape) == 3
        )
        self._batch_texts = _BATCH_TEXTS
        self._check(files.model)

    def _check(self, model: Path) -> None:
        import numpy as np

        alone = self.encode([_PROBE])[0]
        if alone.shape != (DEFAULT_DIMENSIONS,):
            raise ValueError(f"{model} gives {len(alone)} dimensions, not {DEFAULT_DIMENSIONS}")
        head = normalised(np.array([_PROBE_HEAD, alone[: len(_PROBE_HEAD)]], dtype=np.float64))
        if float(head[0] @ head[1]) < _SAME_MODEL_COSINE:
            raise ValueError(f"{model} is another model than {DEFAULT_SPACE}")
        # If activations are quantised at run time, their scale depends on the whole batch, so that
        # other texts change a vector (0.04 of cosine, measured). Such a model runs texts singly.
        together = self.encode([_PROBE, _PROBE_COMPANION])[0]
        if float(alone @ together) < _SAME_ROW_COSINE:
            self._batch_texts = 1

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        import numpy as np

        # Not encode_batch: it starts threads, and warns on stderr if the program forks.
        tokens: list[list[int]] = [self._tokenizer.encode(text).ids for text in texts]
        found: dict[int, Any] = {}
        for batch in _batches([len(ids) for ids in tokens], self._batch_texts):
            found.update(zip(batch, self._run([tokens[i] for i in batch]), strict=True))
        return np.stack([found[i] for i in range(len(texts))])

    def reads(self, text: str) -> str:
        return text[: max(end for _, end in self._tokenizer.encode(text).offsets)]

    def words(self, text: str) -> str:
        words: list[str] = []
        for token in self._tokenizer.encode(text).tokens[1:-1]:  # without [CLS] and [SEP]
            if token.startswith("##") and len(token) > 2 and words:
                words[-1] += token[2:]
            else:
                words.append(token)
        return " ".join(words)

    def _run(self, tokens: list[list[int]]) -> FloatMatrix:
        import numpy as np

        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, known in enumerate(tokens):
            ids[row, : len(known)] = known
            mask[row, : len(known)] = 1
        feeds = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        (states,) = self._session.run([self._output], {name: feeds[name] for name in self._inputs})
        # The sum in place of the mean over the tokens: normalisation cancels the divisor.
        return normalised(np.einsum("btd,bt->bd", states, mask, dtype=np.float64))


def _batches(lengths: list[int], max_texts: int) -> Iterator[list[int]]:
    """Yield the indexes in batches of similar length, to reduce padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == max_texts or (len(batch) + 1) * lengths[index] > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


_fork_sensitive: weakref.WeakSet[MiniLmEmbedder] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Another thread of the parent may have been loading, or inside onnxruntime: its locks would
    # stay held in the child. The child loads its own model at its next text.
    for embedder in _fork_sensitive:
        embedder._start_unloaded()  # pyright: ignore[reportPrivateUsage] - same module


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
