"""What tests of decisions register is gone after each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from autotrace import tool
from autotrace.decisions.api import Decisions
from autotrace.decisions.policies import policy_ids, remove_policy
from tests.decisions.agents import Agent, Ran, WithTheRecorderInUse, agent_in, open_store


@pytest.fixture(autouse=True)
def _policies_of_this_test_only() -> Iterator[None]:
    before = set(policy_ids())
    yield
    for policy_id in set(policy_ids()) - before:
        remove_policy(policy_id)


@pytest.fixture(scope="session")
def store_of_the_session(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Decisions, WithTheRecorderInUse]]:
    folder = str(tmp_path_factory.mktemp("decisions"))
    deciding, told = open_store(folder)
    yield folder, deciding, told
    deciding.shut_down(30)


_numbers = itertools.count()


@pytest.fixture
def agent(
    store_of_the_session: tuple[str, Decisions, WithTheRecorderInUse],
) -> Iterator[Agent]:
    """An agent of its own, in a store that the tests share; nothing else of ours has failed."""
    with agent_in(*store_of_the_session, name=f"bot {next(_numbers)}") as made:
        yield made
        failures = made.recorded.counters.get("capture_errors", 0)
        assert failures == made.failures, made.recorded.last_error


@pytest.fixture
def ran() -> Ran:
    return Ran()


@pytest.fixture
def pay(ran: Ran) -> Callable[..., str]:
    """A tool whose every call asks, and does not wait."""

    @tool(requires_approval=True, wait=False)
    def pay(amount: int, to: str = "bob") -> str:
        ran.append((amount, to))
        return f"paid {amount}"

    return pay
