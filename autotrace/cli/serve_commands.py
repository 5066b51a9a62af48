"""`autotrace serve` and `autotrace keys`."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from rich.text import Text

from autotrace.cli.command_options import JsonOption, StoreOption, command_of, make_app, print_list
from autotrace.cli.formatting import local_time, one_line
from autotrace.cli.open_store import chosen_embedding, load_policies
from autotrace.cli.terminal import Screen, complain, print_json
from autotrace.errors import (
    AutotraceError,
    InvalidArgumentError,
    KeyNotFoundError,
    MissingExtraError,
)
from autotrace.semconv import KEY_VARIABLE
from autotrace.settings import (
    ServerSettings,
    Settings,
    load_server_settings,
    load_settings,
    misspelled_variables,
)

if TYPE_CHECKING:
    from autotrace.server.auth.api_keys import KeyInfo

FIRST_AGENT: Final = "local"
FIRST_APPROVER: Final = "person"
"""Not the name of the agent, which cannot answer its own requests."""
_EXPIRES: Final = re.compile(r"([0-9]{1,6})([mhdw])")
_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_PACKAGES: Final = ("fastapi", "mcp", "prometheus_client", "uvicorn")
"""Packages of the extra."""

keys_app = make_app("Keys of agents and people for the server.", no_args_is_help=True)
_command = command_of(keys_app)


class RoleName(StrEnum):
    """Values of `--role`."""

    AGENT = "agent"
    APPROVER = "approver"
    ADMIN = "admin"


@_command
def create(
    agent: Annotated[
        str,
        typer.Option(
            "--agent", metavar="NAME", help="Agent in whose name the key records and requests."
        ),
    ],
    tenant: Annotated[
        str, typer.Option("--tenant", metavar="NAME", help="Tenant whose memory the key sees.")
    ] = "default",
    role: Annotated[
        RoleName,
        typer.Option(
            "--role",
            help="agent: changes its own records; approver: also answers requests of others; "
            "admin: changes anything of its tenant.",
        ),
    ] = RoleName.AGENT,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="TIME",
            help="Time until the key expires, such as 12h, 90d or 52w. Default: never.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key; it is shown only now."""
    from autotrace.server.auth.api_keys import KeyRing
    from autotrace.server.tenants import prepare
    from autotrace.store.api_keys import exist

    expires_in_s = None if expires is None else _seconds(expires)
    settings = load_settings(store=store)
    is_first = not exist(settings.store)
    with closing(KeyRing.of(settings)) as ring:
        prepare(settings, tenant)
        made = ring.create(agent, tenant, role.value, expires_in_s=expires_in_s)
    if is_first:
        # The default folder may not be that of the server.
        complain(
            "note", f"this is the first key of {settings.shown_store}; it opens no other store"
        )
    if as_json:
        print_json(made._asdict())
        return
    Screen().whole(made.key)


def _seconds(expires: str) -> int:
    """Return the seconds of `--expires`; raise InvalidArgumentError unless it is a time."""
    parts = _EXPIRES.fullmatch(expires)
    seconds = 0 if parts is None else int(parts[1]) * _SECONDS[parts[2]]
    if not seconds:
        allowed = "a number above 0 and m, h, d or w: 30m, 12h, 90d, 52w"
        raise InvalidArgumentError("--expires", expires, allowed)
    return seconds


@_command
def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List keys, including revoked ones, oldest first."""
    from autotrace.server.auth.api_keys import KeyRing
    from autotrace.store.api_keys import exist

    settings = load_settings(store=store)
    with closing(KeyRing.of(settings)) as ring:
        found = ring.list() if exist(settings.store) else []
    if as_json:
        print_list("keys", found)
    else:
        _show_keys(Screen(), found, settings.shown_store)


def _show_keys(screen: Screen, keys: Sequence[KeyInfo], store: str) -> None:
    if not keys:
        screen.line(f"no keys in {store}: make one with `autotrace keys create --agent NAME`")
        return
    rows: list[list[str | Text]] = [
        [
            key.key_id,
            one_line(key.agent),
            key.tenant,
            key.role,
            local_time(key.created_at),
            "never" if key.last_used_at is None else local_time(key.last_used_at),
            "never" if key.expires_at is None else local_time(key.expires_at),
            "" if key.revoked_at is None else local_time(key.revoked_at),
        ]
        for key in keys
    ]
    screen.table(
        ["id", "agent", "tenant", "role", "created", "last used", "expires", "revoked"], rows
    )


@_command
def revoke(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Id of the key: the part between its underscores; or the whole key."
        ),
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key."""
    from autotrace.server.auth.api_keys import KEY_PREFIX, KeyRing
    from autotrace.store.api_keys import exist

    settings = load_settings(store=store)
    if key_id.startswith(KEY_PREFIX):  # the whole key, which must not appear in messages
        key_id = key_id.removeprefix(KEY_PREFIX).partition("_")[0]
    with closing(KeyRing.of(settings)) as ring:
        if not exist(settings.store):
            raise KeyNotFoundError(key_id)
        revoked = ring.revoke(key_id)
    if as_json:
        print_json(revoked.model_dump(mode="json"))
    else:
        since = "" if revoked.revoked_at is None else f" since {local_time(revoked.revoked_at)}"
        Screen().line(f"{revoked.key_id}, of the agent {revoked.agent}, is revoked{since}")


