"""A disk that is full, as far as this process can write to it."""

import resource
import signal
from contextlib import contextmanager


@contextmanager
def full_disk(folder, spare=0):
    """Limit all files to the size of the largest one in a folder, plus `spare` bytes."""
    largest = max(file.stat().st_size for file in folder.iterdir() if file.is_file())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(0, largest + spare), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
