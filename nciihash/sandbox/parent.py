"""Hash files in a confined child process, so that a malicious file can do no harm.

The parent opens each file and sends its bytes to the child in chunks; of a video, only the ranges
that the child requests. The child (`nciihash.sandbox.child`) decodes them and replies with hashes.
It cannot open files, since a process that can read any file could read the parent's secrets. It has
limits on memory and time; on Linux, a filter that denies the system calls it does not need; and,
where the system permits it, no network (`nciihash.sandbox.confinement`). The parent never loads a
decoder and never decodes if the child fails: a file that crashes the child is refused, and the next
file gets a new child.

If Linux refuses the system-call filter, nothing is decoded, unless the environment variable
`NCIIHASH_SANDBOX_WITHOUT_FILTER` is `1`. Then each process logs one warning, to the logger
`nciihash.sandbox`, that the child has only limits.

The child is a plain subprocess with pipes: `multiprocessing` would need sockets or an importable
main script.
"""

import atexit
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from nciihash import errors
from nciihash.media.formats import video_format
from nciihash.media.limits import LIMITS, Limits
from nciihash.media.reading import HEAD, check_size, check_video_size, open_file
from nciihash.sandbox.pipe import receive, receive_frame, send, send_bytes
from nciihash.sandbox.replies import invalid_reply, luma_size, parse_item, requested_range
from nciihash.signals import Item, Level, SignalType, VariantSet

# Returns the bytes of a file from an offset, as many as there are up to a length.
_Read: TypeAlias = Callable[[int, int], bytes | memoryview]

_CHUNK: Final = 1 << 20  # bytes of a picture that are read at once
_START_SECONDS: Final = 60.0  # a cold disk is slow
_FILTER: Final = "system-call-filter"
ISOLATION_MEASURES: Final = (
    *("process", "memory", "no-file-growth", "no-core-dump", "few-open-files"),
    *("network-namespace", _FILTER),
)
_WITHOUT_FILTER: Final = "NCIIHASH_SANDBOX_WITHOUT_FILTER"
_ADVICE: Final = (
    "Nothing was decoded. Pass --no-sandbox to decode without isolation, which is less safe."
)
_NO_FILTER: Final = (
    "This system refuses the system-call filter (seccomp) that confines the process that decodes "
    "files."
)
_log: Final = logging.getLogger("nciihash.sandbox")
_first_warning: Final = threading.Lock()  # the thread that acquires it logs the warning
# `-I` makes the child ignore the environment and the current folder. It gets this process's module
# search path as an argument, so that every kind of installation works.
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from nciihash.sandbox.child import serve; serve(json.loads(sys.argv[2]))"
)
# Variables that the dynamic loader may need, and no others, since those could contain secrets.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "LANG", "LC_ALL")


