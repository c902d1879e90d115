"""A gate in its own process, over real sockets."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.paths import ROOT

PROGRAM = Path(__file__).with_name("gate_program.py")
KEY = "npk_0123456789abcdef"
TOP = """
server = "{server}"
data = "data"
jobs = 1
"""


class GateProcess:
    """A gate in its own process, as a context manager.

    It accepts uploads once the constructor returns.

    Args:
        folder: for its configuration, its files and its log.
        dialects: the tables of the dialects, as TOML.
        server: the address of a clearinghouse; None for a bank of test pictures.
        key: the platform's key.
    """

    def __init__(self, folder, dialects, *, server=None, key=KEY):
        self.config = folder / "gate.toml"
        self.data = folder / "data"
        self._top = TOP.format(server=server or "http://127.0.0.1:9")
        self.configure(dialects)
        self._log = folder / "log"
        words = [sys.executable, PROGRAM, self.config, *([] if server else ["pictures"])]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, words)),
                env=os.environ | {"NCIIHASH_KEY": key, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # so that Ctrl-C reaches only the test
            )
        self.urls = {}
        while (line := self.process.stdout.readline()) != "ready\n":
            if not line:
                self.process.wait(60)
                self.process.stdout.close()
                raise AssertionError(f"the gate did not start: {self.log()}")
            dialect, url = line.split()
            self.urls[dialect] = url

    def configure(self, dialects):
        """Write the configuration; for the gate to read it, send SIGHUP."""
        self.config.write_text(self._top + dialects)

    def notify(self, number):
        """Send a signal."""
        self.process.send_signal(number)

    def log(self):
        """Return what it has logged."""
        return self._log.read_text()

    def logged(self, sentence):
        """Wait until a sentence is in the log, at most a minute."""
        end = time.monotonic() + 60
        while sentence not in self.log():
            assert time.monotonic() < end, f"not logged: {sentence}\n{self.log()}"
            time.sleep(0.01)

    def end(self, number=signal.SIGTERM):
        """Send a signal if the process runs, wait until it has ended, and return its status."""
        if self.process.poll() is None:
            self.notify(number)
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.process.stdout.closed:
            self.end()
