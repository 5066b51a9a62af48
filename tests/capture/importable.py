"""Decorated functions that other processes find by their names."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from autotrace import step, task, tool
from tests.capture.subjects import foreign


@tool
def search(query: str, limit: int = 10) -> str:
    """Search."""
    return f"found {query} {limit}"


@tool
async def search_async(query: str) -> str:
    return f"found {query}"


@tool
def pages(query: str) -> Iterator[str]:
    yield query


@task("Plan {goal}")
def plan(goal: str) -> str:
    return goal


@step
def rank(items: list[str]) -> list[str]:
    return sorted(items)


@foreign
@tool
def guarded(query: str) -> str:
    return query


def _search(query: str, limit: int = 10) -> str:
    return f"found {query} {limit}"


limited = tool(name="limited", redact=["token"])(functools.partial(_search, limit=3))
renamed = step("Look for {query}")(_search)


class Service:
    """Has a method of every kind."""

    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def ask(self, question: str) -> str:
        return f"{self.name}: {question}"

    def _ask(self, question: str) -> str:
        return f"{self.name}: {question}"

    @property
    def ask_decorated(self):
        return task(self._ask)

    @classmethod
    @tool
    def make(cls, name: str = "made") -> Service:
        return cls(name)

    @tool
    @staticmethod
    def ping() -> str:
        return "pong"
