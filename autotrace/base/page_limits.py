"""Largest and default numbers of results, the same for the library, the CLI, REST and MCP."""

from __future__ import annotations

from typing import Final

MAX_PAGE: Final = 1000
"""Traces, decisions or tools of one page of a list."""
MAX_RECALL: Final = 50
"""Traces of one recall."""
MAX_FOUND: Final = 100
"""Decisions of one search."""
MAX_AGENTS: Final = 100
"""Agents that one filter names."""
DEFAULT_TOOLS: Final = 100
"""Tools of one page of the statistics."""
