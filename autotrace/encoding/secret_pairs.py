"""Secrets that their name gives away, in values: URLs, environment files, JSON, command lines.

Unlike `secret_patterns.py`, which reads prose, these finders must not take anything out of source
code or a sentence. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from autotrace.encoding.secret_formats import SIGNED, WEAK
from autotrace.encoding.secret_names import names_a_secret, words
from autotrace.semconv import REDACTED


def one_of(words: Iterable[str]) -> str:
    """Return a pattern for one of some words, in which each first letter is tried once."""
    rests: dict[str, list[str]] = {}
    for word in sorted(words):
        rests.setdefault(re.escape(word[0]), []).append(re.escape(word[1:]))
    return "|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in rests.items()) or "(?!)"


# How names end that hold secrets: compared before each mark, before the whole name is looked at.
_NAMES_END: Final = (
    *("key", "ken", "ret", "ord", "swd", "pwd", "ase", "ode", "uth", "jwt", "otp", "ial", "als"),
    *("kie", "sig", "ure", "yid", "sid", "-id", "pid", "ign", "mac", "ass", "rer", "ssn", "cvv"),
)


_ENDS: Final = one_of(
    {*_NAMES_END, *map(str.upper, _NAMES_END), *map(str.title, _NAMES_END), "yId", "sId"}
)
NAMED: Final = re.compile(f"=(?<=(?:{_ENDS})=)")
ENCODED: Final = re.compile(f"%3[Dd](?<=(?:{_ENDS})%3[Dd])")
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


class NamedValue(NamedTuple):
    """A name, and where its secret value begins and ends."""

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
    """Return whether a machine made a value up: not a name, a number or a path."""
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


def pairs_in(text: str, named: re.Pattern[str] = NAMED) -> Iterator[NamedValue]:
    """Yield names and values of which the value is a secret.

    With `ENCODED`, the whole URL is escaped inside another one.
    """
    done = 0
    for found in named.finditer(text):
        pair = _pair_at(text, found) if found.start() >= done else None
        if pair is not None:
            done = pair.stop
            is_call = named is not NAMED or text[done : done + 1] in {"(", "["}
            if pair.is_parameter or not is_call:
                yield pair


def _pair_at(text: str, found: re.Match[str]) -> NamedValue | None:
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
        return NamedValue(name, *value.span(), is_parameter=True)
    option = name.lstrip("-")
    if not (name.isupper() or (len(name) - len(option) == 2)) or not _names_a_secret(option):
        return None
    value = _VALUE_OF_LINE.match(text, found.end())
    if value is None or value[0].strip("\"'").lower() in _HARMLESS:
        return None
    start = value.start() + (value["quote"] is not None)
    return NamedValue(option, start, value.end(), is_parameter=False)


def members_in(text: str) -> Iterator[NamedValue]:
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
            yield NamedValue(name, *value.span(), is_parameter=False)


# --- options of commands: `--password hunter2`, and the same as items of a list

_OPTION: Final = re.compile(
    r"(?<![\w-])--(?P<name>[A-Za-z][A-Za-z0-9_-]{0,70}+)"
    r"(?:[ \t]|(?P<item>\\?[\"'])\s{0,16}+,\s{0,16}+(?P=item))(?=[^\s-])"
)
_WORD: Final = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*+")
_COMMAND: Final = re.compile(r"[\s$#>%]*+[a-z0-9_.~/\\-][\w.~/\\-]*+\s")
_COMMAND_CHARS: Final = 512
_BOUNDS: Final = re.compile(r"[\r\n\"'`|;&(){}]")
_PROSE: Final = words(
    "a about add added after also an and are argument arguments as at be because before both but by"
    " can do does either fix fixed flag flags for from handle handling has have here if in instead"
    " into is it its just may must need needs no not now of on only option options or parameter"
    " parameters pass passed please requires should so support supports than that the then there"
    " these this to unless until use used uses using via was we were when where which will with"
    " without you your"
)
"""Words that a sentence has, and a command seldom."""


def options_in(text: str) -> Iterator[NamedValue]:
    """Yield options of a command whose value is a secret, behind a blank or as the next item."""
    done = 0
    for found in _OPTION.finditer(text):
        if found.start() < done or not _names_a_secret(found["name"]):
            continue
        item = found["item"]
        value = (_VALUE_OF_LINE if item is None else _CLOSED[item]).match(text, found.end())
        if value is None or len(value[0]) < 4 or value[0].strip("\"'").lower() in _HARMLESS:
            continue
        start, stop = value.span()
        if item is None and value["quote"] is not None:
            start += 1
        elif item is None:
            stop = start + len(value[0].rstrip(".:!?"))
            if not _is_value(text, found.start(), start, stop):
                continue
        done = stop
        yield NamedValue(found["name"], start, stop, is_parameter=False)


def _is_value(text: str, option_at: int, start: int, stop: int) -> bool:
    """Return whether a word behind an option is its value, and not the next word of a sentence.

    A word of letters alone is a value only in a command, which begins with a lower-case word and
    has none of the words of a sentence.
    """
    word = text[start:stop]
    if word.isupper() and (names_a_secret(word) or word == "KEY"):
        return False  # a placeholder, as in `--token TOKEN`
    if _WORD.fullmatch(word) is None:
        return True
    before = _BOUNDS.split(text[max(0, option_at - _COMMAND_CHARS) : option_at])[-1]
    after = _BOUNDS.split(text[start : stop + _COMMAND_CHARS], maxsplit=1)[0]
    if _COMMAND.match(before) is None:
        return False
    return _PROSE.isdisjoint(word.lower().strip(".,:!?") for word in f"{before} {after}".split())
