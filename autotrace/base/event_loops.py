"""Event loops: whether one runs in this thread, and blocking calls made outside of it.

Some hosts (LangGraph's dev server, blockbuster) raise on a blocking call in a running event loop.
So such a call is made by another thread. `off_loop` waits for it: for the rare call without which
the caller cannot go on. Async functions use blocking_calls.py, which lets the loop go on.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, TypeVar

T = TypeVar("T")

_TIMEOUT_S: Final = 60.0
"""For a helper thread that the end of the interpreter has stopped."""

Job = Callable[[], None]


def is_running() -> bool:
    """Return whether an event loop of asyncio or trio runs in this thread."""
    # Neither is imported here: a loop of a library that is not loaded cannot run.
    events: Any = sys.modules.get("asyncio.events")
    return (events is not None and events._get_running_loop() is not None) or _is_in_trio()


def running_library() -> Literal["asyncio", "trio"] | None:
    """Return the library whose task runs here; None outside of a task."""
    if _is_in_trio():
        return "trio"
    asyncio: Any = sys.modules.get("asyncio")
    try:
        return None if asyncio is None or asyncio.current_task() is None else "asyncio"
    except RuntimeError:  # no loop runs
        return None


def _is_in_trio() -> bool:
    lowlevel: Any = sys.modules.get("trio.lowlevel")
    if lowlevel is None:
        return False
    try:
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def is_refusal(error: BaseException) -> bool:
    """Return whether a host has refused a blocking call because an event loop runs here."""
    return type(error).__name__ == "BlockingError" and is_running()


def off_loop(call: Callable[[], T], start: Callable[[Job], None] | None = None) -> T:
    """Return the result of a blocking call, made in another thread if an event loop runs here.

    The call must not acquire a lock that the caller holds. `start` runs it in a thread; the
    default is the helper thread, for short calls.

    Raises:
        TimeoutError: The thread does not answer, because the interpreter ends.
    """
    if not is_running():
        return call()
    answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it belongs
            answers.put((None, error))

    (start or hand_over)(answer)
    try:
        result, error = answers.get(timeout=_TIMEOUT_S)
    except Empty:
        raise TimeoutError("the thread does not answer") from None
    if error is not None:
        raise error
    return result


def hand_over(job: Job) -> None:
    """Run a job in the helper thread; here if no thread can be started. It must not raise."""
    try:
        jobs = _helper.jobs()
    except RuntimeError:  # the interpreter is shutting down, or out of threads
        job()
        return
    jobs.put(job)


def do_apart(job: Job) -> None:
    """Run a job in a thread of its own; here if none can be started. It must not raise."""
    try:
        _start(job)
    except RuntimeError:  # the interpreter is shutting down, or out of threads
        job()


def _start(work: Job) -> threading.Thread:
    thread = threading.Thread(target=work, name="autotrace-files", daemon=True)
    # In an empty context: the thread would keep the caller's for good.
    Context().run(thread.start)
    return thread


class _Helper:
    """A daemon thread that does one job after another, started when first needed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start over: in a forked child, the thread of the parent is not there."""
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[Job] = SimpleQueue()

    def jobs(self) -> SimpleQueue[Job]:
        """Return the queue of a thread that is alive."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                # A queue of its own: after a fork, that of the parent's thread may be locked.
                jobs: SimpleQueue[Job] = SimpleQueue()
                self._thread = _start(lambda: _work(jobs))
                self._jobs = jobs
            return self._jobs


def _work(jobs: SimpleQueue[Job]) -> None:
    while True:
        jobs.get()()


_helper: Final = _Helper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helper.forget)
