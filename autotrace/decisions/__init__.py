"""Decisions: look them up, answer them, record them, prove them.

```python
for waiting in autotrace.decisions.pending():
    print(waiting.decision_id, waiting.approval.title)
autotrace.decisions.approve("decision-…", approver="ada", rationale="within budget")
```

An agent opens decisions with `autotrace.decision(...)` and `@tool(requires_approval=...)`. Each
function has an async form with the prefix `a`: `await autotrace.decisions.apending()`.
"""

# ruff: noqa: F405 - the functions are imported by a star, for type checkers alone

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from autotrace.decisions.functions import *  # noqa: F403 - bounded by its __all__
    from autotrace.decisions.notify.routes import add_route, remove_route
    from autotrace.decisions.notify.webhooks import SlackWebhook, Webhook, verify_webhook

__all__ = [
    "SlackWebhook",
    "Webhook",
    "add_route",
    "approve",
    "check",
    "check_all",
    "checkpoint",
    "close",
    "erase",
    "get",
    "list",
    "pending",
    "receipt",
    "record",
    "reject",
    "remove_route",
    "search",
    "sign_vote",
    "trace",
    "verify",
    "verify_checkpoint",
    "verify_webhook",
]

_MODULES: Final = {
    **dict.fromkeys(("SlackWebhook", "Webhook", "verify_webhook"), "notify.webhooks"),
    **dict.fromkeys(("add_route", "remove_route"), "notify.routes"),
}
"""Modules of names, loaded at first use; all other names are in functions.py."""


def __getattr__(name: str) -> Any:
    if name not in __all__ and name.removeprefix("a") not in __all__:
        msg = f"module 'autotrace.decisions' has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(f"autotrace.decisions.{_MODULES.get(name, 'functions')}")
    value = getattr(module, name)
    globals()[name] = value
    return value
