"""Choose the embedder: an object of the application, or an import path.

Environment variables, command lines and other processes use an import path. Its form is
`package.module:attribute`; the attribute is a value that `as_embedder` accepts, or a class or
function without arguments that makes one.
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
    """Hold an embedder and its origin.

    Two instances are equal if their space, `kind` and `spec` are.
    """

    embedder: Embedder = field(compare=False)
    space: str
    kind: type
    """Type of the configured object."""
    spec: str | None
    """Import path by which another process gets the same embedder; None for an object, which other
    processes cannot get."""


def embedding_of(obj: Any, spec: str | None = None) -> Embedding:
    """Make the embedding of a configured object.

    Args:
        obj: See `as_embedder`.
        spec: Import path of the object, if it has one.

    Raises:
        InvalidArgumentError: The object is not an embedder.
    """
    embedder = as_embedder(obj)
    kind: type[object] = type(cast("object", obj))
    return Embedding(embedder, embedder.space, kind, spec)


def import_embedding(spec: str, setting: str) -> Embedding:
    """Import the embedder that an import path names.

    Args:
        spec: `package.module:attribute`; the attribute may have dots.
        setting: Name of the setting that holds the path, for the error.

    Raises:
        InvalidArgumentError: The import failed, or the attribute is not an embedder.
    """
    try:
        return _import(spec)
    except Exception as error:  # a module of the application may raise any exception
        allowed = (
            "package.module:attribute of an embedder, in a module that this program can import "
            f"(install it, or put its folder on PYTHONPATH): {type(error).__name__}: {error}"
        )
        raise InvalidArgumentError(setting, spec, allowed) from error


@functools.cache
def _import(spec: str) -> Embedding:
    """Import an embedder once per process, because a factory may load a model."""
    module, _, path = spec.partition(":")
    if not (module and path):
        msg = "there is no module, or no attribute after a colon"
        raise ValueError(msg)
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return embedding_of(found() if _is_factory(found) else found, spec)


def _is_factory(found: Any) -> bool:
    """Return whether an object is a class, or a callable without arguments.

    A function that is itself an embedder needs an argument.
    """
    if inspect.isclass(found):
        return True
    if not callable(found) or hasattr(found, "embed"):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # an argument is required, or the signature is unknown
        return False
    return True
