"""Whose fault a failure of Chroma is."""

from __future__ import annotations


class StaleIndexError(Exception):
    """What is open of the store must be opened anew to answer a question."""


def is_content_error(error: BaseException) -> bool:
    """Tell whether Chroma refused what was sent, so that sending it again is of no use."""
    code = getattr(error, "code", None)
    return callable(code) and code() in (400, 409, 413, 422)


def is_failure_of_chroma(error: BaseException) -> bool:
    """Tell whether Chroma failed by itself, whatever it was given: a full disk, a damaged file."""
    from chromadb.errors import ChromaError

    return isinstance(error, ChromaError) and not is_content_error(error)
