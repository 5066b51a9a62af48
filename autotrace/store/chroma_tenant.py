"""Make a tenant and its database on a Chroma server."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from autotrace.embedding.vectors import import_whole
from autotrace.errors import StoreUnavailableError
from autotrace.store.connection import ServerOptions

_CONFLICT: Final = 409


def ensure_tenant(store: str, options: ServerOptions) -> None:
    """Make a tenant and its database unless they exist.

    Args:
        store: URL of the Chroma server.
        options: Name the tenant and the database.

    Raises:
        StoreUnavailableError: The server does not answer, or refuses.
    """
    import_whole("httpx")
    import httpx

    parts = urlsplit(store)
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/api/v2/tenants"
    wanted = {base: options.tenant, f"{base}/{options.tenant}/databases": options.database}
    try:
        for url, name in wanted.items():
            answer = httpx.post(
                url, json={"name": name}, headers=options.headers, timeout=options.timeout_s
            )
            if answer.status_code != _CONFLICT:
                answer.raise_for_status()
    except httpx.HTTPError as error:
        msg = f"the Chroma server {store} does not make the tenant {options.tenant!r}: {error}"
        raise StoreUnavailableError(msg) from error
