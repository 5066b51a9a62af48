"""Many cases in one test: what fails names its case."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def case(*names: object) -> Iterator[None]:
    """Add the names of a case to what is raised in it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"In the case: {', '.join(map(str, names))}")
        raise
