"""A log that redacts: nothing about a request, and no message of an exception.

Logging here works by leaving out. The service writes a handful of fixed sentences; a traceback is
reduced to the kinds of the exceptions and the places in the code, since an exception's message may
quote a value; uvicorn's access log, which holds addresses and paths, is off.
"""

import logging
import traceback
from types import TracebackType
from typing import Any


class RedactingFormatter(logging.Formatter):
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
            "discreet": {
                "()": RedactingFormatter,
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
            }
        },
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "discreet"},
        },
        "loggers": {
            "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    }
