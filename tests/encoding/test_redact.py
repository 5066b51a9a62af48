"""Which names are secrets, and what is taken out of text."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.encoding.redaction import Redactor
from autotrace.semconv import REDACTED

SECRET_NAMES = """
password Password PASSWORD passwd pwd passphrase passcode pass_word passWord user_password
userPassword user-password USER_PASSWORD userpassword mypassword db.password password2 password_1
new_password password_confirmation passwordConfirm password_hash passwordhash hashed_password
secret client_secret clientSecret clientsecret CLIENT_SECRET secret_value secretString app-secret
secrets SECRET_KEY_BASE
token access_token accessToken accesstoken ACCESS_TOKEN refresh_token id_token idToken auth_token
authtoken bot_token botToken csrf_token X-Auth-Token X-Amz-Security-Token GITHUB_TOKEN HF_TOKEN
token_for_alice refresh_tokens access_tokens session_token
api_key apiKey apikey API_KEY api-key X-API-Key x_api_key api.key apiKeys openai_api_key
OPENAI_API_KEY openai_key google_api_key_value
authorization Authorization AUTHORIZATION Proxy-Authorization auth basic_auth auth_header
authorization_code authorization_header
cookie Cookie cookies set-cookie Set-Cookie setCookie cookie_header
credential credentials creds aws_credentials credentials_json
private_key privateKey privatekey PRIVATE_KEY private_key_pem ssh_key signing_key encryption_key
access_key accessKey aws_secret_access_key AWS_SECRET_ACCESS_KEY account_key AccountKey
session_key sessionKey sessionkey client_key_data
connection_string connectionString connectionstring ConnectionString conn_str connection-string
bearer bearer_token jwt JWT jwt_token
ssn SSN user_ssn social_security_number socialSecurityNumber
cvv cvv2 cvc card_cvv CVV security_code
card_number cardNumber cardnumber CARD_NUMBER credit_card_number creditCardNumber card-number
cc_number PGPASSWORD MYSQL_PWD smtp_pass dbPass otp
"""

OPEN_NAMES = """
max_tokens maxTokens MAX_TOKENS total_tokens token_count tokenCount prompt_tokens input_tokens
output_tokens completion_tokens cached_tokens tokens num_tokens n_tokens tokenizer tokenize
detokenized next_token_logits token_limit token_ids token_id token_type token_usage
tokens_per_second
eos_token bos_token pad_token mask_token first_token time_to_first_token next_token nextPageToken
page_token next_page_token cost_of_token tokens_used max_completion_tokens
author authors authorship authority authorized authored_by authenticated auth_method auth_type
auth_url secretary secretariat keyboard key keys primary_key foreign_key public_key partition_key
sort_key hotkey monkey turkey keyword keywords key_name password_policy password_reset_url
password_length secret_name session_id passenger passengers saved_passengers passage bypass compass
boarding_pass pass card card_type credit_card_4421486 gift_card_7091239 payment_methods
cookie_policy
cookbook bearing connection connection_id string access accessibility number private query limit url
name title results content accession discord record credit created_at description
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_the_name_of_a_secret_is_known_in_any_style(name: str) -> None:
    assert Redactor().is_secret(name)


@pytest.mark.parametrize("name", OPEN_NAMES.split())
def test_a_name_that_only_sounds_like_a_secret_stays_open(name: str) -> None:
    assert not Redactor().is_secret(name)


STYLES: list[Callable[[list[str]], str]] = [
    "_".join,
    "-".join,
    ".".join,
    " ".join,
    "".join,
    lambda words: "_".join(words).upper(),
    lambda words: words[0] + "".join(word.title() for word in words[1:]),
    lambda words: "".join(word.title() for word in words),
]


@given(
    words=st.sampled_from(
        ["api key", "access token", "private key", "session key", "client secret",
         "connection string", "card number", "refresh token", "secret key"]
    ),
    owner=st.sampled_from(["", "my", "stripe", "user", "legacy v2"]),
    style=st.sampled_from(STYLES),
)  # fmt: skip
def test_every_style_of_a_secret_name_is_known_with_any_owner(
    words: str, owner: str, style: Callable[[list[str]], str]
) -> None:
    assert Redactor().is_secret(style([*owner.split(), *words.split()]))


def test_more_names_hold_exactly_and_in_any_case() -> None:
    redactor = Redactor(extra_keys=["Internal_Note"])

    assert redactor.is_secret("internal_note")
    assert redactor.is_secret("INTERNAL_NOTE")
    assert not redactor.is_secret("internal_notes")
    assert not redactor.is_secret("internalNote")


def test_an_allowed_name_is_recorded_unless_it_is_also_named_explicitly() -> None:
    redactor = Redactor(allow_keys=["token", "auth"], extra_keys=["AUTH"])

    assert not redactor.is_secret("Token")
    assert redactor.is_secret("auth")
    assert redactor.is_secret("access_token")
    assert redactor.rule(frozenset({"token"})).is_secret("token")


