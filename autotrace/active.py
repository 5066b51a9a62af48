"""The decisions in use: set by `autotrace.configure()`, looked up by each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from autotrace.errors import NotConfiguredError

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions


class ActiveDecisions:
    """The slot of this process."""

    open: Callable[[], Decisions] | None = None
    """Function that opens the decisions at first use; None before `autotrace.configure()`."""


current: Final = ActiveDecisions()


def decisions_or_raise(operation: str) -> Decisions:
    """Return the decisions in use.

    Raises:
        NotConfiguredError: `autotrace.configure()` was not called; the error names the operation.
    """
    if current.open is None:
        raise NotConfiguredError(operation)
    return current.open()
