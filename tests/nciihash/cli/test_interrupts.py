"""Ctrl-C while a line is being written takes effect after the line."""

import io
import json
import os
import signal
import sys
import threading

import pytest

from nciihash.cli.interrupts import deferred_interrupt
from nciihash.cli.results_file import ResultsFile
from nciihash.cli.summary import HASHES
from nciihash.cli.terminal import Terminal


class InterruptedStream(io.RawIOBase):
    """A raw stream that takes a few bytes per write, and is interrupted in one of the writes."""

    def __init__(self, at, size=2):
        self.written = bytearray()
        self._at = at
        self._size = size
        self._writes = 0

    def writable(self):
        return True

    def write(self, data):
        self._writes += 1
        if self._writes == self._at:
            signal.raise_signal(signal.SIGINT)  # handled before the next statement
        part = bytes(data[: self._size])
        self.written += part
        return len(part)


@pytest.fixture(autouse=True)
def default_handler():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_an_interrupted_line_is_written_whole(monkeypatch, at):
    raw = InterruptedStream(at)
    stream = io.TextIOWrapper(io.BufferedWriter(raw, 8), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal = Terminal(as_json=True)
    with pytest.raises(KeyboardInterrupt):
        terminal.line({"file": "a.jpg", "hashes": []})
    terminal.line({"file": "b.jpg"})
    lines = bytes(raw.written).decode().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupted_line_of_results_is_written_whole(tmp_path, at):
    path = tmp_path / "out.jsonl"
    raw = InterruptedStream(at)
    with (tmp_path / "other").open("wb") as other:
        raw.fileno = other.fileno  # for its fsync
        with pytest.raises(KeyboardInterrupt), ResultsFile(path, HASHES) as results:  # noqa: PT012
            results._file.close()
            results._file = io.BufferedWriter(raw, 8)
            results.add({"file": "a.jpg", "media": "image", "hashes": []})
    lines = bytes(raw.written).decode().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.jpg"]


def test_a_second_interrupt_takes_effect_at_once():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():  # noqa: PT012 - the block is what is tested
        signal.raise_signal(signal.SIGINT)
        reached.append("after the first")
        signal.raise_signal(signal.SIGINT)
        reached.append("after the second")
    assert reached == ["after the first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_the_block_takes_precedence():
    with pytest.raises(BrokenPipeError), deferred_interrupt():  # noqa: PT012 - as above
        signal.raise_signal(signal.SIGINT)
        raise BrokenPipeError


def test_other_handlers_and_threads_are_unchanged():
    def own(*_):
        """Handle the signal as a command does that ends in its own time."""

    signal.signal(signal.SIGINT, own)
    with deferred_interrupt():
        assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = []

    def in_thread():
        with deferred_interrupt():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_a_command_that_waits_for_its_reader_can_be_interrupted():
    """If the pipe is full, the first Ctrl-C takes effect before a byte of the line is written."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(1 << 12))
    except BlockingIOError:
        os.set_blocking(writer, True)
    pid = os.fork()
    if pid == 0:
        try:
            sys.stdout = os.fdopen(writer, "w")
            signal.setitimer(signal.ITIMER_REAL, 30)  # a time limit for this process
            signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGINT))
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            Terminal(as_json=True).line({"file": "a.jpg"})
        except KeyboardInterrupt:
            os._exit(7)
        finally:
            os._exit(8)
    _, status = os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(status) == 7
