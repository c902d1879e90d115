"""Logs as JSON lines, without anything about uploads, callers or secrets.

The gate logs a small number of sentences of its own. Exceptions are reduced to their types and
where they were raised, because their messages may quote a file, a name or an address. Messages of
other libraries are withheld for the same reason.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

from nciihash.errors import NciihashError, describe_os_error

_OWN: Final = "nciihash"
# other libraries' loggers, of which only errors are logged
QUIET: Final = ("uvicorn", "uvicorn.error", "python_multipart", "httpx", "httpcore")
_REPEAT_SECONDS: Final = 60.0
_FRAMES_MAX: Final = 12  # of one exception, in a log
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
        inner = reversed(frames[-_FRAMES_MAX:])
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in inner)
        described.append(f"{type(cause).__name__} ({where})")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(described)


def sentence(error: NciihashError | OSError) -> str:
    """Return an error as a sentence without paths of uploads or other values."""
    return describe_os_error(error) if isinstance(error, OSError) else str(error)


class RateLimitedLog:
    """Logs errors that every upload may cause, each at most once a minute. Usable from any thread.

    Args:
        log: gets the errors.
        monotonic: monotonic time in seconds.
    """

    def __init__(
        self, log: logging.Logger, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}  # when, by message

    def error(self, message: str, *values: object) -> None:
        """Log an error, unless the same message was logged within the last minute.

        Args:
            message: a constant, in the form of `logging`.
            values: of its fields; they do not make it another message.
        """
        with self._lock:
            now = self._monotonic()
            before = self._logged.get(message)
            if before is not None and now - before < _REPEAT_SECONDS:
                return
            self._logged[message] = now
        self._log.error(message, *values)


def configure(stream: TextIO | None = None) -> None:
    """Log to a stream, by default stderr, and log uncaught exceptions in the same form."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(logging.INFO)
    # one line for each malformed request would let a peer fill the disk
    for name in QUIET:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.handlers[:], logger.propagate = [], True
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _log.critical("The gate failed. Please report it.", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value
    if error is not None:
        _log.critical("A thread failed. Please report it.", exc_info=error)


def _log_unraisable(arguments: "sys.UnraisableHookArgs") -> None:
    error = arguments.exc_value
    if error is not None:  # the default would print its message, and the object that raised it
        _log.error("An object could not be closed. Please report it.", exc_info=error)
