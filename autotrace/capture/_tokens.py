"""Secrets that are known by their looks: where they stand in text, and taking them out.

Time is linear in the length of the text: every quantifier below is possessive or bounded, and what
was scanned once is not scanned again. The formats of vendors are rows of `_formats.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from autotrace.capture._formats import SIGNED, TOKENS, URLS, WEAK
from autotrace.capture._keys import names_a_secret
from autotrace.semconv import REDACTED

# --- formats that begin with a literal, which lets the regex engine skip ahead; what must not stand
# before it is looked up behind the literal. A token is left with what it is mixed of: a digit or a
# capital is asked for, so that `sk-learn-contrib-packages` stays.


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
_AWS: Final = re.compile(r"A[KS]IA" + _alone("A[KS]IA") + r"[A-Z0-9]{16}(?![A-Za-z0-9])")
_GOOGLE: Final = re.compile(r"AIza" + _alone("AIza") + r"[A-Za-z0-9_-]{30,}+")
_JWT: Final = re.compile(
    r"eyJ"
    + _alone("eyJ", "A-Za-z0-9_-")
    + r"[A-Za-z0-9_-]{6,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?+"
)
_DATABRICKS: Final = re.compile(r"dapi" + _alone("dapi") + r"[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])")
_TWILIO: Final = re.compile(r"SK" + _alone("SK") + r"[0-9a-f]{32}(?![A-Za-z0-9])")
# Of Telegram, Azure and Atlassian the literal stands inside the token: what is before it says whose
# it is, and is not enough to use it.
_TELEGRAM: Final = re.compile(r":AA(?<=[0-9]{8}:AA)[A-Za-z0-9_-]{30,}+")
_AZURE: Final = re.compile(r"Q~(?<=[A-Za-z0-9_~.]{3}[0-9]Q~)[A-Za-z0-9_~.-]{30,}+")
_AZURE_KEY: Final = re.compile(r"(Key=)(?<=[st]Key=)[A-Za-z0-9+/]{40,}+={0,2}+")
_ATLASSIAN: Final = re.compile(r"T3xFfG(?<=AT[AC]TT3xFfG)[A-Za-z0-9_=-]{20,}+")
_BOT: Final = (
    r"(?=[A-Za-z0-9_-]{27})(?:(?<=[MNO][A-Za-z0-9_-]{23}\.[A-Za-z0-9_-]{6}\.)"
    r"|(?<=[MNO][A-Za-z0-9_-]{25}\.[A-Za-z0-9_-]{6}\.))"
)
_DISCORD: Final = re.compile(rf"(\.){_BOT}[A-Za-z0-9_-]{{27,}}+")
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
_KEPT: Final = rf"\g<1>{REDACTED}"
_URLS: Final = tuple((url.literal, re.compile(url.pattern), _KEPT) for url in URLS)
_FORMATS: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = (
    ("sk-", _SK, REDACTED),
    ("xox", _SLACK, REDACTED),
    ("AKIA", _AWS, REDACTED),
    ("ASIA", _AWS, REDACTED),
    ("AIza", _GOOGLE, REDACTED),
    ("eyJ", _JWT, REDACTED),
    ("dapi", _DATABRICKS, REDACTED),
    ("SK", _TWILIO, REDACTED),
    (":AA", _TELEGRAM, REDACTED),
    (".", _DISCORD, _KEPT),
    ("Q~", _AZURE, REDACTED),
    ("Key=", _AZURE_KEY, _KEPT),
    ("T3xFfG", _ATLASSIAN, REDACTED),
    ("://", _URL_PASSWORD, rf"\g<1>{REDACTED}\g<2>"),
    ("earer", _BEARER, _KEPT),
    ("EARER", _BEARER, _KEPT),
    ("atk", _OWN, _KEPT),
    *_URLS,
)
"""A literal that must be in the text, the pattern, and what stands in for a match."""


# --- tokens of vendors: a prefix that ends in a mark, and a long random word behind it.
# The prefixes are not searched for one by one: where such a word stands behind a mark, the text
# before it is compared with all of them at once.


_PREFIXES: Final = tuple(
    sorted((prefix for row in TOKENS for prefix in row.prefix.split()), key=len, reverse=True)
)
_MAX_PREFIX_CHARS: Final = len(_PREFIXES[0])
_END_CHARS: Final = 3
"""No prefix is shorter; so much of it is looked at first."""


def _ends(mark: str) -> str:
    """Return a pattern for the last characters of the prefixes that end in a mark."""
    found = {prefix[-_END_CHARS:] for prefix in _PREFIXES if prefix.endswith(mark)}
    return "|".join(sorted(map(re.escape, found)))


def _mark(mark: str) -> re.Pattern[str]:
    """Return a pattern for a character that prefixes end in, with a long random word behind it."""
    last = "".join(sorted({prefix[-2] for prefix in _PREFIXES if prefix.endswith(mark)}))
    escaped = re.escape(mark)
    # In the order of what fails soonest: names hold no digit or capital, ids are hexadecimal.
    return re.compile(
        rf"{escaped}(?<=[{last}]{escaped})(?=[a-z_.+/=-]{{0,15}}+[A-Z0-9])(?=[A-Za-z0-9_+/=.-]{{16}})"
        rf"(?<={_ends(mark)})"
    )


# Three, for the regex engine looks for one character many times faster than for any of three.
_UNDERSCORE: Final = _mark("_")
_DASH: Final = _mark("-")
_DOT: Final = _mark(".")
_MARKS: Final = (("_", _UNDERSCORE), ("-", _DASH), (".", _DOT))
_VENDORS: Final = re.compile(
    "|".join(
        re.escape(prefix) + _alone(re.escape(prefix)) + f"(?:{row.rest})"
        for prefix in _PREFIXES
        for row in TOKENS
        if prefix in row.prefix.split()
    ),
    re.ASCII,
)


def _may_hold_token(text: str, mark: re.Pattern[str]) -> bool:
    """Return whether a long word stands behind a prefix, whatever stands before the prefix."""
    return mark.search(text) is not None and any(
        text.endswith(_PREFIXES, max(0, found.end() - _MAX_PREFIX_CHARS), found.end())
        for found in mark.finditer(text)
    )


def _tokens_in(text: str, mark: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield where tokens of vendors begin and end whose prefix ends in a mark."""
    done = 0
    for found in mark.finditer(text):
        end = found.end()
        for prefix in _PREFIXES:
            start = end - len(prefix)
            if start >= done and text.endswith(prefix, start, end):
                token = _VENDORS.match(text, start)
                if token is not None and token.end() > end:
                    done = token.end()
                    yield start, done
                    break


