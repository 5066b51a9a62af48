"""Notices as messages for Slack-compatible webhooks. Pure.

Agents choose the texts of a notice, so none is sent as markup: prose goes into blocks of plain
text, JSON into a code block that it cannot end. A cut text names the number of missing characters;
the hash and the list of hidden arguments are never cut off by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from autotrace.base.visible_text import visible

_HEADER_CHARACTERS: Final = 150
_TEXT_CHARACTERS: Final = 3_000
"""Limit of Slack for a block; it refuses longer messages."""
_ARGUMENTS_CHARACTERS: Final = 2_500
_HIDDEN_CHARACTERS: Final = 1_000
_FENCE: Final = "```"
_MENTION: Final = re.compile("@(?=here|channel|everyone)", re.IGNORECASE)
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def slack_message(notice: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notice as a message for a Slack-compatible webhook."""
    title = str(notice.get("title") or f"Approval requested: {notice['intent']}")
    decision_id = str(notice["decision_id"])
    whole = f"'autotrace decisions show {decision_id}' shows all"
    answer = notice["answer"]
    commands = f"{answer['approve']}\n{answer['reject']}"
    sections = [
        *(
            [_to_plain_text(notice["message"], _TEXT_CHARACTERS, whole)]
            if notice.get("message")
            else []
        ),
        _to_plain_text("\n".join(_facts(notice)), _TEXT_CHARACTERS, whole),
        *([_arguments(notice["arguments"], whole)] if notice.get("arguments") is not None else []),
        _code(commands, _TEXT_CHARACTERS, whole),
    ]
    return {
        "text": _cut(f"{title}: {answer['approve']}", _TEXT_CHARACTERS, _unmarked, ""),
        "mrkdwn": False,
        "blocks": [
            {"type": "header", "text": _to_plain_text(title, _HEADER_CHARACTERS, "")},
            *({"type": "section", "text": section} for section in sections),
        ],
    }


def _facts(notice: Mapping[str, Any]) -> list[str]:
    facts = [f"Decision {notice['decision_id']} ({notice['intent']})"]
    facts.append(f"Asked by {notice['requester']}")
    if notice.get("expires_at"):
        facts.append(f"Expires {notice['expires_at']}")
    if notice.get("approvals_needed", 1) > 1:
        facts.append(f"Approvals needed: {notice['approvals_needed']}")
    if notice.get("require_rationale"):
        facts.append("A reason is required")
    tool: Mapping[str, Any] | None = notice.get("tool")
    if tool:
        facts.append(f"Runs {tool.get('module')}.{tool.get('qualname')}")
    if notice.get("arguments_sha256"):
        facts.append(f"SHA-256 {notice['arguments_sha256']}")
    hidden: Sequence[str] = notice.get("hidden") or ()
    if hidden:
        names = _cut(", ".join(hidden), _HIDDEN_CHARACTERS, str, "")
        facts.append(f"Hidden from you, and part of what runs ({len(hidden)}): {names}")
    return facts


def _to_plain_text(text: Any, characters: int, whole: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": _cut(str(text), characters, _escaped, whole)}


def _code(text: str, characters: int, whole: str) -> dict[str, Any]:
    room = characters - 2 * len(_FENCE)
    return {"type": "mrkdwn", "text": f"{_FENCE}{_cut(text, room, _in_code, whole)}{_FENCE}"}


def _arguments(arguments: Any, whole: str) -> dict[str, Any]:
    return _code(json.dumps(arguments, ensure_ascii=False, indent=1), _ARGUMENTS_CHARACTERS, whole)


def _escaped(text: str) -> str:
    """Return text without mentions or links of Slack."""
    for character, entity in _ENTITIES.items():
        text = text.replace(character, entity)
    return _MENTION.sub("\uff20", text)


def _unmarked(text: str) -> str:
    """Return text without backticks, as some services ignore `mrkdwn: false`."""
    return _escaped(text.replace("`", "'"))


def _in_code(text: str) -> str:
    """Return text that cannot end a code block: JSON has an escape for the backtick."""
    return _escaped(text.replace("`", "\\u0060"))


def _cut(text: str, characters: int, escape: Callable[[str], str], whole: str) -> str:
    """Return visible, escaped text of at most `characters`; name the number of missing ones.

    `whole` names the command that shows the whole text.
    """
    text = visible(text)
    if len(text) <= characters and len(shown := escape(text)) <= characters:
        return shown
    note = f"… [{len(text):,} characters are missing" + (f": {whole}]" if whole else "]")
    room = characters - len(escape(note))
    kept = max(0, min(room, len(text)))
    while kept and len(escape(text[:kept])) > room:
        kept -= max(1, (len(escape(text[:kept])) - room) // 6)
    return escape(text[:kept] + note.replace(f"{len(text):,}", f"{len(text) - kept:,}", 1))
