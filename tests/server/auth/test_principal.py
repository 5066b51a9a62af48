"""Who may do what."""

from __future__ import annotations

import pytest

from autotrace.errors import NotPermittedError
from autotrace.server.auth.principal import KeyRole, Principal


def principal(role: KeyRole, agent: str = "ann", tenant: str = "default") -> Principal:
    return Principal("k1", agent, tenant, role)


@pytest.mark.parametrize(
    ("role", "owner", "may"),
    [
        ("agent", "ann", True),
        ("agent", "bob", False),
        ("agent", None, False),
        ("approver", "ann", True),
        ("approver", "bob", False),
        ("admin", "bob", True),
        ("admin", None, True),
    ],
)
def test_what_another_agent_made_is_changed_by_admins_alone(
    role: KeyRole, owner: str | None, may: bool
) -> None:
    assert principal(role).owns(owner) is may
    if may:
        principal(role).check_owns(owner, "trace-1")
    else:
        with pytest.raises(NotPermittedError, match="trace-1 belongs to another agent"):
            principal(role).check_owns(owner, "trace-1")


@pytest.mark.parametrize(
    ("role", "requester", "may"),
    [
        ("agent", "bob", False),
        ("approver", "bob", True),
        ("approver", "ann", False),
        ("admin", "bob", True),
        ("admin", "ann", False),
    ],
)
def test_approvals_are_answered_by_approvers_and_never_by_who_asks(
    role: KeyRole, requester: str, may: bool
) -> None:
    if may:
        principal(role).check_resolves(requester)
    else:
        with pytest.raises(NotPermittedError):
            principal(role).check_resolves(requester)


@pytest.mark.parametrize(
    ("role", "tenant", "may"),
    [("admin", "default", True), ("admin", "acme", False), ("approver", "default", False)],
)
def test_the_server_is_seen_by_admins_of_the_default_tenant(
    role: KeyRole, tenant: str, may: bool
) -> None:
    if may:
        principal(role, tenant=tenant).require_operator()
    else:
        with pytest.raises(NotPermittedError):
            principal(role, tenant=tenant).require_operator()
