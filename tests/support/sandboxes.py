"""What tests do to a sandbox's child, and to processes that have one."""

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
    """Wait until a process is no more; True if that happens at all."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def sibling(beside, data):
    path = beside.with_name("other")
    path.write_bytes(data)
    return path


def while_sending(monkeypatch, act):
    """Do something when the child has asked for the file, before the first byte is sent."""
    once = iter([act])

    def acting(*arguments):
        next(once, lambda: None)()
        return send_bytes(*arguments)

    monkeypatch.setattr(sandbox, "send_bytes", acting)


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