# --- parameters of URLs

_PARAMETER: Final = re.compile(
    r"[?&#](?:amp;)?([A-Za-z_][A-Za-z0-9_.-]{0,63}+)=([^\s\"'<>&#\\`\[\](){},;|]{4,}+)"
)
_PARAMETER_ENCODED: Final = re.compile(
    r"%(?:3[Ff]|26)([A-Za-z_][A-Za-z0-9_.-]{0,63}+)%3[Dd]"
    r"((?:(?!%2[36])[^\s\"'<>&#\\`\[\](){},;|]){4,}+)"
)
# How names end that hold secrets: compared behind each `=`, before the whole name is looked at.
_NAMES_END: Final = (
    *("key", "ken", "ret", "ord", "swd", "pwd", "ase", "ode", "uth", "jwt", "otp", "ial", "als"),
    *("kie", "sig", "ure", "yid", "sid", "-id", "pid", "ign", "mac", "ass", "rer", "ssn", "cvv"),
)
_NAME_END: Final = re.compile(
    "=(?<=(?:"
    + "|".join(
        sorted(
            {*_NAMES_END, *map(str.upper, _NAMES_END), *map(str.title, _NAMES_END), "yId", "sId"}
        )
    )
    + ")=)"
)
_LONG_WORD: Final = re.compile(r"[A-Za-z0-9]{20,}+")
_PATH: Final = re.compile(r"[./]|%2[Ff]")
_HARMLESS: Final = frozenset(("none", "null", "true", "false", "undefined"))


@lru_cache(maxsize=4096)
def _names_a_secret(name: str) -> bool:
    return names_a_secret(name)


def _is_secret(name: str, value: str) -> bool:
    """Return whether the value of a parameter of a URL is a secret."""
    lowered = name.lower()
    if not lowered.endswith(_NAMES_END):
        return False
    if lowered in SIGNED or _names_a_secret(name):
        return value.lower() not in _HARMLESS
    return lowered in WEAK and _is_random(value)


