"""Validate the arguments of decisions, with errors that name the field, and redact them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.capture.approvals.decision_spans import DecisionRecording

_MAX_NAME_CHARS: Final = 256


class ArgumentValidator:
    """Validates and redacts arguments; each method raises InvalidArgumentError.

    Args:
        recording: Redacts and bounds values.
    """

    def __init__(self, recording: DecisionRecording) -> None:
        self._recording = recording

    def text(self, field: str, value: Any, *, may_be_empty: bool = False) -> str:
        """Return a redacted text."""
        if not isinstance(value, str) or not (value.strip() or may_be_empty):
            raise InvalidArgumentError(field, value, "a text that is not empty")
        return self._recording.text(value, field)

    def texts(self, field: str, values: Any) -> list[str]:
        """Return a list of redacted texts."""
        return [self.text(field, value) for value in _items(field, values, "a list of texts")]

    def object(self, field: str, value: Any) -> dict[str, Any]:
        """Return a redacted JSON object."""
        if not isinstance(value, Mapping):
            raise InvalidArgumentError(field, value, "an object (a dict)")
        return self._recording.value(dict(cast("Mapping[str, Any]", value)), field)

    def alternatives(self, values: Any) -> list[dict[str, Any]]:
        """Return redacted alternatives, each with `option` and `rejected_because`."""
        field, allowed = "alternatives_considered", "objects with option and rejected_because"
        kept: list[dict[str, Any]] = []
        for value in _items(field, values, f"a list of {allowed}"):
            item = self.object(field, value)
            if not isinstance(item.get("option"), str):
                raise InvalidArgumentError(field, item, allowed)
            rejected_because = str(item.get("rejected_because") or "")
            kept.append({"option": item["option"], "rejected_because": rejected_because})
        return kept


def name(field: str, value: Any) -> str:
    """Return a name without surrounding space; raise InvalidArgumentError unless it is one."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NAME_CHARS:
        allowed = f"a text of 1 to {_MAX_NAME_CHARS} characters"
        raise InvalidArgumentError(field, value, allowed)
    return value.strip().encode("utf-8", "backslashreplace").decode()


def optional_name(field: str, value: Any) -> str | None:
    """Return a name, or None for None; raise InvalidArgumentError for other values."""
    return None if value is None else name(field, value)


def _items(field: str, values: Any, allowed: str) -> list[Any]:
    if isinstance(values, str | bytes | Mapping):
        raise InvalidArgumentError(field, cast("Any", values), allowed)
    try:
        return list(values)
    except TypeError:
        raise InvalidArgumentError(field, values, allowed) from None
