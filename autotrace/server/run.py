"""Run the application: sockets, workers, signals, heads of requests."""

from __future__ import annotations

import asyncio
import contextlib
import math
import multiprocessing
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from prometheus_client import multiprocess as prometheus_processes
from typing_extensions import override
from uvicorn.supervisors import Multiprocess

from autotrace.errors import InvalidArgumentError
from autotrace.server.logs import log_config
from autotrace.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn.protocols.http.h11_impl import H11Protocol as HttpProtocol
else:
    # The faster one of uvicorn's two, if it is installed.
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as HttpProtocol

METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the Prometheus client that names the folder in which all workers count."""
_BACKLOG: Final = 1024
_SAFE_PATH: Final = "PYTHONSAFEPATH"
"""Keeps Python from putting the current folder on the path of a new interpreter."""
_OTHER_FILES: Final = 1024
"""Number of files that a worker may have open in addition to its connections."""
_KEEP_ALIVE_S: Final = 30
"""How long an idle connection stays open: agents think between two calls."""
_MAX_HEAD_BYTES: Final = 64 * 1024
"""Limit on the head of a request that arrives in parts: httptools has none."""
_HEAD_END: Final = b"\r\n\r\n"
_UPGRADE: Final = re.compile(rb"\n(upgrade[ \t]*:)", re.IGNORECASE)
_WORKER_ANSWERS_WITHIN_S: Final = 60
"""How long a worker may be silent before it is replaced: loading Chroma takes a while."""


@dataclass(frozen=True)
class Application:
    """Factory of a worker's application, called in the worker."""

    settings: Settings
    server: ServerSettings

    def __call__(self) -> FastAPI:
        """Return the application."""
        from autotrace.server.app import create_app
        from autotrace.server.app_state import AppState

        end_with_parent()
        allow_files(2 * self.server.max_connections + _OTHER_FILES)
        return create_app(AppState(self.settings, self.server))


class PatientProtocol(HttpProtocol):
    """uvicorn's HTTP protocol with bounds on the head of a request."""

    _giving_up: asyncio.TimerHandle | None = None
    _head_bytes: int | None = None
    """Bytes received of a head that is not complete."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the timer; one connection too many replaces an idle one."""
        super().connection_made(transport)
        max_connections = cast("Application", self.config.app).server.max_connections
        if len(self.connections) >= max_connections:
            self._make_room()
        if len(self.connections) > 2 * max_connections:  # uvicorn answers 503 to those below
            transport.abort()
            return
        self._wait()

    def _make_room(self) -> None:
        others = cast("set[PatientProtocol]", self.connections - {self})
        idle = [other for other in others if not other._is_answering]
        if idle:
            longest = min(idle, key=PatientProtocol._ends_waiting_at_s)
            self.connections.discard(longest)
            longest.transport.abort()

    def _ends_waiting_at_s(self) -> float:
        # One that has asked before goes last: a stranger never has.
        return self._giving_up.when() if self._giving_up else math.inf

    @override
    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - asyncio's
        """Keep the connection of a client that only reads from now on."""
        cycle: Any = self.cycle
        if not self._is_answering or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    @override
    def data_received(self, data: bytes) -> None:
        """Run the timer while the head of a request is not complete."""
        cycle: Any = self.cycle
        if cycle is None or not cycle.more_body:
            # httptools drops the body of a request that offers an upgrade, as Java's client does
            # in its first one (h2c).
            head, end, rest = data.partition(_HEAD_END)
            data = _UPGRADE.sub(rb"\nX-\1", head) + end + rest
        before = self._head_bytes
        super().data_received(data)
        if before is not None and self._head_bytes == before:
            self._head_bytes = before + len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.transport.close()
        if self._is_answering:
            self._stop_waiting()
        elif self._giving_up is None:
            self._wait()

    def on_message_begin(self) -> None:
        """Start to count bytes; called by httptools."""
        self._head_bytes = 0
        cast("Any", super()).on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop a trailer, which nothing reads; called by httptools."""
        if self._head_bytes is not None:
            cast("Any", super()).on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop counting bytes; called by httptools."""
        self._head_bytes = None
        cast("Any", super()).on_headers_complete()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        application = cast("Application", self.config.app)
        timeout_s = application.server.request_timeout_ms / 1000
        self._giving_up = self.loop.call_later(timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        self._giving_up = None
        if not self._is_answering:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, which its annotation leaves out
        return cycle is not None and not cycle.response_complete


def listen(server: ServerSettings) -> socket.socket:
    """Return a socket that listens at the address of the settings.

    Raises:
        InvalidArgumentError: The address is not of this machine, or its port is taken.
    """
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        listening = socket.create_server(
            (server.host, server.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        where = f"{server.host}:{server.port}"
        why = (error.strerror or "").partition(" (")[0]  # the rest names the place once more
        allowed = f"an address of this machine and a port that is free ({why}); --host, --port"
        raise InvalidArgumentError("host:port", where, allowed) from None
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket) -> str:
    """Return the URL under which a client of this machine reaches the server."""
    host, port = cast("tuple[str, int]", listening.getsockname()[:2])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a comparison
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(settings: Settings, server: ServerSettings, listening: socket.socket) -> int:
    """Serve until a signal; then finish requests and store their records.

    Returns:
        The exit code: 0 after an orderly end.
    """
    config = uvicorn.Config(
        cast("Any", Application(settings.resolved(), server)),
        factory=True,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        workers=server.workers,
        log_config=log_config(),
        access_log=False,  # it has a line of its own
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        limit_concurrency=server.max_connections,
        timeout_graceful_shutdown=max(1, server.stop_timeout_ms // 1000),
        timeout_worker_healthcheck=_WORKER_ANSWERS_WITHIN_S,
    )
    return _run_one(config, listening) if server.workers == 1 else _run_many(config, listening)


def _run_one(config: uvicorn.Config, listening: socket.socket) -> int:
    running = uvicorn.Server(config)

    def stop(_signal: int, _frame: Any) -> None:
        running.should_exit = True

    # uvicorn has handlers of its own while it serves, and raises the signal again afterwards, which
    # would turn an orderly end into a death by signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        running.run(sockets=[listening])
    except SystemExit as ended:
        return int(bool(ended.code))
    return 0


class _Workers(Multiprocess):
    failed = False

    @override
    def keep_subprocess_alive(self) -> None:
        was_stopped = self.should_exit.is_set()
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            # Its requests are no longer under way.
            cast("Any", prometheus_processes).mark_process_dead(pid)
        # uvicorn stops by itself if a worker cannot start.
        self.failed = self.failed or (self.should_exit.is_set() and not was_stopped)


def _run_many(config: uvicorn.Config, listening: socket.socket) -> int:
    with tempfile.TemporaryDirectory(prefix="autotrace-metrics-") as folder:
        os.environ[METRICS_VARIABLE] = folder
        # The interpreters of workers would otherwise begin with the current folder on their path.
        with _safe_path():
            workers = _Workers(config, [listening])
            workers.run()
    return int(workers.failed)


@contextlib.contextmanager
def _safe_path() -> Generator[None]:
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def end_with_parent() -> None:
    """End this worker in good order if the process that started it was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="autotrace-parent", daemon=True).start()


def allow_files(count: int) -> None:
    """Raise the limit on open files to `count`, or to the hard limit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