def _is_random(value: str) -> bool:
    """Tell what a machine made up from a name, a number and a path."""
    word = _LONG_WORD.search(value)
    if word is None or _PATH.search(value) is not None:
        return False
    return not word[0].isalpha() and not word[0].isdigit()


def _secrets(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Yield the secrets among the parameters that a pattern finds: the second group of each."""
    return (found for found in pattern.finditer(text) if _is_secret(found[1], found[2]))


# --- all of them

# The same formats without what must stand before them: in JSON an escaped line break puts a letter
# there. `may_hold_secret` only opens the way to the exact patterns, so too much is harmless.
_SK_LOOSE: Final = re.compile(r"sk-(?=[a-z_-]{0,64}+[A-Z0-9])[A-Za-z0-9_-]{16}")
_BEARER_LOOSE: Final = re.compile(r"earer(?: |%20|\+)(?=[A-Za-z._~+/=-]{0,64}+\d|[^\s,;\"']{20})")
_AWS_LOOSE: Final = re.compile(r"A[KS]IA[A-Z0-9]{16}")
# Of both kinds of token with a dot in them, for one search.
_DOT_LOOSE: Final = re.compile(
    rf"\.(?=[a-z_.+/=-]{{0,15}}+[A-Z0-9])(?=[A-Za-z0-9_+/=.-]{{16}})(?:(?<={_ends('.')})|{_BOT})"
)
_DATABRICKS_LOOSE: Final = re.compile(r"dapi[0-9a-f]{32}")
_TWILIO_LOOSE: Final = re.compile(r"SK[0-9a-f]{32}")


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
                _may_hold_token(text, _DASH)
                or "-----BEGIN" in text
                or "xox" in text
                or ("sk-" in text and _sk_stands_alone(text))
            )
        )
        or ("_" in text and _may_hold_token(text, _UNDERSCORE))
        or ("." in text and _DOT_LOOSE.search(text) is not None)
        or (
            "I" in text
            and (
                "AIza" in text
                or (("AKIA" in text or "ASIA" in text) and _AWS_LOOSE.search(text) is not None)
            )
        )
        or ("J" in text and "eyJ" in text)
        or ("K" in text and "SK" in text and _TWILIO_LOOSE.search(text) is not None)
        or ("dapi" in text and _DATABRICKS_LOOSE.search(text) is not None)
        or ("=" in text and _may_hold_pair(text))
        or ("%" in text and ("atk%5" in text or _holds_parameter(text, _PARAMETER_ENCODED)))
        or ("/" in text and _may_hold_url(text))
        or ("A" in text and ":AA" in text and _TELEGRAM.search(text) is not None)
        or ("~" in text and "Q~" in text and _AZURE.search(text) is not None)
        or ("earer" in text and _BEARER_LOOSE.search(text) is not None)
    )


def _may_hold_pair(text: str) -> bool:
    return (
        (_NAME_END.search(text) is not None and _holds_parameter(text, _PARAMETER))
        or ("Key=" in text and _AZURE_KEY.search(text) is not None)
        or "T3xFfG" in text
    )


def _holds_parameter(text: str, pattern: re.Pattern[str]) -> bool:
    return next(_secrets(text, pattern), None) is not None


def _may_hold_url(text: str) -> bool:
    return ("@" in text and "://" in text and _URL_PASSWORD.search(text) is not None) or (
        ("hook" in text or "/with/key/" in text)
        and any(
            literal in text and pattern.search(text) is not None for literal, pattern, _ in _URLS
        )
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
    for character, mark in _MARKS:
        if character in text:
            text, count = without(text, _tokens_in(text, mark))
            total += count
    if "=" in text or "%" in text:
        for pattern in (_PARAMETER, _PARAMETER_ENCODED):
            text, count = without(text, (found.span(2) for found in _secrets(text, pattern)))
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
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9_~+=%-]{16,}+", re.ASCII)
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
    for _, mark in _MARKS:
        found += _tokens_in(text, mark)
    found += [
        match.span(2)
        for match in _secrets(text, _PARAMETER)
        if match[1].lower() in SIGNED and _SIGNATURE.fullmatch(match[2]) is not None
    ]
    apart: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if not apart or start >= apart[-1][1]:
            apart.append((start, stop))
    return apart
