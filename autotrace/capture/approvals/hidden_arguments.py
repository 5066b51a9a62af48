"""Places of a call that are hidden from the approver.

The caller of a tool chooses the keys inside its arguments, and must not be able to hide a command
below a key named `token`. Hidden are: names that the developer declared with `redact`, parameters
whose own name is secret, texts in the format of a token, and below a secret key a text that looks
like a credential. Every hidden place is listed, and bound by a keyed digest.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from autotrace.base.canonical_json import canonical
from autotrace.capture.approvals import exact_types as exact
from autotrace.capture.approvals.faithful_json import TYPE
from autotrace.encoding.introspect import kind_of
from autotrace.encoding.redaction import Redactor
from autotrace.encoding.secret_tokens import credentials_in
from autotrace.encoding.secret_values import keep_texts

_HIDDEN: Final = "hidden"
_SCALARS: Final = (str, int, float, bool, bytes)
_CREDENTIAL: Final = re.compile(
    r"(?=[^0-9]{0,511}[0-9])(?=[^A-Za-z]{0,511}[A-Za-z])[A-Za-z0-9_~+=!#%^*-]{8,512}", re.ASCII
)
"""One word of letters and digits, not a path, host, address or command with a separator."""


class HiddenPlaces:
    """The hidden places of one call.

    Args:
        redactor: Knows secret names; its hook hides the values that it would change.
        declared: Names that the developer declared with `redact`.
        everything: Whether all arguments are hidden (`capture_arguments=False`).
        key: Returns the key of the digests.
        secrets: Collects the hidden texts, to be removed from errors.
    """

    def __init__(
        self,
        redactor: Redactor,
        declared: frozenset[str],
        *,
        everything: bool,
        key: Callable[[], bytes],
        secrets: list[str],
    ) -> None:
        self.paths: list[str] = []
        self._redactor = redactor
        self._declared = redactor.declared(declared)
        self._everything = everything
        self._key = key
        self._secrets = secrets

    def hides(self, path: str, key: str | None, value: Any) -> bool:
        """Return whether a whole value is hidden; an argument has its name as path and key."""
        if exact.is_secret(kind_of(value)):
            return True
        if key is not None and (self._everything or self._is_secret(path == key, key, value)):
            return True
        hooked = self._redactor.hooked(f"arguments.{path}", value)
        is_same = hooked is value or (
            kind_of(value) in _SCALARS and kind_of(hooked) is kind_of(value) and hooked == value
        )
        return not is_same

    def _is_secret(self, is_argument: bool, key: str, value: Any) -> bool:
        if key.lower() in self._declared:
            return True
        if not self._redactor.is_secret(key):
            return False
        return is_argument or (kind_of(value) is str and _CREDENTIAL.fullmatch(value) is not None)

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Return the parts of a text that have the format of a token."""
        return credentials_in(text) if self._redactor.enabled else ()

    def mark(self, path: str, json_value: Any, secret: Any) -> dict[str, Any]:
        """Record a hidden place; return its stand-in: a keyed digest of the real value."""
        if path not in self.paths:
            self.paths.append(path)
        keep_texts(self._secrets, secret)
        digest = hmac.new(self._key(), canonical(json_value), hashlib.sha256).hexdigest()
        return {TYPE: _HIDDEN, "hmac_sha256": digest}
