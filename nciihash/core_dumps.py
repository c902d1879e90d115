"""Prevent core dumps, which would write keys and hashes from a process's memory to disk."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid() -> None:
    """Set the core file size limit of this process and its children to zero, irreversibly.

    Where core dumps are piped to a program (`/proc/sys/kernel/core_pattern`), Linux ignores the
    limit; `forbid_tracing` prevents those as well. Does nothing on Windows.
    """
    try:
        import resource
    except ImportError:  # Windows, where a program cannot switch off crash reports by itself
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_tracing() -> None:
    """Deny other processes of the same user, such as debuggers, access to this process's memory.

    Clears the process's "dumpable" attribute (prctl(2)), which also prevents core dumps that are
    piped to a program. Linux only; root still has access.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
