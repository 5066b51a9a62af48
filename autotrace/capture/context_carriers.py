"""Carry the current task into work that starts outside its call stack.

Such work runs in threads, executors, green threads and background tasks. Only OpenTelemetry's
context is carried; other context variables stay as they are. Libraries are patched when they are
imported, and the patches do nothing while nothing records.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, Token
from functools import partial
from typing import Any, ClassVar, Final

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.context import Context as OtelContext

from autotrace.base.health_counters import HealthCounters

_CONTEXT_ATTRIBUTE: Final = "_autotrace_context"
"""Attribute of a background task: the context in which it was created."""
_wrapt: Any = wrapt  # version 1 has no types


class InheritedContext:
    """Inheritance of the current task by other work, until `stop` is called."""

    users: ClassVar[int] = 0
    """Number of instances that carry context now."""
    _is_patched: ClassVar[bool] = False

    def __init__(self, counters: HealthCounters) -> None:
        self._counters = counters
        self._instruments_threads = self._instrument_threads()
        self._carries = True
        InheritedContext.users += 1
        if not InheritedContext._is_patched:
            InheritedContext._is_patched = True
            for module, patch in _PATCHES.items():
                try:
                    hook = self._guarded(patch, module)
                    _wrapt.register_post_import_hook(hook, module)
                except Exception as error:  # noqa: BLE001 - recording goes on without this library
                    self._failed(f"work that {module} starts does not inherit the task", error)

    def stop(self) -> None:
        """Stop this instance's inheritance; a second call does nothing."""
        if self._carries:
            self._carries = False
            InheritedContext.users -= 1
        if self._instruments_threads:
            self._instruments_threads = False
            self._uninstrument_threads()

    def _failed(self, message: str, error: Exception) -> None:
        self._counters.add("capture_errors")
        self._counters.record_failure("threads", f"{message}: {error}", error)

    def _guarded(self, patch: Callable[[Any], None], module: str) -> Callable[[Any], None]:
        def patch_when_imported(imported: Any) -> None:
            try:
                patch(imported)
            except Exception as error:  # noqa: BLE001 - the import must not fail
                self._failed(f"work that {module} starts does not inherit the task", error)

        return patch_when_imported

    def _instrument_threads(self) -> bool:
        """Instrument threads and executors; return whether this call did so."""
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor

        try:
            instrumentor = ThreadingInstrumentor()
            if instrumentor.is_instrumented_by_opentelemetry:
                return False
            threading.Thread._otel_context = _ContextOfCaller()  # pyright: ignore[reportAttributeAccessIssue] - read by the instrumentor
            instrumentor.instrument()
        except Exception as error:  # noqa: BLE001 - recording goes on without threads
            self._failed("threads do not inherit the current task", error)
            return False
        return True

    def _uninstrument_threads(self) -> None:
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor

        try:
            ThreadingInstrumentor().uninstrument()
        except Exception as error:  # noqa: BLE001 - stopping must not fail
            self._failed("threads still inherit context", error)


class _ContextOfCaller:
    """Descriptor of threads that returns the context of the caller.

    It serves threads whose `start` the instrumentor did not see: its releases before 0.61 read the
    attribute of every thread that runs, also of one whose `run` is called directly. Uninstrumenting
    keeps it, since such a `run` may be bound already.
    """

    def __get__(self, thread: object, owner: type) -> OtelContext:
        return otel_context.get_current()


def _patch_gevent(module: Any) -> None:
    module.Greenlet.add_spawn_callback(_carry_into)


def _patch_gevent_pool(module: Any) -> None:
    def spawn(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        here = otel_context.get_current()
        if InheritedContext.users and here and args:
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
    """Make a green thread start in the current context."""
    here = otel_context.get_current()
    if not InheritedContext.users or not here:
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
        if InheritedContext.users and here:
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
    except ValueError:  # closed in another context, in which the token is not valid
        pass


_PATCHES: Final[dict[str, Callable[[Any], None]]] = {
    "gevent.greenlet": _patch_gevent,
    "gevent.threadpool": _patch_gevent_pool,
    "eventlet.greenthread": _patch_eventlet,
    "starlette.background": _patch_starlette,
}
"""Patch of each module, applied when the module is imported."""
