"""What browsers that are steered from outside have in common: how they are started and ended."""

import socket
import subprocess
import time
from contextlib import contextmanager


def free_port():
    """Give a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port, seconds=60):
    """Wait until somebody listens."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, "what was started does not listen"
            time.sleep(0.2)


@contextmanager
def running(*command, **options):
    """Let a program run while the block does; what it writes to standard error is lost."""
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
