"""Make an embedder: the default one, or one that the application supplies."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from autotrace.base.json_text import well_formed
from autotrace.embedding.minilm import MiniLmEmbedder
from autotrace.embedding.model_files import DEFAULT_SPACE
from autotrace.embedding.vectors import RowCache, as_texts, import_whole, no_rows, normalised
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.embedding.vectors import FloatMatrix

_FUNCTION_BATCH_TEXTS: Final = 256
"""Hosted models limit the texts of one request; their usual limits are well above this."""

_CHROMA_SAME_SPACE: Final = frozenset({"default", "onnx_mini_lm_l6_v2"})
_CHROMA_MODEL_KEYS: Final = ("model_name", "model")
_CHROMA_SPACE_KEYS: Final = (
    *("checkpoint", "deployment_id", "instruction", "task", "task_type", "input_type"),
    *("dimensions", "dimension"),
)
"""Configuration that changes the vectors of the same model."""


class Embedder(Protocol):
    """Turn texts into vectors of one named space."""

    @property
    def space(self) -> str:
        """Name of the vector space; vectors of other spaces do not compare."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatMatrix | list[list[float]]:
        """Return one L2-normalised vector per text, in order."""
        ...


def default_embedder(model_path: str | None = None) -> MiniLmEmbedder:
    """Return the embedder of the space `all-MiniLM-L6-v2`, 384 dimensions.

    It does not load the model or use the network before its first text.

    Args:
        model_path: Folder with the only `model.onnx` and `tokenizer.json` to use.

    Raises:
        EmbedderUnavailableError: `model_path` lacks one of the two files.
    """
    return MiniLmEmbedder(model_path)


def as_embedder(obj: Any) -> Embedder:
    """Make an embedder from a configured object.

    Args:
        obj: None for the default; an `Embedder`, which is returned unchanged; a Chroma embedding
            function; or a callable from a list of texts to one vector per text, whose space is its
            attribute `space`, else its qualified name.

    Raises:
        InvalidArgumentError: The object is none of these.
    """
    if obj is None:
        return default_embedder()
    if not inspect.isclass(obj):
        space = getattr(obj, "space", None)
        named = isinstance(space, str) and bool(space)
        # getattr_static: `dimensions` may be a property that embeds a text to find out.
        if (
            named
            and callable(getattr(obj, "embed", None))
            and inspect.getattr_static(obj, "dimensions", None) is not None
        ):
            return cast("Embedder", obj)
        if callable(obj) and not _is_async(obj):
            return FunctionEmbedder(obj, cast("str", space) if named else _space_of(obj))
    raise InvalidArgumentError(
        "embedder",
        cast("object", obj),
        "None, an Embedder (space, dimensions, embed), a Chroma embedding function, or a plain "
        "callable from a list of texts to a list of vectors; an instance, not a class",
    )


class FunctionEmbedder:
    """Embed texts by a function that returns one vector per text.

    Args:
        function: Called with a list of at most 256 texts.
        space: Name of the space of its vectors.
    """

    def __init__(self, function: Callable[[list[str]], Any], space: str) -> None:
        self.space: Final = space
        self._function = function
        self._dimensions: int | None = None
        self._cache = RowCache()

    @property
    def dimensions(self) -> int:
        """Length of every vector; embeds a short text if it is unknown."""
        if self._dimensions is None:
            self.embed(["dimensions"])
        return cast("int", self._dimensions)

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """Return one L2-normalised float32 row per text, in order.

        Raises:
            InvalidArgumentError: The function did not return one finite vector of constant length
                per text. Exceptions of the function itself are not caught.
        """
        import_whole("numpy")
        clean = [well_formed(text) for text in as_texts(texts)]
        return self._cache.rows(clean, self._compute) if clean else no_rows(self.dimensions)

    def _compute(self, texts: list[str]) -> FloatMatrix:
        import numpy as np

        batches = range(0, len(texts), _FUNCTION_BATCH_TEXTS)
        return np.concatenate([self._call(texts[i : i + _FUNCTION_BATCH_TEXTS]) for i in batches])

    def _call(self, texts: list[str]) -> FloatMatrix:
        import numpy as np

        answer = self._function(texts)
        try:
            rows = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self._refused(f"numbers in rows of one length ({error})") from error
        if rows.ndim != 2 or len(rows) != len(texts) or not rows.shape[1]:
            raise self._refused(f"one vector per text, not shape {rows.shape} for {len(texts)}")
        if not np.isfinite(rows).all():
            raise self._refused("finite numbers")
        if self._dimensions is None:
            self._dimensions = rows.shape[1]
        elif rows.shape[1] != self._dimensions:
            raise self._refused(f"{self._dimensions} dimensions as before, not {rows.shape[1]}")
        return normalised(rows)

    def _refused(self, expected: str) -> InvalidArgumentError:
        return InvalidArgumentError("embedder", self.space, f"a function that gives {expected}")


def _space_of(function: Callable[..., Any]) -> str:
    name, config = _answer_of(function, "name"), _answer_of(function, "get_config")
    if not isinstance(name, str) or not isinstance(config, dict):
        while isinstance(function, functools.partial):
            function = function.func
        named = function if hasattr(function, "__qualname__") else type(function)
        return f"{named.__module__}.{named.__qualname__}"
    if name in _CHROMA_SAME_SPACE:
        return DEFAULT_SPACE
    settings = cast("dict[str, object]", config)
    models = [settings[key] for key in _CHROMA_MODEL_KEYS if settings.get(key)][:1]
    details = [settings.get(key) for key in _CHROMA_SPACE_KEYS]
    return ":".join(
        ["chroma", name, *map(str, models), *(str(d) for d in details if isinstance(d, str | int))]
    )


def _is_async(function: Callable[..., Any]) -> bool:
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def _answer_of(function: object, method: str) -> object:
    ask = getattr(function, method, None)
    if not callable(ask):
        return None
    with warnings.catch_warnings():
        # An embedding function older than Chroma's names warns, and returns NotImplemented.
        warnings.simplefilter("ignore", DeprecationWarning)
        return ask()
