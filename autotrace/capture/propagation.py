"""Context across processes: W3C trace context headers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, MutableMapping
from contextvars import Token
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from autotrace.capture.operation import FRAME_KEY, effective_context, without_task
from autotrace.capture.recorder import current, failed

if TYPE_CHECKING:
    from opentelemetry.context import Context

_W3C = TraceContextTextMapPropagator()


def inject(carrier: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """Return headers that let another process add to the current trace.

    `traceparent` names the trace, and `tracestate` carries a grant: for 24 hours, a holder of both
    may add spans to the trace on a server, also with the key of another agent.

    Args:
        carrier: Headers (of a request, or environment variables) to add to; it is changed too.

    Returns:
        The headers: `traceparent` and `tracestate`. Empty outside any span.
    """
    headers: dict[str, str] = {}
    try:
        here = effective_context()
        _W3C.inject(headers, here)
        recorder = current.recorder
        if headers and recorder is not None and recorder.granting is not None:
            trace = f"{get_current_span(here).get_span_context().trace_id:032x}"
            tracestate = recorder.granting.added_to(headers.get("tracestate", ""), trace)
            if tracestate:
                headers["tracestate"] = tracestate
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)
    if carrier is not None:
        carrier.update(headers)
    return headers


@contextlib.contextmanager
def attach(carrier: Mapping[str, str]) -> Generator[None]:
    """Add the spans of the block to the trace that headers name.

    A tool or step belongs to the task it was sent from; a task opened inside has that one as
    parent. Headers that name no trace change nothing.

    Args:
        carrier: Headers as `inject` made them; upper and lower case are the same.
    """
    with _entered(lambda outside: _extracted(carrier, outside)):
        yield


@contextlib.contextmanager
def detached() -> Generator[None]:
    """Keep the spans and workers of the block out of every open task.

    For workers that live longer than the task in which they are started:

    ```python
    with autotrace.detached():
        worker = asyncio.create_task(work_through(queue))
    ```

    A worker that records for the task of a queue item gets the headers of `inject` with the item,
    and works inside `attach`.
    """
    with _entered(without_task):
        yield


@contextlib.contextmanager
def _entered(change: Callable[[Context], Context]) -> Generator[None]:
    attached: tuple[Context, Token[Context]] | None = None
    try:
        outside = otel_context.get_current()
        inside = change(outside)
        if inside is not outside:
            attached = inside, otel_context.attach(inside)
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)
    try:
        yield
    finally:
        if attached is not None:
            _detach(*attached)


def _detach(inside: Context, token: Token[Context]) -> None:
    """Restore the previous context, unless the block exits elsewhere: see operation.py."""
    try:
        if otel_context.get_current() is inside:
            token.var.reset(token)
    except ValueError:
        pass  # a copy of the context has no token
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)


def _extracted(carrier: Mapping[str, str], outside: Context) -> Context:
    lowered = {key.lower(): value for key, value in carrier.items()}
    extracted = _W3C.extract(lowered, outside)
    if extracted is outside:
        return outside
    # The task sent from is in another process: nothing of one that may be open here is inherited.
    here, there = (get_current_span(context).get_span_context() for context in (outside, extracted))
    if here.trace_id == there.trace_id:
        return extracted
    return otel_context.set_value(FRAME_KEY, None, extracted)
