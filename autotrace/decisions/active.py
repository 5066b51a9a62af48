"""The decisions in use: set by `autotrace.configure()`, looked up by each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from autotrace.errors import NotConfiguredError

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions


class _Current:
    open: Callable[[], Decisions] | None = None
    """Function that opens them at first use."""


current: Final = _Current()


def deciding_or_raise(what: str) -> Decisions:
    """Return the decisions in use.

    Raises:
        NotConfiguredError: `autotrace.configure()` was not called; the error names the call.
    """
    if current.open is None:
        raise NotConfiguredError(what)
    return current.open()
