"""What capture records with, once the application has opted in.

`current.recorder` is None until `autotrace.configure()`; every decorator and block looks there at
each call, so decoration and configuration may come in either order, and an unconfigured library
pays for one look.

The rule of this package: nothing of ours raises into user code. Each operation on a span is
guarded where it is made; what fails is counted, logged once, and left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context

from autotrace.base.signal_errors import reraise_if_from_signal_handler

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from autotrace.base.grants import Granting
    from autotrace.encoding.encoder import Encoder
    from autotrace.settings import Settings

SUPPRESSED: Final = otel_context._SUPPRESS_INSTRUMENTATION_KEY  # pyright: ignore[reportPrivateUsage] - it has no public name
"""Context key under which OpenTelemetry asks instrumentation to keep quiet."""


class Recorder:
    """Makes spans for capture.

    Args:
        tracer: Where spans come from.
        encoder: Makes values into text.
        count: Counts by name.
        note: Keeps and logs a failure: kind, message, exception.
        capture_arguments: Whether tools record arguments unless told otherwise.
        capture_result: Whether tools record results unless told otherwise.
        agent: Agent of tasks that name none.
        granting: Makes grants for `inject`; None: nobody else may add to what is recorded.
    """

    __slots__ = (
        "agent",
        "capture_arguments",
        "capture_result",
        "count",
        "encoder",
        "granting",
        "note",
        "tracer",
    )

    def __init__(
        self,
        tracer: Tracer,
        encoder: Encoder,
        *,
        count: Callable[[str], None],
        note: Callable[[str, str, BaseException], None],
        capture_arguments: bool = True,
        capture_result: bool = True,
        agent: str | None = None,
        granting: Granting | None = None,
    ) -> None:
        self.tracer = tracer
        self.encoder = encoder
        self.count = count
        self.note = note
        self.capture_arguments = capture_arguments
        self.capture_result = capture_result
        self.agent = agent
        self.granting = granting

    def failed(self, error: Exception) -> None:
        """Count and log an error of ours that was kept from user code.

        Raises:
            Exception: The same, if a signal handler raised it and it is not ours to keep.
        """
        reraise_if_from_signal_handler(error)
        try:
            self.count("capture_errors")
            self.note("capture", f"a part of a span was not recorded: {error!r}", error)
        except Exception:  # noqa: BLE001, S110 - the last guard: there is nobody left to tell
            pass


def make_recorder(
    settings: Settings,
    tracer: Tracer,
    *,
    count: Callable[[str], None],
    note: Callable[[str, str, BaseException], None],
    redact: Callable[[str, Any], Any] | None = None,
) -> Recorder:
    """Make the recorder that settings describe.

    Args:
        settings: What to capture, within which bounds, and what to redact.
        tracer: Where spans come from.
        count: Counts by name.
        note: Keeps and logs a failure: kind, message, exception.
        redact: The user's hook.
    """
    # Not needed to decorate, so not loaded before something records.
    from autotrace.base.grants import Granting, signer_of
    from autotrace.capture.cancellation import note_timeouts
    from autotrace.encoding.encoder import Encoder
    from autotrace.encoding.redaction import Redactor

    note_timeouts()

    redactor = Redactor(
        enabled=settings.redaction, extra_keys=settings.redact_keys, hook=redact, count=count
    )
    return Recorder(
        tracer,
        Encoder(
            redactor,
            max_value_bytes=settings.max_value_bytes,
            injected=settings.injected_types,
        ),
        count=count,
        note=note,
        capture_arguments=settings.capture_arguments,
        capture_result=settings.capture_result,
        agent=settings.agent,
        granting=Granting(lambda: signer_of(settings.grant_key_path)),
    )


class Current:
    """Holds the recorder in use."""

    __slots__ = ("recorder",)

    def __init__(self) -> None:
        self.recorder: Recorder | None = None


current: Final = Current()


def failed(error: Exception) -> None:
    """Count and log an error of ours where no recorder is at hand."""
    if current.recorder is not None:
        current.recorder.failed(error)


def is_suppressed() -> bool:
    """Tell whether instrumentation is asked to keep quiet here."""
    return bool(otel_context.get_current().get(SUPPRESSED))
