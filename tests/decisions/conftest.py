"""What tests of decisions register is gone after each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autotrace.decisions.policies import policy_ids, remove_policy


@pytest.fixture(autouse=True)
def _policies_of_this_test_only() -> Iterator[None]:
    before = set(policy_ids())
    yield
    for policy_id in set(policy_ids()) - before:
        remove_policy(policy_id)
