"""Secrets that are known by their looks: where they stand in text, and taking them out.

The formats are rows of `secret_formats.py`. Time is linear in the length of the text: every
quantifier is possessive or bounded. Every text that is recorded is searched, so each format is
found from a character that is rare in prose and source code, and looks behind itself for the rest.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from autotrace.encoding.secret_formats import MARKED, SIGNED, TOKENS, URLS, WEAK, MarkedFormat
from autotrace.encoding.secret_names import names_a_secret
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
    """Return one pattern for all formats with a mark, for the question whether there is any."""
    return re.compile(f"{re.escape(mark)}(?:{_any_behind(mark)})", re.ASCII)


_SIGNS: Final = tuple((row.mark, _sign(row)) for row in MARKED)
_I: Final = _any_of("I")
_J: Final = _any_of("J")
_K: Final = _any_of("K")
_A: Final = _any_of("A")
_TILDE: Final = _any_of("~")
_DOLLAR: Final = _any_of("$")
_PERCENT: Final = _any_of("%")
_SLASH: Final = _any_of("/")
_REFRESH: Final = _any_of("//0")
_KEY_PATH: Final = _any_of("/key/")
_DAPI: Final = _any_of("dapi")
_EARER: Final = _any_of("earer")
_AUTHORIZATION: Final = _any_of("uthorization")


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
    sorted((prefix for row in TOKENS for prefix in row.prefix.split()), key=len, reverse=True)
)
_END_CHARS: Final = 5
"""So much of a prefix is looked at first. Shorter ones have 3 or 4 characters."""
_MAX_PREFIX_CHARS: Final = len(_PREFIXES[0])


def _by_first(words: Iterable[str]) -> str:
    """Return a pattern for one of some words, in which each first letter is tried once."""
    rests: dict[str, list[str]] = {}
    for word in sorted(words):
        rests.setdefault(re.escape(word[0]), []).append(re.escape(word[1:]))
    return "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in rests.items()) or "(?!)"


def _mark(mark: str, *, with_signs: bool) -> re.Pattern[str]:
    """Return a pattern for a character that prefixes end in, with a long random word behind it.

    Args:
        mark: The character.
        with_signs: Whether rows of `MARKED` are found, too.
    """
    prefixes = [prefix for prefix in _PREFIXES if prefix.endswith(mark)]
    last = re.escape("".join(sorted({prefix[-2] for prefix in prefixes})))
    longest = _by_first(_ends(prefixes, _END_CHARS))
    escaped = re.escape(mark)
    # In the order of what fails soonest: names hold no digit or capital, ids are hexadecimal.
    word = (
        rf"(?<=[{last}]{escaped})(?=[a-z_.+/=-]{{0,40}}+[A-Z0-9])(?:(?<={longest})"
        rf"|(?<={_by_first(_ends(prefixes, 3))})"
        rf"|(?<={_by_first(_ends(prefixes, 4))}))"
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
    prefix: re.compile(row.rest, re.ASCII) for row in TOKENS for prefix in row.prefix.split()
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

# --- names and values: parameters of URLs, lines of environment files, options, members of JSON

# How names end that hold secrets: compared before each mark, before the whole name is looked at.
_NAMES_END: Final = (
    *("key", "ken", "ret", "ord", "swd", "pwd", "ase", "ode", "uth", "jwt", "otp", "ial", "als"),
    *("kie", "sig", "ure", "yid", "sid", "-id", "pid", "ign", "mac", "ass", "rer", "ssn", "cvv"),
)


_ENDS: Final = _by_first(
    {*_NAMES_END, *map(str.upper, _NAMES_END), *map(str.title, _NAMES_END), "yId", "sId"}
)
_NAMED: Final = re.compile(f"=(?<=(?:{_ENDS})=)")
_NAMED_ENCODED: Final = re.compile(f"%3[Dd](?<=(?:{_ENDS})%3[Dd])")
_NAMED_QUOTED: Final = re.compile(
    rf":(?<=[\"']:)(?:(?<=(?:{_ENDS})[\"']:)|(?<=(?:{_ENDS})\\[\"']:))[ \t]{{0,2}}(?=\\?[\"'])"
)
_NAME_CHARS: Final = string.ascii_letters + string.digits + "_.-"
_MAX_NAME_CHARS: Final = 72
_VALUE: Final = re.compile(r"(?:(?!%2[36]|%3[Ff])[^\s\"'<>?&#\\`\[\](){},;|]){4,}+")
"""It ends where the next parameter can begin: no part of a text is read for two of them."""
_VALUE_OF_LINE: Final = re.compile(
    r"(?:(?P<quote>[\"'])[^\"'\\\r\n]{4,}+(?=(?P=quote))|[^\s\"'<>$%*&\\`\[\](){},;|]{4,}+)"
)
_CLOSED: Final = {
    '"': re.compile(r'(?:[^"\\\r\n]|\\.)*+(?=")'),
    "'": re.compile(r"(?:[^'\\\r\n]|\\.)*+(?=')"),
    '\\"': re.compile(r'[^"\\\r\n]*+(?=\\")'),
    "\\'": re.compile(r"[^'\\\r\n]*+(?=\\')"),
}
_LONG_WORD: Final = re.compile(r"[A-Za-z0-9]{20,}+")
_PATH: Final = re.compile(r"[./]|%2[Ff]")
_HARMLESS: Final = frozenset(("none", "null", "true", "false", "undefined", REDACTED.lower()))
_URL_MARKS: Final = frozenset("?&#;")
_OF_AZURE: Final = frozenset(("AccountKey", "SharedAccessKey", "SharedAccessSignature"))
"""In connection strings, wherever they stand there."""


class _Pair(NamedTuple):
    name: str
    start: int
    stop: int
    is_parameter: bool


@lru_cache(maxsize=4096)
def _names_a_secret(name: str) -> bool:
    return names_a_secret(name)


def _is_secret(name: str, value: str) -> bool:
    """Return whether the value of a parameter of a URL is a secret."""
    lowered = name.lower()
    if lowered in SIGNED or _names_a_secret(name):
        return value.lower() not in _HARMLESS
    return lowered in WEAK and _is_random(value)


def _is_random(value: str) -> bool:
    """Tell what a machine made up from a name, a number and a path."""
    word = _LONG_WORD.search(value)
    if word is None or _PATH.search(value) is not None:
        return False
    return not word[0].isalpha() and not word[0].isdigit()


def _name_before(text: str, end: int) -> tuple[str, str]:
    """Return the name that ends at a position, and the character before it."""
    head = text[max(0, end - _MAX_NAME_CHARS) : end]
    rest = head.rstrip(_NAME_CHARS)
    if not rest and end > _MAX_NAME_CHARS:
        return "", ""
    return head[len(rest) :], rest[-1:]


def _pairs_in(text: str) -> Iterator[_Pair]:
    """Yield names and values of which the value is a secret, in one of the forms of `_NAMED`."""
    done = 0
    for found in _NAMED.finditer(text):
        pair = _pair_at(text, found) if found.start() >= done else None
        if pair is not None:
            done = pair.stop
            if pair.is_parameter or text[done : done + 1] not in {"(", "["}:
                yield pair


def _encoded_in(text: str) -> Iterator[_Pair]:
    """Yield the same where the whole URL is escaped inside another one."""
    done = 0
    for found in _NAMED_ENCODED.finditer(text):
        pair = _pair_at(text, found) if found.start() >= done else None
        if pair is not None:
            done = pair.stop
            if pair.is_parameter:
                yield pair


def _pair_at(text: str, found: re.Match[str]) -> _Pair | None:
    name, before = _name_before(text, found.start())
    is_parameter = before in _URL_MARKS or name in _OF_AZURE
    if before == "%" and name[:2].upper() in {"3F", "26"}:
        name, is_parameter = name[2:], True
    elif before == "\\" and name[:5].lower() in {"u0026", "u003f"}:
        name, is_parameter = name[5:], True
    elif before == "\\" and name[:1] in {"n", "r", "t"}:
        name = name[1:]
    if is_parameter:
        value = _VALUE.match(text, found.end())
        if value is None or not _is_secret(name, value[0]):
            return None
        return _Pair(name, *value.span(), is_parameter=True)
    option = name.lstrip("-")
    if not (name.isupper() or (len(name) - len(option) == 2)) or not _names_a_secret(option):
        return None
    value = _VALUE_OF_LINE.match(text, found.end())
    if value is None or value[0].strip("\"'").lower() in _HARMLESS:
        return None
    start = value.start() + (value["quote"] is not None)
    return _Pair(option, start, value.end(), is_parameter=False)


def _members_in(text: str) -> Iterator[_Pair]:
    """Yield members of JSON, or of the repr of a dict, whose value is a secret's text."""
    done = 0
    for found in _NAMED_QUOTED.finditer(text):
        if found.start() < done:
            continue
        at, end = found.start() - 1, found.end()
        is_escaped = text[at - 1 : at] == "\\"
        quote = text[at - is_escaped : at + 1]
        name, before = _name_before(text, at - is_escaped)
        if before != quote[-1] or not text.startswith(quote, end) or not _names_a_secret(name):
            continue
        value = _CLOSED[quote].match(text, end + len(quote))
        if value is not None and len(value[0]) > 3 and value[0].lower() not in _HARMLESS:
            done = value.end()
            yield _Pair(name, *value.span(), is_parameter=False)


