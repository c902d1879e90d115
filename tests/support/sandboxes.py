"""Helpers for tests of the sandbox's child process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from nciihash import errors
from nciihash.sandbox import parent as sandbox
from nciihash.sandbox.pipe import send_bytes
from support.paths import ROOT


def pid_of(box):
    return box._child.pid


def gone(pid):
    """Wait up to ten seconds for a process to end; return whether it has."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def sibling(path, data):
    """Write a file next to another one."""
    other = path.with_name("other")
    other.write_bytes(data)
    return other


def while_sending(monkeypatch, act):
    """Call `act` when the child has requested the file, before the first byte is sent."""
    once = iter([act])

    def act_and_send(*arguments):
        next(once, lambda: None)()
        return send_bytes(*arguments)

    monkeypatch.setattr(sandbox, "send_bytes", act_and_send)


DEATHS = {
    signal.SIGSEGV: errors.CorruptFile,
    signal.SIGABRT: errors.CorruptFile,
    signal.SIGKILL: errors.TooLarge,
    signal.SIGXCPU: errors.TimedOut,
}


def python(code, *arguments, **keywords):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        **keywords,
    )
