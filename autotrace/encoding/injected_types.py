"""Classes that frameworks inject into tools: contexts, requests, states, configurations.

Their instances hold whole conversations and credentials, and no argument of the model. They are
recorded by the name of their type. The annotation decides, since some are plain dicts, or else the
type of the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autotrace.encoding.introspect import class_name, mro, type_name

_FROM: Final = {
    "agents": "RunContextWrapper ToolContext AgentHookContext",
    "pydantic_ai": "RunContext",
    "langchain_core": (
        "RunnableConfig InjectedToolArg InjectedToolCallId CallbackManagerForToolRun"
        " AsyncCallbackManagerForToolRun BaseCallbackManager BaseCallbackHandler"
    ),
    "langchain": "ToolRuntime InjectedState InjectedStore",
    "langgraph": "ToolRuntime Runtime InjectedState InjectedStore BaseStore",
    "mcp": "Context RequestContext ServerRequestContext ServerSession",
    "fastmcp": "Context Dependency",
    "fastapi": "Depends Security SecurityScopes BackgroundTasks",
    "starlette": "Request Response WebSocket HTTPConnection BackgroundTasks BackgroundTask State",
    "google": "ToolContext CallbackContext InvocationContext ReadonlyContext",
    "strands": "ToolContext Agent",
    "smolagents": "MultiStepAgent AgentMemory",
    "haystack": "State",
    "crewai": "Agent Crew",
    "livekit": "RunContext",
    "llama_index": "Context",
    "workflows": "Context",
    "autogen_core": "CancellationToken MessageContext",
    "semantic_kernel": "Kernel KernelArguments FunctionInvocationContext",
    "agno": "RunContext Agent Team",
    "django": "HttpRequest",
    "rest_framework": "Request",
    "flask": "Request",
    "quart": "Request Websocket",
    "gradio": "Request Progress",
    "aiohttp": "Request ClientSession",
    "httpx": "Client AsyncClient",
    "requests": "Session",
    "litestar": "Request WebSocket",
    "sanic": "Request",
    "celery": "Task",
    "click": "Context",
    "sqlalchemy": ("Session AsyncSession Engine AsyncEngine Connection AsyncConnection"),
    "telegram": "Update CallbackContext",
}
"""Class names by the first part of the module that defines them."""
ROOTS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(root for root, names in _FROM.items() if name in names.split())
    for names in _FROM.values()
    for name in names.split()
}
"""The same by class name."""
COMMON_NAMES: Final = frozenset(
    (
        *("Context", "Request", "Response", "Runtime", "Task", "Kernel", "WebSocket", "Update"),
        *("Depends", "Security", "Dependency", "Session", "Engine", "Connection", "State"),
        *("Agent", "Crew", "Team", "Progress", "Websocket", "Client"),
    )
)
"""Names that other classes have too, so that they count only with their module."""
MAX_ANNOTATION_CHARS: Final = 1_000


def is_injected(kind: type[Any], names: frozenset[str]) -> bool:
    """Return whether a class or a base of it is in `names`, bare or with its module."""
    return any(class_name(base) in names or type_name(base) in names for base in mro(kind))
