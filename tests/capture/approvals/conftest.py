"""Gates over a real store stand in front of the agents of the tests of decisions."""

from __future__ import annotations

from tests.decisions.conftest import (
    _policies_of_this_test_only,
    agent,
    pay,
    ran,
    store_of_the_session,
)

__all__ = ["_policies_of_this_test_only", "agent", "pay", "ran", "store_of_the_session"]
