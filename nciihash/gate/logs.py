"""Logs as JSON lines, without anything about uploads, callers or secrets.

The gate logs a small number of sentences of its own. Exceptions are reduced to their types and
where they were raised, because their messages may quote a file, a name or an address. Messages of
other libraries are withheld for the same reason.
"""

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

_OWN: Final = "nciihash"
_log: Final = logging.getLogger("nciihash.gate")


class JsonLines(logging.Formatter):
    """Format records as JSON lines: `time`, `level`, `logger`, `message` and `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; of other libraries, only the level and the name."""
        own = record.name == _OWN or record.name.startswith(f"{_OWN}.")
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if own else "(withheld)",
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def describe(error: BaseException) -> str:
    """Return the types of an exception and its causes, with the lines that raised them."""
    described = []
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        described.append(f"{type(cause).__name__} ({where})")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(described)


def configure(stream: TextIO | None = None) -> None:
    """Log to a stream, by default stderr, and log uncaught exceptions in the same form."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(logging.INFO)
    # one line for each malformed request would let a peer fill the disk
    for name in ("uvicorn", "python_multipart", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _log.critical("The gate failed. Please report it.", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value
    if error is not None:
        _log.critical("A thread failed. Please report it.", exc_info=error)
