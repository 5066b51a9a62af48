"""Settings; each is also an environment variable: `AUTOTRACE_` and the name in upper case."""

from __future__ import annotations

import base64
import difflib
import hashlib
import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from autotrace.base.folder_permissions import why_not_trusted
from autotrace.base.store_location import PLACES, why_not_a_place, without_user
from autotrace.errors import InvalidArgumentError
from autotrace.semconv import ENV_PREFIX, KEY_VARIABLE, SERVER_ENV_PREFIX, WEBHOOK_KEY_PREFIX

DEFAULT_STORE = "./.autotrace"
DEFAULT_TENANT = "default_tenant"
DEFAULT_DATABASE = "default_database"
"""Of a Chroma server."""
_MAX_NAME = 100
DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"
HIDDEN = "(not shown)"
"""Text in place of a possible secret in an error."""
HTTP_URL = "an http(s) URL with a host, such as https://hooks.example.com/approvals"
WEBHOOK_SIGNED_WITH = "a text that is not empty; after whsec_ the base64 of 24 to 64 bytes"
_SECRETS = (
    "chroma_headers",
    "receipt_key",
    "approver_key",
    "approval_webhook_url",
    "approval_webhook_secret",
    "approval_slack_url",
)


_KEY_TEXT = re.compile(r"PRIVATE KEY|^[A-Za-z0-9+/]{43}=$")
"""Matches a private key as PEM or as base64."""


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)


def is_http_url(url: str) -> bool:
    """Return whether a text is an absolute http(s) URL."""
    try:
        parts = urlsplit(url)
        return bool(
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port)
            and not re.search(r"[\s\x00-\x1f\x7f]", url)
        )
    except ValueError:  # the port is not a number, or the host is not an address
        return False


def webhook_key(secret: str) -> bytes | None:
    """Return the key in the secret of a webhook; None if the secret is not valid.

    Standard Webhooks 1.0: `whsec_` and the key in base64. Any other text is itself the key.
    """
    if not secret.startswith(WEBHOOK_KEY_PREFIX):
        return secret.encode("utf-8", "surrogatepass") if secret.strip() else None
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_KEY_PREFIX), validate=True)
    except ValueError:
        return None
    return key if 24 <= len(key) <= 64 else None


