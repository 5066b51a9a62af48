"""Classify the exception of a call: error, timeout, cancelled or paused.

Classes of libraries are matched by qualified name among the bases of an exception, so no library is
imported; timeouts also among its causes. A word in the name of a class is not enough: urllib3 1
derives a refused connection from a timeout.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from functools import lru_cache
from typing import Any, Final, Literal

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.capture.cancellation import is_by_timeout
from autotrace.encoding.introspect import own_text, type_name
from autotrace.errors import ApprovalPending

Ending = Literal["error", "timeout", "cancelled", "paused"]

_MAX_LINKS: Final = 16
_MAX_MEMBERS: Final = 64
_MAX_TEXT_CHARS: Final = 2_000


def _classes(names: str) -> frozenset[str]:
    """Return `package.Class` names; the class may be in any module of it."""
    return frozenset(names.split())


_PAUSED: Final = _classes(
    """
    airflow.AirflowRescheduleException airflow.TaskDeferred arq.Retry arq.RetryJob celery.Ignore
    celery.Retry dagster.RetryRequested dramatiq.Retry huey.RetryTask langgraph.GraphBubbleUp
    langgraph.GraphInterrupt langgraph.NodeInterrupt mcp.UrlElicitationRequiredError prefect.Pause
    prefect.PausedRun procrastinate.JobRetry pydantic_ai.ApprovalRequired pydantic_ai.CallDeferred
    temporalio._CompleteAsyncError
    """
)
"""Exceptions of a call that continues later, such as after an answer."""
_TIMEOUTS: Final = _classes(
    """
    agents.ToolTimeoutError aiokafka.KafkaTimeoutError aiokafka.RequestTimedOutError
    airflow.AirflowSensorTimeout airflow.AirflowTaskTimeout anthropic.APITimeoutError
    asyncpg.IdleInTransactionSessionTimeoutError asyncpg.IdleSessionTimeoutError
    asyncpg.LockNotAvailableError asyncpg.TransactionTimeoutError azure.ServiceRequestTimeoutError
    azure.ServiceResponseTimeoutError billiard.SoftTimeLimitExceeded billiard.TimeLimitExceeded
    billiard.TimeoutError botocore.ConnectTimeoutError botocore.ReadTimeoutError
    cassandra.OperationTimedOut cassandra.Timeout celery.SoftTimeLimitExceeded
    celery.TimeLimitExceeded celery.TimeoutError cerebras.APITimeoutError curl_cffi.Timeout
    ddgs.TimeoutException dns.Timeout dramatiq.ResultTimeout dramatiq.TimeLimitExceeded
    duckduckgo_search.TimeoutException e2b.TimeoutException elastic_transport.ConnectionTimeout
    elasticsearch.ConnectionTimeout eventlet.Timeout func_timeout.FunctionTimedOut gevent.Timeout
    google.DeadlineExceeded google.GatewayTimeout google.RetryError groq.APITimeoutError
    grpc.FutureTimeoutError httpcore.TimeoutException httpcore2.TimeoutException
    httpx.TimeoutException httpx2.TimeoutException huey.ResultTimeout kafka.KafkaTimeoutError
    kafka.RequestTimedOutError kazoo.OperationTimeoutError kazoo.SessionExpiredError
    langgraph.NodeTimeoutError litellm.Timeout llama_index.WorkflowTimeoutError modal.TimeoutError
    multiprocessing.TimeoutError mysql.ConnectionTimeoutError mysql.ReadTimeoutError
    mysql.WriteTimeoutError openai.APITimeoutError opensearchpy.ConnectionTimeout pexpect.TIMEOUT
    playwright.TimeoutError prefect.FlowPauseTimeout psycopg.ConnectionTimeout
    psycopg.IdleInTransactionSessionTimeout psycopg.IdleSessionTimeout psycopg.LockNotAvailable
    psycopg.TransactionTimeout psycopg2.IdleInTransactionSessionTimeout psycopg2.IdleSessionTimeout
    psycopg2.LockNotAvailable psycopg2.TransactionTimeout psycopg_pool.PoolTimeout
    pymongo.ExecutionTimeout pymongo.NetworkTimeout pymongo.ServerSelectionTimeoutError
    pymongo.WTimeoutError pymongo.WaitQueueTimeoutError pyppeteer.TimeoutError redis.TimeoutError
    requests.Timeout rq.BaseTimeoutException selenium.TimeoutException serial.SerialTimeoutException
    smolagents.ExecutionTimeoutError sqlalchemy.TimeoutError stopit.TimeoutException
    subprocess.TimeoutExpired taskiq.TaskiqResultTimeoutError tavily.TimeoutError
    temporalio.TimeoutError timeout_decorator.TimeoutError together.APITimeoutError
    tornado.HTTPTimeoutError tornado.TimeoutError trio.TooSlowError twisted.TCPTimedOutError
    twisted.TimeoutError urllib3.ConnectTimeoutError urllib3.ReadTimeoutError urllib3.TimeoutError
    workflows.WorkflowTimeoutError wrapt_timeout_decorator.TimeoutError
    """
)
"""Classes of timeouts, in addition to subclasses of `TimeoutError`."""
_NO_TIMEOUTS: Final = _classes("urllib3.NameResolutionError urllib3.NewConnectionError")
"""Subclasses of classes in `_TIMEOUTS` that are not timeouts."""
_CANCELLED: Final = _classes(
    """
    airflow.AirflowSkipException curio.CancelledError dagster.DagsterExecutionInterruptedError
    dramatiq.Shutdown greenlet.GreenletExit prefect.CancelledRun prefect.TerminationSignal
    procrastinate.JobAborted starlette.ClientDisconnect starlette.WebSocketDisconnect
    temporalio.CancelledError trio.Cancelled twisted.CancelledError
    """
)
"""Exceptions of an aborted call, or one whose client or worker has gone."""
_OWN_CANCELLED: Final = (asyncio.CancelledError, CancelledError, GeneratorExit, KeyboardInterrupt)
_EXITS: Final = _classes("click.Exit typer.Exit")
_REASONS: Final = _classes("urllib.URLError urllib3.MaxRetryError")
"""Classes that keep their cause in `reason`, not in the exception chain."""
_GRPC: Final = _classes("grpc.RpcError")
_MCP: Final = _classes("mcp.MCPError mcp.McpError")
_POSTGRES: Final = _classes(
    """
    asyncpg.QueryCanceledError psycopg.QueryCanceled psycopg2.QueryCanceled
    psycopg2.QueryCanceledError
    """
)
"""Classes of both a statement that timed out and a cancelled one."""
_REQUEST_TIMEOUT: Final = 408

_cause: Any = BaseException.__dict__["__cause__"].__get__
_context: Any = BaseException.__dict__["__context__"].__get__
_suppressed: Any = BaseException.__dict__["__suppress_context__"].__get__
_members: Any = BaseExceptionGroup.__dict__["exceptions"].__get__


def ending_of(error: BaseException) -> Ending:
    """Return the ending of a call that raised an exception.

    Call it where the exception is handled: a timeout counts only until it exits.
    """
    try:
        return _ending_of(error, 0)
    except Exception as inner:  # noqa: BLE001 - an exception is a foreign object, and may refuse
        reraise_if_from_signal_handler(inner)
        return "error"


def is_clean_exit(error: BaseException) -> bool:
    """Return whether an exception is a successful exit, as `sys.exit(0)`."""
    try:
        if isinstance(error, SystemExit):
            return error.code is None or (type(error.code) is int and error.code == 0)
        return _is_one(type(error), _EXITS) and getattr(error, "exit_code", None) == 0
    except Exception as inner:  # noqa: BLE001 - an exception is a foreign object, and may refuse
        reraise_if_from_signal_handler(inner)
        return False


def outcome_text(error: BaseException) -> str:
    """Return the class and the unredacted message of an exception."""
    name = type_name(type(error))
    try:
        message = own_text(error, str)[:_MAX_TEXT_CHARS]
    except Exception as inner:  # noqa: BLE001 - the message of an exception may raise
        reraise_if_from_signal_handler(inner)
        message = ""
    return f"{name}: {message}" if message else name


def _ending_of(error: BaseException, depth: int) -> Ending:
    if isinstance(error, BaseExceptionGroup):
        members: tuple[BaseException, ...] = _members(error)[:_MAX_MEMBERS]
        if depth > _MAX_LINKS:
            return "error"
        endings: set[Ending] = {_ending_of(member, depth + 1) for member in members}
        if len(endings) > 1:
            endings.discard("cancelled")  # caused by the failure of the others
        return endings.pop() if len(endings) == 1 else "error"
    if _is_pause(type(error)):
        return "paused"
    if _is_cancelled(error):
        return "timeout" if is_by_timeout(error) else "cancelled"
    return "timeout" if _is_timeout(error) else "error"


def _is_timeout(error: BaseException) -> bool:
    """Return whether an exception, or one of its causes, is a timeout."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_LINKS:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if _is_timeout_itself(link):
            return True
        waiting.append(None if _suppressed(link) else _context(link))
        waiting.append(_cause(link))
        reason = getattr(link, "reason", None) if _is_one(type(link), _REASONS) else None
        waiting.append(reason if isinstance(reason, BaseException) else None)
    return False