class Sandbox:
    """A child process that hashes files; a context manager, usable from any thread.

    It hashes one file at a time: threads wait for each other. Use several sandboxes to hash in
    parallel.

    Args:
        limits: limits on each file.

    Attributes:
        deaths: how many children have ended in the middle of a file, or had to be ended because of
            an invalid reply. Timeouts do not count.
        stopped: whether `stop` was called.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.deaths = 0
        self.stopped = False
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._isolation: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """Start the child, so that `SandboxUnavailable` is raised here if it cannot start."""
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the child, unless it is running; a call that hashes does so, too.

        Raises:
            SandboxUnavailable: the child does not start, or the sandbox was stopped.
        """
        with self._lock:
            self._ensure()

    def close(self) -> None:
        """End the child; a later call starts another."""
        with self._lock:
            self._kill()

    def stop(self) -> None:
        """End the child permanently from another thread, even in the middle of a file.

        The call that waits for that file raises `FileRefused`, and later calls raise
        `SandboxUnavailable`.
        """
        self.stopped = True
        if (child := self._child) is not None and self._owner == os.getpid():
            child.kill()

    @property
    def alive(self) -> bool:
        """Whether there is a child and it has not ended."""
        child = self._child
        return child is not None and self._owner == os.getpid() and child.poll() is None

    @property
    def isolation(self) -> tuple[str, ...]:
        """The names of the measures that confine the child on this system, of all known ones.

        Raises:
            SandboxUnavailable: the child does not start.
        """
        with self._lock:
            self._ensure()
            return self._isolation

    def hash_file(
        self,
        path: str | os.PathLike[str],
        *,
        variants: str = "none",
        signals: Sequence[SignalType] = (SignalType.PDQ,),
        fast: bool = False,
        level: Level | None = None,
    ) -> Item:
        """Hash a file as `nciihash.hashing.hasher.hash_file` does, in the child.

        Raises:
            FileRefused: one of its subclasses, with a message that says what to do.
            SandboxUnavailable: the child does not start; nothing was decoded.
            ValueError: unknown variants, no signals, or a level without what it needs.
        """
        with open_file(os.fsdecode(path)) as (file, size):
            read = partial(_read_at, file.fileno())
            return self._hash(read, size, variants, signals, level, fast=fast)

    def hash_bytes(
        self,
        data: bytes | bytearray | memoryview,
        *,
        variants: str = "none",
        signals: Sequence[SignalType] = (SignalType.PDQ,),
        fast: bool = False,
        level: Level | None = None,
    ) -> Item:
        """Hash a file's bytes as `hash_file` does; they are not copied, and written to no file.

        Args:
            data: the bytes, which must not be changed meanwhile.
            variants: as in `hash_file`, and likewise the following.
            signals: the types of hash to compute.
            fast: decode large JPEG files at a reduced size.
            level: how thoroughly to search for the file.

        Raises:
            FileRefused: one of its subclasses, with a message that says what to do.
            SandboxUnavailable: the child does not start; nothing was decoded.
            ValueError: unknown variants, no signals, or a level without what it needs.
        """
        with memoryview(data) as view, view.cast("B") as octets:

            def read(start: int, length: int) -> memoryview:
                return octets[start : start + length]

            return self._hash(read, len(octets), variants, signals, level, fast=fast)

    def _hash(
        self,
        read: _Read,
        size: int,
        variants: str,
        signals: Sequence[SignalType],
        level: Level | None,
        *,
        fast: bool,
    ) -> Item:
        """Hash a file in the child, which is sent the ranges of a video that it requests."""
        is_video = video_format(bytes(read(0, HEAD))) is not None
        (check_video_size if is_video else check_size)(size, self._limits)
        request = {
            "variants": variants,
            "signals": [SignalType(type) for type in signals],
            "fast": fast,
            "level": level,
            "video": size if is_video else None,
        }
        with self._exchange():
            reply, luma = (self._send_ranges if is_video else self._send)(request, read)
        return parse_item(reply, signals, level, luma)

    def _send_ranges(self, request: dict[str, Any], read: _Read) -> tuple[dict[str, Any], bytes]:
        """Send the child the ranges of a video that it requests.

        Returns:
            Its final reply, and the pixels of the reply's parts.
        """
        with self._faults(self._limits.video_seconds):
            child, reply, deadline = self._start_request(request, self._limits.video_seconds)
            while "read" in reply:
                start, length = requested_range(reply, request["video"])
                send_bytes(_stdin(child), read(start, length), deadline)
                reply = receive(_stdout(child), deadline)
            return reply, _receive_luma(child, reply, request, deadline)

    def _send(self, request: dict[str, Any], read: _Read) -> tuple[dict[str, Any], bytes]:
        """Send the child a picture; return as `_send_ranges` does."""
        # outside of `_faults`: if the file cannot be read, the child is kept
        chunk = read(0, _CHUNK)
        with self._faults(self._limits.seconds):
            child, reply, deadline = self._start_request(request, self._limits.seconds)
            if reply != {"file": "wanted"}:
                return reply, b""
            sent = 0
            while chunk:
                send_bytes(_stdin(child), chunk, deadline)
                sent += len(chunk)
                chunk = read(sent, _CHUNK)
                check_size(sent + len(chunk), self._limits)  # the file may grow
            send_bytes(_stdin(child), b"", deadline)
            reply = receive(_stdout(child), deadline)
            return reply, _receive_luma(child, reply, request, deadline)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """Hold the lock, and end the child if the exchange is interrupted, as by Ctrl-C.

        Otherwise its next message would be taken for the reply to a later request.
        """
        with self._lock:
            try:
                yield
            except errors.NciihashError:
                raise
            except BaseException:
                self._kill()
                raise

    @contextmanager
    def _faults(self, seconds: float) -> Iterator[None]:
        """Convert the child's failures to `FileRefused`, and end the child, so that it is replaced.

        Raises:
            FileRefused: the file made the child fail, or cannot be read.
        """
        try:
            yield
        except TimeoutError:
            self._kill()
            raise errors.TimedOut(
                f"Hashing the file takes longer than {seconds:g} seconds. "
                "Export it at a smaller size and hash that."
            ) from None
        except (EOFError, BrokenPipeError):
            raise self._cause_of_end() from None
        except (errors.FileRefused, OSError):
            self._kill()  # the file cannot be read to its end, and the child waits for the rest
            raise
        except ValueError:  # the child is out of step, or controlled by a malicious file
            self.deaths += 1
            self._kill()
            raise invalid_reply() from None

    def _start_request(
        self, request: dict[str, Any], seconds: float
    ) -> tuple[subprocess.Popen[bytes], dict[str, Any], float]:
        """Send a request to the child; return the child, its first reply, and the deadline.

        A child that ends before its first reply has received no byte of the file, so the file is
        not the cause. Then a new child is started and the request is retried once.

        Raises:
            SandboxUnavailable: the second child ended too.
            TimeoutError: the child does not reply in time.
            ValueError: the reply is not a valid message.
        """
        for _ in range(2):
            child = self._ensure()
            deadline = time.monotonic() + seconds
            try:
                send(_stdin(child), request)
                return child, receive(_stdout(child), deadline), deadline
            except (EOFError, BrokenPipeError, BlockingIOError):  # the last one: the pipe is full
                self._kill()
        raise errors.SandboxUnavailable(
            f"The process that decodes files ends as soon as it starts. {_ADVICE}"
        )

    def _cause_of_end(self) -> errors.FileRefused:
        """Return the error for a child that has ended, by its exit status or signal."""
        status = self._kill(patience=5.0)
        if status == -signal.SIGXCPU:
            return errors.TimedOut(
                "Hashing the file takes more computing time than is allowed. "
                "Save a smaller copy, or export it as JPEG, and hash that."
            )
        self.deaths += 1
        if status == -signal.SIGKILL:  # most likely the kernel's out-of-memory killer
            return errors.TooLarge(
                "The system stopped the hashing of this file, most likely for lack of memory. "
                "Save a smaller copy and hash that; its fingerprint is nearly the same."
            )
        if status is None or status >= 0:
            return errors.ProgramFault.of("the process ended")
        return errors.CorruptFile(
            "The file crashed the program that reads it, so it is damaged or malicious. That "
            "program is isolated, so nothing else was affected. Use another copy of the file, or "
            "export it as JPEG or PNG."
        )

    def _ensure(self) -> subprocess.Popen[bytes]:
        self._check_not_stopped()
        if self._child is not None and self._owner != os.getpid():
            _forget(self._child)  # this process is a fork, and the child belongs to its parent
            self._child = None
        if self._child is not None and self._child.poll() is not None:
            self._kill()
        if self._child is None:
            self._child, self._isolation = _start(self._limits)
            self._owner = os.getpid()
            self._check_not_stopped()  # while the child was starting
        return self._child

    def _check_not_stopped(self) -> None:
        if self.stopped:
            self._kill()
            raise errors.SandboxUnavailable("This sandbox was stopped. Create another one.")

    def _kill(self, patience: float = 0.0) -> int | None:
        """End the child, after `patience` seconds to end by itself; return its exit status."""
        child, self._child = self._child, None
        if child is None:
            return None
        if self._owner != os.getpid():
            _forget(child)
            return None
        return _end(child, patience)


