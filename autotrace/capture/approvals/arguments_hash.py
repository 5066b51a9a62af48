"""The JSON and the hash of a call's arguments: an approval means these and no others.

One function makes the JSON that an approver is shown, and the hash is the SHA-256 of exactly that
JSON (RFC 8785) with what identifies the tool. docs/guides/approve.md gives the formula.
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
        hidden: Paths of what is hidden in them, sorted.
        sha256: What the approval is bound to.
    """

    arguments: dict[str, Any]
    hidden: tuple[str, ...]
    sha256: str


def show_call(
    tool: Mapping[str, Any], arguments: Mapping[str, Any], hiding: HiddenPlaces | None = None
) -> ShownCall:
    """Return the JSON of a call, and its hash.

    Args:
        tool: What identifies the tool, as JSON: see `Gate.identity`.
        arguments: The arguments by parameter name.
        hiding: What is hidden from the approver; None: nothing.

    Raises:
        InvalidArgumentError: An argument cannot be shown whole; names it.
    """
    shown = _each(arguments, Speller(hiding=hiding))
    hidden = () if hiding is None else tuple(sorted(hiding.paths))
    return ShownCall(shown, hidden, sha256_of({"tool": dict(tool), "arguments": shown}))


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as JSON for a policy: real content, without the names of types.

    Raises:
        InvalidArgumentError: An argument cannot be shown whole, or holds a number that is not
            finite; names it.
    """
    return _each(arguments, Speller(tagged=False, finite=True, max_chars=MAX_INPUT_CHARS))


def are_finite(arguments: Mapping[str, Any]) -> bool:
    """Return whether arguments hold no NaN or infinity, which no limit can be tested against.

    Raises:
        InvalidArgumentError: Another thread changes an argument while it is read; names it.
    """
    speller = Speller(finite=True, lenient=True, once=True, max_chars=None)
    try:
        _each(arguments, speller, passed=(NonFiniteError,))
    except NonFiniteError:
        return False
    return True


def is_showable(value: Any) -> bool:
    """Return whether an approver or a policy can be given a value whole.

    What may be once other threads leave it alone counts, too.
    """
    # A policy is given some values that an approver is not: those of a local class, for example.
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
