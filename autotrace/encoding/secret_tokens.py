"""Find and redact secrets that have a known format.

The formats are rows of `secret_formats.py`. Time is linear in the length of the text: every
quantifier is possessive or bounded. Every recorded text is searched, so each pattern begins with a
character that is rare in prose and source code, and looks behind itself for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from autotrace.encoding.secret_formats import MARKED, SIGNED, TOKENS, URLS, MarkedFormat
from autotrace.encoding.secret_pairs import (
    ENCODED,
    NAMED,
    members_in,
    one_of,
    options_in,
    pairs_in,
)
from autotrace.semconv import REDACTED

MIN_CHARS: Final = 12
"""No format fits into a shorter text."""

_PEM: Final = re.compile(
    r"-----BEGIN[A-Z0-9 +%]{0,40}PRIVATE(?: |%20|\+)KEY(?:(?: |%20|\+)BLOCK)?-----"
    r"(?:(?!-----END)[\s\S])*+(?:-----END[A-Z0-9 +%]{0,40}-----)?+"
)

# --- where a word begins

_ESCAPE: Final = re.compile(
    r"(?:%[0-9A-Fa-f]{2}|\\(?:[abfnrtv0]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})|\x1b\[[0-9;]{0,8}m)\Z"
)
_ESCAPE_CHARS: Final = 12


def _is_alone(text: str, start: int) -> bool:
    """Return whether no word goes on at a position: an escape, such as `%20`, is not a word."""
    before = text[start - 1 : start]
    if not (before.isascii() and before.isalnum()):
        return True
    return _ESCAPE.search(text, max(0, start - _ESCAPE_CHARS), start) is not None


# --- formats with a mark


def _sign(row: MarkedFormat) -> re.Pattern[str]:
    mark = re.escape(row.mark)
    return re.compile(rf"{mark}(?<=(?P<before>{row.before}){mark}){row.after}", re.ASCII)


def _any_behind(mark: str) -> str:
    return "|".join(
        f"(?<={row.before}{re.escape(mark)}){row.after.replace('?P<secret>', '?:')}"
        for row in MARKED
        if row.mark == mark
    )


def _any_of(mark: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(mark)}(?:{_any_behind(mark)})", re.ASCII)


_SIGNS: Final = tuple((row.mark, _sign(row)) for row in MARKED)
_ANY: Final = {row.mark: _any_of(row.mark) for row in MARKED}
"""By mark: one pattern for all formats with it."""


def _marked(text: str, sign: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield where the secrets of a format begin and end."""
    has_part = "secret" in sign.groupindex
    for found in sign.finditer(text):
        if has_part:
            yield found.span("secret")
        elif _is_alone(text, found.start("before")):
            yield found.start("before"), found.end()


# --- tokens of vendors: a prefix that ends in a mark, and a long random word behind it.
# The prefixes are not searched for one by one: where such a word stands behind a mark, the text
# before it is compared with all of them at once.

_PREFIXES: Final = tuple(
    sorted((prefix for row in TOKENS for prefix in row.prefixes), key=len, reverse=True)
)
_END_CHARS: Final = 5
"""So much of a prefix is looked at first. Shorter ones have 3 or 4 characters."""
_MAX_PREFIX_CHARS: Final = len(_PREFIXES[0])


def _mark(mark: str, *, with_signs: bool) -> re.Pattern[str]:
    """Return a pattern for the last character of prefixes, with a long random word behind it.

    With `with_signs`, it finds rows of `MARKED` too.
    """
    prefixes = [prefix for prefix in _PREFIXES if prefix.endswith(mark)]
    last = re.escape("".join(sorted({prefix[-2] for prefix in prefixes})))
    longest = one_of(_ends(prefixes, _END_CHARS))
    escaped = re.escape(mark)
    # In the order of what fails soonest: names hold no digit or capital, ids are hexadecimal.
    word = (
        rf"(?<=[{last}]{escaped})(?=[a-z_.+/=-]{{0,40}}+[A-Z0-9])(?:(?<={longest})"
        rf"|(?<={one_of(_ends(prefixes, 3))})"
        rf"|(?<={one_of(_ends(prefixes, 4))}))"
    )
    is_long = "(?=[A-Za-z0-9_+/=.-]{10})"
    if not with_signs:
        return re.compile(escaped + is_long + word)
    if mark == ".":
        return re.compile(f"{escaped}{is_long}(?:{word}|{_any_behind(mark)})", re.ASCII)
    return re.compile(f"{escaped}(?:{is_long}{word}|{_any_behind(mark)})", re.ASCII)