def hash_file(
    path: str | os.PathLike[str],
    *,
    variants: str = "none",
    signals: Sequence[SignalType] = (SignalType.PDQ,),
    fast: bool = False,
    level: Level | None = None,
) -> Item:
    """Hash a file in a child process that starts with the first call and ends with this process.

    See `Sandbox.hash_file`.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
        SandboxUnavailable: the child does not start; nothing was decoded.
        ValueError: unknown variants, no signals, or a level without what it needs.
    """
    return _shared.hash_file(path, variants=variants, signals=signals, fast=fast, level=level)


def hash_upload(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    level: Level = Level.WINDOWS,
    fast: bool = False,
) -> Item:
    """Hash a file as a query, as `nciihash match` does, in the child process of `hash_file`.

    The item has the picture's own hash, and that of the picture within its frame, if it has one: a
    border or a screenshot hides nothing. Of a video it has the hashes of all frames that differ.
    Pass it to `nciihash.Matcher.find`, or to `nciihash.sdk.look_up`.

    Args:
        source: the path of a file, or a file's bytes.
        level: how thoroughly a `Matcher` searches for it. Clearinghouses and veiled banks are asked
            at `fast`, since only a bank of whole hashes can be searched for parts of a picture.
        fast: decode large JPEG files at a reduced size, which takes a fraction of the time; the
            hashes then differ from the exact ones by up to 4 bits.

    Raises:
        FileRefused: one of its subclasses, with a message that says what to do.
        SandboxUnavailable: the child does not start; nothing was decoded.
    """
    variants = VariantSet.MATCH.value
    if isinstance(source, bytes | bytearray | memoryview):
        return _shared.hash_bytes(source, variants=variants, fast=fast, level=level)
    return _shared.hash_file(source, variants=variants, fast=fast, level=level)


