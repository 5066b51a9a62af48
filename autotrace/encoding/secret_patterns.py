"""Redact secrets in prose, in time linear in the length of the text.

Exact occurrences of known values, `key=value` pairs whose key names a secret, and HTTP basic
authentication; `secret_tokens.py` has the tokens of known formats. Every quantifier below is
possessive or bounded, and every scan that fails is charged to text that is not scanned again.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import orjson

from autotrace.encoding.secret_tokens import without
from autotrace.semconv import REDACTED

MIN_SECRET_CHARS: Final = 4
"""Shorter values are left in text: they would take ordinary words apart."""

_BASIC: Final = re.compile(
    r"(\bbasic[ \t]{1,8}+)([A-Za-z0-9+/_-]{6,1024}+={0,2}+)", re.IGNORECASE | re.ASCII
)


def scrub_basic(text: str) -> tuple[str, int]:
    """Redact user and password of HTTP basic authentication; return the text and their number."""
    if "basic" not in text.lower():
        return text, 0
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not _is_user_and_password(match[2]):
            return match[0]
        count += 1
        return match[1] + REDACTED

    return _BASIC.sub(replace, text), count


def _is_user_and_password(token: str) -> bool:
    """Return whether a word after `basic` is credentials: it decodes to `user:password`."""
    padded = token.rstrip("=") + "=" * (-len(token.rstrip("=")) % 4)
    try:
        return b":" in base64.b64decode(padded, altchars=b"-_" if "-" in token else None)
    except (binascii.Error, ValueError):
        return False


def mask(text: str, secrets: Iterable[str]) -> tuple[str, int]:
    """Redact known values, as they are or escaped as in a repr or JSON; return their number too.

    Occurrences are marked first and replaced in one pass, so that overlapping values are covered,
    and a replacement is never taken for a value.
    """
    marked: bytearray | None = None
    for form in {form for secret in secrets for form in _forms(secret)}:
        at = text.find(form)
        while at >= 0:
            if marked is None:
                marked = bytearray(len(text))
            marked[at : at + len(form)] = b"\x01" * len(form)
            at = text.find(form, at + len(form))
    if marked is None:
        return text, 0
    kept: list[str] = []
    end = 0
    stretches = list(re.finditer(rb"\x01++", marked))
    for stretch in stretches:
        kept += text[end : stretch.start()], REDACTED
        end = stretch.end()
    kept.append(text[end:])
    return "".join(kept), len(stretches)


def _forms(secret: str) -> set[str]:
    if len(secret) < MIN_SECRET_CHARS or secret == REDACTED:
        return set()
    forms = {secret, repr(secret)[1:-1]}
    if secret.isascii():
        forms.add(orjson.dumps(secret)[1:-1].decode())
    return forms


# --- pairs

_PAIR: Final = re.compile(
    r"(?<![\w.-])"
    r"(?P<key>[\w.-]++(?:[ ](?:key|keys|token|string|number|secret|code|phrase|security)(?!\w))?+)"
    r"(?:\\{0,3}+[\"'`])?+[ \t]{0,8}+(?:=>|:=|==?|:(?!:))[ \t]{0,8}+",
    re.ASCII,
)
_QUOTE: Final = re.compile(r"[bBrRuUfF]{0,2}+(?P<mark>\\{0,3}+[\"'`])")
_CLOSED: Final = {
    '"': re.compile(r'(?:[^"\\\r\n]|\\.)*+(?=")'),
    "'": re.compile(r"(?:[^'\\\r\n]|\\.)*+(?=')"),
    "`": re.compile(r"(?:[^`\\\r\n]|\\.)*+(?=`)"),
}
_BARE: Final = re.compile(
    r"(?:(?:bearer|basic|digest|token|negotiate|apikey)[ \t]{1,8}+)?+[^\s,;&\"'`()\[\]{}<>]*+",
    re.IGNORECASE,
)
_BRACKET: Final = re.compile(r"[()\[\]{}\r\n]")
_LINE_BREAK: Final = re.compile(r"[\r\n]")
_HEADERS: Final = ("authorization", "cookie")
_HARMLESS: Final = frozenset(("", "None", "null", "True", "true", "False", "false", REDACTED))


def scrub_pairs(text: str, is_secret: Callable[[str], bool]) -> tuple[str, int]:
    """Redact values of `key=value`, `key: value` and `'key': 'value'` in prose.

    Return the text and the number of values. `is_secret` decides by the key.
    """
    if ":" not in text and "=" not in text:
        return text, 0
    return without(text, _secret_values(text, is_secret))


def _secret_values(text: str, is_secret: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    end = 0
    for match in _PAIR.finditer(text):
        if match.start() < end or not is_secret(match["key"]):
            continue
        start, stop = _value_span(text, match)
        if text[start:stop] not in _HARMLESS:
            end = stop
            yield start, stop


def _value_span(text: str, pair: re.Match[str]) -> tuple[int, int]:
    """Return the span of the value behind a key, inside its quotes."""
    at = pair.end()
    quote = _QUOTE.match(text, at)
    if quote is not None:
        return quote.end(), _quoted_end(text, quote)
    if pair["key"].lower().endswith(_HEADERS):
        return at, _header_end(text, pair.start(), at)
    bare = _BARE.match(text, at)
    stop = at if bare is None else bare.end()
    if text[stop : stop + 1] in {"(", "[", "{"}:  # Token('…'), {'user': …}
        return at, _balanced_end(text, stop)
    return at, stop


def _line_end(text: str, at: int, stop: int | None = None) -> int:
    """Return where the line ends, or `stop` if that comes first."""
    stop = len(text) if stop is None else stop
    found = _LINE_BREAK.search(text, at, stop)
    return stop if found is None else found.start()


def _mark_or_line_end(text: str, mark: str, at: int) -> int:
    """Return where a mark stands next, or where the line ends if that comes first.

    The mark bounds the search for the end of the line, so that a long line with many marks is not
    searched to its end for each.
    """
    stop = text.find(mark, at)
    return _line_end(text, at, stop if stop >= 0 else None)


def _quoted_end(text: str, quote: re.Match[str]) -> int:
    mark = quote["mark"]
    if len(mark) > 1:  # an escaped quote: a quote inside would be escaped once more
        return _mark_or_line_end(text, mark, quote.end())
    closed = _CLOSED[mark].match(text, quote.end())
    return _line_end(text, quote.end()) if closed is None else closed.end()


def _header_end(text: str, key_at: int, at: int) -> int:
    """Return the end of a header's value, which has blanks and commas: of the line or quotes."""
    opening = text[key_at - 1 : key_at]
    return _mark_or_line_end(text, opening, at) if opening in _CLOSED else _line_end(text, at)


def _balanced_end(text: str, at: int) -> int:
    depth = 0
    for match in _BRACKET.finditer(text, at):
        bracket = match[0]
        if bracket in "([{":
            depth += 1
        elif bracket in "\r\n":
            return match.start()
        else:
            depth -= 1
        if depth == 0:
            return match.end()
    return len(text)
