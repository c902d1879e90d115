"""Settings of the process of a gate: memory, open files, core dumps."""

import ctypes
import resource
import sys
from contextlib import suppress
from typing import Final

from nciihash import core_dumps

_FILES: Final = 65_536  # file descriptors to request
# malloc.h of glibc
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT: Final = 64 << 20  # bytes of free memory that are not returned to the system
_MAPPED: Final = 4 << 20  # bytes from which memory is returned when it is free


def prepare() -> int:
    """Prepare this process for a gate; return how many files it may have open.

    Forbids core dumps, raises the limit of open files as far as allowed, and keeps some freed
    memory: otherwise each upload of some 100 KB would make the C library request memory from the
    system and return it, which takes longer than to receive the upload.
    """
    core_dumps.forbid()
    core_dumps.forbid_tracing()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_TRIM_THRESHOLD, _KEPT)
            mallopt(_M_MMAP_THRESHOLD, _MAPPED)
    return _raise_file_limit()


def _raise_file_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files
