"""Secrets inside text: what is taken out, in time linear in the length of the text.

Three kinds: exact occurrences of known values, `key=value` pairs whose key names a secret, and
formats that are secrets wherever they stand. Every quantifier below is possessive or bounded, and
every scan that fails is charged to text that is not scanned again.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Final

import orjson

from autotrace.semconv import REDACTED

MIN_SECRET_CHARS: Final = 4
"""Shorter values are left in text: they would take ordinary words apart."""

# --- formats. Each pattern begins with a literal, which lets the regex engine skip ahead; what must
# not stand before it is looked up behind the literal. A token is left with what it is mixed of:
# a digit or a capital is asked for, so that `sk-learn-contrib-packages` stays.


def _alone(literal: str, word: str = "A-Za-z0-9") -> str:
    """Return a pattern behind a literal that asks for no word before it; `%20` is not a word."""
    return rf"(?:(?<![{word}]{literal})|(?<=%[0-9A-Fa-f]{{2}}{literal}))"


_SK: Final = re.compile(
    r"sk-" + _alone("sk-") + r"(?=[a-z_-]{0,64}+[A-Z0-9])[A-Za-z0-9_-]{16,}+",
    re.ASCII,
)
_PEM: Final = re.compile(
    r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----END)[\s\S])*+(?:-----END[A-Z0-9 ]{0,40}-----)?+"
)
_SLACK: Final = re.compile(r"xox[a-z]-" + _alone("xox[a-z]-") + r"[A-Za-z0-9-]{10,}+")
_GITHUB: Final = re.compile(r"gh[pousr]_" + _alone("gh._") + r"[A-Za-z0-9]{16,}+")
_GITHUB_PAT: Final = re.compile(r"github_pat_" + _alone("github_pat_") + r"[A-Za-z0-9_]{16,}+")
_AWS: Final = re.compile(r"A[KS]IA" + _alone("A[KS]IA") + r"[A-Z0-9]{16}(?![A-Za-z0-9])")
_GOOGLE: Final = re.compile(r"AIza" + _alone("AIza") + r"[A-Za-z0-9_-]{30,}+")
_JWT: Final = re.compile(
    r"eyJ"
    + _alone("eyJ", "A-Za-z0-9_-")
    + r"[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?+"
)
# A key of autotrace's own servers. Its id stays, so that the key can be found and revoked.
_OWN: Final = re.compile(
    r"(atk(?:_|%5[Ff])[0-9a-f]{12}(?:_|%5[Ff]))(?:[A-Za-z0-9_-]|%2[Dd]|%5[Ff]){16,}+"
)
_URL_PASSWORD: Final = re.compile(r"(://[^\s/?#:@'\"<>]{0,256}+:)[^\s/?#'\"<>]{1,1024}(@)")
_BEARER: Final = re.compile(
    r"(\bbearer(?:[ \t]{1,8}+|%20|\+))"
    r"(?=[A-Za-z._~+/=-]{0,64}+\d|[^\s,;\"']{20})[A-Za-z0-9._~+/=-]{6,}+",
    re.IGNORECASE | re.ASCII,
)
_BASIC: Final = re.compile(
    r"(\bbasic[ \t]{1,8}+)([A-Za-z0-9+/_-]{6,1024}+={0,2}+)", re.IGNORECASE | re.ASCII
)

_FORMATS: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = (
    ("sk-", _SK, REDACTED),
    ("xox", _SLACK, REDACTED),
    ("gh", _GITHUB, REDACTED),
    ("github_pat_", _GITHUB_PAT, REDACTED),
    ("AKIA", _AWS, REDACTED),
    ("ASIA", _AWS, REDACTED),
    ("AIza", _GOOGLE, REDACTED),
    ("eyJ", _JWT, REDACTED),
    ("://", _URL_PASSWORD, rf"\g<1>{REDACTED}\g<2>"),
    ("earer", _BEARER, rf"\g<1>{REDACTED}"),
    ("EARER", _BEARER, rf"\g<1>{REDACTED}"),
    ("atk", _OWN, rf"\g<1>{REDACTED}"),
)
"""A literal that must be in the text, the pattern, and what stands in for a match."""

# The same formats without what must stand before them: in JSON an escaped line break puts a letter
# there. `may_hold_secret` only opens the way to the exact patterns, so too much is harmless.
_SK_LOOSE: Final = re.compile(r"sk-(?=[a-z_-]{0,64}+[A-Z0-9])[A-Za-z0-9_-]{16}")
_BEARER_LOOSE: Final = re.compile(r"earer(?: |%20|\+)(?=[A-Za-z._~+/=-]{0,64}+\d|[^\s,;\"']{20})")
_AWS_LOOSE: Final = re.compile(r"A[KS]IA[A-Z0-9]{16}")
_GITHUB_LOOSE: Final = re.compile(r"gh[pousr]_[A-Za-z0-9]{16}")


def may_hold_secret(text: str) -> bool:
    """Says whether text, or the JSON of it, can contain one of the strong formats.

    It runs on everything that is recorded: a search for one character costs next to nothing, so
    each format is first asked for the rarest character that it must contain.

    Args:
        text: Plain text, or a JSON document.

    Returns:
        False when `scrub_formats` would find nothing; True when it has to be asked.
    """
    return (
        (
            "-" in text
            and (
                "-----BEGIN" in text or "xox" in text or ("sk-" in text and _sk_stands_alone(text))
            )
        )
        or (
            "_" in text
            and ("github_pat_" in text or ("gh" in text and _GITHUB_LOOSE.search(text) is not None))
        )
        or (
            "I" in text
            and (
                "AIza" in text
                or (("AKIA" in text or "ASIA" in text) and _AWS_LOOSE.search(text) is not None)
            )
        )
        or ("J" in text and "eyJ" in text)
        or ("atk" in text and _OWN.search(text) is not None)
        or ("earer" in text and _BEARER_LOOSE.search(text) is not None)
        or ("@" in text and "://" in text and _URL_PASSWORD.search(text) is not None)
    )


def _sk_stands_alone(text: str) -> bool:
    """Tells a key from the end of a word: ids such as `task-0193…` are everywhere."""
    for match in _SK_LOOSE.finditer(text):
        at = match.start()
        before = text[max(0, at - 6) : at]
        if not before or not (before[-1].isascii() and before[-1].isalnum()):
            return True
        if "\\" in before or "%" in before[-3:]:  # escaped in JSON, or in a URL
            return True
    return False


def scrub_keys(text: str) -> tuple[str, int]:
    """Takes out private keys in PEM form: these go first, for they contain blanks.

    Returns:
        The text without them, and how many there were.
    """
    return _PEM.subn(REDACTED, text) if "-----BEGIN" in text else (text, 0)


def scrub_formats(text: str) -> tuple[str, int]:
    """Takes out what is a secret by its looks, wherever it stands.

    Returns:
        The text without it, and how many there were.
    """
    text, total = scrub_keys(text)
    for literal, pattern, replacement in _FORMATS:
        if literal in text:
            text, count = pattern.subn(replacement, text)
            total += count
    return text, total


_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=%-]++", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9_~+=%-]++", re.ASCII)
"""What follows `Bearer`: without a dot or a slash, of which hosts and paths are made."""
_PEM_STRICT: Final = re.compile(
    r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----\r?\n"
    r"(?:[A-Za-z-]{1,40}: [A-Za-z0-9,-]{1,80}\r?\n){0,4}(?:\r?\n)?"
    r"(?:[A-Za-z0-9+/=]{40,76}\r?\n)++(?:[A-Za-z0-9+/=]{1,76}\r?\n)?+"
    r"-----END[A-Z0-9 ]{0,40}-----"
)


def credentials_in(text: str) -> list[tuple[int, int]]:
    """Finds what is a secret by its looks and can be nothing else: no command, no address.

    Returns:
        Where each begins and ends, in their order; none overlaps another.
    """
    if not may_hold_secret(text):
        return []
    found = [match.span() for match in _PEM_STRICT.finditer(text)] if "-----BEGIN" in text else []
    for literal, pattern, _ in _FORMATS:
        if literal not in text:
            continue
        for match in pattern.finditer(text):
            # Groups hold what stands before and behind the secret itself.
            start = match.end(1) if pattern.groups else match.start()
            stop = match.start(2) if pattern.groups > 1 else match.end()
            allowed = _WORD if pattern is _BEARER else _TOKEN
            if allowed.fullmatch(text, start, stop) is not None:
                found.append((start, stop))
    apart: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if not apart or start >= apart[-1][1]:
            apart.append((start, stop))
    return apart


def scrub_basic(text: str) -> tuple[str, int]:
    """Takes out the user and password of HTTP basic authentication.

    Returns:
        The text without them, and how many there were.
    """
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
    """Tells credentials from an English word after `basic`: they decode to `user:password`."""
    padded = token.rstrip("=") + "=" * (-len(token.rstrip("=")) % 4)
    try:
        return b":" in base64.b64decode(padded, altchars=b"-_" if "-" in token else None)
    except (binascii.Error, ValueError):
        return False


def mask(text: str, secrets: Iterable[str]) -> tuple[str, int]:
    """Takes out every occurrence of known values, as they are or escaped as in a repr or in JSON.

    Occurrences are marked first and replaced in one pass, so that overlapping values are all
    covered and what stands in for one is never taken for another.

    Returns:
        The text without them, and how many stretches were replaced.
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
    """Takes out the values of `key=value`, `key: value` and `'key': 'value'`.

    Args:
        text: Text as it stands in messages, tracebacks, reprs, JSON, URLs and headers.
        is_secret: Says of a key whether its value goes.

    Returns:
        The text without them, and how many there were.
    """
    if ":" not in text and "=" not in text:
        return text, 0
    kept: list[str] = []
    end = count = 0
    for match in _PAIR.finditer(text):
        if match.start() < end or not is_secret(match["key"]):
            continue
        start, stop = _value_span(text, match)
        if text[start:stop] in _HARMLESS:
            continue
        kept += text[end:start], REDACTED
        end = stop
        count += 1
    if not count:
        return text, 0
    kept.append(text[end:])
    return "".join(kept), count


def _value_span(text: str, pair: re.Match[str]) -> tuple[int, int]:
    """Finds where the value behind a key begins and ends, inside its quotes if it has any."""
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
    """Returns where the line ends, or `stop` if that comes first."""
    stop = len(text) if stop is None else stop
    found = _LINE_BREAK.search(text, at, stop)
    return stop if found is None else found.start()


def _mark_or_line_end(text: str, mark: str, at: int) -> int:
    """Returns where a mark stands next, or where the line ends if that comes first.

    The mark is looked for first: the search for the line's end is then bounded by it, and a long
    line with many marks is not searched to its end for each of them.
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
    """A header's value holds blanks and commas: it ends with the line, or the quotes around it."""
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
