r"""Write out the characters of a text that a reader would not see, or would be misled by.

Control characters steer terminals, bidirectional marks reorder text, and invisible
characters make two texts look alike. Each becomes an escape such as `\u202e`. An emoji keeps the
joiner and the variation selector that belong to it. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_CHARACTERS: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls except tab and newline
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, bidirectional marks
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"  # other format characters
    "\ud800-\udfff"  # halves of surrogate pairs
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # private use
)
_SPACES: Final = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
"""Spaces that are not U+0020: usual in prose, and not to be taken for one in a command."""
_UNSEEN: Final = re.compile(f"[{_CHARACTERS}]")
_MISTAKABLE: Final = re.compile(f"[{_CHARACTERS}{_SPACES}]")
_MAX_RUN: Final = 63
_RUN: Final = re.compile(f" {{{_MAX_RUN + 1},}}")
"""Spaces that push what follows them out of sight: to the right, or some screens down."""
_EMOJI_SELECTOR: Final = "\ufe0f"
_JOINER: Final = "\u200d"


def is_visible(text: str) -> bool:
    """Return whether a text shows everything that it holds, and each space is U+0020.

    A run of 64 spaces or more hides the text behind it.
    """
    return _RUN.search(text) is None and all(
        _belongs_to_emoji(match) for match in _MISTAKABLE.finditer(text)
    )


def visible(text: str) -> str:
    r"""Return prose with what would not be seen written out: ESC is `\x1b`."""
    return _UNSEEN.sub(_written_out, text)


def escaped(text: str) -> str:
    r"""Return a text that `is_visible`, with backslashes doubled: no two texts become one.

    A run of n spaces is written `\x20{n}`.
    """
    written = _MISTAKABLE.sub(_written_out, text.replace("\\", "\\\\"))
    return _RUN.sub(lambda run: f"\\x20{{{len(run[0])}}}", written)


def _written_out(match: re.Match[str]) -> str:
    if _belongs_to_emoji(match):
        return match[0]
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _belongs_to_emoji(match: re.Match[str]) -> bool:
    character = match[0]
    if character not in (_EMOJI_SELECTOR, _JOINER):
        return False
    text, at = match.string, match.start()
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if character == _EMOJI_SELECTOR:
        return _is_symbol(before)
    return (_is_symbol(before) or before == _EMOJI_SELECTOR) and _is_symbol(after)


def _is_symbol(character: str) -> bool:
    return bool(character) and (
        unicodedata.category(character) == "So" or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