def test_switched_off_only_explicit_names_and_values_are_redacted() -> None:
    redactor = Redactor(enabled=False, extra_keys=["note"])

    assert not redactor.is_secret("password")
    assert redactor.is_secret("note")
    assert redactor.rule(frozenset({"Iban"})).is_secret("iban")
    assert redactor.text("password=abc note=xyz s3cr3t", ["s3cr3t"]) == (
        f"password=abc note={REDACTED} {REDACTED}"
    )


def test_verdicts_are_the_same_when_far_more_names_were_asked_than_are_remembered() -> None:
    redactor = Redactor()

    verdicts = [redactor.is_secret(f"field_{number}") for number in range(20_000)]

    assert not any(verdicts)
    assert redactor.is_secret("password")
    assert len(redactor.rule().clean) <= 4096


def test_a_name_of_a_megabyte_is_decided_by_its_end() -> None:
    redactor = Redactor()

    assert redactor.is_secret("x" * 1_000_000 + "_password")
    assert not redactor.is_secret("password_" + "x" * 1_000_000)


# --- text

SK = "sk-proj-abcDEF1234567890abcd"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
BASIC = base64.b64encode(b"user:pass").decode()

OWN = f"atk_0123456789ab_{'A1-_' * 12}x"
SHOWN = f"atk_0123456789ab_{REDACTED}"

