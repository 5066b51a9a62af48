"""Where a store is: which texts name a folder or a Chroma server, and which are mistakes."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

PLACES: Final = "a folder (which need not exist yet), or http(s)://host:port of a Chroma server"
_SCHEMES: Final = ("http", "https")
_CUT_SCHEME: Final = re.compile(r"https?:[/\\]*(?P<rest>[^/\\]*)", re.IGNORECASE)
"""The beginning of a URL whose slashes are not as they should be."""
_HOST_AND_PORT: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]+/?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_USER: Final = re.compile(r"(?<=//)[^/@]*@")


def why_not_a_place(store: str) -> str | None:
    """Return why the name of a store is not allowed, for an error message; None: it is."""
    if not store.strip():
        return PLACES
    if store != store.strip() or _CONTROL.search(store):
        return f"{PLACES}, without blanks around it and control characters"
    if "://" in store:
        return _why_no_server(store)
    cut = _CUT_SCHEME.match(store)
    if cut is not None:
        return f"http://{cut['rest'] or 'host:port'} for a Chroma server there"
    meant = store.removeprefix("//")
    if _HOST_AND_PORT.fullmatch(meant):
        return f"http://{meant} for a Chroma server there; a folder of this name is ./{meant}"
    return None


def without_user(store: str) -> str:
    """Return the name of a store without a user and password, which a URL may hold."""
    return _USER.sub("(not shown)@", store)


def _why_no_server(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "http(s)://host:port of a Chroma server, with a port from 1 to 65535"
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        return PLACES
    if parts.username is not None or parts.password is not None:
        return "http(s)://host:port, without user and password: they go into `chroma_headers`"
    if parts.path.strip("/") or parts.query or parts.fragment:
        return f"{parts.scheme}://{parts.netloc} alone: a path of the server is not supported"
    return None
