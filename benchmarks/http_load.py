"""Load on an HTTP server from one process: clients that ask, one request after the other, at once.

The client is as small as can be, since what it costs counts against both sides: HTTP/1.1 over
asyncio streams, connections kept open, answers with a length.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Work = Callable[["Client", int], Awaitable[None]]
"""One unit of work of a client, given its number among all units."""


class Client:
    """One connection.

    Args:
        port: Of the server, on this machine.
        key: The key to present; None for none.
    """

    def __init__(self, port: int, key: str | None) -> None:
        self._port = port
        authorization = "" if key is None else f"Authorization: Bearer {key}\r\n"
        self._head = f"Host: 127.0.0.1:{port}\r\n{authorization}Content-Type: application/json\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Any) -> Any:
        """Post JSON and return the JSON of the answer.

        Raises:
            RuntimeError: The answer is no 200.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [
            int(line.partition(":")[2])
            for line in answer.split("\r\n")
            if line.lower().startswith("content-length:")
        ]
        text = await reader.readexactly(lengths[0])
        if " 200 " not in answer.partition("\r\n")[0]:
            raise RuntimeError(f"{path}: {answer.partition(chr(13))[0]}: {text[:300]!r}")
        return json.loads(text)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


@dataclass(frozen=True)
class Load:
    """What a load gave."""

    units: int
    took_s: float
    latencies_ms: list[float]
    """Of each unit, sorted."""

    @property
    def per_second(self) -> float:
        """Units a second, of all clients together."""
        return self.units / self.took_s

    def percentile_ms(self, share: float) -> float:
        """Return what that share of the units did not exceed."""
        return self.latencies_ms[int(share * (len(self.latencies_ms) - 1))]


def load(
    port: int, key: str | None, work: Work, *, clients: int, until: Callable[[int], bool]
) -> Load:
    """Have so many clients do one unit after the other.

    Args:
        port: Of the server.
        key: The key that they present.
        work: A unit.
        clients: How many at once.
        until: Told how many units have begun; returns whether that is enough.
    """
    return asyncio.run(_load(port, key, work, clients, until))


async def _load(
    port: int, key: str | None, work: Work, clients: int, until: Callable[[int], bool]
) -> Load:
    latencies_ms: list[float] = []
    begun = 0

    async def run(client: Client) -> None:
        nonlocal begun
        while not until(begun):
            number, began_s = begun, time.perf_counter()
            begun += 1
            await work(client, number)
            latencies_ms.append((time.perf_counter() - began_s) * 1e3)

    opened = [Client(port, key) for _ in range(clients)]
    began_s = time.perf_counter()
    try:
        await asyncio.gather(*map(run, opened))
    finally:
        for client in opened:
            client.close()
    return Load(len(latencies_ms), time.perf_counter() - began_s, sorted(latencies_ms))
