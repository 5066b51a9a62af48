"""Which embedder is used: an object of the application, or what an import path names.

An import path is what a variable, a command line and another process can name. It is written
`package.module:attribute`, and the attribute is anything that `as_embedder` takes, or a class or
function that makes one and needs no argument.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from autotrace.embedding.embedder import as_embedder
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.embedding.embedder import Embedder


@dataclass(frozen=True)
class Embedding:
    """An embedder, and where it is from. Two are equal that make the same vectors."""

    embedder: Embedder = field(compare=False)
    space: str
    kind: type
    """Type of what the application gave."""
    spec: str | None
    """The import path by which another process gets the same one; None when an object was given,
    which no other process can get."""


def embedding_of(obj: Any, spec: str | None = None) -> Embedding:
    """Make the embedding of what the application configured.

    Args:
        obj: See `as_embedder`.
        spec: Its import path, if it was named by one.

    Raises:
        InvalidArgumentError: It is no embedder.
    """
    embedder = as_embedder(obj)
    kind: type[object] = type(cast("object", obj))
    return Embedding(embedder, embedder.space, kind, spec)


def import_embedding(spec: str, setting: str) -> Embedding:
    """Import the embedder that an import path names.

    Args:
        spec: `package.module:attribute`; the attribute may have dots.
        setting: What named it, for the error.

    Raises:
        InvalidArgumentError: It cannot be imported, or is no embedder; names the setting.
    """
    try:
        return _import(spec)
    except Exception as error:  # whatever the application's module raises
        allowed = (
            "package.module:attribute of an embedder, in a module that this program can import "
            f"(install it, or put its folder on PYTHONPATH): {type(error).__name__}: {error}"
        )
        raise InvalidArgumentError(setting, spec, allowed) from error


@functools.cache
def _import(spec: str) -> Embedding:
    """Import once in a process: what makes an embedder may load a model."""
    module, _, path = spec.partition(":")
    if not (module and path):
        msg = "there is no module, or no attribute after a colon"
        raise ValueError(msg)
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return embedding_of(found() if _is_factory(found) else found, spec)


def _is_factory(found: Any) -> bool:
    """Tell whether something makes an embedder: a function that is one needs an argument."""
    if inspect.isclass(found):
        return True
    if not callable(found) or hasattr(found, "embed"):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # it needs an argument; it does not say what it takes
        return False
    return True
