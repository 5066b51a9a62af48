"""Any Python value to bounded, redacted, always valid JSON; any text and exception likewise.

This runs on the caller's thread, twice for every call of a tool, and must neither raise nor take
long. `docs/guides/record.md` lists the JSON of each type, and the limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.encoding.exception_text import message_of, stack_of
from autotrace.encoding.fast_path import plain
from autotrace.encoding.introspect import type_name
from autotrace.encoding.redaction import Redactor
from autotrace.encoding.reduce import SLACK_CHARS, Walk
from autotrace.encoding.secret_tokens import may_hold_secret
from autotrace.encoding.secret_values import keep_text
from autotrace.encoding.truncate import FLOOR_BYTES, Digests, Fit, encoded

_NO_NAMES: Final[frozenset[str]] = frozenset()
_MAX_DEPTH: Final = 64
"""The walk takes up to five frames a level, and the caller's stack may be deep already."""
_FAILED: Final = '"<this value could not be recorded>"'


class Encoder:
    """Encode values, texts and exceptions for the record; count through the redactor.

    Args:
        redactor: The rules of redaction.
        max_value_bytes: The most that one value or text takes, in bytes of UTF-8; at least 256.
        max_depth: How many containers inside each other are followed; 1 to 64.
        max_items: How many items of one container are kept; at least 1.
        injected: Class names, bare or with their module, of objects that frameworks hand to tools,
            in addition to the known ones: their instances are recorded by the name of their type.

    Raises:
        ValueError: A limit is out of its range.
    """

    __slots__ = (
        "_count", "_hooks", "_max_depth", "_max_items", "_rule", "_scans",
        "injected", "max_value_bytes", "redactor",
    )  # fmt: skip

    def __init__(
        self,
        redactor: Redactor,
        *,
        max_value_bytes: int = 262_144,
        max_depth: int = 32,
        max_items: int = 10_000,
        injected: Iterable[str] = (),
    ) -> None:
        if max_value_bytes < FLOOR_BYTES:
            raise ValueError(f"max_value_bytes={max_value_bytes}: at least {FLOOR_BYTES}")
        if not 1 <= max_depth <= _MAX_DEPTH:
            raise ValueError(f"max_depth={max_depth}: 1 to {_MAX_DEPTH}")
        if max_items < 1:
            raise ValueError(f"max_items={max_items}: at least 1")
        self.redactor = redactor
        self.injected = frozenset(injected)
        self.max_value_bytes = max_value_bytes
        self._max_depth = max_depth
        self._max_items = max_items
        self._count = redactor.counted
        self._rule = redactor.rule()
        self._hooks = redactor.hook is not None
        self._scans = redactor.enabled

    def json(
        self,
        value: Any,
        *,
        secret_keys: frozenset[str] = _NO_NAMES,
        found: list[str] | None = None,
        path: str = "value",
    ) -> str:
        """Encode a value as it is now, in at most `max_value_bytes`. Never raises an `Exception`.

        Iterators are not consumed, and properties not run.

        Args:
            value: Any object.
            secret_keys: More names whose values are redacted, at any depth and in any case.
            found: Collects the texts of redacted values, to be taken out of error text.
            path: Name of the value in the paths that the hook gets.
        """
        try:
            rule = self.redactor.rule(secret_keys) if secret_keys else self._rule
            if not self._hooks:
                try:
                    tree, texts, hidden = plain(
                        value, rule, self.max_value_bytes, self._max_depth, self._max_items
                    )
                    text = texts[0] if len(texts) == 1 else "\n".join(texts)
                    if not self._scans or not may_hold_secret(text):
                        raw = orjson.dumps(tree)
                        if len(raw) <= self.max_value_bytes:
                            if hidden:
                                self._hidden(hidden, found)
                            return raw.decode()
                except Exception as error:  # noqa: BLE001 not plain: the walk decides
                    reraise_if_from_signal_handler(error)
            walk = Walk(
                self.redactor,
                rule,
                max_value_bytes=self.max_value_bytes,
                max_depth=self._max_depth,
                max_items=self._max_items,
                found=found,
                injected=self.injected,
            )
            fit = Fit(self.max_value_bytes)
            text = fit.render(walk.reduce(value, path)).decode()
            self._count("redacted", walk.redacted)
            self._count("unencodable", walk.unencodable)
            self._count("truncated", fit.cuts + walk.cut_keys)
            return text
        except Exception as error:  # noqa: BLE001 recording must never break the caller
            reraise_if_from_signal_handler(error)
            self._count("unencodable", 1)
            return _FAILED

    def text(self, value: Any, *, path: str = "text") -> str:
        """Encode a thought, task or outcome as text without secrets. Never raises an `Exception`.

        A value that is not a `str` becomes its JSON. Text beyond `max_value_bytes` is cut, and ends
        in a note with its full length and SHA-256. `path` is the name of the text for the hook.
        """
        try:
            if not issubclass(type(value), str):
                return self.json(value, path=path)
            shown = self.redactor.hooked(path, value)
            if shown is not value and not issubclass(type(shown), str):
                return self.json(shown, path=path)
            return self._prose(str.__str__(shown))
        except Exception as error:  # noqa: BLE001 recording must never break the caller
            reraise_if_from_signal_handler(error)
            self._count("unencodable", 1)
            return _FAILED[1:-1]

    def error(self, exc: BaseException, found: Sequence[str] = ()) -> tuple[str, str, str]:
        """Return class name, message and stack trace of an exception, without secrets and `found`.

        Never raises an `Exception`. Names of builtins are bare.
        """
        name = "Exception"
        try:
            name = type_name(type(exc))
            message, readable = message_of(exc)
            if not readable:
                self._count("unencodable", 1)
            shown = self._failure_text("error.message", message, found)
            return name, shown, self._failure_text("error.stacktrace", stack_of(exc), found)
        except Exception as error:  # noqa: BLE001 recording must never break the caller
            reraise_if_from_signal_handler(error)
            self._count("unencodable", 1)
            return name, _FAILED[1:-1], ""

    def _hidden(self, hidden: list[str], found: list[str] | None) -> None:
        self._count("redacted", len(hidden))
        if found is not None:
            for secret in hidden:
                keep_text(found, secret)

    def _failure_text(self, path: str, text: str, found: Sequence[str]) -> str:
        shown = self.redactor.hooked(path, text)
        if type(shown) is not str:
            return self.json(shown, path=path)
        return self._prose(shown, found)

    def _prose(self, text: str, found: Sequence[str] = ()) -> str:
        limit = self.max_value_bytes
        slack = max(SLACK_CHARS, max(map(len, found), default=0)) if len(text) > limit else 0
        shown = self.redactor.text(text[: limit + slack] if slack else text, found)
        if slack:
            shown = shown[:-slack]
        if not shown.isascii():
            shown = encoded(shown).decode()
        if len(text) <= limit and (len(shown) * 4 <= limit or len(shown.encode()) <= limit):
            return shown
        self._count("truncated", 1)
        _, sha256 = Digests().of(text, len(text))
        digest = "" if sha256 is None else f", sha256 {sha256}"
        note = f"… [cut by autotrace: {len(text)} characters in full{digest}]"
        return _head_bytes(shown, limit - len(note.encode())) + note


def _head_bytes(text: str, size_bytes: int) -> str:
    return text[:size_bytes].encode()[:size_bytes].decode("utf-8", "ignore")