def _ends(prefixes: list[str], length: int) -> set[str]:
    """Return the ends of long prefixes, or the short prefixes of just that length."""
    return {
        prefix[-length:]
        for prefix in prefixes
        if len(prefix) == length or (length == _END_CHARS < len(prefix))
    }


# Three, for the regex engine looks for one character many times faster than for any of three.
_UNDERSCORE: Final = _mark("_", with_signs=False)
_DASH: Final = _mark("-", with_signs=False)
_DOT: Final = _mark(".", with_signs=False)
_MARKS: Final = (("_", _UNDERSCORE), ("-", _DASH), (".", _DOT))
_DASH_OR_SIGN: Final = _mark("-", with_signs=True)
_DOT_OR_SIGN: Final = _mark(".", with_signs=True)
_RESTS: Final = {
    prefix: re.compile(row.rest, re.ASCII) for row in TOKENS for prefix in row.prefixes
}


def _tokens_in(text: str, mark: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield where tokens of vendors begin and end whose prefix ends in a mark."""
    done = 0
    for found in mark.finditer(text):
        end = found.end()
        if not text.endswith(_PREFIXES, max(0, end - _MAX_PREFIX_CHARS), end):
            continue
        for prefix in _PREFIXES:
            start = end - len(prefix)
            if start >= done and text.endswith(prefix, start, end) and _is_alone(text, start):
                rest = _RESTS[prefix].match(text, end)
                if rest is not None:
                    done = rest.end()
                    yield start, done
                    break


# --- URLs that are credentials


def _url(path: str) -> str:
    return path.replace("/", r"(?:\\?/|%2[Ff])")


_URLS: Final = tuple(re.compile(f"hook{_url(url.path)}(?P<secret>{url.secret})") for url in URLS)
_HOOK: Final = re.compile("hook(?:" + "|".join(_url(url.path) + url.secret for url in URLS) + ")")

# --- all of them


def may_hold_secret(text: str) -> bool:
    """Return whether `scrub_formats` may find something in a text.

    It runs on everything that is recorded: a search for one character costs next to nothing, so
    each format is first asked for the rarest character that it must contain.
    """
    return len(text) >= MIN_CHARS and (
        ("_" in text and _UNDERSCORE.search(text) is not None and _holds_token(text, "_"))
        or ("-" in text and _may_hold_dash(text))
        or ("." in text and _DOT_OR_SIGN.search(text) is not None and _holds_token(text, "."))
        or ("=" in text and NAMED.search(text) is not None and _some(pairs_in(text)))
        or ("/" in text and _may_hold_url(text))
        or ('"' in text and '":' in text and _some(members_in(text)))
        or ("'" in text and "':" in text and _some(members_in(text)))
        or ("I" in text and _ANY["I"].search(text) is not None)
        or ("J" in text and _stands("J", text))
        or ("K" in text and _stands("K", text))
        or ("A" in text and _ANY["A"].search(text) is not None)
        or ("~" in text and _stands("~", text))
        or ("$" in text and _stands("$", text))
        or ("%" in text and (_stands("%", text) or _some(pairs_in(text, ENCODED))))
        or (
            "z" in text and "uthorization" in text and _ANY["uthorization"].search(text) is not None
        )
        or ("dapi" in text and _ANY["dapi"].search(text) is not None)
        or ("earer" in text and _ANY["earer"].search(text) is not None)
    )


_OTHERS: Final = {
    character: tuple(sign for mark, sign in _SIGNS if mark == character) for character, _ in _MARKS
}


def _holds_token(text: str, character: str) -> bool:
    mark = next(mark for each, mark in _MARKS if each == character)
    return _some(_tokens_in(text, mark)) or any(
        _some(_marked(text, sign)) for sign in _OTHERS[character]
    )


def _may_hold_dash(text: str) -> bool:
    return (_DASH_OR_SIGN.search(text) is not None and _holds_token(text, "-")) or (
        "--" in text and ("-----BEGIN" in text or _some(options_in(text)))
    )


def _stands(mark: str, text: str) -> bool:
    """Return whether a format with a mark is found; fast where the mark is rare."""
    sign = _ANY[mark]
    at = text.find(mark)
    while at >= 0:
        if sign.match(text, at) is not None:
            return True
        at = text.find(mark, at + 1)
    return False


def _may_hold_url(text: str) -> bool:
    return (
        ("@" in text and _ANY["/"].search(text) is not None)
        or ("hook" in text and _HOOK.search(text) is not None)
        or ("//0" in text and _ANY["//0"].search(text) is not None)
        or ("/key/" in text and _ANY["/key/"].search(text) is not None)
    )


def _some(found: Iterator[Any]) -> bool:
    return next(found, None) is not None


def scrub_keys(text: str) -> tuple[str, int]:
    """Redact private keys in PEM form; return the text and their number.

    They go first, since they contain blanks.
    """
    return _PEM.subn(REDACTED, text) if "-----BEGIN" in text else (text, 0)


def scrub_formats(text: str) -> tuple[str, int]:
    """Redact secrets of known formats anywhere in a text; return it and their number."""
    text, total = scrub_keys(text)
    for mark, sign in _SIGNS:
        if mark in text:
            text, count = without(text, _marked(text, sign))
            total += count
    if "hook" in text:
        for url in _URLS:
            text, count = without(text, _marked(text, url))
            total += count
    for character, mark in _MARKS:
        if character in text:
            text, count = without(text, _tokens_in(text, mark))
            total += count
    for pairs in (pairs_in, partial(pairs_in, named=ENCODED), members_in, options_in):
        text, count = without(text, ((pair.start, pair.stop) for pair in pairs(text)))
        total += count
    return text, total


def without(text: str, spans: Iterator[tuple[int, int]]) -> tuple[str, int]:
    """Return a text without some parts of it, which stand in their order, and their number."""
    kept: list[str] = []
    end = count = 0
    for start, stop in spans:
        kept += text[end:start], REDACTED
        end = stop
        count += 1
    if not count:
        return text, 0
    kept.append(text[end:])
    return "".join(kept), count


# --- for an approver, who must see every command

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=%-]++", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z0-9_~+=%-]++", re.ASCII)
"""What follows `Bearer`: without a dot or a slash, of which hosts and paths are made."""
_PROSE: Final = ("earer", "EARER", "uthorization")
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9_~+=%-]{16,}+", re.ASCII)
_PEM_STRICT: Final = re.compile(
    r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----\r?\n"
    r"(?:[A-Za-z-]{1,40}: [A-Za-z0-9,-]{1,80}\r?\n){0,4}(?:\r?\n)?"
    r"(?:[A-Za-z0-9+/=]{40,76}\r?\n)++(?:[A-Za-z0-9+/=]{1,76}\r?\n)?+"
    r"-----END[A-Z0-9 ]{0,40}-----"
)


def credentials_in(text: str) -> list[tuple[int, int]]:
    """Return the spans of credentials, in order: no command and no address is one."""
    if not may_hold_secret(text):
        return []
    found = [match.span() for match in _PEM_STRICT.finditer(text)] if "-----BEGIN" in text else []
    signs = [(sign, _WORD if mark.endswith(_PROSE) else _TOKEN) for mark, sign in _SIGNS]
    for sign, allowed in (*signs, *((url, _TOKEN) for url in _URLS)):
        found += [span for span in _marked(text, sign) if allowed.fullmatch(text, *span)]
    for _, mark in _MARKS:
        found += _tokens_in(text, mark)
    found += [
        (pair.start, pair.stop)
        for pair in pairs_in(text)
        if pair.is_parameter
        and pair.name.lower() in SIGNED
        and _SIGNATURE.fullmatch(text, pair.start, pair.stop) is not None
    ]
    apart: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if not apart or start >= apart[-1][1]:
            apart.append((start, stop))
    return apart
