"""What callers give: checked, with errors that name the field, and made fit to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from autotrace.decisions.event_store import EventContext
from autotrace.errors import InvalidArgumentError

_MAX_NAME_CHARS: Final = 256


class ArgumentValidator:
    """Checks texts and objects, and returns what may be kept of them.

    Args:
        recording: Redacts and bounds.
    """

    def __init__(self, recording: EventContext) -> None:
        self._recording = recording

    def text(self, field: str, value: Any, *, may_be_empty: bool = False) -> str:
        """Return a text.

        Raises:
            InvalidArgumentError: It is none, or empty.
        """
        if not isinstance(value, str) or not (value.strip() or may_be_empty):
            raise InvalidArgumentError(field, value, "a text that is not empty")
        return self._recording.text(value, field)

    def texts(self, field: str, values: Any) -> list[str]:
        """Return a list of texts.

        Raises:
            InvalidArgumentError: It is none, or holds what is no text.
        """
        return [self.text(field, value) for value in _items(field, values, "a list of texts")]

    def object(self, field: str, value: Any) -> dict[str, Any]:
        """Return an object.

        Raises:
            InvalidArgumentError: It is none.
        """
        if not isinstance(value, Mapping):
            raise InvalidArgumentError(field, value, "an object (a dict)")
        return self._recording.value(dict(cast("Mapping[str, Any]", value)), field)

    def alternatives(self, values: Any) -> list[dict[str, Any]]:
        """Return what was considered and not chosen.

        Raises:
            InvalidArgumentError: An item is no object with `option`.
        """
        field, allowed = "alternatives_considered", "objects with option and rejected_because"
        kept: list[dict[str, Any]] = []
        for value in _items(field, values, f"a list of {allowed}"):
            item = self.object(field, value)
            if not isinstance(item.get("option"), str):
                raise InvalidArgumentError(field, item, allowed)
            kept.append(
                {
                    "option": item["option"],
                    "rejected_because": str(item.get("rejected_because") or ""),
                }
            )
        return kept


def name(field: str, value: Any) -> str:
    """Return a name, without the space around it.

    Raises:
        InvalidArgumentError: It is none, or empty, or too long.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NAME_CHARS:
        allowed = f"a text of 1 to {_MAX_NAME_CHARS} characters"
        raise InvalidArgumentError(field, value, allowed)
    return value.strip().encode("utf-8", "backslashreplace").decode()


def optional_name(field: str, value: Any) -> str | None:
    """Return a name, or None for None.

    Raises:
        InvalidArgumentError: It is empty, or too long.
    """
    return None if value is None else name(field, value)


def _items(field: str, values: Any, allowed: str) -> list[Any]:
    if isinstance(values, str | bytes | Mapping):
        raise InvalidArgumentError(field, cast("Any", values), allowed)
    try:
        return list(values)
    except TypeError:
        raise InvalidArgumentError(field, values, allowed) from None
