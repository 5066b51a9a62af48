"""The formats of secrets: tokens, URLs that are credentials, and signed queries. Data alone.

`secret_tokens.py` finds them. Each row names the source of its format and the date when it was
read. Lengths are lower bounds, since vendors make their tokens longer and not shorter.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_GITLEAKS: Final = "gitleaks, config/gitleaks.toml, 2026-07-22"
_TRUFFLEHOG: Final = "trufflehog, pkg/detectors, 2026-08-21"
_SEEN: Final = "as they stand in public code, 2026-11-30"


_SOURCES: Final = {"gitleaks": _GITLEAKS, "trufflehog": _TRUFFLEHOG, "seen": _SEEN}
_ALNUM: Final = "[A-Za-z0-9]"
_BASE64URL: Final = "[A-Za-z0-9_-]"
_HEX: Final = "[0-9a-fA-F]"
_UUID: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CLASSES: Final = {
    "{ALNUM}": _ALNUM, "{BASE64URL}": _BASE64URL, "{HEX}": _HEX, "{UUID}": _UUID,
}  # fmt: skip


class TokenFormat(NamedTuple):
    """A token known by its prefix."""

    name: str
    """Of the vendor."""
    prefixes: tuple[str, ...]
    """Each ends in `_`, `-` or `.`."""
    rest: str
    """A regular expression of the text behind a prefix, at least 16 of `[A-Za-z0-9_+/=.-]`."""
    source: str
    """Where the format is described, and when it was read there."""


def _token_format(row: str) -> TokenFormat:
    name, prefixes, rest, source = row.split(" | ")
    for word, pattern in _CLASSES.items():
        rest = rest.replace(word, pattern)
    return TokenFormat(name, tuple(prefixes.split()), rest, _SOURCES.get(source, source))


# vendor | prefixes | regular expression of the rest | source
_TOKENS: Final = r"""
1Password | ops_ | eyJ[A-Za-z0-9+/]{60,}+={0,3}+ | gitleaks
Adafruit | aio_ | {ALNUM}{28} | trufflehog
age | AGE-SECRET-KEY- | 1[A-Z0-9]{50,}+ | gitleaks
Amazon Bedrock | bedrock-api-key- | [A-Za-z0-9+/]{60,}+={0,2}+ | gitleaks
Apify | apify_api_ | {ALNUM}{36} | trufflehog
autotrace | atk_ | {BASE64URL}{32,}+ | server/auth/api_keys.py
Axiom | xaat- xapt- | {UUID} | axiom.co: API tokens, 2026-11-30
Bitbucket | BBDC- | [A-Za-z0-9+/_-]{16}[A-Za-z0-9+/@_-]{24,}+ | trufflehog
Brevo | xkeysib- xsmtpsib- | {HEX}{32,}+(?:-{ALNUM}++)?+ | gitleaks
Buildkite | bkua_ | {ALNUM}{40} | trufflehog
Cerebras | csk- | {ALNUM}{40,}+ | seen
CircleCI | CCIPAT_ | [A-Za-z0-9_]{40,}+ | trufflehog
Clojars | CLOJARS_ | [a-z0-9]{40,}+ | gitleaks
Cloudflare | cfk_ cfut_ cfat_ | {ALNUM}{40,}+ | developers.cloudflare.com: token formats, 2026-11-30
Cloudflare | v1.0- | {HEX}{24}-{HEX}{100,}+ | gitleaks
Contentful | CFPAT- | {BASE64URL}{40,}+ | trufflehog
DigitalOcean | doo_v1_ dop_v1_ dor_v1_ | {HEX}{32,}+ | gitleaks
Docker | dckr_pat_ dckr_oat_ | {BASE64URL}{24,}+ | trufflehog
Doppler | dp.pt. dp.st. dp.ct. dp.sa. | [A-Za-z0-9._-]{40,}+ | gitleaks
Doppler | dp.scim. dp.audit. | [A-Za-z0-9._-]{40,}+ | trufflehog
Dropbox | sl. sl.u. | {BASE64URL}{60,}+ | seen
Duffel | duffel_test_ duffel_live_ | [A-Za-z0-9_=-]{40,}+ | gitleaks
Dynatrace | dt0c01. | {ALNUM}{24}\.{ALNUM}{48,}+ | gitleaks
E2B | e2b_ | {HEX}{40} | seen
ElevenLabs | sk_ | [0-9a-f]{48} | trufflehog
Figma | figd_ figp_ figo_ figor_ | {BASE64URL}{40,}+ | trufflehog
Firecrawl | fc- | {HEX}{32}(?![A-Za-z0-9-]) | seen
Fireworks | fw_ | {ALNUM}{22,}+ | seen
Flutterwave | FLWSECK- | {ALNUM}{32}-X | trufflehog
Fly.io | fo1_ fm1a_ fm1r_ fm2_ fm1_ | [A-Za-z0-9+/_-]{40,}+={0,3}+ | gitleaks
Frame.io | fio-u- | [A-Za-z0-9_=-]{60,}+ | gitleaks
GitHub | ghp_ gho_ ghu_ ghs_ ghr_ | {ALNUM}{16,}+ | gitleaks
GitHub | github_pat_ | [A-Za-z0-9_]{16,}+ | gitleaks
GitLab | glpat- glptt- gldt- glrt- glcbt- | [A-Za-z0-9_.-]{20,}+ | gitleaks
GitLab | glimt- glft- glffct- glsoat- gloas- glagent- | [A-Za-z0-9_.-]{20,}+ | gitleaks
GitLab | glrtr- glwt- | [A-Za-z0-9_.-]{20,}+ | docs.gitlab.com: token overview, 2026-11-30
Google | ya29. | {BASE64URL}{20,}+ | seen
Google | GOCSPX- | {BASE64URL}{24,}+ | seen
Google | AQ. | {BASE64URL}{40,}+ | seen
Grafana | glsa_ | {ALNUM}{32}_[A-Fa-f0-9]{8} | gitleaks
Grafana | glc_ | [A-Za-z0-9+/]{32,}+={0,3}+ | gitleaks
Groq | gsk_ | {ALNUM}{40,}+ | trufflehog
Harness | pat. sat. | {BASE64URL}{22}\.{ALNUM}{24}\.\w{20} | gitleaks
Heroku | HRKU- | AA{BASE64URL}{50,}+ | gitleaks
Honeycomb | hcaik_ hcxik_ hcamk_ | {ALNUM}{40,}+ | seen
HubSpot | pat-na1- pat-na2- pat-eu1- | {UUID} | trufflehog
Hugging Face | hf_ api_org_ | {ALNUM}{30,}+ | gitleaks
Infracost | ico- | {ALNUM}{32} | gitleaks
Jina | jina_ | {BASE64URL}{40,}+ | seen
LangSmith | lsv2_pt_ lsv2_sk_ | {HEX}{32}_{HEX}{6,}+ | trufflehog
LangSmith | ls__ | {HEX}{32} | seen
LaunchDarkly | sdk- | {UUID} | seen
Linear | lin_api_ lin_oauth_ | {ALNUM}{32,}+ | gitleaks
Logfire | pylf_v1_us_ pylf_v1_eu_ | {ALNUM}{40,}+ | pydantic.dev: logfire, write tokens, 2026-11-30
Mailgun | key- | {HEX}{32}(?![A-Za-z0-9-]) | trufflehog
Neon | napi_ | [a-z0-9]{60,}+ | seen
Netlify | nfp_ nfo_ nfc_ nfu_ nfb_ | [A-Za-z0-9_]{30,}+ | trufflehog
New Relic | NRAK- NRJS- | {ALNUM}{19,}+ | gitleaks
New Relic | NRII- NRIQ- NRRA- NRBR- | {BASE64URL}{19,}+ | trufflehog
Notion | ntn_ secret_ | {ALNUM}{40,}+ | gitleaks
npm | npm_ | {ALNUM}{32,}+ | gitleaks
NVIDIA | nvapi- | {BASE64URL}{50,}+ | trufflehog
OpenAI | sess- | {ALNUM}{40,}+ | seen
OpenAI, Anthropic and others | sk- | (?=[a-z_-]{0,64}+[A-Z0-9]){BASE64URL}{16,}+ | gitleaks
Perplexity | pplx- | {ALNUM}{40,}+ | gitleaks
Pinecone | pcsk_ | [A-Za-z0-9_]{40,}+ | trufflehog
Plaid | access-sandbox- access-development- access-production- | {UUID} | seen
PlanetScale | pscale_tkn_ pscale_pw_ pscale_oauth_ | [\w=.-]{32,}+ | gitleaks
PostHog | phx_ phs_ | [A-Za-z0-9_]{40,}+ | trufflehog
Postman | PMAK- | [A-Za-z0-9-]{50,}+ | gitleaks
Prefect | pnu_ pnb_ | {ALNUM}{32,}+ | gitleaks
Pulumi | pul- | {HEX}{40} | gitleaks
PyPI | pypi- | AgE{BASE64URL}{40,}+ | gitleaks
Ramp | ramp_sec_ | {ALNUM}{48} | trufflehog
Readme | rdme_ | [a-z0-9]{60,}+ | gitleaks
Replicate | r8_ | {BASE64URL}{32,}+ | trufflehog
Resend | re_ | {ALNUM}{8}_{ALNUM}{24} | seen
Rootly | rootly_ | {HEX}{64} | trufflehog
RubyGems | rubygems_ | {HEX}{40,}+ | gitleaks
Scalingo | tk-us- | {BASE64URL}{40,}+ | gitleaks
SendGrid | SG. | {BASE64URL}{16,64}\.{BASE64URL}{32,}+ | gitleaks
Sentry | sntryu_ sntrys_ | [A-Za-z0-9+/=_]{40,}+ | gitleaks
Sentry | sntrya_ sntryi_ | {HEX}{60,}+ | gitleaks
Settlemint | sm_aat_ sm_pat_ sm_sat_ | {ALNUM}{16,}+ | gitleaks
Shippo | shippo_live_ shippo_test_ | {HEX}{40} | gitleaks
Shopify | shpat_ shpca_ shppa_ shpss_ | {HEX}{32,}+ | gitleaks
Shopify | shptka_ shpua_ | {HEX}{32,}+ | trufflehog
Slack | xapp- | \d-{ALNUM}{6,}+-[A-Za-z0-9-]{8,}+ | gitleaks
Slack | xoxe.xoxb- xoxe.xoxp- | \d-{ALNUM}{40,}+ | gitleaks
Slack | xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- | [A-Za-z0-9%-]{10,}+ | gitleaks
Sourcegraph | sgp_ | [A-Za-z0-9_]{40,}+ | gitleaks
Square | sq0atp- sq0csp- | {BASE64URL}{22,}+ | gitleaks
Square | sq0idb- sq0idp- | {BASE64URL}{22,}+ | trufflehog
Stripe | sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_ | {ALNUM}{16,}+ | gitleaks
Stripe | pi_ seti_ | {ALNUM}{14,}_secret_{ALNUM}{16,}+ | trufflehog
Stripe, Svix | whsec_ | [A-Za-z0-9+/_-]{24,}+={0,2}+ | trufflehog
Supabase | sbp_ | (?:v0_)?{HEX}{32,}+ | trufflehog
Supabase | sb_secret_ | {BASE64URL}{20,}+ | supabase.com: API keys, 2026-11-30
Tailscale | tskey-auth- tskey-api- | {BASE64URL}{16,}+ | trufflehog
Tailscale | tskey-client- tskey-scim- tskey-webhook- | {BASE64URL}{16,}+ | trufflehog
Tavily | tvly- tvly-dev- tvly-prod- | {ALNUM}{24,}+ | docs.tavily.com, 2026-11-30
Terraform | atlasv1. | [A-Za-z0-9_=-]{60,}+ | gitleaks
Thinkst | thog-secret- | {HEX}{32} | trufflehog
Together | tgp_v1_ | {BASE64URL}{40,}+ | seen
Typeform | tfp_ | [A-Za-z0-9_]{40,}+ | trufflehog
Vault | hvs. hvb. hvr. | {BASE64URL}{24,}+ | gitleaks
Vercel | vcp_ vci_ vca_ vcr_ vck_ | {BASE64URL}{24,}+ | seen
Voyage AI | pa- | {BASE64URL}{43}(?!{BASE64URL}) | seen
Weights & Biases | wandb_v1_ | {BASE64URL}{40,}+ | seen
xAI | xai- | [A-Za-z0-9_]{40,}+ | trufflehog
"""
TOKENS: Final = tuple(map(_token_format, _TOKENS.strip().splitlines()))
"""Sorted by name. `sk-…`, `xox?-…`, JSON web tokens and the like, which are found in another way,
are rows of `MARKED`."""


class MarkedFormat(NamedTuple):
    """A format with a rare character or word in it, which is searched for first."""

    name: str
    before: str
    """A regular expression, of fixed width, of the text before the mark."""
    mark: str
    """Characters that every such text contains."""
    after: str
    """A regular expression of the text behind the mark. A group named `secret` is redacted alone;
    without one, everything from `before` on is."""
    source: str


_NO_MORE: Final = "(?![A-Za-z0-9])"
_RANDOM: Final = r"(?=[A-Za-z._~+/=-]{0,64}+\d|[^\s,;\"']{20})"
"""A digit, or a long word: what people write behind `Bearer` in a sentence has neither."""
_RFC: Final = "RFC 7617, 6750, 7519 and 7468, 2026-11-30"

MARKED: Final = (
    MarkedFormat("AWS", "A[BKS]", "I", rf"A[A-Z0-9]{{16}}{_NO_MORE}", _GITLEAKS),
    MarkedFormat("Google", "A", "I", rf"za{_BASE64URL}{{30,}}+", _GITLEAKS),
    MarkedFormat(
        "JSON web token",
        r"(?:(?<![A-Za-z0-9_-])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt])|(?<=\\u[0-9A-Fa-f]{4})|(?<=[0-9]m))ey",
        "J",
        rf"{_BASE64URL}{{6,}}+\.{_BASE64URL}*+(?:\.{_BASE64URL}*+){{0,3}}+(?<={_BASE64URL}{{4}})",
        _RFC,
    ),
    MarkedFormat(
        "Azure OpenAI", "[A-Za-z0-9]{52}JQQ", "J", rf"99{_ALNUM}{{26}}{_NO_MORE}", _TRUFFLEHOG
    ),
    MarkedFormat("Amazon Bedrock", "ABS", "K", r"[A-Za-z0-9+/]{100,}+={0,2}+", _GITLEAKS),
    MarkedFormat("Twilio", "S", "K", rf"[0-9a-f]{{32}}{_NO_MORE}", _GITLEAKS),
    MarkedFormat("JFrog", "A", "K", rf"Cp{_ALNUM}{{69}}{_NO_MORE}", _GITLEAKS),
    MarkedFormat("Telegram", "[0-9]{8}:A", "A", rf"(?P<secret>{_BASE64URL}{{30,}}+)", _TRUFFLEHOG),
    MarkedFormat(
        "Telegram", "[0-9]{8}%3AA", "A", rf"(?P<secret>{_BASE64URL}{{30,}}+)", _TRUFFLEHOG
    ),
    MarkedFormat("Square", "E", "A", r"AA[A-Za-z0-9_-]{60}(?![A-Za-z0-9_+/=-])", _GITLEAKS),
    MarkedFormat("Atlassian", "", "A", r"T[AC]TT3xFfG[A-Za-z0-9_=-]{20,}+", _TRUFFLEHOG),
    MarkedFormat("Bitbucket", "", "A", rf"TBB{_ALNUM}{{32}}{_NO_MORE}", _TRUFFLEHOG),
    MarkedFormat(
        "Azure AD",
        "[A-Za-z0-9_~.]{3}[0-9]Q",
        "~",
        r"[A-Za-z0-9_~.-]{30,}+",
        f"{_GITLEAKS}; {_TRUFFLEHOG}",
    ),
    MarkedFormat("OpenShift", "sha256", "~", rf"{_BASE64URL}{{43}}", _GITLEAKS),
    MarkedFormat(
        "PayPal", "token", "$", r"(?:production|sandbox)\$[a-z0-9]{16}\$[0-9a-f]{32}", _SEEN
    ),
    MarkedFormat("Airtable", f"pat{_ALNUM}{{14}}", ".", rf"{_HEX}{{64}}", _GITLEAKS),
    *(
        MarkedFormat(
            "Discord bot",
            rf"[MNO]{_BASE64URL}{{{width}}}\.{_BASE64URL}{{6}}",
            ".",
            rf"(?={_BASE64URL}{{27}})(?P<secret>{_BASE64URL}{{27,}}+)",
            _TRUFFLEHOG,
        )
        for width in (22, 23, 25)
    ),
    MarkedFormat("Mailchimp", f"{_HEX}{{32}}", "-", rf"us[0-9]{{1,2}}{_NO_MORE}", _TRUFFLEHOG),
    MarkedFormat(
        "Mailgun", f"{_HEX}{{32}}", "-", rf"{_HEX}{{8}}-{_HEX}{{8}}(?![A-Za-z0-9-])", _GITLEAKS
    ),
    MarkedFormat(
        "header of a key",
        "(?:[Aa][Pp][Ii])",
        "-",
        rf"[Kk][Ee][Yy][\"']?[ \t]?:[ \t]?[\"']?{_RANDOM}(?P<secret>[A-Za-z0-9._~+/=-]{{8,}}+)",
        _SEEN,
    ),
    MarkedFormat(
        "password in a URL",
        ":/",
        "/",
        r"[^\s/?#:@'\"<>\\]{0,256}+:(?P<secret>[^\s/?#'\"<>]{1,1024})@",
        "RFC 3986, 2026-11-30",
    ),
    MarkedFormat(
        "password in a URL",
        r":\\/\\",
        "/",
        r"[^\s/?#:@'\"<>\\]{0,256}+:(?P<secret>[^\s/?#'\"<>\\]{1,1024})@",
        "RFC 3986, 2026-11-30",
    ),
    MarkedFormat(
        "password in a URL",
        "",
        "%",
        r"3[Aa]%2[Ff]%2[Ff][^\s%'\"]{0,256}+%3[Aa](?P<secret>(?:(?!%40|%2[Ff])[^\s'\"&]){1,512}+)%40",
        "RFC 3986, 2026-11-30",
    ),
    MarkedFormat("Google", "1", "//0", rf"{_BASE64URL}{{40,}}+", _SEEN),
    MarkedFormat("IFTTT", "/with", "/key/", rf"(?P<secret>{_BASE64URL}{{16,}}+)", _SEEN),
    MarkedFormat("Databricks", "", "dapi", rf"{_HEX}{{32}}(?:-\d)?{_NO_MORE}", _GITLEAKS),
    *(
        MarkedFormat(
            "Bearer",
            "(?<![A-Za-z0-9_])[Bb]",
            "earer",
            rf"{blank}{_RANDOM}(?P<secret>[A-Za-z0-9._~+/=-]{{6,}}+)",
            _RFC,
        )
        for blank in (r"[ \t]{1,8}+", "(?:%20|[+])")
    ),
    MarkedFormat(
        "Bearer",
        "BE",
        "A",
        rf"RER[ \t]{{1,8}}+{_RANDOM}(?P<secret>[A-Za-z0-9._~+/=-]{{6,}}+)",
        _RFC,
    ),
    MarkedFormat(
        "authorization",
        "[Aa]",
        "uthorization",
        r"[\"']?[ \t]{0,2}[:=][ \t]{0,2}[\"']?(?:[A-Za-z]{3,10}[ \t]{1,2})?"
        rf"{_RANDOM}(?P<secret>[A-Za-z0-9._~+/=-]{{8,}}+)(?!\(|\[)",
        _RFC,
    ),
    # Behind the rest, which take out a whole key: its id stays only where it stands alone.
    MarkedFormat(
        "autotrace",
        "atk",
        "_",
        rf"[0-9a-f]{{12}}_(?P<secret>(?:{_BASE64URL}|%2[Dd]|%5[Ff]){{16,}}+)",
        "server/auth/api_keys.py",
    ),
    MarkedFormat(
        "autotrace",
        "atk",
        "%",
        rf"5[Ff][0-9a-f]{{12}}(?:_|%5[Ff])(?P<secret>(?:{_BASE64URL}|%2[Dd]|%5[Ff]){{16,}}+)",
        "server/auth/api_keys.py",
    ),
)
"""Whole words, or words and the text that announces them. A mark of one character is rare in prose
and source code, or is searched for anyway."""


class UrlFormat(NamedTuple):
    """A URL whose path is a credential: its holder may post."""

    name: str
    path: str
    """A regular expression of the text behind `hook`; a slash is one in any spelling."""
    secret: str
    """A regular expression of the redacted part."""
    source: str


_PATH: Final = r"(?:[A-Za-z0-9_+@-]|\\?/|%2[Ff]|%40)"
"""A character of a path; a slash may be escaped, in JSON or in a URL."""

URLS: Final = (
    UrlFormat("Discord", "s/[0-9]{5,20}/", rf"{_BASE64URL}{{20,}}+", _TRUFFLEHOG),
    UrlFormat(
        "Slack",
        r"s\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/",
        rf"{_PATH}{{16,}}+",
        _GITLEAKS,
    ),
    UrlFormat("Teams", r"\.office\.com/webhookb2/", rf"{_PATH}{{36,}}+", _GITLEAKS),
    UrlFormat(
        "Zapier", r"s\.zapier\.com/hooks/(?:catch|standard)/", rf"{_PATH}{{8,}}+", _TRUFFLEHOG
    ),
    UrlFormat("Make", r"\.[a-z0-9]{2,8}\.(?:make|integromat)\.com/", "[a-z0-9]{24,}+", _SEEN),
    UrlFormat("Tines", "/", rf"{_HEX}{{32,}}+/{_HEX}{{32,}}+", _TRUFFLEHOG),
    UrlFormat("Feishu, Lark, n8n and others", "(?:-test)?/", _UUID, _SEEN),
    UrlFormat("Webex", "s/incoming/", rf"{_BASE64URL}{{24,}}+", _SEEN),
    UrlFormat(
        "Mattermost, Rocket.Chat",
        "s/",
        rf"(?=[a-z]{{0,64}}+[A-Z0-9]){_ALNUM}{{17,64}}+(?:/{_ALNUM}{{20,}}+)?+",
        _SEEN,
    ),
    UrlFormat("WeCom", r"/send\?key=", "[A-Za-z0-9-]{16,}+", _SEEN),
)

SIGNED: Final = frozenset(
    {
        # AWS: Signature Version 4 in a query, Version 2, CloudFront
        *("x-amz-signature", "x-amz-credential", "x-amz-security-token"),
        *("awsaccesskeyid", "signature", "key-pair-id"),
        # Google Cloud Storage: V4 and V2
        *("x-goog-signature", "x-goog-credential", "googleaccessid"),
        # Azure: shared access signatures, also of Logic Apps and Teams workflows
        "sig",
        # Alibaba Cloud, Tencent Cloud
        *("x-oss-signature", "x-oss-security-token", "ossaccesskeyid", "q-signature"),
    }
)
"""Names of a URL's parameters that sign it, in lower case. The four of the OpenTelemetry semantic
conventions (`url.query`, read on 2026-11-30), and the others of the same schemes in the references
of the vendors."""

WEAK: Final = frozenset({"key", "appid", "code", "sign", "hmac"})
"""Names of parameters that are secrets only if the value looks like one: `?key=name` stays."""
