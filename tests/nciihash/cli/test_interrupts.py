"""Ctrl-C while a line is being written: the line is whole, and the command ends after it."""

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


class Interrupted(io.RawIOBase):
    """A raw stream that takes a few bytes at a time, with Ctrl-C at one of its writes."""

    def __init__(self, at, some=2):
        self.taken = bytearray()
        self._at = at
        self._some = some
        self._writes = 0

    def writable(self):
        return True

    def write(self, data):
        self._writes += 1
        if self._writes == self._at:
            signal.raise_signal(signal.SIGINT)  # handled before the next line of this function
        part = bytes(data[: self._some])
        self.taken += part
        return len(part)


@pytest.fixture(autouse=True)
def default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_line_is_whole_whenever_it_is_interrupted(monkeypatch, at):
    raw = Interrupted(at)
    stream = io.TextIOWrapper(io.BufferedWriter(raw, 8), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal = Terminal(as_json=True)
    with pytest.raises(KeyboardInterrupt):
        terminal.line({"file": "a.jpg", "hashes": []})
    terminal.line({"file": "b.jpg"})
    lines = bytes(raw.taken).decode().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_line_of_results_is_whole_whenever_it_is_interrupted(tmp_path, at):
    path = tmp_path / "out.jsonl"
    raw = Interrupted(at)
    with (tmp_path / "other").open("wb") as other:
        raw.fileno = other.fileno  # for its fsync
        with pytest.raises(KeyboardInterrupt), ResultsFile(path, HASHES) as ledger:  # noqa: PT012
            ledger._file.close()
            ledger._file = io.BufferedWriter(raw, 8)
            ledger.add({"file": "a.jpg", "media": "image", "hashes": []})
    lines = bytes(raw.taken).decode().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.jpg"]


def test_a_second_interrupt_ends_a_block_that_waits():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():  # noqa: PT012 - the block is what is tested
        signal.raise_signal(signal.SIGINT)
        reached.append("after the first")
        signal.raise_signal(signal.SIGINT)
        reached.append("after the second")
    assert reached == ["after the first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_errors_of_the_block_come_first():
    with pytest.raises(BrokenPipeError), deferred_interrupt():  # noqa: PT012 - as above
        signal.raise_signal(signal.SIGINT)
        raise BrokenPipeError


def test_another_handler_and_other_threads_are_left_alone():
    def own(*_):
        """Note the signal, as a command that ends in its own time does."""

    signal.signal(signal.SIGINT, own)
    with deferred_interrupt():
        assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []

    def elsewhere():
        with deferred_interrupt():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


def test_a_reader_that_does_not_read_keeps_nobody_from_interrupting():
    """With a full pipe the first Ctrl-C ends the command, before a byte of the line is written."""
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
            signal.setitimer(signal.ITIMER_REAL, 30)  # ends this process if nothing else does
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
