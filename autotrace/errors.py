"""The errors autotrace raises to its callers.

Recording never raises into user code; these come from asking: configuring, reading, recalling.

* AutotraceError
    * NotConfiguredError
    * InvalidArgumentError (also a ValueError)
    * TraceNotFoundError (also a LookupError)
    * MissingExtraError (also an ImportError)
    * StoreError
        * StoreUnavailableError
        * StoreVersionError
        * EmbeddingSpaceError
        * EmbedderUnavailableError
* AutotraceWarning
    * NotConfiguredWarning
"""

from __future__ import annotations

from collections.abc import Iterable


class AutotraceError(Exception):
    """Base of every error raised by autotrace."""


class NotConfiguredError(AutotraceError):
    """A read was asked for before `autotrace.configure()`."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs a store: call autotrace.configure() first "
            "(it takes the store from its argument or from AUTOTRACE_STORE)"
        )


class InvalidArgumentError(AutotraceError, ValueError):
    """An argument or a setting has a value that is not allowed."""

    def __init__(self, field: str, value: object, allowed: str | Iterable[object]) -> None:
        self.field = field
        self.value = value
        text = allowed if isinstance(allowed, str) else "one of " + ", ".join(map(repr, allowed))
        super().__init__(f"{field}={value!r} is not allowed: it must be {text}")


class TraceNotFoundError(AutotraceError, LookupError):
    """No trace with this id is in the store."""

    def __init__(self, trace_id: str, store: str) -> None:
        self.trace_id = trace_id
        super().__init__(
            f"no trace {trace_id!r} in {store}; "
            "a trace just recorded is there after autotrace.flush()"
        )


class MissingExtraError(AutotraceError, ImportError):
    """A feature needs packages that an extra brings."""

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs: pip install 'autotrace-agents[{extra}]'")


class StoreError(AutotraceError):
    """The store cannot be used as it is."""


class StoreUnavailableError(StoreError):
    """The store did not answer."""


class StoreVersionError(StoreError):
    """The store was written by a newer autotrace than this one, or by an older one."""


class EmbeddingSpaceError(StoreError):
    """The store holds vectors of another embedding space than the one configured."""


class EmbedderUnavailableError(StoreError):
    """The weights of the default embedder are in none of the places where they were looked for."""

    def __init__(self, space: str, tried: Iterable[tuple[str, str]], fix: str) -> None:
        self.tried = tuple(tried)
        places = "; ".join(f"{place}: {reason}" for place, reason in self.tried)
        super().__init__(f"no usable weights for the embedder {space} ({places}); to fix it: {fix}")


class AutotraceWarning(UserWarning):
    """Base of every warning issued by autotrace."""


class NotConfiguredWarning(AutotraceWarning):
    """A task was opened before `autotrace.configure()`; nothing is recorded."""
