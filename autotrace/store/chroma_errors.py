"""Classify the errors that Chroma raises."""

from __future__ import annotations


class StaleIndexError(Exception):
    """Signal that a client must be reopened to answer a query."""


def is_content_error(error: BaseException) -> bool:
    """Return whether Chroma refused the content, so that a retry fails, too."""
    code = getattr(error, "code", None)
    return callable(code) and code() in (400, 409, 413, 422)


def is_failure_of_chroma(error: BaseException) -> bool:
    """Return whether Chroma failed for a reason other than the content.

    Examples are a full disk and a damaged file.
    """
    from chromadb.errors import ChromaError

    return isinstance(error, ChromaError) and not is_content_error(error)