class Settings(BaseSettings):
    """Settings of `autotrace.configure()`; an argument takes precedence over the environment."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True
    )

    store: str = DEFAULT_STORE
    """A path: embedded Chroma. `http(s)://host:port`: a Chroma server."""
    spool: str | None = None
    """Directory of the spool. Default: `spool` in an embedded store; else a folder named after
    the server, and its tenant and database unless they are the default ones, in ./.autotrace."""
    chroma_headers: dict[str, str] | None = Field(default=None, repr=False)
    """HTTP headers for a Chroma server, as JSON in the environment; they may hold a token."""
    chroma_tenant: str = DEFAULT_TENANT
    chroma_database: str = DEFAULT_DATABASE
    chroma_timeout_ms: int = Field(default=30_000, ge=1)
    """How long one request to a Chroma server may take."""
    embedder: str = DEFAULT_EMBEDDER
    """Import path of an embedder, `package.module:attribute`, or the name of the default one."""
    embedding_model_path: str | None = None
    """Folder with the model.onnx and tokenizer.json of the default embedder."""
    otlp_endpoint: str | None = None
    """Base URL of an OTLP/HTTP collector that gets the same spans. Without it the stock variables
    OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT are honoured."""
    enforce_modes: bool = False
    """Whether decisions of mode `propose` or `approve` need an approval before a commit."""
    policies: list[str] = Field(default_factory=list[str])
    """Modules that register policies, which servers import when they start; as JSON in the
    environment."""
    receipt_key: str | None = Field(default=None, repr=False)
    """Ed25519 private key that signs receipts: PEM, or base64 of its 32 bytes. Default: one of the
    store's own, made when first needed, in a file that only its owner can read."""
    receipt_keys: list[str] = Field(default_factory=list[str])
    """Public keys, base64, of other machines whose receipts verify, in addition to the store's
    own; as JSON in the environment."""
    approver_keys: list[str] | None = None
    """Public keys, base64, with which votes must be signed to count at a gate that names no others;
    as JSON in the environment. Default: any vote counts."""
    approver_key: str | None = Field(default=None, repr=False)
    """File with the private key that signs the answers of this user. Default: `approver.key` in
    the user's configuration folder, if it is there."""
    agent: str | None = None
    """Agent of tasks that name none."""
    capture_arguments: bool = True
    """Whether tools record their arguments, unless the tool sets it."""
    capture_result: bool = True
    """Whether tools record their results, unless the tool sets it."""
    max_value_bytes: int = Field(default=262_144, ge=256)
    """How large the JSON of one captured value, or one text, may be."""
    redaction: bool = True
    """Whether values under secret keys, and secrets in error text, are redacted."""
    redact_keys: list[str] = Field(default_factory=list[str])
    """Further secret keys; as JSON in the environment."""
    injected_types: list[str] = Field(default_factory=list[str])
    """Names of further classes, bare or with their module, of what frameworks hand to tools: their
    instances are recorded by the name of their type; as JSON in the environment."""
    propagate_threads: bool = True
    """Whether threads and executors inherit the current task, step and tool."""
    storing: Literal["process", "thread"] = "process"
    """Whether a worker process stores, where one can run, or a thread of this process."""
    flush_interval_ms: int = Field(default=500, ge=0)
    """How long a record may wait for others to be stored with it."""
    exit_timeout_ms: int = Field(default=5_000, ge=0)
    """How long the end of the program may be delayed to store the backlog."""
    max_spool_bytes: int = Field(default=4 * 1024**3, ge=1024**2)
    """How much one process may keep on disk while the store does not take it."""
    approval_webhook_url: str | None = Field(default=None, repr=False)
    """Webhook for notices of requested approvals that name no route; it may hold a token."""
    approval_webhook_secret: str | None = Field(default=None, repr=False)
    """Secret that signs requests to approval_webhook_url."""
    approval_slack_url: str | None = Field(default=None, repr=False)
    """The same as approval_webhook_url, for a Slack-compatible webhook."""

    @field_validator("approver_key")
    @classmethod
    def _is_a_file_name(cls, path: str | None) -> str | None:
        if path is not None and ("\n" in path or _KEY_TEXT.search(path)):
            raise ValueError("the name of the file that holds the key, and not the key itself")
        return path

    @field_validator("approval_webhook_secret")
    @classmethod
    def _is_secret(cls, secret: str | None) -> str | None:
        if secret is not None and webhook_key(secret) is None:
            raise ValueError(f"{WEBHOOK_SIGNED_WITH}; leave it out to send without a signature")
        return secret

    @field_validator("approval_webhook_url", "approval_slack_url")
    @classmethod
    def _is_http_url(cls, url: str | None) -> str | None:
        if url is not None and not is_http_url(url):
            raise ValueError(HTTP_URL)
        return url

    @property
    def is_embedded(self) -> bool:
        """Whether the store is a path."""
        return "://" not in self.store

    @property
    def store_path(self) -> Path:
        """The folder of an embedded store."""
        return Path(self.store).expanduser().resolve()

    @property
    def shown_store(self) -> str:
        """The store as messages name it: the whole path of a folder, or the URL."""
        return str(self.store_path) if self.is_embedded else without_user(self.store)

    @property
    def spool_path(self) -> Path:
        """The spool directory."""
        if self.spool is not None:
            return Path(self.spool).expanduser().resolve()
        if self.is_embedded:
            return self.store_path / "spool"
        # Host and port alone: other parts of a URL may hold a password.
        host = urlsplit(self.store).netloc.rpartition("@")[2]
        name = _file_name(host)
        if (self.chroma_tenant, self.chroma_database) != (DEFAULT_TENANT, DEFAULT_DATABASE):
            # Each is a separate store. The digest distinguishes names with equal file names.
            place = "\n".join((host, self.chroma_tenant, self.chroma_database))
            digest = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()
            name = f"{_file_name(place)[:_MAX_NAME]}-{digest}"
        return Path(DEFAULT_STORE).resolve() / f"spool-{name}"

    @property
    def receipt_key_path(self) -> Path:
        """The file of the key that signs receipts, if none is given by setting."""
        place = self.store_path if self.is_embedded else self.spool_path
        return place / "receipt.key"

    @property
    def approver_key_path(self) -> Path:
        """The file of the key that signs the answers of this user; it need not be there."""
        if self.approver_key is not None:
            return Path(self.approver_key).expanduser()
        named = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME", "")
        home = os.path.join(os.path.expanduser("~"), ".config")
        return Path(named if os.path.isabs(named) else home, "autotrace", "approver.key")

    @property
    def grant_key_path(self) -> Path | None:
        """The file of the secret that signs grants of programs on the store's machine.

        None: the store is on a Chroma server.
        """
        return self.store_path / "grant.key" if self.is_embedded else None

    def resolved(self) -> Settings:
        """Return the same settings with absolute paths and a canonical URL."""
        store = str(self.store_path) if self.is_embedded else self.store.lower().rstrip("/")
        spool = None if self.spool is None else str(self.spool_path)
        return self.model_copy(update={"store": store, "spool": spool})