# --- all of them


def may_hold_secret(text: str) -> bool:
    """Says whether text can contain one of the strong formats.

    It runs on everything that is recorded: a search for one character costs next to nothing, so
    each format is first asked for the rarest character that it must contain.

    Returns:
        False when `scrub_formats` would find nothing; True when it has to be asked.
    """
    return len(text) >= MIN_CHARS and (
        ("_" in text and _UNDERSCORE.search(text) is not None and _holds_token(text, "_"))
        or ("-" in text and _may_hold_dash(text))
        or ("." in text and _DOT_OR_SIGN.search(text) is not None and _holds_token(text, "."))
        or ("=" in text and _NAMED.search(text) is not None and _holds_pair(text))
        or ("/" in text and _may_hold_url(text))
        or ('"' in text and '":' in text and _holds_member(text))
        or ("'" in text and "':" in text and _holds_member(text))
        or ("I" in text and _I.search(text) is not None)
        or ("J" in text and _stands(_J, "J", text))
        or ("K" in text and _stands(_K, "K", text))
        or ("A" in text and _A.search(text) is not None)
        or ("~" in text and _stands(_TILDE, "~", text))
        or ("$" in text and _stands(_DOLLAR, "$", text))
        or ("%" in text and (_stands(_PERCENT, "%", text) or _holds_encoded(text)))
        or ("z" in text and "uthorization" in text and _AUTHORIZATION.search(text) is not None)
        or ("dapi" in text and _DAPI.search(text) is not None)
        or ("earer" in text and _EARER.search(text) is not None)
    )


