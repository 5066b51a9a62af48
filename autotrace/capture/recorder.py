"""Hold the recorder that `autotrace.configure()` sets for capture.

Decorators and blocks read `current.recorder` at each call, so functions may be decorated before
`configure()`. No error of ours reaches user code: each operation on a span has a guard that counts
and logs the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context

from autotrace.base.signal_errors import reraise_if_from_signal_handler

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from autotrace.base.grants import Granting
    from autotrace.encoding.encoder import Encoder
    from autotrace.settings import Settings

SUPPRESSED: Final = otel_context._SUPPRESS_INSTRUMENTATION_KEY  # pyright: ignore[reportPrivateUsage] - it has no public name
"""Context key by which OpenTelemetry suppresses instrumentation."""


@dataclass(slots=True, kw_only=True, eq=False)
class Recorder:
    """Tracer, encoder and settings with which capture records."""

    tracer: Tracer
    encoder: Encoder
    count: Callable[[str], None]
    """Increment the counter of a name."""
    note: Callable[[str, str, BaseException], None]
    """Record and log a failure, given as kind, message and exception."""
    capture_arguments: bool = True
    capture_result: bool = True
    agent: str | None = None
    """Agent of outermost tasks that name none."""
    granting: Granting | None = None
    """Grants for `inject`; None if no other sender may add to these traces."""

    def failed(self, error: Exception) -> None:
        """Count and log an error of ours; re-raise one of a signal handler."""
        reraise_if_from_signal_handler(error)
        try:
            self.count("capture_errors")
            self.note("capture", f"a part of a span was not recorded: {error!r}", error)
        except Exception:  # noqa: BLE001, S110 - the last guard: nothing is left to report to
            pass


def make_recorder(
    settings: Settings,
    tracer: Tracer,
    *,
    count: Callable[[str], None],
    note: Callable[[str, str, BaseException], None],
    redact: Callable[[str, Any], Any] | None = None,
) -> Recorder:
    """Return a recorder with these settings; `redact` is the user's hook."""
    # Imported here, since decorating a function needs none of them.
    from autotrace.base.grants import Granting, signer_of
    from autotrace.capture.cancellation import note_timeouts
    from autotrace.encoding.encoder import Encoder
    from autotrace.encoding.redaction import Redactor

    note_timeouts()

    redactor = Redactor(
        enabled=settings.redaction, extra_keys=settings.redact_keys, hook=redact, count=count
    )
    encoder = Encoder(
        redactor, max_value_bytes=settings.max_value_bytes, injected=settings.injected_types
    )
    return Recorder(
        tracer=tracer,
        encoder=encoder,
        count=count,
        note=note,
        capture_arguments=settings.capture_arguments,
        capture_result=settings.capture_result,
        agent=settings.agent,
        granting=Granting(lambda: signer_of(settings.grant_key_path)),
    )


class Current:
    """Holder of the active recorder."""

    recorder: Recorder | None = None


current: Final = Current()


def failed(error: Exception) -> None:
    """Count and log an error of ours with the active recorder, if any."""
    if current.recorder is not None:
        current.recorder.failed(error)


def is_suppressed() -> bool:
    """Return whether the current context suppresses instrumentation."""
    return bool(otel_context.get_current().get(SUPPRESSED))
