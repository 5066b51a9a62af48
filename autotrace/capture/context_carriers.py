"""Context in work that runs later elsewhere: green threads, and background tasks of Starlette.

Only OpenTelemetry's context is carried, as for threads: the program's own variables stay as they
are without us. Libraries are patched when they are imported, and keep quiet while nothing records.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, Token
from functools import partial
from typing import Any, Final

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.context import Context as OtelContext

from autotrace.base.health_counters import HealthCounters

_CONTEXT_ATTRIBUTE: Final = "_autotrace_context"
"""Of a background task: the context in which it was made."""
_wrapt: Any = wrapt  # version 1 has no types


class _Carrying:
    """Whether context is carried, by how many that record at once."""

    def __init__(self) -> None:
        self.users = 0
        self.is_installed = False


_carrying: Final = _Carrying()


def start_carrying(counters: HealthCounters) -> None:
    """Carry context into green threads and background tasks from now on."""
    _carrying.users += 1
    if _carrying.is_installed:
        return
    _carrying.is_installed = True
    for module, patch in _PATCHES.items():
        try:
            _wrapt.register_post_import_hook(_guarded(patch, module, counters), module)
        except Exception as error:  # noqa: BLE001 - recording goes on, with that work apart
            _note(module, error, counters)


def stop_carrying() -> None:
    """Undo one `start_carrying`."""
    _carrying.users -= 1


def _guarded(
    patch: Callable[[Any], None], module: str, counters: HealthCounters
) -> Callable[[Any], None]:
    def patch_when_imported(imported: Any) -> None:
        try:
            patch(imported)
        except Exception as error:  # noqa: BLE001 - an import must not fail by us
            _note(module, error, counters)

    return patch_when_imported


def _note(module: str, error: Exception, counters: HealthCounters) -> None:
    counters.add("capture_errors")
    message = f"work that {module} starts does not inherit the current task: {error}"
    counters.record_failure("threads", message, error)


def _patch_gevent(module: Any) -> None:
    module.Greenlet.add_spawn_callback(_carry_into)


def _patch_gevent_pool(module: Any) -> None:
    def spawn(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        here = otel_context.get_current()
        if _carrying.users and here and args:
            args = (partial(_call_in, here, args[0]), *args[1:])
        return wrapped(*args, **kwargs)

    _wrapt.wrap_function_wrapper(module, "ThreadPool.spawn", spawn)


def _call_in(
    context: OtelContext, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    token = otel_context.attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        _detach(token)


def _patch_eventlet(module: Any) -> None:
    def make(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        _carry_into(instance)

    def spawn(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        timer, green_thread = wrapped(*args, **kwargs)
        _carry_into(green_thread)
        return timer, green_thread

    _wrapt.wrap_function_wrapper(module, "GreenThread.__init__", make)
    _wrapt.wrap_function_wrapper(module, "_spawn_n", spawn)


def _carry_into(green_thread: Any) -> None:
    """Let a green thread that has not started begin in the context that is current here."""
    here = otel_context.get_current()
    if not _carrying.users or not here:
        return
    try:
        if green_thread.gr_context is None:
            green_thread.gr_context = Context()
        green_thread.gr_context.run(otel_context.attach, here)
    except Exception:  # noqa: BLE001, S110 - a greenlet of another thread, or one that runs already
        pass


def _patch_starlette(module: Any) -> None:
    def make(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        wrapped(*args, **kwargs)
        here = otel_context.get_current()
        if _carrying.users and here:
            instance.__dict__[_CONTEXT_ATTRIBUTE] = here

    async def run(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        made_in = instance.__dict__.get(_CONTEXT_ATTRIBUTE)
        if made_in is None:
            return await wrapped(*args, **kwargs)
        token = otel_context.attach(made_in)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            _detach(token)

    _wrapt.wrap_function_wrapper(module, "BackgroundTask.__init__", make)
    _wrapt.wrap_function_wrapper(module, "BackgroundTask.__call__", run)


def _detach(token: Token[Any]) -> None:
    try:
        token.var.reset(token)
    except ValueError:  # closed in another context: there is nothing to put back
        pass


_PATCHES: Final[dict[str, Callable[[Any], None]]] = {
    "gevent.greenlet": _patch_gevent,
    "gevent.threadpool": _patch_gevent_pool,
    "eventlet.greenthread": _patch_eventlet,
    "starlette.background": _patch_starlette,
}
"""Patches by module, applied when it is imported."""
