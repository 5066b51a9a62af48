"""The formats of secrets: tokens, URLs that are credentials, and signed queries. Data alone.

`_tokens.py` finds them. Each row says where the format is described, and when it was read there;
the lengths here are lower bounds, since vendors make their tokens longer and not shorter.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_GITLEAKS: Final = "gitleaks, config/gitleaks.toml, 2026-07-22"
_TRUFFLEHOG: Final = "trufflehog, pkg/detectors, 2026-08-21"
_SEEN: Final = "as they stand in public code, 2026-11-30"


class TokenFormat(NamedTuple):
    """A token that says by its prefix what it is.

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

TOKENS: Final = (
    TokenFormat("1Password", "ops_", r"eyJ[A-Za-z0-9+/]{60,}+={0,3}+", _GITLEAKS),
    TokenFormat("age", "AGE-SECRET-KEY-", r"1[A-Z0-9]{50,}+", _GITLEAKS),
    TokenFormat("autotrace", "atk_", rf"{_BASE64URL}{{32,}}+", "access/keys.py"),
    TokenFormat("Brevo", "xkeysib-", rf"{_HEX}{{32,}}+(?:-{_ALNUM}++)?+", _GITLEAKS),
    TokenFormat("CircleCI", "CCIPAT_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("Clojars", "CLOJARS_", r"[a-z0-9]{40,}+", _GITLEAKS),
    TokenFormat("Contentful", "CFPAT-", rf"{_BASE64URL}{{40,}}+", _TRUFFLEHOG),
    TokenFormat("DigitalOcean", "doo_v1_ dop_v1_ dor_v1_", rf"{_HEX}{{32,}}+", _GITLEAKS),
    TokenFormat("Docker", "dckr_pat_ dckr_oat_", rf"{_BASE64URL}{{24,}}+", _TRUFFLEHOG),
    TokenFormat("Doppler", "dp.pt. dp.st. dp.ct. dp.sa.", r"[A-Za-z0-9._-]{40,}+", _GITLEAKS),
    TokenFormat("Duffel", "duffel_test_ duffel_live_", r"[A-Za-z0-9_=-]{40,}+", _GITLEAKS),
    TokenFormat("Dynatrace", "dt0c01.", r"[A-Za-z0-9]{24}\.[A-Za-z0-9]{48,}+", _GITLEAKS),
    TokenFormat("ElevenLabs", "sk_", r"[0-9a-f]{48}", _TRUFFLEHOG),
    TokenFormat("Fly.io", "fo1_ fm1a_ fm1r_ fm2_", r"[A-Za-z0-9+/_-]{40,}+={0,3}+", _GITLEAKS),
    TokenFormat("GitHub", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{_ALNUM}{{16,}}+", _GITLEAKS),
    TokenFormat("GitHub", "github_pat_", r"[A-Za-z0-9_]{16,}+", _GITLEAKS),
    TokenFormat(
        "GitLab",
        "glpat- glptt- gldt- glrt- glcbt- glimt- glft- glffct- glsoat- gloas- glagent-",
        r"[A-Za-z0-9_.-]{20,}+",
        _GITLEAKS,
    ),
    TokenFormat("Google", "ya29.", rf"{_BASE64URL}{{20,}}+", _SEEN),
    TokenFormat("Google", "GOCSPX-", rf"{_BASE64URL}{{24,}}+", _SEEN),
    TokenFormat("Grafana", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", _GITLEAKS),
    TokenFormat("Grafana", "glc_", r"[A-Za-z0-9+/]{32,}+={0,3}+", _GITLEAKS),
    TokenFormat("Groq", "gsk_", rf"{_ALNUM}{{40,}}+", _TRUFFLEHOG),
    TokenFormat("Harness", "pat. sat.", r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.\w{20}", _GITLEAKS),
    TokenFormat("Heroku", "HRKU-", rf"AA{_BASE64URL}{{50,}}+", _GITLEAKS),
    TokenFormat("Hugging Face", "hf_ api_org_", rf"{_ALNUM}{{30,}}+", _GITLEAKS),
    TokenFormat("LangSmith", "lsv2_pt_ lsv2_sk_", rf"{_HEX}{{32}}_{_HEX}{{6,}}+", _TRUFFLEHOG),
    TokenFormat("Linear", "lin_api_ lin_oauth_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat("Mailgun", "key-", rf"{_HEX}{{32}}(?![A-Za-z0-9-])", _TRUFFLEHOG),
    TokenFormat("Netlify", "nfp_", r"[A-Za-z0-9_]{30,}+", _TRUFFLEHOG),
    TokenFormat("New Relic", "NRAK- NRJS-", r"[A-Za-z0-9]{19,}+", _GITLEAKS),
    TokenFormat("Notion", "ntn_ secret_", rf"{_ALNUM}{{40,}}+", f"{_GITLEAKS}; {_TRUFFLEHOG}"),
    TokenFormat("npm", "npm_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat("NVIDIA", "nvapi-", rf"{_BASE64URL}{{50,}}+", _TRUFFLEHOG),
    TokenFormat("Perplexity", "pplx-", rf"{_ALNUM}{{40,}}+", _GITLEAKS),
    TokenFormat("Pinecone", "pcsk_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("PlanetScale", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,}+", _GITLEAKS),
    TokenFormat("PostHog", "phx_", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
    TokenFormat("Postman", "PMAK-", r"[A-Za-z0-9-]{50,}+", _GITLEAKS),
    TokenFormat("Prefect", "pnu_", rf"{_ALNUM}{{32,}}+", _GITLEAKS),
    TokenFormat("Pulumi", "pul-", rf"{_HEX}{{40}}", _GITLEAKS),
    TokenFormat("PyPI", "pypi-", rf"AgE{_BASE64URL}{{40,}}+", _GITLEAKS),
    TokenFormat("Readme", "rdme_", r"[a-z0-9]{60,}+", _GITLEAKS),
    TokenFormat("Replicate", "r8_", rf"{_BASE64URL}{{32,}}+", _TRUFFLEHOG),
    TokenFormat("RubyGems", "rubygems_", rf"{_HEX}{{40,}}+", _GITLEAKS),
    TokenFormat("Scalingo", "tk-us-", rf"{_BASE64URL}{{40,}}+", _GITLEAKS),
    TokenFormat("SendGrid", "SG.", r"[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{32,}+", _GITLEAKS),
    TokenFormat("Sentry", "sntryu_ sntrys_", r"[A-Za-z0-9+/=_]{40,}+", _GITLEAKS),
    TokenFormat("Settlemint", "sm_aat_ sm_pat_ sm_sat_", rf"{_ALNUM}{{16,}}+", _GITLEAKS),
    TokenFormat("Shippo", "shippo_live_ shippo_test_", rf"{_HEX}{{40}}", _GITLEAKS),
    TokenFormat("Shopify", "shpat_ shpca_ shppa_ shpss_", rf"{_HEX}{{32,}}+", _GITLEAKS),
    TokenFormat("Slack", "xapp-", r"\d-[A-Za-z0-9]{6,}+-[A-Za-z0-9-]{8,}+", _GITLEAKS),
    TokenFormat("Slack", "xoxe.xoxb- xoxe.xoxp-", r"\d-[A-Za-z0-9]{40,}+", _GITLEAKS),
    TokenFormat("Sourcegraph", "sgp_", r"[A-Za-z0-9_]{40,}+", _GITLEAKS),
    TokenFormat("Square", "sq0atp- sq0csp-", rf"{_BASE64URL}{{22,}}+", _GITLEAKS),
    TokenFormat(
        "Stripe",
        "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_",
        rf"{_ALNUM}{{16,}}+",
        _GITLEAKS,
    ),
    TokenFormat("Stripe, Svix", "whsec_", r"[A-Za-z0-9+/_-]{24,}+={0,2}+", _TRUFFLEHOG),
    TokenFormat("Supabase", "sbp_", rf"(?:v0_)?{_HEX}{{32,}}+", _TRUFFLEHOG),
    TokenFormat(
        "Supabase", "sb_secret_", rf"{_BASE64URL}{{20,}}+", "supabase.com: API keys, 2026-11-30"
    ),
    TokenFormat(
        "Tavily", "tvly- tvly-dev- tvly-prod-", rf"{_ALNUM}{{24,}}+", "docs.tavily.com, 2026-11-30"
    ),
    TokenFormat("Vault", "hvs. hvb. hvr.", rf"{_BASE64URL}{{24,}}+", _GITLEAKS),
    TokenFormat("xAI", "xai-", r"[A-Za-z0-9_]{40,}+", _TRUFFLEHOG),
)
"""Sorted by name. `sk-…`, `xox?-…`, JSON web tokens and the like, which are found in another way,
stand in `_tokens.py`."""


class UrlFormat(NamedTuple):
    """A URL whose path is a credential: who has it may post.

    Args:
        name: Whose it is.
        literal: What must be in the text.
        pattern: A regular expression; its first group is kept.
        source: Where the format is described, and when it was read there.
    """

    name: str
    literal: str
    pattern: str
    source: str


URLS: Final = (
    UrlFormat(
        "Discord",
        "/webhooks/",
        r"(/webhooks/[0-9]{5,20}/)[A-Za-z0-9_-]{20,}+",
        _TRUFFLEHOG,
    ),
    UrlFormat(
        "Slack",
        "hooks.slack",
        r"(hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/)[A-Za-z0-9_/+-]{16,}+",
        _GITLEAKS,
    ),
    UrlFormat(
        "Teams",
        "webhook.office.com/",
        r"(webhook\.office\.com/webhookb2/)[A-Za-z0-9@/_-]{36,}+",
        _GITLEAKS,
    ),
    UrlFormat(
        "Zapier",
        "hooks.zapier.com/",
        r"(hooks\.zapier\.com/hooks/(?:catch|standard)/)[A-Za-z0-9/]{8,}+",
        _TRUFFLEHOG,
    ),
    UrlFormat(
        "Tines", ".tines.com/webhook/", r"(\.tines\.com/webhook/)[a-z0-9/]{40,}+", _TRUFFLEHOG
    ),
    UrlFormat(
        "Make",
        ".make.com/",
        r"(\.make\.com/)[a-z0-9]{24,}+",
        _SEEN,
    ),
    UrlFormat(
        "Feishu, Lark",
        "/open-apis/bot/",
        r"(/open-apis/bot/(?:v2/)?hook/)[A-Za-z0-9_-]{16,}+",
        _SEEN,
    ),
    UrlFormat(
        "Webex",
        "/webhooks/incoming/",
        r"(/webhooks/incoming/)[A-Za-z0-9_-]{24,}+",
        _SEEN,
    ),
    UrlFormat(
        "Mattermost, Rocket.Chat",
        "/hooks/",
        r"(/hooks/)(?=[a-z]{0,64}+[A-Z0-9])[A-Za-z0-9]{17,64}+(?:/[A-Za-z0-9]{20,}+)?+",
        _SEEN,
    ),
    UrlFormat(
        "WeCom",
        "/webhook/send?key=",
        r"(/webhook/send\?key=)[A-Za-z0-9-]{16,}+",
        _SEEN,
    ),
    UrlFormat(
        "IFTTT",
        "/with/key/",
        r"(/with/key/)[A-Za-z0-9_-]{16,}+",
        _SEEN,
    ),
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
