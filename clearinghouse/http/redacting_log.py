"""What is never kept: exact times, and anything about a request in a log.

Logging here works by leaving out. The service writes a handful of fixed sentences; a traceback is
reduced to the kinds of the exceptions and the places in the code, since an exception's message may
quote a value; uvicorn's access log, which holds addresses and paths, is off.
"""

import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOUR: Final = 3600


def hour(now: datetime) -> int:
    """Blur a time to the beginning of its hour, in seconds since 1970 (UTC)."""
    return int(now.timestamp()) // _HOUR * _HOUR


def moment(seconds: int) -> datetime:
    """Read a stored hour back."""
    return datetime.fromtimestamp(seconds, UTC)


class Discreet(logging.Formatter):
    """Format a record without anything that came from outside.

    An exception is written as its type and the functions it passed through, without its message.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write the record; of other programs' messages only which program spoke, or one line.

        asyncio and others put an exception's words into the message itself.
        """
        if not record.name.startswith(("clearinghouse", "uvicorn")):
            record = logging.makeLogRecord(record.__dict__ | {"msg": "(withheld)", "args": None})
        elif record.name.startswith("uvicorn"):
            line = record.getMessage().partition("\n")[0]
            record = logging.makeLogRecord(record.__dict__ | {"msg": line, "args": None})
        return super().format(record)

    def formatException(  # noqa: N802 - the name that logging calls
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Write the exception's type and where it came from, and not what it says."""
        kind, error, trace = ei
        lines = []
        while error is not None and kind is not None:
            frames = traceback.extract_tb(trace)
            lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            lines.append(f"{kind.__module__}.{kind.__qualname__}")
            error = error.__cause__ or error.__context__
            kind, trace = (type(error), error.__traceback__) if error else (None, None)
        return "\n".join(lines)


def log_config() -> dict[str, Any]:
    """Give the logging configuration under which the service runs (for `logging.config`)."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "discreet": {"()": Discreet, "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s"}
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "discreet"},
        },
        "loggers": {
            "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }


class PrivateHeaders:
    """Add to every answer the headers that keep it out of caches, frames and referrers.

    Args:
        app: what serves the requests.
        policies: the Content-Security-Policy of paths that show something in a browser; of all
            others it allows nothing.
    """

    def __init__(self, app: ASGIApp, *, policies: Mapping[str, str]) -> None:
        self._app = app
        self._policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def private(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers["Content-Security-Policy"] = self._policies.get(
                    scope["path"], "default-src 'none'; frame-ancestors 'none'"
                )
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        await self._app(scope, receive, private)