# The only global here, so that `hash_file` is a single call: starting a child takes 0.6 s, too long
# for every file.
_shared = Sandbox()
atexit.register(_shared.close)


def _start(limits: Limits) -> tuple[subprocess.Popen[bytes], tuple[str, ...]]:
    """Start a child and wait until it is confined; return it and the names of its confinement.

    Raises:
        SandboxUnavailable: it does not start, or has no system-call filter.
    """
    if os.name != "posix":
        raise errors.SandboxUnavailable(
            f"The process that decodes files needs Linux or macOS in this version. {_ADVICE}"
        )
    # appended in case this package was imported from the current folder, which is not passed on
    root = str(Path(__file__).resolve().parents[2])
    modules = [entry for entry in sys.path if Path(entry).is_absolute()] + [root]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # without HOME, Python looks it up in the user database, over a socket
    environment |= {"HOME": "/", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    settings = dataclasses.asdict(limits)
    try:
        child = subprocess.Popen(  # noqa: S603 - this interpreter, with arguments made here
            [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(modules), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders' own warnings
            bufsize=0,
            cwd="/",
            env=environment,
            start_new_session=True,  # Ctrl-C signals only this process, which ends the child
        )
    except OSError as error:
        raise errors.SandboxUnavailable(
            f"The process that decodes files cannot start. {_ADVICE}"
        ) from error
    try:
        os.set_blocking(_stdin(child), False)  # a child that stops reading must not block this one
        reply = receive(_stdout(child), time.monotonic() + _START_SECONDS)
        isolation = tuple(name for name in ISOLATION_MEASURES if name in reply["ready"])
        _check_filter(isolation)
    except errors.SandboxUnavailable:
        _end(child)
        raise
    except (EOFError, TimeoutError, ValueError, KeyError, TypeError) as error:
        _end(child)
        raise errors.SandboxUnavailable(
            f"The process that decodes files did not start correctly. {_ADVICE}"
        ) from error
    except BaseException:
        _end(child)
        raise
    return child, isolation


def _read_at(file: int, start: int, length: int) -> bytes:
    """Read from an open file; see `_Read`."""
    return os.pread(file, length, start)


def _receive_luma(
    child: subprocess.Popen[bytes], reply: dict[str, Any], request: dict[str, Any], deadline: float
) -> bytes:
    """Read the pixels of a final reply's parts, if it has any.

    Raises:
        EOFError: the child has closed the pipe.
        TimeoutError: the deadline has passed.
        ValueError: the child sends parts that were not requested, too many, or other pixels.
    """
    size = luma_size(reply, request["level"])
    return receive_frame(_stdout(child), size, deadline) if size else b""


def _check_filter(isolation: tuple[str, ...]) -> None:
    """Check that a child has a system-call filter, on Linux.

    Raises:
        SandboxUnavailable: it has none, and the environment does not permit that.
    """
    if sys.platform != "linux" or _FILTER in isolation:
        return
    if os.environ.get(_WITHOUT_FILTER) != "1":
        raise errors.SandboxUnavailable(
            f"{_NO_FILTER} Nothing was decoded. In a container, allow the seccomp system call in "
            f"its profile, as Docker's default profile does. Or set {_WITHOUT_FILTER}=1 to decode "
            "with limits on memory, time and files only, which protects less."
        )
    if _first_warning.acquire(blocking=False):  # it is never released
        _log.warning("%s Decoding with limits on memory, time and files only.", _NO_FILTER)


def _end(child: subprocess.Popen[bytes], patience: float = 0.0) -> int:
    """Kill a child, unless it ends by itself within `patience` seconds; return its status."""
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
    finally:
        _close(child)


def _forget(child: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a child that belongs to the process this one was forked from."""
    _close(child)
    child.returncode = 0  # else its finalizer would warn that it is still running


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _stdin(child: subprocess.Popen[bytes]) -> int:
    assert child.stdin is not None  # noqa: S101 - `stdin=PIPE`
    return child.stdin.fileno()


def _stdout(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None  # noqa: S101 - `stdout=PIPE`
    return child.stdout.fileno()
