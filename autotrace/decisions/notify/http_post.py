"""Post to another server, once: bounded in time, without redirects.

Notes name only the host, as the rest of a URL may be secret. For the same reason requests use
httpx's transport instead of its client, which logs URLs.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import ipaddress
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from autotrace.decisions.notify.delivery import Attempt

if TYPE_CHECKING:
    import httpx

MAX_READ_BYTES: Final = 65_536
"""Limit of a response that is read, and ignored, so that the server can finish."""
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TRY_AGAIN: Final = (408, 425, 429)
# Listed here, as `ipaddress.is_global` differs between versions of Python.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL_6: Final = tuple(
    ipaddress.IPv6Network(net)
    # Of the IETF (Teredo, ORCHID, benchmarks), documentation, 6to4, AS112.
    for net in ("2001::/23", "2001:db8::/32", "3fff::/20", "2002::/16", "2620:4f:8000::/48")
)
_SPECIAL_4: Final = tuple(
    ipaddress.IPv4Network(net)
    # Of the IETF, and anycast: relays of 6to4, AS112, AMT.
    for net in (
        *("192.0.0.0/24", "192.88.99.0/24"),
        *("192.31.196.0/24", "192.175.48.0/24", "192.52.193.0/24"),
    )
)


@dataclass(frozen=True)
class Post:
    """A request to post.

    Args:
        url: An http(s) URL; may hold a name and password.
        body: The content.
        headers: Headers of autotrace, which override those of the route.
        own_headers: Headers of the route.
        timeout_ms: Time limit of the whole request.
        public_only: Whether to refuse a host that has a private address.
    """

    url: str
    body: bytes
    headers: Mapping[str, str]
    own_headers: Mapping[str, str]
    timeout_ms: int
    public_only: bool = False


def post(what: Post) -> Attempt:
    """Post once. A failure is returned, not raised."""
    import httpx

    url = httpx.URL(what.url)
    headers = {**what.own_headers, **_authorization(url), **what.headers}
    url = url.copy_with(userinfo=b"", fragment=None)
    host = url.netloc.decode("ascii", "replace")
    with _Deadline(what.timeout_ms / 1000) as deadline:
        try:
            address = None
            if what.public_only:
                # Connect to a checked address: the name may resolve to another one later.
                address, *others = _addresses(url)
                if not all(map(is_public, [address, *others])):
                    return Attempt("failed", f"{host} has a private address, and public_only is on")
            return _judge(host, *_send(url, address, headers, what.body, deadline))
        except (httpx.TimeoutException, httpx.TransportError, OSError) as error:
            if deadline.is_over or isinstance(error, httpx.TimeoutException | TimeoutError):
                return Attempt("retry", f"{host} did not answer within {what.timeout_ms} ms")
            return Attempt("retry", f"{host} could not be reached ({type(error).__name__})")


def is_public(address: str) -> bool:
    """Return whether an address (IPv4 or IPv6, perhaps with a zone) is on the public internet.

    An IPv4 address inside an IPv6 one counts where translators deliver to it: mapped, and NAT64.
    Other transition addresses (6to4, Teredo, ISATAP, compatible, translated) are not public.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None or ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)))
        is_isatap = (int(ip) >> 32) & 0xFDFF_FFFF == 0x0000_5EFE
        return ip in _UNICAST and not is_isatap and not any(ip in net for net in _SPECIAL_6)
    return (
        ip.is_global
        and not (ip.is_multicast or ip.is_reserved)
        and not any(ip in net for net in _SPECIAL_4)
    )


def _send(
    url: httpx.URL,
    address: str | None,
    headers: Mapping[str, str],
    body: bytes,
    deadline: _Deadline,
) -> tuple[int, str | None]:
    """Make one request; return the status of the response, and its Retry-After.

    Args:
        url: The URL.
        address: Address to connect to; None: any address of the host.
        headers: All headers but Host.
        body: The content.
        deadline: Time limit.

    Raises:
        httpx.TransportError: No response came.
    """
    import httpx

    left_s = deadline.left_s()
    if left_s <= 0:
        msg = "no time is left"
        raise httpx.ReadTimeout(msg)
    extensions = dict[str, Any](timeout=httpx.Timeout(left_s).as_dict(), trace=deadline.trace)
    if address is not None:
        extensions["sni_hostname"] = url.host
    request = httpx.Request(
        "POST",
        url if address is None else url.copy_with(host=address),
        headers={"Host": url.netloc.decode("ascii"), **headers},
        content=body,
        extensions=extensions,
    )
    with httpx.HTTPTransport(proxy=_proxy(url)) as transport:
        response = transport.handle_request(request)
        try:
            _read_some(response)
        finally:
            response.close()
    return response.status_code, response.headers.get("retry-after")


def _read_some(response: httpx.Response) -> None:
    import httpx

    read = 0
    with contextlib.suppress(httpx.TransportError):  # the status is known already
        for chunk in response.iter_raw():
            read += len(chunk)
            if read >= MAX_READ_BYTES:
                return


def _addresses(url: httpx.URL) -> list[str]:
    found = socket.getaddrinfo(url.host, url.port or url.scheme, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _authorization(url: httpx.URL) -> dict[str, str]:
    """Return the header of the name and password in a URL."""
    if not url.userinfo:
        return {}
    plain = unquote(url.userinfo.decode("ascii"))
    if ":" not in plain:
        plain += ":"
    return {"Authorization": "Basic " + base64.b64encode(plain.encode()).decode("ascii")}


def _proxy(url: httpx.URL) -> str | None:
    """Return the proxy that the environment names for a host."""
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _judge(host: str, status: int, retry_after: str | None) -> Attempt:
    note = f"{host} answered {status}"
    if 200 <= status < 300:
        return Attempt("delivered", note)
    if status in _TRY_AGAIN or status >= 500:
        return Attempt("retry", note, _seconds(retry_after))
    if status in _REDIRECTS:
        note += ": redirects are not followed; configure the URL that it leads to"
    return Attempt("failed", note)


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number or a date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])  # more digits exceed each limit as well
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


class _Deadline:
    """Time limit that cuts the connection, even of a server that sends single bytes.

    The timeouts of a connection restart with each byte.
    """

    def __init__(self, seconds: float) -> None:
        self._ends_at_s = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self._ends_at_s - time.monotonic()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the connection; httpx calls this with each event of a request."""
        get_extra_info = getattr(info.get("return_value"), "get_extra_info", None)
        if event.endswith(".complete") and get_extra_info is not None:
            with self._lock:
                self._socket = get_extra_info("socket")
                if self.is_over:
                    self._shut_down()

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            # The socket below TLS: wakes up its reader, and sends nothing.
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
