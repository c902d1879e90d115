"""Confine this process to what decoding a file needs.

Three independent measures: resource limits (memory, file size, open files), an empty network
namespace, and a seccomp filter of system calls. Each function returns whether it took effect, since
systems and containers permit different ones.

The numbers are from Linux's user-space headers (asm/unistd_64.h, asm-generic/unistd.h,
linux/seccomp.h, linux/audit.h, linux/prctl.h), which never change. The filter is an allowlist of
the calls of decoders and threads, so unknown and new calls are denied too.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1  # all threads of the process, not only this one

# The filter's actions. A new call returns ENOSYS, so that the C library falls back to an older one
# whose arguments the filter can check (`clone` for `clone3`).
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_DENY: Final = 0x00050000 | 1  # EPERM
_ABSENT: Final = 0x00050000 | 38  # ENOSYS
_UNIFIED: Final = 424  # from here on, numbers are the same on all architectures

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}

# name: (x86-64, AArch64); None where the architecture has no such call
_CALLS: Final[dict[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "mincore": (27, 232),
    "madvise": (28, 233),
    "dup": (32, 23),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}
_CLONE: Final = (56, 220)
_TGKILL: Final = (234, 131)
_PRLIMIT: Final = (302, 261)
_IOCTL: Final = (16, 29)
_FCNTL: Final = (72, 25)
_TCGETS: Final = 0x5401  # "is it a terminal?"
_F_DUPFD_CLOEXEC: Final = 1030


def limit(memory: int, open_files: int) -> tuple[str, ...]:
    """Set this process's hard resource limits; return the names of those that took effect.

    Args:
        memory: bytes of address space.
        open_files: the first descriptor that can no longer be opened; open ones stay open.
    """
    applied = []
    for name, kind, value in (
        ("memory", resource.RLIMIT_AS, memory),
        ("no-file-growth", resource.RLIMIT_FSIZE, 0),
        ("no-core-dump", resource.RLIMIT_CORE, 0),
        ("few-open-files", resource.RLIMIT_NOFILE, open_files),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            continue  # macOS does not limit address space
        applied.append(name)
    return tuple(applied)


def limit_cpu(seconds: float) -> None:
    """Limit this process to this many more seconds of CPU time; the system kills it after that."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def leave_network() -> bool:
    """Move this process to an empty network namespace; return whether it took effect.

    Call it before any other thread starts.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # Root can do it directly; other users need a user namespace too, which some systems forbid.
    return any(
        libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    )


def filter_calls() -> bool:
    """Deny this process all system calls that decoding does not need; return whether it worked.

    It cannot be undone. Denied are sockets, starting programs or processes, and signals to other
    processes. No path can be opened or examined either, since a process that can read any file
    could read its parent's secrets in /proc; so all modules must be loaded before.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program(machine, os.getpid())
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(
        ctypes.c_long(_SECCOMP[machine]),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.c_char_p(header),
    )
    return bool(result == 0)


# Classic BPF: code, jump if true, jump if false, operand (linux/bpf_common.h, linux/filter.h).
_LOAD: Final = 0x20  # a 32-bit word of `struct seccomp_data` at the operand
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16  # eight bytes each, the low word first on both architectures


def _program(machine: str, pid: int) -> bytes:
    """Assemble the filter as BPF instructions of eight bytes each."""
    column = 0 if machine == "x86_64" else 1
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _UNIFIED),  # includes x32's numbers, which have bit 30 set
        (_RETURN, 0, 0, _ABSENT),
    ]
    for numbers in _CALLS.values():
        if (number := numbers[column]) is not None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    # call, argument, test, operand, action if the test succeeds, action if it fails
    for numbers, argument, test, operand, if_true, if_false in (
        (_CLONE, 0, _ANY_BIT, _CLONE_THREAD, _ALLOW, _DENY),
        (_TGKILL, 0, _EQUAL, pid, _ALLOW, _DENY),  # `abort` signals itself
        (_IOCTL, 1, _EQUAL, _TCGETS, _ALLOW, _DENY),
    ):
        if (number := numbers[column]) is not None:
            code += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
                (test, 0, 1, operand),
                (_RETURN, 0, 0, if_true),
                (_RETURN, 0, 0, if_false),
            ]
    code += [
        # `fcntl`: only getting and setting flags (1 to 4) and duplicating a descriptor
        (_EQUAL, 0, 5, _FCNTL[column]),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8),
        (_EQUAL, 2, 0, _F_DUPFD_CLOEXEC),
        (_AT_LEAST, 0, 1, 5),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
        # `prlimit64`: only this process's own CPU time, which is extended for each file
        (_EQUAL, 0, 5, _PRLIMIT[column]),
        (_LOAD, 0, 0, _ARGUMENTS_AT),
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8),
        (_EQUAL, 0, 1, resource.RLIMIT_CPU),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
