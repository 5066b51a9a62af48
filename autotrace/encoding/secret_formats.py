"""The formats of secrets: tokens, URLs that are credentials, and signed queries. Data alone.

`secret_tokens.py` finds them. Each row names the source of its format and the date when it was
read. Lengths are lower bounds, since vendors make their tokens longer and not shorter.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_GITLEAKS: Final = "gitleaks, config/gitleaks.toml, 2026-07-22"
_TRUFFLEHOG: Final = "trufflehog, pkg/detectors, 2026-08-21"
_SEEN: Final = "as they stand in public code, 2026-11-30"


class TokenFormat(NamedTuple):
    """A token known by its prefix.

    Args:
        name: Whose it is.
        prefix: What it begins with; it ends in `_`, `-` or `.`. Several, separated by blanks.
        rest: A regular expression of what follows, at least 16 of `[A-Za-z0-9_+/=.-]`.
        source: Where the format is described, and when it was read there.
    """

    name: str
    prefix: str
    rest: str
    source: str


_ALNUM: Final = "[A-Za-z0-9]"
_BASE64URL: Final = "[A-Za-z0-9_-]"
_HEX: Final = "[0-9a-fA-F]"

_UUID: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

TOKENS: Final = (
    TokenFormat("1Password", "ops_", r"eyJ[A-Za-z0-9+/]{60,}+={0,3}+", _GITLEAKS),
    TokenFormat("Adafruit", "aio_", rf"{_ALNUM}{{28}}", _TRUFFLEHOG),
    TokenFormat("age", "AGE-SECRET-KEY-", r"1[A-Z0-9]{50,}+", _GITLEAKS),
    TokenFormat("Amazon Bedrock", "bedrock-api-key-", r"[A-Za-z0-9+/]{60,}+={0,2}+", _GITLEAKS),
    TokenFormat("Apify", "apify_api_", rf"{_ALNUM}{{36}}", _TRUFFLEHOG),
    TokenFormat("autotrace", "atk_", rf"{_BASE64URL}{{32,}}+", "server/auth/api_keys.py"),
    TokenFormat("Axiom", "xaat- xapt-", rf"{_UUID}", "axiom.co: API tokens, 2026-11-30"),
    TokenFormat("Bitbucket", "BBDC-", r"[A-Za-z0-9+/_-]{16}[A-Za-z0-9+/@_-]{24,}+", _TRUFFLEHOG),
    TokenFormat("Brevo", "xkeysib-", rf"{_HEX}{{32,}}+(?:-{_ALNUM}++)?+", _GITLEAKS),
    TokenFormat("Brevo", "xsmtpsib-", rf"{_HEX}{{32,}}+(?:-{_ALNUM}++)?+", _GITLEAKS),
    TokenFormat("Buildkite", "bkua_", rf"{_ALNUM}{{40}}", _TRUFFLEHOG),
    TokenFormat("Cerebras", "csk-", rf"{_ALNUM}{{40,}}+", _SEEN),
    TokenFormat("CircleCI", "CCIPAT_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("Clojars", "CLOJARS_", r"[a-z0-9]{40,}+", _GITLEAKS),
    TokenFormat(
        "Cloudflare",
        "cfk_ cfut_ cfat_",
        rf"{_ALNUM}{{40,}}+",
        "developers.cloudflare.com: token formats, 2026-11-30",
    ),
    TokenFormat("Cloudflare", "v1.0-", rf"{_HEX}{{24}}-{_HEX}{{100,}}+", _GITLEAKS),
    TokenFormat("Contentful", "CFPAT-", rf"{_BASE64URL}{{40,}}+", _TRUFFLEHOG),
    TokenFormat("DigitalOcean", "doo_v1_ dop_v1_ dor_v1_", rf"{_HEX}{{32,}}+", _GITLEAKS),
    TokenFormat("Docker", "dckr_pat_ dckr_oat_", rf"{_BASE64URL}{{24,}}+", _TRUFFLEHOG),
    TokenFormat("Doppler", "dp.pt. dp.st. dp.ct. dp.sa.", r"[A-Za-z0-9._-]{40,}+", _GITLEAKS),
    TokenFormat("Doppler", "dp.scim. dp.audit.", r"[A-Za-z0-9._-]{40,}+", _TRUFFLEHOG),
    TokenFormat("Dropbox", "sl. sl.u.", rf"{_BASE64URL}{{60,}}+", _SEEN),
    TokenFormat("Duffel", "duffel_test_ duffel_live_", r"[A-Za-z0-9_=-]{40,}+", _GITLEAKS),
    TokenFormat("Dynatrace", "dt0c01.", r"[A-Za-z0-9]{24}\.[A-Za-z0-9]{48,}+", _GITLEAKS),
    TokenFormat("E2B", "e2b_", rf"{_HEX}{{40}}", _SEEN),
    TokenFormat("ElevenLabs", "sk_", r"[0-9a-f]{48}", _TRUFFLEHOG),
    TokenFormat("Figma", "figd_ figp_ figo_ figor_", rf"{_BASE64URL}{{40,}}+", _TRUFFLEHOG),
    TokenFormat("Firecrawl", "fc-", rf"{_HEX}{{32}}(?![A-Za-z0-9-])", _SEEN),
    TokenFormat("Fireworks", "fw_", rf"{_ALNUM}{{22,}}+", _SEEN),
    TokenFormat("Flutterwave", "FLWSECK-", rf"{_ALNUM}{{32}}-X", _TRUFFLEHOG),
    TokenFormat("Fly.io", "fo1_ fm1a_ fm1r_ fm2_", r"[A-Za-z0-9+/_-]{40,}+={0,3}+", _GITLEAKS),
    TokenFormat("Fly.io", "fm1_", r"[A-Za-z0-9+/_-]{40,}+={0,3}+", _GITLEAKS),
    TokenFormat("Frame.io", "fio-u-", r"[A-Za-z0-9_=-]{60,}+", _GITLEAKS),
    TokenFormat("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{_ALNUM}{{16,}}+", _GITLEAKS),
    TokenFormat("GitHub", "github_pat_", r"[A-Za-z0-9_]{16,}+", _GITLEAKS),
    TokenFormat(
        "GitLab",
        "glpat- glptt- gldt- glrt- glcbt- glimt- glft- glffct- glsoat- gloas- glagent-",
        r"[A-Za-z0-9_.-]{20,}+",
        _GITLEAKS,
    ),
    TokenFormat(
        "GitLab",
        "glrtr- glwt-",
        r"[A-Za-z0-9_.-]{20,}+",
        "docs.gitlab.com: token overview, 2026-11-30",
    ),
    TokenFormat("Google", "ya29.", rf"{_BASE64URL}{{20,}}+", _SEEN),
    TokenFormat("Google", "GOCSPX-", rf"{_BASE64URL}{{24,}}+", _SEEN),
    TokenFormat("Google", "AQ.", rf"{_BASE64URL}{{40,}}+", _SEEN),
    TokenFormat("Grafana", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", _GITLEAKS),
    TokenFormat("Grafana", "glc_", r"[A-Za-z0-9+/]{32,}+={0,3}+", _GITLEAKS),
    TokenFormat("Groq", "gsk_", rf"{_ALNUM}{{40,}}+", _TRUFFLEHOG),
    TokenFormat("Harness", "pat. sat.", r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.\w{20}", _GITLEAKS),
    TokenFormat("Heroku", "HRKU-", rf"AA{_BASE64URL}{{50,}}+", _GITLEAKS),
    TokenFormat("Honeycomb", "hcaik_ hcxik_ hcamk_", rf"{_ALNUM}{{40,}}+", _SEEN),
    TokenFormat("HubSpot", "pat-na1- pat-na2- pat-eu1-", rf"{_UUID}", _TRUFFLEHOG),
    TokenFormat("Hugging Face", "hf_ api_org_", rf"{_ALNUM}{{30,}}+", _GITLEAKS),
    TokenFormat("Infracost", "ico-", rf"{_ALNUM}{{32}}", _GITLEAKS),
    TokenFormat("Jina", "jina_", rf"{_BASE64URL}{{40,}}+", _SEEN),
    TokenFormat("LangSmith", "lsv2_pt_ lsv2_sk_", rf"{_HEX}{{32}}_{_HEX}{{6,}}+", _TRUFFLEHOG),
    TokenFormat("LangSmith", "ls__", rf"{_HEX}{{32}}", _SEEN),
    TokenFormat("LaunchDarkly", "sdk-", rf"{_UUID}", _SEEN),
    TokenFormat("Linear", "lin_api_ lin_oauth_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat(
        "Logfire",
        "pylf_v1_us_ pylf_v1_eu_",
        rf"{_ALNUM}{{40,}}+",
        "pydantic.dev: logfire, write tokens, 2026-11-30",
    ),
    TokenFormat("Mailgun", "key-", rf"{_HEX}{{32}}(?![A-Za-z0-9-])", _TRUFFLEHOG),
    TokenFormat("Neon", "napi_", r"[a-z0-9]{60,}+", _SEEN),
    TokenFormat("Netlify", "nfp_", r"[A-Za-z0-9_]{30,}+", _TRUFFLEHOG),
    TokenFormat("Netlify", "nfo_ nfc_ nfu_ nfb_", r"[A-Za-z0-9_]{30,}+", _TRUFFLEHOG),
    TokenFormat("New Relic", "NRAK- NRJS-", r"[A-Za-z0-9]{19,}+", _GITLEAKS),
    TokenFormat("New Relic", "NRII- NRIQ- NRRA- NRBR-", rf"{_BASE64URL}{{19,}}+", _TRUFFLEHOG),
    TokenFormat("Notion", "ntn_ secret_", rf"{_ALNUM}{{40,}}+", f"{_GITLEAKS}; {_TRUFFLEHOG}"),
    TokenFormat("npm", "npm_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat("NVIDIA", "nvapi-", rf"{_BASE64URL}{{50,}}+", _TRUFFLEHOG),
    TokenFormat("OpenAI", "sess-", rf"{_ALNUM}{{40,}}+", _SEEN),
    TokenFormat(
        "OpenAI, Anthropic and others",
        "sk-",
        r"(?=[a-z_-]{0,64}+[A-Z0-9])[A-Za-z0-9_-]{16,}+",
        _GITLEAKS,
    ),
    TokenFormat("Perplexity", "pplx-", rf"{_ALNUM}{{40,}}+", _GITLEAKS),
    TokenFormat("Pinecone", "pcsk_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat(
        "Plaid", "access-sandbox- access-development- access-production-", rf"{_UUID}", _SEEN
    ),
    TokenFormat("PlanetScale", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,}+", _GITLEAKS),
    TokenFormat("PostHog", "phx_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("PostHog", "phs_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("Postman", "PMAK-", r"[A-Za-z0-9-]{50,}+", _GITLEAKS),
    TokenFormat("Prefect", "pnu_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat("Prefect", "pnb_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat("Pulumi", "pul-", rf"{_HEX}{{40}}", _GITLEAKS),
    TokenFormat("PyPI", "pypi-", rf"AgE{_BASE64URL}{{40,}}+", _GITLEAKS),
    TokenFormat("Ramp", "ramp_sec_", rf"{_ALNUM}{{48}}", _TRUFFLEHOG),
    TokenFormat("Readme", "rdme_", r"[a-z0-9]{60,}+", _GITLEAKS),
    TokenFormat("Replicate", "r8_", rf"{_BASE64URL}{{32,}}+", _TRUFFLEHOG),
    TokenFormat("Resend", "re_", r"[A-Za-z0-9]{8}_[A-Za-z0-9]{24}", _SEEN),
    TokenFormat("Rootly", "rootly_", rf"{_HEX}{{64}}", _TRUFFLEHOG),
    TokenFormat("RubyGems", "rubygems_", rf"{_HEX}{{40,}}+", _GITLEAKS),
    TokenFormat("Scalingo", "tk-us-", rf"{_BASE64URL}{{40,}}+", _GITLEAKS),
    TokenFormat("SendGrid", "SG.", r"[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{32,}+", _GITLEAKS),
    TokenFormat("Sentry", "sntryu_ sntrys_", r"[A-Za-z0-9+/=_]{40,}+", _GITLEAKS),
    TokenFormat("Sentry", "sntrya_ sntryi_", rf"{_HEX}{{60,}}+", _GITLEAKS),
    TokenFormat("Settlemint", "sm_aat_ sm_pat_ sm_sat_", rf"{_ALNUM}{{16,}}+", _GITLEAKS),
    TokenFormat("Shippo", "shippo_live_ shippo_test_", rf"{_HEX}{{40}}", _GITLEAKS),
    TokenFormat("Shopify", "shpat_ shpca_ shppa_ shpss_", rf"{_HEX}{{32,}}+", _GITLEAKS),
    TokenFormat("Shopify", "shptka_ shpua_", rf"{_HEX}{{32,}}+", _TRUFFLEHOG),
    TokenFormat("Slack", "xapp-", r"\d-[A-Za-z0-9]{6,}+-[A-Za-z0-9-]{8,}+", _GITLEAKS),
    TokenFormat("Slack", "xoxe.xoxb- xoxe.xoxp-", r"\d-[A-Za-z0-9]{40,}+", _GITLEAKS),
    TokenFormat(
        "Slack",
        "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs-",
        r"[A-Za-z0-9%-]{10,}+",
        _GITLEAKS,
    ),
    TokenFormat("Sourcegraph", "sgp_", r"[A-Za-z0-9_]{40,}+", _GITLEAKS),
    TokenFormat("Square", "sq0atp- sq0csp-", rf"{_BASE64URL}{{22,}}+", _GITLEAKS),
    TokenFormat("Square", "sq0idb- sq0idp-", rf"{_BASE64URL}{{22,}}+", _TRUFFLEHOG),
    TokenFormat(
        "Stripe",
        "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_",
        rf"{_ALNUM}{{16,}}+",
        _GITLEAKS,
    ),
    TokenFormat("Stripe", "pi_ seti_", r"[A-Za-z0-9]{14,}_secret_[A-Za-z0-9]{16,}+", _TRUFFLEHOG),
    TokenFormat("Stripe, Svix", "whsec_", r"[A-Za-z0-9+/_-]{24,}+={0,2}+", _TRUFFLEHOG),
    TokenFormat("Supabase", "sbp_", rf"(?:v0_)?{_HEX}{{32,}}+", _TRUFFLEHOG),
    TokenFormat(
        "Supabase", "sb_secret_", rf"{_BASE64URL}{{20,}}+", "supabase.com: API keys, 2026-11-30"
    ),
    TokenFormat(
        "Tailscale",
        "tskey-auth- tskey-api- tskey-client- tskey-scim- tskey-webhook-",
        rf"{_BASE64URL}{{16,}}+",
        _TRUFFLEHOG,
    ),
    TokenFormat(
        "Tavily", "tvly- tvly-dev- tvly-prod-", rf"{_ALNUM}{{24,}}+", "docs.tavily.com, 2026-11-30"
    ),
    TokenFormat("Terraform", "atlasv1.", r"[A-Za-z0-9_=-]{60,}+", _GITLEAKS),
    TokenFormat("Thinkst", "thog-secret-", rf"{_HEX}{{32}}", _TRUFFLEHOG),
    TokenFormat("Together", "tgp_v1_", rf"{_BASE64URL}{{40,}}+", _SEEN),
    TokenFormat("Typeform", "tfp_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("Vault", "hvs. hvb. hvr.", rf"{_BASE64URL}{{24,}}+", _GITLEAKS),
    TokenFormat("Vercel", "vcp_ vci_ vca_ vcr_ vck_", rf"{_BASE64URL}{{24,}}+", _SEEN),
    TokenFormat("Voyage AI", "pa-", rf"{_BASE64URL}{{43}}(?![A-Za-z0-9_-])", _SEEN),
    TokenFormat("Weights & Biases", "wandb_v1_", rf"{_BASE64URL}{{40,}}+", _SEEN),
    TokenFormat("xAI", "xai-", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
)
"""Sorted by name. `sk-…`, `xox?-…`, JSON web tokens and the like, which are found in another way,
are rows of `MARKED`."""


class MarkedFormat(NamedTuple):
    """A format with a rare character or word in it, which is searched for first.

    Args:
        name: Whose it is.
        before: A regular expression of what stands before the mark; it has a fixed width.
        mark: Characters that every such text contains.
        after: A regular expression of what stands behind the mark. A group named `secret` is
            taken out alone; without one, everything from `before` on is.
        source: Where the format is described, and when it was read there.
    """

    name: str
    before: str
    mark: str
    after: str
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
    """A URL whose path is a credential: who has it may post.

    Args:
        name: Whose it is.
        path: What follows `hook` in it, as a regular expression; a slash is one in any spelling.
        secret: A regular expression of the part that is redacted.
        source: Where the format is described, and when it was read there.
    """

    name: str
    path: str
    secret: str
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
