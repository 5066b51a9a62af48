"""Scripts: what callers do with a function, and what they see of it.

Each drives one subject and returns everything that a caller can tell: values, exceptions and when
they came, and what the current span was in the caller's own code in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import get_current_span

from tests.capture.subjects import STOP, WAIT, Pause, closed

Subject = Callable[..., Any]


class Seen(list[Any]):
    """What a caller has seen, in order."""

    def see(self, value: Any) -> None:
        self.append(("value", value))
        self.look_around()

    def look_around(self) -> None:
        """Note the span that is current in the caller's code."""
        self.append(("current", get_current_span().get_span_context().span_id))

    @contextlib.contextmanager
    def catching(self, expected: BaseException | None = None) -> Iterator[None]:
        """Note what is raised, and whether it is the very object that was sent in."""
        try:
            yield
        except BaseException as error:
            same = None if expected is None else error is expected
            cause = error.__cause__
            self.append(("raised", type(error), error.args, same, type(cause), error.__context__))
        self.look_around()

    def end(self) -> list[Any]:
        self.append(("closed", list(closed)))
        return list(self)


@dataclass(frozen=True)
class Outcome:
    """What is recorded of a script."""

    calls: int = 1
    status: str = "success"
    error_type: str | None = None
    exhausted: bool = True
    result: Any = None
    recorded_result: bool = True


VALUE: Final = [1, 2, [], 3, {}]
ARGUMENTS: Final = {"a": 1, "b": 2, "c": 3}


def returns(subject: Subject) -> list[Any]:
    seen = Seen()
    seen.see(subject(1))
    return seen.end()
