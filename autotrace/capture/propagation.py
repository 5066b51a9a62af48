"""Pass the trace context between processes in W3C headers."""

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
        carrier: Headers (of a request, or environment variables) to update in place.

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

    A tool call or step of the block belongs to the task that sent the headers; a task of the block
    has that task as parent. Headers without a trace change nothing.

    Args:
        carrier: Headers that `inject` returned; the case of their names does not matter.
    """
    with _entered(lambda outside: _extracted(carrier, outside)):
        yield


@contextlib.contextmanager
def detached() -> Generator[None]:
    """Keep the spans and workers of the block out of every open task.

    Use it for a worker that outlives the task in which it is started:

    ```python
    with autotrace.detached():
        worker = asyncio.create_task(work_through(queue))
    ```

    To record for the task that queued an item, send the headers of `inject` with the item, and
    process it inside `attach`.
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
    """Restore the previous context, unless the block exits in another one."""
    try:
        if otel_context.get_current() is inside:
            token.var.reset(token)
    except ValueError:
        pass  # a copy of the context, in which the token is not valid
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)


def _extracted(carrier: Mapping[str, str], outside: Context) -> Context:
    lowered = {key.lower(): value for key, value in carrier.items()}
    extracted = _W3C.extract(lowered, outside)
    if extracted is outside:
        return outside
    # The sending task is in another process: values of a task open here are not inherited.
    here, there = (get_current_span(context).get_span_context() for context in (outside, extracted))
    if here.trace_id == there.trace_id:
        return extracted
    return otel_context.set_value(FRAME_KEY, None, extracted)