_OTHERS: Final = {
    character: tuple(sign for mark, sign in _SIGNS if mark == character) for character, _ in _MARKS
}


def _holds_token(text: str, character: str) -> bool:
    mark = next(mark for each, mark in _MARKS if each == character)
    return next(_tokens_in(text, mark), None) is not None or any(
        next(_marked(text, sign), None) is not None for sign in _OTHERS[character]
    )


def _may_hold_dash(text: str) -> bool:
    return (
        _DASH_OR_SIGN.search(text) is not None and _holds_token(text, "-")
    ) or "-----BEGIN" in text


def _stands(sign: re.Pattern[str], mark: str, text: str) -> bool:
    """Return whether a pattern is found, for a mark that few texts hold more than a few times."""
    at = text.find(mark)
    while at >= 0:
        if sign.match(text, at) is not None:
            return True
        at = text.find(mark, at + 1)
    return False


def _may_hold_url(text: str) -> bool:
    return (
        ("@" in text and _SLASH.search(text) is not None)
        or _holds_hook(text)
        or ("//0" in text and _REFRESH.search(text) is not None)
        or ("/key/" in text and _KEY_PATH.search(text) is not None)
    )


def _holds_pair(text: str) -> bool:
    return next(_pairs_in(text), None) is not None


def _holds_encoded(text: str) -> bool:
    return next(_encoded_in(text), None) is not None


def _holds_member(text: str) -> bool:
    return next(_members_in(text), None) is not None


def _holds_hook(text: str) -> bool:
    return "hook" in text and _HOOK.search(text) is not None


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
    for find in (_pairs_in, _encoded_in, _members_in):
        text, count = without(text, ((pair.start, pair.stop) for pair in find(text)))
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
    """Finds what is a secret by its looks and can be nothing else: no command, no address.

    Returns:
        Where each begins and ends, in their order; none overlaps another.
    """
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
        for pair in _pairs_in(text)
        if pair.is_parameter
        and pair.name.lower() in SIGNED
        and _SIGNATURE.fullmatch(text, pair.start, pair.stop) is not None
    ]
    apart: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if not apart or start >= apart[-1][1]:
            apart.append((start, stop))
    return apart
