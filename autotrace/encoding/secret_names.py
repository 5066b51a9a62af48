"""Decide which names hold secrets: the rule of redaction by key.

A name is split into words (`X-Api-Key`, `apiKey` and `API_KEY` are all `api key`), words for the
form of the secret (`value`, `hash`, `header`) are dropped from its end, and its last words then
decide. So `db_password_hash` is a secret, and `password_policy` is not;
`refreshToken` is, and `max_tokens`, `eos_token` and `next_page_token` are not.
"""

from __future__ import annotations

import re
from typing import Any, Final

_MEMO_KEYS: Final = 4096
MEMO_KEY_CHARS: Final = 128
"""Names longer than this are decided by their end, and not remembered."""

_HINT: Final = re.compile(
    r"pass|pwd|secret|token|key|auth|cook|cred|bearer|jwt|ssn|cv[vc]|card|conn|otp|cc_?n|security"
)
"""Every secret name contains one of these, so that most names cost one search."""

_OPTION: Final = re.compile(r"--[A-Za-z][A-Za-z0-9_-]{0,70}")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def _pairs(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(pair.split()) for pair in text.split("|"))


_FORM: Final = words(
    "value string raw plain plaintext hash hashed salt base hex pem json bytes encoded encrypted"
    " confirm confirmation repeat again new old input param parameter header env var data"
)
"""Last words that name the form of a secret and not another thing about it."""

_SECRET_WORDS: Final = words(
    "password passwords passwd passwds pwd pwds passphrase passphrases passcode passcodes passkey"
    " passkeys secret secrets authorization auth cookie cookies credential credentials cred creds"
    " bearer jwt jwts ssn ssns cvv cvvs cvc cvcs otp totp"
)

_SECRET_PAIRS: Final = _pairs(
    "pass word|pass phrase|pass code|pass wd|connection string|connection strings|connection str"
    "|conn string|conn str|card number|card numbers|card num|card no|card pin|cc number|cc num"
    "|social security|security number|security code|auth code|authorization code"
)

_KEY_OWNERS: Final = words(
    "api access private secret session signing encryption decryption master account storage"
    " service ssh rsa pgp gpg hmac aes tls ssl deploy subscription shared auth client app"
    " application consumer openai anthropic aws azure gcp google github stripe"
)
"""`key` is a secret only after one of these: a `primary_key` or a `sort_key` is not."""

_PASS_OWNERS: Final = words(
    "user db database smtp imap mail email admin root login ftp sudo basic redis mysql postgres"
    " pg proxy ldap"
)
"""`pass` is a secret only after one of these: a `boarding_pass` is not."""

_OPEN_TOKENS: Final = words(
    "next page pagination continuation sync bos eos pad unk cls sep mask special stop first last"
    " per max min num total input output prompt completion start end begin every image audio"
    " thinking reasoning cached predicted sampled generated target vocab sub"
)
"""`token` is a secret except after one of these: paging, and the tokens of language models."""

_TOKEN_OWNERS: Final = words(
    "access refresh api auth oauth bearer session secret security csrf xsrf id user bot"
)
"""`tokens` is a secret only after one of these: everywhere else it is a count or a text."""

_RUN_TOGETHER: Final = (
    "password", "passwords", "passwordhash", "passwd", "passphrase", "pwd", "secret", "secrets",
    "apikey", "apikeys", "secretkey", "privatekey", "accesskey", "sessionkey", "signingkey",
    "encryptionkey", "masterkey", "accountkey",
    "accesstoken", "refreshtoken", "authtoken", "sessiontoken", "bearertoken", "apitoken",
    "idtoken", "usertoken", "bottoken", "securitytoken", "csrftoken",
    "authorization", "setcookie", "credential", "credentials", "connectionstring", "connstr",
    "cardnumber", "ccnumber",
)  # fmt: skip
"""Ends of names written as one word, such as `clientsecret`."""


def _ends_in_secret(parts: list[str]) -> bool:
    last = parts[-1]
    before = parts[-2] if len(parts) > 1 else ""
    if last in _SECRET_WORDS or (before, last) in _SECRET_PAIRS or last.endswith(_RUN_TOGETHER):
        return True
    if last in {"key", "keys"}:
        return before in _KEY_OWNERS
    if last == "token":
        return before not in _OPEN_TOKENS
    if last == "tokens":
        return before in _TOKEN_OWNERS
    return last == "pass" and before in _PASS_OWNERS


def names_a_secret(key: str) -> bool:
    """Return whether a name in any style names a secret, by the built-in rule."""
    end = key[-MEMO_KEY_CHARS:]
    if _HINT.search(end.lower()) is None:
        return False
    parts = [word.lower() for word in _WORD.findall(end)]
    for joint in ("of", "for"):  # the token_for_alice is a token, the cost_of_token a cost
        if joint in parts[1:]:
            parts = parts[: parts.index(joint, 1)]
    while parts:
        if _ends_in_secret(parts):
            return True
        if parts.pop() not in _FORM:
            return False
    return False


class KeyRule:
    """The rule for one set of explicit names in lower case, with a bounded memory of its verdicts.

    `builtin` switches `names_a_secret`. `secret` names win over `allowed` ones.
    """

    __slots__ = ("_allowed", "_builtin", "_explicit", "_open", "_secret", "clean")

    def __init__(self, *, builtin: bool, secret: frozenset[str], allowed: frozenset[str]) -> None:
        self._builtin = builtin
        self._explicit = secret
        self._allowed = allowed
        self._secret: set[str] = set()
        self._open: set[str] = set()
        self.clean: set[str] = set()
        """Names known neither to name a secret nor to hold one; the hot path looks here first."""

    @property
    def explicit(self) -> frozenset[str]:
        """The names that are secrets regardless of the built-in rule, in lower case."""
        return self._explicit

    def with_names(self, names: frozenset[str]) -> KeyRule:
        """Return this rule with more explicit names, in any case."""
        return KeyRule(
            builtin=self._builtin,
            secret=self._explicit | {name.lower() for name in names},
            allowed=self._allowed,
        )

    def is_secret(self, key: str) -> bool:
        """Return whether the value of `key` must not be recorded."""
        if key in self._open:
            return False
        if key in self._secret:
            return True
        secret = self.decide(key)
        _add(self._secret if secret else self._open, key)
        return secret

    def is_secret_option(self, item: str) -> bool:
        """Return whether an item of a list is an option of a secret, such as `--password`."""
        return _OPTION.fullmatch(item) is not None and self.is_secret(item[2:])

    def is_option_value(self, item: Any, before: Any) -> bool:
        """Return whether an item of a list is the secret of the option before it."""
        if type(before) is not str or type(item) is not str or item.startswith("-"):
            return False
        return self.is_secret_option(before)

    def add_clean(self, key: str) -> None:
        """Keep a name that neither names a secret nor holds one."""
        _add(self.clean, key)

    def decide(self, key: str) -> bool:
        """Decide as `is_secret` does, without the memory: for words out of running text."""
        if self._explicit or self._allowed:
            lowered = key.lower()
            if lowered in self._explicit:
                return True
            if lowered in self._allowed:
                return False
        return self._builtin and names_a_secret(key)


def _add(memo: set[str], key: str) -> None:
    if len(key) <= MEMO_KEY_CHARS:
        if len(memo) >= _MEMO_KEYS:
            memo.clear()
        memo.add(key)