def need_packages(feature: str) -> None:
    """Raise MissingExtraError unless the packages of the extra are installed."""
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
        raise MissingExtraError(feature, "server")


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen on. Default: AUTOTRACE_SERVER_HOST, else 127.0.0.1.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help="Port; 0: a free one. Default: AUTOTRACE_SERVER_PORT, else 8484.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Number of processes. Default: AUTOTRACE_SERVER_WORKERS, else 1.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Serve the store to agents: REST, MCP and OTLP, on one port."""
    need_packages("autotrace serve")
    from autotrace.server.run import listen, run, url_of

    settings = load_settings(store=store)
    # Checked here once, before each worker would fail.
    load_policies(settings)
    chosen_embedding(settings, None)
    server = load_server_settings(host=host, port=port, workers=workers)
    for text in misspelled_variables():
        complain("warning", text)
    with listen(server) as listening:
        first = _first_keys(settings, server)
        screen = Screen()
        where = "" if server.is_loopback else " to other machines too, here"
        screen.line(f"autotrace serves {settings.store}{where} on {url_of(listening)}")
        if first is not None:
            _show_first(screen, first, url_of(listening))
        code = run(settings, server, listening)
    if code:
        raise typer.Exit(code)


class _FirstKeys(NamedTuple):
    agent: str
    approver: str


def _first_keys(settings: Settings, server: ServerSettings) -> _FirstKeys | None:
    """Create the first keys of a store that only this machine can reach, if it has none.

    Only `autotrace keys create` creates an admin's key, as a server's output is copied into the
    configuration of an agent.
    """
    from autotrace.server.auth.api_keys import KeyRing
    from autotrace.server.auth.principal import DEFAULT_TENANT
    from autotrace.store.api_keys import exist

    with closing(KeyRing.of(settings)) as ring:
        # Reading the keys would create the store.
        found = ring.list() if exist(settings.store) else []
        if any(key.is_usable(datetime.now(UTC)) for key in found):
            return None
        if not server.is_loopback:
            msg = (
                f"{server.host} is reached from other machines, and the store {settings.store} has "
                "no keys: make one with `autotrace keys create --agent NAME"
                f"{_store_argument(settings)}`, and start again"
            )
            raise AutotraceError(msg)
        return _FirstKeys(
            ring.create(FIRST_AGENT, DEFAULT_TENANT, "agent").key,
            ring.create(FIRST_APPROVER, DEFAULT_TENANT, "approver").key,
        )


def _store_argument(settings: Settings) -> str:
    return f" --store {shlex.quote(settings.store)}"


def _show_first(screen: Screen, keys: _FirstKeys, url: str) -> None:
    body: dict[str, Any] = {"task": "Find a restaurant near the venue", "session_id": "s1"}
    screen.line("the store had no keys; two were made, and are shown only now:")
    screen.line(f"the agent's key, for the configuration of an agent (agent {FIRST_AGENT!r}):")
    screen.whole(keys.agent)
    screen.line(
        f"the approver's key, which stays with a person (agent {FIRST_APPROVER!r}); with it an "
        "agent would approve its own calls:"
    )
    screen.whole(keys.approver)
    screen.line("try it: paste the agent's key into the first line")
    screen.whole(f"read -r {KEY_VARIABLE}; export {KEY_VARIABLE}")
    # Not an argument of curl: ps shows the arguments of each process.
    screen.whole(
        f"printf 'Authorization: Bearer %s' \"${KEY_VARIABLE}\" | curl -H @- "
        f"-X POST {url}/api/v1/public/memory/v2/traces/start "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )
