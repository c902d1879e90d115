import io
import json
import logging
import sys
import threading

import pytest

from nciihash.gate import logs

SECRET = "telltale-4711"


@pytest.fixture
def written():
    """Configure logging for a test, and return what is written."""
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in ("nciihash", *logs.QUIET)]
    states = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    before = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    stream = io.StringIO()
    logs.configure(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    root.handlers[:], level = before
    root.setLevel(level)
    for logger, number, handlers, propagate in states:
        logger.setLevel(number)
        logger.handlers[:], logger.propagate = handlers, propagate


def failing():
    try:
        int(SECRET)  # the error quotes it
    except ValueError as error:
        raise RuntimeError(SECRET) from error


def hiding():
    try:
        int(SECRET)
    except ValueError:
        raise KeyError(SECRET) from None


def test_writes_a_json_line_for_each_record(written):
    logging.getLogger("nciihash.gate").info("The bank has %d signals.", 7)
    (line,) = written()
    assert line["message"] == "The bank has 7 signals."
    assert (line["level"], line["logger"]) == ("info", "nciihash.gate")
    assert line["time"].endswith("+00:00")


def test_withholds_the_messages_of_other_libraries(written):
    logging.getLogger("asyncio").error("Failed for %s", SECRET)
    logging.getLogger("uvicorn.error").error("Failed for %s\nmore", SECRET)
    logging.getLogger("nciihashes").error(SECRET)
    logging.getLogger("uvicorn.error").warning(SECRET)
    logging.getLogger("python_multipart.multipart").warning(SECRET)
    assert [line["message"] for line in written()] == ["(withheld)"] * 3
    assert SECRET not in str(written())


def test_reduces_exceptions_to_types_and_lines(written):
    try:
        failing()
    except RuntimeError:
        logging.getLogger("nciihash.gate").exception("It failed.")
    (line,) = written()
    assert line["error"].startswith("RuntimeError (test_logs.py:")
    assert "ValueError (test_logs.py:" in line["error"]
    assert SECRET not in str(line)


def test_logs_uncaught_exceptions_in_the_same_form(written):
    try:
        failing()
    except RuntimeError:
        sys.excepthook(*sys.exc_info())
    thread = threading.Thread(target=failing)
    thread.start()
    thread.join()
    first, second = written()
    assert first["level"] == second["level"] == "critical"
    assert "RuntimeError" in first["error"]
    assert "RuntimeError" in second["error"]
    assert SECRET not in str(written())


def test_the_cause_of_an_exception_that_hides_it_is_not_written():
    with pytest.raises(KeyError) as caught:
        hiding()
    described = logs.describe(caught.value)
    assert described.startswith("KeyError (test_logs.py:")
    assert "ValueError" not in described


class Unclosable:
    def __del__(self):
        raise ValueError(SECRET)

    def __repr__(self):
        return SECRET


def test_logs_exceptions_of_finalizers_in_the_same_form(written, capfd):
    Unclosable()
    (line,) = written()
    assert "ValueError (test_logs.py:" in line["error"]
    assert SECRET not in str(line) + "".join(capfd.readouterr())


def recursing():
    recursing()


def test_describes_the_end_of_a_long_traceback():
    with pytest.raises(RecursionError) as caught:
        recursing()
    described = logs.describe(caught.value)
    assert described.count("test_logs.py") == 12


def test_an_error_is_logged_once_a_minute(caplog):
    now = 0.0
    errors = logs.RateLimitedLog(logging.getLogger("nciihash.gate"), monotonic=lambda: now)
    for now in (0.0, 1.0, 59.0, 60.0, 61.0):
        errors.error("It failed at %s.", now)
        errors.error("So did this.")
    assert [record.getMessage() for record in caplog.records] == [
        *("It failed at 0.0.", "So did this.", "It failed at 60.0.", "So did this."),
    ]