class ServerSettings(BaseSettings):
    """Settings of `autotrace serve`; in the environment `AUTOTRACE_SERVER_` and the name."""

    model_config = SettingsConfigDict(
        env_prefix=SERVER_ENV_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    """The address to listen on. Beyond loopback a key must exist."""
    port: int = Field(default=8484, ge=0, le=65_535)
    """0: any free port."""
    workers: int = Field(default=1, ge=1, le=64)
    """Number of worker processes."""
    max_body_bytes: int = Field(default=1024**2, ge=1024)
    """How large the body of a request may be."""
    max_batch_bytes: int = Field(default=32 * 1024**2, ge=1024)
    """How large a batch of spans may be, as sent and unpacked."""
    max_json_depth: int = Field(default=64, ge=4, le=512)
    """How deep the JSON of a body may be nested."""
    requests_per_second: float = Field(default=200.0, ge=0)
    """How many requests of one key each worker answers in the long run; 0: any number."""
    request_burst: int = Field(default=400, ge=1)
    """How many of them at once, after a pause."""
    bytes_per_request: int = Field(default=64 * 1024, ge=1)
    """How many bytes of a body, as sent and unpacked, or of a response, count as a request."""
    spans_per_request: int = Field(default=50, ge=1)
    """How many spans of a batch count as a request."""
    max_open_traces: int = Field(default=1_000, ge=1)
    """How many traces one key may have under way."""
    max_tenants: int = Field(default=16, ge=1)
    """How many tenants' memories each worker keeps open."""
    max_connections: int = Field(default=1_000, ge=1)
    """How many connections each worker has open; one more is answered with 503."""
    request_timeout_ms: int = Field(default=30_000, ge=100)
    """How long a client may take to send a request."""
    stop_timeout_ms: int = Field(default=30_000, ge=0)
    """How long requests under way, and storing, may delay the end after SIGTERM."""
    cors_origins: list[str] = Field(default_factory=list[str])
    """Origins whose pages may call the server; as JSON in the environment."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


S = TypeVar("S", Settings, ServerSettings)


def store_text(store: str | os.PathLike[str] | None) -> str | None:
    """Return a path or URL of a store as the setting `store`; None stays None.

    Raises:
        InvalidArgumentError: The value is neither a text nor a path.
    """
    if store is None:
        return None
    try:
        path: Any = os.fspath(store)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise InvalidArgumentError("store", store, PLACES)
    return path


def load_settings(**arguments: Any) -> Settings:
    """Make the settings from arguments and, for those not given, the environment.

    Raises:
        InvalidArgumentError: A value is not allowed; names the setting and the allowed values.
    """
    settings = _load(Settings, ENV_PREFIX, arguments)
    if settings.approval_webhook_url and settings.approval_slack_url:
        allowed = "left out beside approval_webhook_url: one of them is the default route"
        raise InvalidArgumentError("approval_slack_url", HIDDEN, allowed)
    if settings.approver_keys is not None:
        from autotrace.models import ApprovalRequest

        ApprovalRequest(approver_keys=settings.approver_keys)
    _check_place(settings)
    if settings.spool is not None or not settings.is_embedded:
        _check_spool(settings)
    return settings


def load_server_settings(**arguments: Any) -> ServerSettings:
    """Make the settings of a server from arguments and, for those not given, the environment.

    Raises:
        InvalidArgumentError: A value is not allowed; names the setting and the allowed values.
    """
    return _load(ServerSettings, SERVER_ENV_PREFIX, arguments)


def misspelled_variables() -> list[str]:
    """Return a sentence for each environment variable that is nearly the name of a setting.

    Other variables are ignored: a program may have its own, such as AUTOTRACE_STORE_2, and
    Kubernetes sets AUTOTRACE_SERVER_PORT_80_TCP for a service named autotrace-server.
    """
    found: list[str] = []
    for variable in sorted(os.environ):
        name = variable.upper()
        for kind, prefix in ((ServerSettings, SERVER_ENV_PREFIX), (Settings, ENV_PREFIX)):
            if name.startswith(prefix):
                known = [prefix + field.upper() for field in kind.model_fields]
                if name not in (*known, KEY_VARIABLE):
                    similar = [each for each in known if _is_misspelled(name, each)]
                    found += [f"{variable} names no setting; a similar one is {s}" for s in similar]
                break
    return found


def _is_misspelled(name: str, known: str) -> bool:
    """Return whether two names differ in one letter, or in the order of two."""
    same = sum(
        block.size for block in difflib.SequenceMatcher(None, name, known).get_matching_blocks()
    )
    return len(name) + len(known) - 2 * same <= 2 and not name.startswith(known)


def _load(kind: type[S], prefix: str, arguments: dict[str, Any]) -> S:
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return kind(**given)
    except SettingsError as error:
        # A list or mapping that is not JSON; pydantic has the variable only in its message.
        variable = re.search(r'field "(\w+)"', str(error))
        name = f"{prefix}{variable[1].upper()}" if variable else "environment"
        raise InvalidArgumentError(name, HIDDEN, 'JSON: a list such as ["a"]') from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "settings"
        source = field if field in given else f"{prefix}{field.upper()}"
        value = HIDDEN if field.partition(".")[0] in _SECRETS else first.get("input")
        raise InvalidArgumentError(source, value, _allowed(first, kind)) from None


def _check_place(settings: Settings) -> None:
    if (why := why_not_a_place(settings.store)) is not None:
        raise InvalidArgumentError("store", without_user(settings.store), why)
    if settings.is_embedded:
        _check_path(settings)


def _check_path(settings: Settings) -> None:
    try:
        # In this order, since another process may create the folder in between.
        usable = not settings.store_path.exists() or settings.store_path.is_dir()
    except (OSError, ValueError):
        usable = False
    if not usable:
        raise InvalidArgumentError("store", settings.store, PLACES)
    # Without resolving: a symbolic link must be trusted, too.
    if (why := why_not_trusted(Path(settings.store).expanduser().absolute())) is not None:
        raise InvalidArgumentError("store", settings.store, why)


def _check_spool(settings: Settings) -> None:
    if settings.spool is not None:
        folders = [Path(settings.spool).expanduser().absolute()]
    else:
        folders = [Path(DEFAULT_STORE).absolute(), settings.spool_path]
    for folder in folders:
        if (why := why_not_trusted(folder)) is not None:
            raise InvalidArgumentError("spool", str(folder), why)


def _allowed(error: Any, kind: type[BaseSettings]) -> str:
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][0])
        similar = difflib.get_close_matches(name, kind.model_fields, n=3)
        others = (
            f"similar ones are {', '.join(similar)}" if similar else ", ".join(kind.model_fields)
        )
        return f"left out: no setting has this name; {others}"
    message: str = error["msg"]
    return message.removeprefix("Input should be ").removeprefix("Value error, ")