def _is_timeout_itself(error: BaseException) -> bool:
    kind = type(error)
    if _is_timeout_class(kind):
        return True
    if _is_one(kind, _GRPC):
        return _grpc_code(error) == "DEADLINE_EXCEEDED"
    if _is_one(kind, _MCP):
        return getattr(getattr(error, "error", None), "code", None) == _REQUEST_TIMEOUT
    # PostgreSQL has one code for both; only the messages differ.
    return _is_one(kind, _POSTGRES) and "timeout" in str(error)


def _is_cancelled(error: BaseException) -> bool:
    kind = type(error)
    if isinstance(error, _OWN_CANCELLED) or _is_one(kind, _CANCELLED):
        return True
    return _is_one(kind, _GRPC) and _grpc_code(error) == "CANCELLED"


def _grpc_code(error: BaseException) -> str | None:
    code = getattr(error, "code", None)
    return getattr(code(), "name", None) if callable(code) else None


@lru_cache(maxsize=1024)
def _is_timeout_class(kind: type[BaseException]) -> bool:
    if issubclass(kind, TimeoutError):
        return True
    return _is_one(kind, _TIMEOUTS) and not _is_one(kind, _NO_TIMEOUTS)


@lru_cache(maxsize=1024)
def _is_pause(kind: type[BaseException]) -> bool:
    return issubclass(kind, ApprovalPending) or _is_one(kind, _PAUSED)


@lru_cache(maxsize=4096)
def _is_one(kind: type[BaseException], classes: frozenset[str]) -> bool:
    """Return whether a class or one of its bases is among some classes."""
    return any(
        f"{str(base.__module__).partition('.')[0]}.{base.__name__}" in classes
        for base in kind.__mro__
    )
