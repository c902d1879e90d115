"""Keep what a process holds in memory, such as keys and hashes, out of files that crashes leave."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid() -> None:
    """Let the system write no image of this process's memory when it crashes, for good.

    Processes that it starts inherit this. Where core dumps are piped to a program
    (`/proc/sys/kernel/core_pattern`), that program decides; `forbid_tracing` keeps it out as well.
    """
    try:
        import resource
    except ImportError:  # Windows, whose crash reports a program cannot switch off by itself
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_tracing() -> None:
    """Keep other processes of this user, debuggers among them, from this process's memory.

    On Linux alone. It also ends core dumps that are piped to a program. Root is not kept out.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
