"""The request that an approver gets, with its limits."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from autotrace.errors import InvalidArgumentError

_PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class ApprovalRequest:
    """Request for approval of a decision or a tool call.

    Args:
        title: Short title.
        message: Longer text.
        expires_in_seconds: Time until the request expires; None: the request never expires.
        require_rationale: Whether the answer must give a reason.
        approvals_needed: Number of different approvers who must agree.
        route: Name of the approval route to notify; None: the default route.
        approver_keys: Public keys. Only votes signed with one of them count. None: the keys of the
            setting `approver_keys`; without that setting, every vote counts.
        arguments: Arguments of the call, as the approver sees them.
        hidden: Paths of the arguments that the approver does not see.
        arguments_sha256: Hash of the arguments that the approval is valid for.

    Raises:
        InvalidArgumentError: A value is not allowed.
    """

    title: str | None = None
    message: str | None = None
    expires_in_seconds: float | None = None
    require_rationale: bool = False
    approvals_needed: int = 1
    route: str | None = None
    approver_keys: Sequence[str] | None = None
    arguments: Any = None
    hidden: tuple[str, ...] = ()
    arguments_sha256: str | None = None

    def __post_init__(self) -> None:
        seconds: Any = self.expires_in_seconds
        if seconds is not None and (not _is_number(seconds) or not 0 < seconds < 1e9):
            raise InvalidArgumentError("expires_in_seconds", seconds, "a number above 0")
        needed: Any = self.approvals_needed
        if not isinstance(needed, int) or not _is_number(needed) or not 1 <= needed <= 100:
            raise InvalidArgumentError("approvals_needed", needed, "a whole number from 1 to 100")
        if self.approver_keys is not None:
            object.__setattr__(self, "approver_keys", _public_keys(self.approver_keys))


def _public_keys(keys: Any) -> tuple[str, ...]:
    """Return the distinct keys in canonical base64, sorted.

    Raises:
        InvalidArgumentError: A key is not a public key, or the list is empty.
    """
    allowed = "a list of one or more public keys, as `autotrace approver init` prints them"
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidArgumentError("approver_keys", keys, allowed)
    spelled: dict[str, None] = {}
    for key in cast("Iterable[Any]", keys):
        try:
            raw = base64.b64decode(key, validate=True)
        except (TypeError, ValueError):  # binascii.Error is a ValueError
            raw = b""
        if len(raw) != _PUBLIC_KEY_BYTES:
            raise InvalidArgumentError("approver_keys", key, allowed)
        spelled[base64.b64encode(raw).decode("ascii")] = None
    if not spelled:
        raise InvalidArgumentError("approver_keys", [], allowed)
    return tuple(sorted(spelled))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
