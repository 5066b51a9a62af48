"""The JSON and the hash of a call's arguments, to which its approval is bound.

One function makes the JSON that an approver is shown. The hash is the SHA-256 of that JSON and the
identity of the tool (RFC 8785). docs/guides/approve.md gives the formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotrace.base.canonical_json import sha256_of
from autotrace.capture.approvals.exact_types import NonFiniteError, UnshowableError
from autotrace.capture.approvals.faithful_json import MAX_INPUT_CHARS, Speller
from autotrace.encoding.introspect import kind_of, type_name
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.capture.approvals.hidden_arguments import HiddenPlaces


@dataclass(frozen=True)
class ShownCall:
    """A call as an approver sees it.

    Args:
        arguments: The arguments as JSON, by parameter name.
        hidden: Paths of hidden places, sorted.
        sha256: Hash to which the approval is bound.
    """

    arguments: dict[str, Any]
    hidden: tuple[str, ...]
    sha256: str


def show_call(
    tool: Mapping[str, Any], arguments: Mapping[str, Any], hiding: HiddenPlaces | None = None
) -> ShownCall:
    """Return the JSON of a call, and its hash.

    Args:
        tool: Identity of the tool, as JSON: see `Gate.identity`.
        arguments: The arguments by parameter name.
        hiding: Hides places from the approver; None shows all.

    Raises:
        InvalidArgumentError: An argument cannot be shown whole.
    """
    shown = _each(arguments, Speller(hiding=hiding))
    hidden = () if hiding is None else tuple(sorted(hiding.paths))
    return ShownCall(shown, hidden, sha256_of({"tool": dict(tool), "arguments": shown}))


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as JSON for a policy: real content, without the names of types.

    Raises:
        InvalidArgumentError: An argument cannot be shown whole, or has a number that is not finite.
    """
    return _each(arguments, Speller(tagged=False, finite=True, max_chars=MAX_INPUT_CHARS))


def are_finite(arguments: Mapping[str, Any]) -> bool:
    """Return whether arguments hold no NaN or infinity, for which comparisons are false.

    Raises:
        InvalidArgumentError: Another thread changes an argument while it is read.
    """
    speller = Speller(finite=True, lenient=True, once=True, max_chars=None)
    try:
        _each(arguments, speller, passed=(NonFiniteError,))
    except NonFiniteError:
        return False
    return True


def is_showable(value: Any) -> bool:
    """Return whether an approver or a policy can get a value whole, now or later."""
    # A policy accepts some values that an approver cannot be shown, such as those of a local class.
    return _is_spelled(value, tagged=True) or _is_spelled(value, tagged=False)


def _is_spelled(value: Any, *, tagged: bool) -> bool:
    try:
        Speller(tagged=tagged, once=True, max_chars=None).spell(value)
    except UnshowableError:
        return False
    except RuntimeError:  # a dict or set that another thread changes meanwhile
        return True
    return True


def _each(
    arguments: Mapping[str, Any], speller: Speller, passed: tuple[type[Exception], ...] = ()
) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in arguments.items():
        try:
            shown[name] = speller.place(value, name, name)
        except passed:
            raise
        except NonFiniteError as error:
            raise InvalidArgumentError(
                name, _kind(value), f"made of finite numbers: {error}"
            ) from None
        except UnshowableError as error:
            allowed = f"a value that an approver can be shown whole: {error}"
            raise InvalidArgumentError(name, _kind(value), allowed) from None
        except RuntimeError as error:  # a dict or set that another thread changes meanwhile
            allowed = f"left alone while it is read: {error}"
            raise InvalidArgumentError(name, _kind(value), allowed) from None
    return shown


def _kind(value: Any) -> str:
    return f"<{type_name(kind_of(value))}>"
