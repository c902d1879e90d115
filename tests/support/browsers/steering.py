"""Start and stop browsers that are controlled through WebDriver or Marionette."""

import socket
import subprocess
import time
from contextlib import contextmanager


def free_port():
    """Return a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port, seconds=60):
    """Wait until a program listens on a port."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, "the program does not listen"
            time.sleep(0.2)


@contextmanager
def running(*command, **options):
    """Run a program for the duration of the block; its standard error is discarded."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
