"""Redaction: secret names, secrets in text, and the user's hook."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, cast

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.encoding.secret_names import KeyRule
from autotrace.encoding.secret_patterns import mask, scrub_basic, scrub_pairs
from autotrace.encoding.secret_tokens import may_hold_secret, scrub_formats, scrub_keys
from autotrace.semconv import REDACTED

_NO_NAMES: frozenset[str] = frozenset()
_SENDER_FIELDS: Final = frozenset(("name", "message", "attributes", "events"))
"""Fields of a span record whose text comes from its sender."""
_MAX_RULES = 256
"""Sets of per-call names that are kept; a tool has one set for its whole life."""


class Redactor:
    """The rules of redaction, and the counters of their use.

    Args:
        enabled: Whether the built-in rules hold: names that are secrets, and secrets in text.
            Names and values given explicitly, and the hook, hold in either case.
        extra_keys: More names whose values are redacted: exact, in any case.
        allow_keys: Names that the built-in rule wrongly takes for secrets: exact, in any
            case. `extra_keys` and per-call names win over these.
        hook: Called as `hook(path, value)` for every value that is recorded, containers before
            their items, with a path such as `arguments.user.names[0]`; what it returns is
            recorded. It is not called for a value that is redacted by its key. If it raises, the
            value is recorded as redacted.
        count: Called with `redacted` for every redaction and `hook_errors` for every call of the
            hook that raised; also, by the encoder, with `truncated` for every cut and
            `unencodable` for every value whose own code raised. It must not raise.
    """

    __slots__ = ("_count", "_rule", "_rules", "enabled", "hook")

    def __init__(
        self,
        *,
        enabled: bool = True,
        extra_keys: Iterable[str] = (),
        allow_keys: Iterable[str] = (),
        hook: Callable[[str, Any], Any] | None = None,
        count: Callable[[str], None] | None = None,
    ) -> None:
        self.enabled = enabled
        self.hook = hook
        self._count = count
        self._rule = KeyRule(
            builtin=enabled,
            secret=frozenset(key.lower() for key in extra_keys),
            allowed=frozenset(key.lower() for key in allow_keys),
        )
        self._rules: dict[frozenset[str], KeyRule] = {}

    def is_secret(self, key: str) -> bool:
        """Return whether the value of this key, field, attribute or argument is a secret."""
        return self._rule.is_secret(key)

    def declared(self, names: frozenset[str] = _NO_NAMES) -> frozenset[str]:
        """Return the names declared as secrets, those of one tool included, in lower case."""
        return self._rule.explicit | {name.lower() for name in names}

    def rule(self, names: frozenset[str] = _NO_NAMES) -> KeyRule:
        """Return the rule with per-call names added: exact, in any case."""
        if not names:
            return self._rule
        rule = self._rules.get(names)
        if rule is None:
            if len(self._rules) >= _MAX_RULES:
                self._rules.clear()
            self._rules[names] = rule = self._rule.with_names(names)
        return rule

    def text(self, text: str, secrets: Collection[str] = ()) -> str:
        """Replace secrets in free text, in time linear in its length.

        `secrets` are redacted wherever they occur; those under 4 characters stay.
        """
        total = 0
        if secrets:
            text, total = mask(text, secrets)
        if self.enabled:
            text, count = scrub_keys(text)
            total += count
        text, count = scrub_pairs(text, self._rule.decide)
        total += count
        if self.enabled:
            text, count = scrub_formats(text)
            total += count
            text, count = scrub_basic(text)
            total += count
        self.counted("redacted", total)
        return text

    def formats(self, text: str) -> str:
        """Replace tokens of known formats: the cheap part of `text`, for values."""
        text, count = scrub_formats(text)
        self.counted("redacted", count)
        return text

    def of_span(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of the record of another library's span, without known formats."""
        if not self.enabled:
            return record
        return {
            key: self._in_json(value) if key in _SENDER_FIELDS else value
            for key, value in record.items()
        }

    def _in_json(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.formats(value) if may_hold_secret(value) else value
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return {key: self._in_json(item) for key, item in items}
        if isinstance(value, list | tuple):
            shown: list[Any] = []
            before: Any = None
            for item in cast("list[Any]", value):
                is_secret = self._rule.is_option_value(item, before)
                self.counted("redacted", is_secret)
                shown.append(REDACTED if is_secret else self._in_json(item))
                before = item
            return shown
        return value

    def hooked(self, path: str, value: Any) -> Any:
        """Return the result of the user's hook for a value: `[REDACTED]` if it raised.

        `path` is the place of the value, such as `arguments.user.names[0]`.
        """
        if self.hook is None:
            return value
        try:
            return self.hook(path, value)
        except Exception as error:  # noqa: BLE001 user code: after any error the value must not be recorded
            reraise_if_from_signal_handler(error)
            self.counted("hook_errors", 1)
            self.counted("redacted", 1)
            return REDACTED

    def counted(self, name: str, times: int) -> None:
        """Add to the counter of that name, if there are counters."""
        if self._count is not None:
            for _ in range(times):
                self._count(name)