TEXTS = [
    ("connect failed: password=hunter2 host=x", f"connect failed: password={REDACTED} host=x"),
    ("{'password': 'hun\\'ter2', 'a': 1}", f"{{'password': '{REDACTED}', 'a': 1}}"),
    ('{"api_key": "k k k", "b": 2}', f'{{"api_key": "{REDACTED}", "b": 2}}'),
    (r'{\"password\": \"hunter2\", \"a\": 1}', rf'{{\"password\": \"{REDACTED}\", \"a\": 1}}'),
    ("token=b'abc' next", f"token=b'{REDACTED}' next"),
    ('secret := "x y"', f'secret := "{REDACTED}"'),
    ("API key: abc123 ok", f"API key: {REDACTED} ok"),
    ("PGPASSWORD=abc psql", f"PGPASSWORD={REDACTED} psql"),
    ("--api-key=abc run", f"--api-key={REDACTED} run"),
    ("credentials={'user': 'a', 'pw': ['b']} end", f"credentials={REDACTED} end"),
    ("Config(token=Token(value='a b'), n=1)", f"Config(token={REDACTED}, n=1)"),
    ("password = 'no end", f"password = '{REDACTED}"),
    ("password='two\nlines", f"password='{REDACTED}\nlines"),
    ("https://x.y/z?access_token=abc&limit=5", f"https://x.y/z?access_token={REDACTED}&limit=5"),
    ("Authorization: Bearer abc.def-123\nHost: x", f"Authorization: {REDACTED}\nHost: x"),
    ("authorization: Digest a=\"b\", c=\"d\"\nx", f"authorization: {REDACTED}\nx"),
    ("curl -H 'Cookie: a=1; b=2' https://x", f"curl -H 'Cookie: {REDACTED}' https://x"),
    ("{'Authorization': 'Basic abc', 'n': 1}", f"{{'Authorization': '{REDACTED}', 'n': 1}}"),
    ("401 for Bearer abcdef123456", f"401 for Bearer {REDACTED}"),
    ("401 for BEARER abcdef123456", f"401 for BEARER {REDACTED}"),
    (f"sent Basic {BASIC} twice", f"sent Basic {REDACTED} twice"),
    ("postgres://u:p@ss@h:5432/db", f"postgres://u:{REDACTED}@h:5432/db"),
    ("redis://:pw@h", f"redis://:{REDACTED}@h"),
    (f"keys {SK} and ghp_{'a1' * 18}", f"keys {REDACTED} and {REDACTED}"),
    (f"github_pat_{'a1_' * 8}.", f"{REDACTED}."),
    ("xoxb-12345678901-abc", REDACTED),
    ("AKIAIOSFODNN7EXAMPLE", REDACTED),
    ("AIzaSyA-1234567890abcdefghijklmnopqrstuv", REDACTED),
    (f"jwt {JWT} end", f"jwt {REDACTED} end"),
    (f"a {PEM} b", f"a {REDACTED} b"),
    (f"private_key: {PEM}", f"private_key: {REDACTED}"),
    ("-----BEGIN PRIVATE KEY-----\ncut off here", REDACTED),
    (f"401 for {OWN}; ask", f"401 for {SHOWN}; ask"),
    (f"curl -H 'X: {OWN}'", f"curl -H 'X: {SHOWN}'"),
    (f"GET /x?q={OWN}&n=1", f"GET /x?q={SHOWN}&n=1"),
    (f"a%20{OWN}%20b", f"a%20{SHOWN}%20b"),
    (f"x{OWN}", f"x{SHOWN}"),
    (OWN.replace("_", "%5F"), SHOWN.replace("_", "%5F")),
    (f"authorization%3DBearer%20{OWN}", f"authorization%3DBearer%20{SHOWN}"),
    ("headers=x-y=Bearer%20abcdef123456", f"headers=x-y=Bearer%20{REDACTED}"),
    (f"k%3D{SK}%26", f"k%3D{REDACTED}%26"),
    (f"k%3D{JWT}%26", f"k%3D{REDACTED}%26"),
    ("k%3DAKIAIOSFODNN7EXAMPLE%26", f"k%3D{REDACTED}%26"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_secrets_are_taken_out_of_text(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=512, total_tokens: 3",
        "password=None, token='', secret: null, auth=True",
        "task-0193abcd-0193abcd-0193abcd and risk-1234567890123456",
        "basic understanding of basic authentication",
        "Bearer token required",
        "sk-learn-contrib-packages",
        "atk_0123456789ab_short and atk_, atk",
        "http://host:8080/path@2x.png at 12:30",
        "the key: to sort by author: Kafka",
        "std::string token::value",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "",
    ],
)
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert Redactor().text(text) == text


@given(
    before=st.text(max_size=30),
    after=st.text(max_size=30),
    secret=st.sampled_from(
        [OWN, SK, JWT, "ghp_" + "A1" * 10, "xoxp-0123456789ab", "AKIAIOSFODNN7EXAMPLE"]
    ),
)
def test_a_known_format_is_found_in_any_surroundings(before: str, after: str, secret: str) -> None:
    assert secret not in Redactor().text(f"{before} {secret} {after}")


PIECES = st.sampled_from(
    [
        "password", "token", "authorization", "cookie", "key", "=", ":", " ", "'", '"', "\\", "\n",
        "{", "}", "(", ")", "[", "]", ",", "abc", "1234", "://", "@", "Bearer ", "Basic ", "sk-",
        "-----BEGIN PRIVATE KEY-----", "-----END", "eyJ", ".", REDACTED, "é",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    redactor = Redactor()
    once = redactor.text(text)

    assert redactor.text(once) == once


ADVERSARIAL = [
    "a", "a=", "token=", "token='", 'token="\\', 'token=\\"', 'token=\\\\\\"x\n', "token={",
    "token=(", "api key",
    '"cookie:x', "'cookie:x\n\"cookie:x\n", "-----BEGIN PRIVATE KEY-----", "sk-", "sk-a", "eyJ",
    "eyJaaaaaaa.", "://:", "://a:b", "bearer a", "basic aaaaaaaa=", "github_pat_", "xoxb-",
    "atk_", "atk_0123456789ab_", "atk%5F", "%20sk-", "bearer%20a",
]  # fmt: skip


@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_a_megabyte_made_to_confuse_takes_one_pass(unit: str) -> None:
    """Two nested passes over a megabyte are 10^12 steps: the test would not end."""
    text = unit * (1_000_000 // len(unit))

    shown = Redactor().text(text)

    assert len(shown) <= len(text) * len(REDACTED)


# --- known values


def test_known_values_are_taken_out_wherever_they_stand() -> None:
    shown = Redactor().text("no hunter2 in XhunterX or 'hunter2hunter2'", ["hunter2", "XhunterX"])

    assert shown == f"no {REDACTED} in {REDACTED} or '{REDACTED}'"


def test_known_values_are_found_escaped_as_in_a_repr_or_in_json() -> None:
    secret = 'a"b\\c\nd'

    shown = Redactor().text(f"{secret} {secret!r} " + r'"a\"b\\c\nd"', [secret])

    assert shown == f"{REDACTED} '{REDACTED}' \"{REDACTED}\""


def test_known_values_of_three_characters_stay() -> None:
    assert Redactor().text("the cat sat", ["cat", ""]) == "the cat sat"


@given(
    secrets=st.lists(
        st.text(alphabet="[REDACT]abcd", min_size=4, max_size=8), min_size=1, max_size=6
    ),
    text=st.text(alphabet="[REDACT]abcd ", max_size=200),
)
def test_known_values_that_overlap_never_make_text_grow_beyond_one_marker_each(
    secrets: list[str], text: str
) -> None:
    shown = Redactor(enabled=False).text(text, secrets)

    assert len(shown) <= len(text) * len(REDACTED) / 4


# --- counters and the hook


def test_every_redaction_in_text_is_counted() -> None:
    counts: Counter[str] = Counter()
    redactor = Redactor(count=lambda name: counts.update([name]))

    redactor.text(f"password=abc {SK} s3cr3t", ["s3cr3t"])

    assert counts == {"redacted": 3}


def test_a_hook_that_raises_hides_the_value_and_is_counted() -> None:
    counts: Counter[str] = Counter()

    def hook(path: str, value: object) -> object:
        raise ValueError(path)

    redactor = Redactor(hook=hook, count=lambda name: counts.update([name]))

    assert redactor.hooked("arguments.x", "value") == REDACTED
    assert counts == {"hook_errors": 1, "redacted": 1}
