"""Logging without personal data: nothing about a request, no messages of exceptions.

The service logs a small number of fixed sentences. Tracebacks are reduced to exception types and
code locations, because an exception's message may quote a value. Messages of other libraries are
withheld. uvicorn's access log, which contains addresses and paths, is off.
"""

import logging
import traceback
from types import TracebackType
from typing import Any


class RedactingFormatter(logging.Formatter):
    """Format records without anything that came from a client.

    Exceptions are reduced to their types and stack frames.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record: of uvicorn only the first line, of other libraries only their name.

        asyncio and others include exception messages in their own.
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
        """Format the types and stack frames of an exception and its causes, without messages."""
        type_, error, trace = ei
        lines = []
        while error is not None and type_ is not None:
            frames = traceback.extract_tb(trace)
            lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            lines.append(f"{type_.__module__}.{type_.__qualname__}")
            error = error.__cause__ or error.__context__
            type_, trace = (type(error), error.__traceback__) if error else (None, None)
        return "\n".join(lines)


def log_config() -> dict[str, Any]:
    """Return the logging configuration of the service, for `logging.config.dictConfig`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "redacting": {
                "()": RedactingFormatter,
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "redacting"},
        },
        "loggers": {
            "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }
