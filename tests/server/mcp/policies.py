"""A policy, as a server imports it."""

from __future__ import annotations

from typing import Any

from autotrace.decisions.policies import policy


@policy("test_discount_cap")
def discount_cap(inputs: dict[str, Any]) -> Any:
    if inputs["discount"] > 0.2:
        return "requires_exception", "more than 20 %"
    return "allow"
