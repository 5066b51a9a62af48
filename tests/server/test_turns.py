"""Turns: whose batch is read next."""

from __future__ import annotations

import anyio
import pytest

from autotrace.errors import LimitExceededError
from autotrace.server.limits import Turns


class Readers:
    """Requests that take turns, each of which goes on until it is told to end."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self.refused: list[str] = []
        self.ends: dict[str, anyio.Event] = {}

    async def read(self, name: str) -> None:
        """Take a turn. A name is made of the tenant, the key and a number: `Ak1`."""
        self.ends[name] = anyio.Event()
        try:
            async with self.turns.turn(name[0], name[:2]):
                self.began.append(name)
                await self.ends[name].wait()
        except LimitExceededError:
            self.refused.append(name)

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await anyio.wait_all_tasks_blocked()


async def _begun(group: anyio.abc.TaskGroup, readers: Readers, names: str) -> None:
    for name in names.split():
        group.start_soon(readers.read, name)
        await anyio.wait_all_tasks_blocked()


def test_a_key_has_one_turn_at_a_time() -> None:
    async def main() -> None:
        readers = Readers(Turns(at_once=2, max_waiting=9))
        async with anyio.create_task_group() as group:
            await _begun(group, readers, "Ak1 Ak2 Ak3 Al1")
            assert readers.began == ["Ak1", "Al1"]
            await readers.end("Al1")
            assert readers.began == ["Ak1", "Al1"]
            await readers.end("Ak1")
            await readers.end("Ak2")
            assert readers.began == ["Ak1", "Al1", "Ak2", "Ak3"]
            await readers.end("Ak3")

    anyio.run(main)


def test_tenants_take_turns_and_keys_within_them() -> None:
    async def main() -> None:
        readers = Readers(Turns(at_once=1, max_waiting=9))
        async with anyio.create_task_group() as group:
            await _begun(group, readers, "Ak1 Ak2 Ak3 Al1 Al2 Am1 Bk1 Bk2")
            for _ in range(8):
                await readers.end(readers.began[-1])
        assert readers.began == ["Ak1", "Ak2", "Bk1", "Al1", "Bk2", "Am1", "Ak3", "Al2"]

    anyio.run(main)


def test_a_key_that_floods_delays_another_by_one_turn() -> None:
    async def main() -> None:
        readers = Readers(Turns(at_once=2, max_waiting=1_000))
        async with anyio.create_task_group() as group:
            await _begun(group, readers, " ".join(f"Ak{n}" for n in range(100)))
            await _begun(group, readers, " ".join(f"Al{n}" for n in range(100)))
            assert readers.began == ["Ak0", "Al0"]
            await _begun(group, readers, "Bk0")
            await readers.end("Ak0")
            assert readers.began[-1] == "Bk0"
            group.cancel_scope.cancel()

    anyio.run(main)


def test_a_key_has_a_bounded_number_of_requests_that_wait() -> None:
    async def main() -> None:
        readers = Readers(Turns(at_once=2, max_waiting=2))
        async with anyio.create_task_group() as group:
            await _begun(group, readers, "Ak1 Ak2 Ak3 Ak4 Al1")
            assert (readers.began, readers.refused) == (["Ak1", "Al1"], ["Ak4"])
            group.cancel_scope.cancel()

    anyio.run(main)


@pytest.mark.parametrize("gone", ["Ak1", "Ak2", "Ak3"])
def test_who_goes_away_gives_up_its_turn_or_its_place(gone: str) -> None:
    async def main() -> None:
        readers = Readers(Turns(at_once=1, max_waiting=9))
        async with anyio.create_task_group() as group:
            scopes = {name: anyio.CancelScope() for name in ("Ak1", "Ak2", "Ak3")}

            async def reading(name: str) -> None:
                with scopes[name]:
                    await readers.read(name)

            for name in scopes:
                group.start_soon(reading, name)
                await anyio.wait_all_tasks_blocked()
            scopes[gone].cancel()
            await anyio.wait_all_tasks_blocked()
            left = [name for name in scopes if name != gone]
            for name in left:
                await readers.end(name)
            assert [name for name in readers.began if name != gone] == left
            await _begun(group, readers, "Bk1")
            assert readers.began[-1] == "Bk1"
            await readers.end("Bk1")

    anyio.run(main)
