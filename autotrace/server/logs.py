"""Format logs as JSON, one object a line, without keys."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

_KEY: Final = re.compile(r"atk_([0-9a-f]{1,12})[0-9A-Za-z_-]*")
_AUTHORIZATION: Final = re.compile(r"(?i)\b(bearer|agent) +[0-9A-Za-z._~+/=-]{8,}")
_FIELDS: Final = ("method", "path", "status", "duration_ms", "key_id", "request_id")
"""Further members of a request's line."""


class JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON object."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return without_keys(json.dumps(line, default=str))


def without_keys(text: str) -> str:
    """Return a text with the secrets of keys redacted; the id of a key stays."""
    return _AUTHORIZATION.sub(r"\1 [REDACTED]", _KEY.sub(r"atk_\1_[REDACTED]", text))


def log_config(level: str = "INFO") -> dict[str, Any]:
    """Return the configuration of Python's logging for a worker."""
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "autotrace.server.logs.JsonFormatter"}},
        "handlers": {"stderr": handler},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level, "propagate": False}
            for name in ("autotrace", "uvicorn", "mcp")
        },
    }
