"""Secrets that are known by their looks are taken out of what is recorded, and nothing else."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from re import _constants as sre
from re import _parser as sre_parser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

import autotrace
from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.encoding.secret_formats import MARKED, SIGNED, TOKENS, URLS
from autotrace.encoding.secret_tokens import credentials_in, may_hold_secret, scrub_formats
from autotrace.semconv import REDACTED
from tests.conftest import Configure

DATA = Path(__file__).parents[1] / "data"
RECORDED = Path(__file__).parents[3] / "shared" / "data"
"""More recorded runs, where they lie beside this checkout."""
RANDOM = Random(11)
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"


def _one_of(choices: list[Any]) -> str:
    members: list[str] = []
    for kind, argument in choices:
        if kind is sre.LITERAL:
            members.append(chr(argument))
        elif kind is sre.RANGE:
            members += map(chr, range(argument[0], argument[1] + 1))
        elif kind is sre.CATEGORY and argument is sre.CATEGORY_DIGIT:
            members += string.digits
        else:
            members += string.ascii_letters + string.digits
    return RANDOM.choice(members)


def example_of(tree: Any) -> str:
    """Make a text that a pattern of the table matches; no shorter than the pattern asks for."""
    made = ""
    for kind, argument in tree:
        if kind is sre.LITERAL:
            made += chr(argument)
        elif kind is sre.IN:
            made += _one_of(argument)
        elif kind is sre.SUBPATTERN:
            made += example_of(argument[3])
        elif kind is sre.BRANCH:
            made += example_of(RANDOM.choice(argument[1]))
        elif kind in {sre.MAX_REPEAT, sre.POSSESSIVE_REPEAT}:
            low, _, inner = argument
            made += "".join(example_of(inner) for _ in range(low))
    return made


EXAMPLES = [
    (f"{row.name} {prefix}", prefix + example_of(sre_parser.parse(row.rest)))
    for row in TOKENS
    for prefix in row.prefixes
]
OTHERS = {
    "Azure AD": "abc8Q~" + "xY7_" * 9,
    "Atlassian": "ATATT3xFfGF0" + "aB3-" * 40 + "=1A2B3C4D",
    "Databricks": "dapi" + "0123456789abcdef" * 2,
    "Discord bot": "MTIzNDU2Nzg5MDEyMzQ1Njc4.GhIjKl." + "aB3_" * 7,
    "Telegram": "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "Twilio": "SK" + "0123456789abcdef" * 2,
    "Azure OpenAI": "aB3d" * 13 + "JQQJ99" + "aB3d" * 6 + "aB",
    "Amazon Bedrock": "ABSK" + "aB3d" * 28,
    "JFrog": "AKCp" + "aB3d" * 17 + "x",
    "Square": "EAAA" + "aB3d" * 15,
    "Bitbucket": "ATBB" + "aB3d" * 8,
    "OpenShift": "sha256~" + "aB3d" * 10 + "xyz",
    "PayPal": "access_token$production$" + "ab3d" * 4 + "$" + "0123456789abcdef" * 2,
    "Airtable": "pat" + "aB3d" * 3 + "xY." + "0123456789abcdef" * 4,
    "Mailchimp": "0123456789abcdef" * 2 + "-us12",
    "Mailgun": "0123456789abcdef" * 2 + "-01234567-89abcdef",
    "Google refresh": "1//0" + "aB3-" * 12,
    "JWE": "eyJhbGciOiJkaXIi.." + "aB3d" * 5 + "." + "aB3d" * 20 + "." + "aB3d" * 5,
}


def secret_part(token: str) -> str:
    """Return the part of a token that must not be left, whatever of its beginning is."""
    return token[-12:]


@pytest.mark.parametrize("token", [token for _, token in EXAMPLES], ids=[n for n, _ in EXAMPLES])
def test_a_token_of_the_table_is_taken_out_wherever_it_stands(token: str) -> None:
    encoder = Encoder(Redactor())
    for text in (
        token,
        f"curl -H 'X-Thing: {token}' https://example.com",
        f"line\n{token}\n",
        f"a%20{token}%20b",
        f'{{"key": "{token}"}}',
        f"THING={token};",
        f"line\\n{token}\\n",
        f"\\u0022{token}\\u0022",
        f"\x1b[32m{token}\x1b[0m",
    ):
        assert secret_part(token) not in encoder.json({"command": text})
        assert secret_part(token) not in encoder.json([text.encode()])
        assert secret_part(token) not in encoder.text(text)
        _, message, stack = encoder.error(ValueError(text))
        assert secret_part(token) not in message + stack
    assert secret_part(token) not in encoder.json({token: 1})


@pytest.mark.parametrize("name", OTHERS)
def test_a_token_that_no_prefix_names_is_taken_out_too(name: str) -> None:
    token = OTHERS[name]
    for text in (token, f"a {token} b", f"line\n{token}"):
        assert secret_part(token) not in Encoder(Redactor()).json({"x": text})
        assert secret_part(token) not in Redactor().text(text)


def test_a_word_before_a_prefix_makes_it_another_word() -> None:
    words = [
        "xhf_" + "aB3" * 12, "half_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcd",
        "monkey-0123456789abcdef0123456789abcdef", "primary_key-0123456789abcdef",
        "call_AbCdEf1234567890abcdefgh", "toolu_01AbCdEf1234567890abcdefgh",
        "chatcmpl-AbCdEf1234567890abcdefgh", "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        "key-value-store-for-2026-reports", "hf_transfer_enabled_by_default_in_2026",
        "npm_config_registry_for_this_project", "sk_learn_pipeline_of_the_month_2026",
        "SKU0123456789abcdef0123456789abcdef", "dapiper", "s3://bucket/SK/2026",
        "SG.component.name_of_the_other_module", "module.pat.some_long_function_name_2",
        "tests_integration_and_more.system.test_very_long_function_name_here",
    ]  # fmt: skip

    assert {word: scrub_formats(word)[0] for word in words} == {word: word for word in words}


# --- URLs

HOOKS = [
    "https://hooks.slack.com/services/T00000000/B00000000/XXXXabcd1234efgh5678ijkl",
    "https://hooks.slack.com/workflows/T00000000/A00000000/123456789012345678/abcd1234efgh5678ijklmnop",
    "https://hooks.slack-gov.com/services/T00000000/B00000000/XXXXabcd1234efgh5678ijkl",
    "https://discord.com/api/webhooks/1234567890/abcDEF_ghiJKL-mnoPQR123456789abcDEF",
    "https://discordapp.com/api/v10/webhooks/1234567890/abcDEF_ghiJKL-mnoPQR123456789abcDEF",
    "https://x.webhook.office.com/webhookb2/0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f@0a1b2c3d-0a1b-2c3d-"
    "4e5f-0a1b2c3d4e5f/IncomingWebhook/0123456789abcdef0123456789abcdef/0a1b2c3d-0a1b-2c3d",
    "https://prod-01.westeurope.logic.azure.com/workflows/0a1b/triggers/manual/paths/invoke?sp=x&sig="
    + "aB3_" * 10,
    "https://hooks.zapier.com/hooks/catch/1234567/abc1de2",
    "https://api.telegram.org/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage",
    "https://open.feishu.cn/open-apis/bot/v2/hook/0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f",
    "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f",
    "https://webexapis.com/v1/webhooks/incoming/" + "Y2lzY29zcGFyazovL3VzL1dF",
    "https://hook.eu1.make.com/21t4wtf82gxg97h4mxwqm987hblds6n3",
    "https://chat.example.com/hooks/xen3k9rt7fgo8g1ptcsjuq8pya",
    "https://maker.ifttt.com/trigger/opened/with/key/o69VXHFIIvpjo0CKEbwYNtOiQbzhyfU",
    "https://chat.googleapis.com/v1/spaces/A/messages?key=AIza0&token=aB3_aB3_aB3_",
    "https://oapi.dingtalk.com/robot/send?access_token=" + SIGNATURE,
]


@pytest.mark.parametrize(
    "text",
    [
        '{"user": "ann", "password": "hunter2 is mine"}',
        "{'db_password': 'hunter2 is mine', 'port': 1}",
        json.dumps({"a": json.dumps({"apiKey": "hunter2 is mine"})}),
        "export DB_PASSWORD='hunter2 is mine'",
        "PORT=1\nDB_PASSWORD=hunter2\n",
        "mysql --password=hunter2 -h db",
        'curl -H "Authorization: Token hunter2hunter2" https://x',
        "curl -H 'X-Api-Key: hunter2hunter2' https://x",
        "curl -H 'authorization: Basic YW5uOmh1bnRlcjI=hunter2'",
        "Server=db;Uid=ann;Pwd=hunter2;",
        "AccountName=a;AccountKey=" + "aB3+" * 21 + "hunter2==",
        "DefaultEndpointsProtocol=https;SharedAccessKey=hunter2hunter2",
        "postgres://ann:hunter2@db/x", "mongodb+srv://ann:hunter2@db/x", "redis://:hunter2@db:1",
        "amqp://ann:hunter2@db", "postgres:\\/\\/ann:hunter2@db\\/x",
        "x?next=postgres%3A%2F%2Fann%3Ahunter2%40db",
        "https://b/r?a=1\\u0026token=hunter2hunter2",
        "Authorization: BEARER 0123hunter2", "bearer%200123hunter2",
        "-----BEGIN RSA PRIVATE KEY-----\\nhunter2\\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN%20PRIVATE%20KEY-----hunter2",
    ],
)  # fmt: skip
def test_a_secret_that_its_surroundings_name_is_taken_out_of_values(text: str) -> None:
    encoder = Encoder(Redactor())
    for value in (text, f"a\n{text}", text.encode(), {"x": [text]}):
        shown = encoder.json({"value": value})
        assert "hunter2" not in shown
        assert REDACTED in shown


@pytest.mark.parametrize(
    "text",
    [
        "def f(password: str, key=None): return token", "password = get_password()",
        "PASSWORD=$DB_PASSWORD", "API_KEY=${KEY}", 'TOKEN=""', "SECRET=<secret>", "AUTH=(1, 2)",
        '{"next_page_token": "abcdefgh", "max_tokens": "4096", "token_count": "12345"}',
        '{"password": null, "token": true, "key": "abcdefgh"}', "--password", "--token-count=5000",
        "authorization = authorization.split()", "a == b; x-api-key is a header",
        "https://example.com:8080/a@b", "ratio 1//0", "git@github.com:a/b.git",
    ],
)  # fmt: skip
def test_source_code_and_json_without_secrets_stay_as_they_are(text: str) -> None:
    assert scrub_formats(text) == (text, 0)


# --- options of commands

COMMANDS = [
    "mysql --user root --password hunter2 db", "mysql -u root --password hunter db",
    "docker login --password hunter", "cd /x && ./deploy.sh --api-key hunter",
    "$ gh auth login --token 'hunter is mine'", "run `psql --password hunter`, please",
    '["mysql", "--password", "hunter is mine", "db"]', "['mysql', '--password', 'hunter']",
    json.dumps({"cmd": json.dumps(["mysql", "--password", "hunter"])}),
    "Then you use --password hunter2.",
]  # fmt: skip


@pytest.mark.parametrize("text", COMMANDS)
def test_the_value_of_a_secret_option_is_taken_out_of_a_command(text: str) -> None:
    shown, count = scrub_formats(text)

    assert count == 1
    assert "hunter" not in shown
    assert scrub_formats(shown) == (shown, 0)
    assert may_hold_secret(text)
    assert "hunter" not in Encoder(Redactor()).json({"command": text})


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_value_of_a_secret_option_is_taken_out_of_a_list_of_arguments(
    kind: Callable[[list[str]], Any],
) -> None:
    found: list[str] = []
    arguments = ["mysql", "--password", "hunter", "--token", "--verbose", "--api-key", "x"]
    shown = ["mysql", "--password", REDACTED, "--token", "--verbose", "--api-key", REDACTED]

    text = Encoder(Redactor()).json({"argv": kind(arguments)}, found=found)
    span = Redactor().of_span({"attributes": {"process.command_args": arguments}})

    assert json.loads(text) == {"argv": shown}
    assert found == ["hunter"]
    assert span["attributes"]["process.command_args"] == shown


@pytest.mark.parametrize(
    "text",
    [
        "Use --password to give the password.", "Give it with --token authentication",
        "the --password option", "Both --user and --password require confirmation.",
        "--password requires confirmation", "cli: add --token support", "Fix --password handling",
        "  --token TOKEN  Access token of the server", "run [--password PASSWORD] [--api-key KEY]",
        "  --password    Ask for it", "mysql --password $PASSWORD", "login --token <token>",
        "pass --token.", "tool --max-tokens 4096 --next-token 12345", "-- drop the password table",
        '["-- drop the password", "table"]', "mysql --password --verbose", "git log --auth",
        "If you pass --api-key explicitly, the environment is ignored",
    ],
)  # fmt: skip
def test_a_sentence_about_an_option_stays_as_it_is(text: str) -> None:
    assert scrub_formats(text) == (text, 0)
    assert json.loads(Encoder(Redactor()).json([text])) == [text]


def test_a_key_that_holds_a_token_is_looked_at_each_time() -> None:
    encoder = Encoder(Redactor())
    key = "hf_" + "aB3d" * 9
    for _ in range(3):
        assert key not in encoder.json({key: 1, "x": {key: None}})


@pytest.mark.parametrize("url", HOOKS)
def test_a_url_that_is_a_credential_keeps_its_host_alone(url: str) -> None:
    secret = url.partition("AAHd")[2][:8] or url[-7:]
    for text in (url, f"POST {url} failed", f"see\n{url}", f"<{url}>"):
        for shown in (Encoder(Redactor()).json({"url": text}), Redactor().text(text)):
            assert secret not in shown
            assert url[:20] in shown


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_what_signs_a_url_is_taken_out_whatever_the_case_and_the_escapes(name: str) -> None:
    for spelled in (name, name.upper(), name.title()):
        for url in (
            f"https://b.example.com/r.pdf?a=1&{spelled}={SIGNATURE}&b=2",
            f"https://b.example.com/r.pdf?{spelled}={SIGNATURE}",
            f"https://b.example.com/r.pdf?a=1&amp;{spelled}={SIGNATURE}&amp;b=2",
            f"https://x.example.com/?next=https%3A%2F%2Fb%2Fr%3Fa%3D1%26{spelled}%3D{SIGNATURE}%26b%3D2",
        ):
            shown = Encoder(Redactor()).json({"url": url})
            assert SIGNATURE not in shown
            assert shown == json.dumps(
                {"url": url.replace(SIGNATURE, REDACTED)}, separators=(",", ":")
            )
            assert SIGNATURE not in Redactor().text(f"Client error '403' for url '{url}'")


@pytest.mark.parametrize(
    "query",
    [
        "q=italian&limit=5", "key=name", "key=users/2026/0123456789abcdef0123.json", "appid=730",
        "page_token=abcdefgh12345678", "token=true", "author=ann&code=404", "sort_key=created_at",
        "code=not_found", "max_tokens=4096", "v=dQw4w9WgXcQ", "monkey=0123456789abcdefghij0",
        "token={token}", "token=<token>", "utm_campaign=token",
    ],
)  # fmt: skip
def test_a_query_without_secrets_stays_as_it_is(query: str) -> None:
    url = f"https://example.com/x?{query}#top"

    assert scrub_formats(url) == (url, 0)


# --- whatever opens the way to the exact patterns


PIECES = st.sampled_from(
    [
        *(token for _, token in EXAMPLES[::3]), *OTHERS.values(), *HOOKS, "?sig=" + SIGNATURE,
        " ", "\n", "\t", '"', "\\", "é", "a", "_", "-", ".", "%20", "=", "&", "/", "x" * 20,
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=6).map("".join))
def test_text_in_which_secrets_are_found_may_hold_some(text: str) -> None:
    _, count = scrub_formats(text)

    if count:
        assert may_hold_secret(text)


@given(st.lists(PIECES, max_size=6).map(" ".join))
def test_what_was_taken_out_once_is_taken_out_for_good(text: str) -> None:
    shown, _ = scrub_formats(text)

    assert scrub_formats(shown) == (shown, 0)


def test_an_approver_does_not_see_tokens_and_signatures_but_every_command() -> None:
    token = EXAMPLES[0][1]
    command = f"curl {HOOKS[0]} -H {token} 'https://b/r?sig={SIGNATURE}&token=rm+-rf+/&key=$(rm)'"

    hidden = [command[start:stop] for start, stop in credentials_in(command)]

    assert token in hidden
    assert SIGNATURE in hidden
    assert not any("rm" in part for part in hidden)


# --- the table


def test_every_row_says_where_its_format_is_described_and_when_it_was_read() -> None:
    for row in (*TOKENS, *MARKED, *URLS):
        assert re.search(r"\d{4}-\d{2}-\d{2}|^server/auth/api_keys\.py$", row.source), row
    assert [row.name.lower() for row in TOKENS] == sorted(row.name.lower() for row in TOKENS)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def test_no_text_of_recorded_agents_is_taken_for_a_secret() -> None:
    taken: dict[str, str] = {}
    every = [*DATA.rglob("*"), *RECORDED.rglob("*")]
    files = [path for path in every if path.suffix in {".json", ".jsonl", ".traj"}]
    for path in files:
        content = path.read_text(encoding="utf-8")
        lines = content.splitlines() if path.suffix == ".jsonl" else [content]
        for text in (text for line in lines for text in _texts(json.loads(line))):
            shown, count = scrub_formats(text)
            if count:
                taken[text] = shown

    assert len(files) > 5
    assert taken == {}


# --- where text is recorded


def test_no_text_of_a_trace_holds_a_token_or_a_signed_url(configure: Configure) -> None:
    configure()
    url = f"https://b.s3.amazonaws.com/r.pdf?X-Amz-Signature={SIGNATURE}"
    token = "hf_" + "aB3d" * 9

    @autotrace.tool
    def fetch(what: str) -> dict[str, str]:
        return {"next": what}

    @autotrace.tool
    def fails(page: str) -> None:
        raise RuntimeError(f"401 for url '{page}'")

    for secret in (url, token):
        with autotrace.task(f"get {secret}") as task:
            with autotrace.step(f"I fetch {secret}", action=f"call {secret}") as step:
                fetch(secret)
                with pytest.raises(RuntimeError):
                    fails(secret)
                step.observe(f"saw {secret}")
            task.complete(f"done with {secret}")
        assert autotrace.flush()
        shown = autotrace.get_trace(task.trace_id).model_dump_json()
        assert SIGNATURE not in shown
        assert token not in shown


# --- spans of others


def test_no_span_of_another_library_brings_a_token_to_the_disk(
    configure: Configure, provider: TracerProvider
) -> None:
    configure(tracer_provider=provider)
    token = "hf_" + "aB3d" * 9
    tracer = provider.get_tracer("some.framework")
    with tracer.start_as_current_span("invoke_agent x") as span:
        span.set_attribute("gen_ai.operation.name", "invoke_agent")
        span.set_attribute("gen_ai.input.messages", json.dumps([{"content": f"use {token}"}]))
        span.set_attribute("gen_ai.tags", ["a", token])
        span.add_event("exception", {"exception.message": f"401 for {token}"})
        span.set_status(Status(StatusCode.ERROR, f"401 for {token}"))

    spool = Path(autotrace.health().spool or "")
    written = b"".join(path.read_bytes() for path in spool.rglob("*") if path.is_file())
    assert b"invoke_agent x" in written
    assert token.encode() not in written


def test_what_arrives_over_otlp_is_redacted_by_format_and_the_record_given_is_not_changed() -> None:
    token = "hf_" + "aB3d" * 9
    given = {
        "trace": "0a" * 16,
        "id": "0b" * 8,
        "start_ns": 1,
        "name": f"call {token}",
        "message": token,
        "attributes": {"a": {"b": [token, 1, None]}, "gen_ai.tool.name": "x"},
        "events": [{"name": "e", "time_ns": 1, "attributes": {"m": token}}],
    }
    before = json.dumps(given)

    shown = Redactor().of_span(given)

    assert json.dumps(shown) == before.replace(token, REDACTED)
    assert json.dumps(given) == before
    assert Redactor(enabled=False).of_span(given) is given
