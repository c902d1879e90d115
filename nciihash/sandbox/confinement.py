"""Take away from this process what decoding a picture does not need.

Three means, each on its own: limits of the system (memory, files written, open files), a network
namespace without a network, and a filter of system calls. Each function says whether it
holds, since containers and systems differ in what they permit.

The numbers are those of Linux's user-space headers (asm/unistd_64.h, asm-generic/unistd.h,
linux/seccomp.h, linux/audit.h, linux/prctl.h), which are fixed for good. The filter allows what
decoders and threads call and refuses the rest, so that a call which is new or unthought of is
refused as well.
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
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1  # every thread of the process, not only this one

# Verdicts of the filter. An unknown call looks absent (ENOSYS), so that the C library falls back to
# an older one that the filter can look into (`clone` for `clone3`).
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_DENY: Final = 0x00050000 | 1  # EPERM
_ABSENT: Final = 0x00050000 | 38  # ENOSYS
_UNIFIED: Final = 424  # from here on numbers are the same everywhere, and the calls are new

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
    """Limit this process for good; name the limits that hold.

    Args:
        memory: bytes of address space.
        open_files: the first descriptor that cannot be had any more; those which are open stay.
    """
    held = []
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
            continue  # macOS limits no address space
        held.append(name)
    return tuple(held)


def limit_cpu(seconds: float) -> None:
    """Let the system kill this process after so many more seconds of processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def leave_network() -> bool:
    """Move this process, while it has one thread, to a namespace without a network."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # Root may do it as it is; others need a user namespace of their own, which some systems
    # forbid.
    return any(
        libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    )


def filter_calls() -> bool:
    """Refuse this process, for good, every system call but those that decoding needs.

    No sockets, no other programs or processes, no signals to others; and no path is opened or
    looked at, since a process that may read any file could read its parent's secrets in /proc. So
    whatever is loaded late must be loaded before.
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
    answer = libc.syscall(
        ctypes.c_long(_SECCOMP[machine]),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.c_char_p(header),
    )
    return bool(answer == 0)


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
    """Assemble the filter, instructions of eight bytes."""
    column = 0 if machine == "x86_64" else 1
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _UNIFIED),  # x32's numbers, with bit 30, are among them
        (_RETURN, 0, 0, _ABSENT),
    ]
    for numbers in _CALLS.values():
        if (number := numbers[column]) is not None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    # call, argument, test, operand, verdict if the test holds, verdict if not
    for numbers, argument, test, operand, held, failed in (
        (_CLONE, 0, _ANY_BIT, _CLONE_THREAD, _ALLOW, _DENY),
        (_TGKILL, 0, _EQUAL, pid, _ALLOW, _DENY),  # `abort` signals itself
        (_IOCTL, 1, _EQUAL, _TCGETS, _ALLOW, _DENY),
    ):
        if (number := numbers[column]) is not None:
            code += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
                (test, 0, 1, operand),
                (_RETURN, 0, 0, held),
                (_RETURN, 0, 0, failed),
            ]
    code += [
        # of `fcntl`, reading flags (1 to 4) and doubling a descriptor
        (_EQUAL, 0, 5, _FCNTL[column]),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8),
        (_EQUAL, 2, 0, _F_DUPFD_CLOEXEC),
        (_AT_LEAST, 0, 1, 5),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
        # of `prlimit64`, this process's own processor time, which is renewed for each file
        (_EQUAL, 0, 5, _PRLIMIT[column]),
        (_LOAD, 0, 0, _ARGUMENTS_AT),
        (_EQUAL, 0, 3, 0),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8),
        (_EQUAL, 0, 1, resource.RLIMIT_CPU),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
