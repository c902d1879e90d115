"""Helpers for tests of the sandbox's child and of processes that have one."""

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
    """Whether a process ends within ten seconds."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def sibling(original, data):
    """Write a second file next to another one."""
    path = original.with_name("other")
    path.write_bytes(data)
    return path


def while_sending(monkeypatch, act):
    """Call `act` once the child has requested the file, before the first byte is sent."""
    pending = iter([act])

    def send(*arguments):
        next(pending, lambda: None)()
        return send_bytes(*arguments)

    monkeypatch.setattr(sandbox, "send_bytes", send)


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
