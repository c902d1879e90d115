"""Hash files in a child process that a hostile picture cannot use for anything.

This process opens each file and sends its bytes on, piece by piece; of a video, those pieces that
the child asks for. The child (`nciihash.sandbox.child`) decodes them and answers with hashes; it
can open nothing itself, for a process that may read any file could read this one's secrets. It has
limits of memory and time, on Linux no system call that it does not need, and where the system
permits, no network (`nciihash.sandbox.confinement`). This process never loads a decoder, and never
decodes when the child fails: a file that kills the child is refused, and the next file meets a new
child.

Where Linux refuses the filter of system calls, nothing is decoded, unless the environment variable
`NCIIHASH_SANDBOX_WITHOUT_FILTER` is `1`: then each process says once, to the logger
`nciihash.sandbox`, that the child has limits alone.

A plain child over pipes: `multiprocessing` would need sockets or a script that can be imported.
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
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from nciihash import errors
from nciihash.media.formats import video_format
from nciihash.media.limits import LIMITS, Limits
from nciihash.media.reading import HEAD, check_video_size, opened, read_path
from nciihash.sandbox.pipe import receive, send, send_bytes
from nciihash.sandbox.replies import nonsense, piece, understood
from nciihash.signals import Item, SignalType

_START_SECONDS: Final = 60.0  # a cold disk is slow
_FILTER: Final = "system-call-filter"
WALLS: Final = (
    *("process", "memory", "no-file-growth", "no-core-dump", "few-open-files"),
    *("network-namespace", _FILTER),
)
_WITHOUT_FILTER: Final = "NCIIHASH_SANDBOX_WITHOUT_FILTER"
_NO_FILTER: Final = (
    "This system refuses the filter of system calls (seccomp) that keeps the process that decodes "
    "files from everything else."
)
_log: Final = logging.getLogger("nciihash.sandbox")
_first_warning: Final = threading.Lock()  # the thread that acquires it logs the warning
# `-I` keeps the environment and the current folder out of the child; the modules that it may import
# are this process's, given as an argument, so that every kind of installation works.
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from nciihash.sandbox.child import serve; serve(json.loads(sys.argv[2]))"
)
# What the dynamic loader may need; no secret that this process has been given is among it.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "LANG", "LC_ALL")


class Sandbox:
    """A child process that hashes files; use it as a context manager, from any thread.

    One file at a time: threads wait for each other, and several sandboxes work at once.

    Args:
        limits: what each file may cost.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._isolation: tuple[str, ...] = ()
        self._stopped = False

    def __enter__(self) -> Self:
        """Start the child, so that a system which permits none says so at once."""
        with self._lock:
            self._ensure()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a later call starts another."""
        with self._lock:
            self._kill()

    def stop(self) -> None:
        """End the child for good from another thread, even in the middle of a file.

        Whoever waits for that file is told that it was refused, and any later call fails.
        """
        self._stopped = True
        if (child := self._child) is not None and self._owner == os.getpid():
            child.kill()

    @property
    def isolation(self) -> tuple[str, ...]:
        """Name what confines the child on this system, of `WALLS`.

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
    ) -> Item:
        """Hash a file as `nciihash.hashing.hasher.hash_file` does, in the child.

        Raises:
            FileRefused: one of its subclasses, with a sentence that says what to do.
            SandboxUnavailable: the child does not start; nothing was decoded.
            ValueError: unknown variants, or no signals.
        """
        path = os.fsdecode(path)
        request = {
            "variants": variants,
            "signals": [SignalType(type) for type in signals],
            "fast": fast,
            "video": None,
        }
        with opened(path) as (file, size):
            if video_format(file.read(HEAD)):
                check_video_size(size, self._limits)
                with self._conversation():
                    reply = self._serve(request | {"video": size}, file.fileno())
                return understood(reply, signals)
        chunks = read_path(path, limits=self._limits)
        with closing(chunks), self._conversation():
            reply = self._send(request, chunks)
        return understood(reply, signals)

    def _serve(self, request: dict[str, Any], file: int) -> dict[str, Any]:
        """Give the child those pieces of an open video that it asks for, until it answers."""
        with self._faults(self._limits.video_seconds):
            child, reply, deadline = self._announce(request, self._limits.video_seconds)
            while "read" in reply:
                start, length = piece(reply, request["video"])
                send_bytes(_out(child), os.pread(file, length, start), deadline)
                reply = receive(_in(child), deadline)
            return reply

    @contextmanager
    def _conversation(self) -> Iterator[None]:
        """Keep other threads out, and end the child if the talk is broken off, as by Ctrl-C.

        What it says next would answer a question that nobody asks any more.
        """
        with self._lock:
            try:
                yield
            except errors.NciihashError:
                raise
            except BaseException:
                self._kill()
                raise

    def _send(self, request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:
        chunk = next(chunks, b"")  # a file that cannot be read is no affair of the child's
        with self._faults(self._limits.seconds):
            child, reply, deadline = self._announce(request, self._limits.seconds)
            if reply != {"file": "wanted"}:
                return reply
            while chunk:
                send_bytes(_out(child), chunk, deadline)
                chunk = next(chunks, b"")
            send_bytes(_out(child), b"", deadline)
            return receive(_in(child), deadline)

    @contextmanager
    def _faults(self, seconds: float) -> Iterator[None]:
        """Turn what goes wrong with the child into a refusal, and let another one follow it.

        Raises:
            FileRefused: what the file did to the child, or that it cannot be read.
        """
        try:
            yield
        except TimeoutError:
            self._kill()
            raise errors.TimedOut(
                f"The file takes longer than {seconds:g} seconds. "
                "Export it anew, at a smaller size, and hash that."
            ) from None
        except (EOFError, BrokenPipeError):
            raise self._autopsy() from None
        except (errors.FileRefused, OSError):
            self._kill()  # it cannot be read to its end, for which the child would wait
            raise
        except ValueError:  # it has lost the thread, or somebody else is speaking through it
            self._kill()
            raise nonsense() from None

    def _announce(
        self, request: dict[str, Any], seconds: float
    ) -> tuple[subprocess.Popen[bytes], dict[str, Any], float]:
        """Tell the child that a file comes; give the child, what it says, and the deadline.

        A child that dies before it says anything has seen no byte of this file, so that the file is
        not to blame: then another child is started, once.

        Raises:
            SandboxUnavailable: the second child died as well.
            TimeoutError: the child says nothing.
            ValueError: what it says is no message.
        """
        for _ in range(2):
            child = self._ensure()
            deadline = time.monotonic() + seconds
            try:
                send(_out(child), request)
                return child, receive(_in(child), deadline), deadline
            except (EOFError, BrokenPipeError, BlockingIOError):  # the last: the pipe is full
                self._kill()
        raise errors.SandboxUnavailable(
            "The process that decodes files ends as soon as it starts. "
            "Nothing was decoded; pass --no-sandbox to decode without it."
        )

    def _autopsy(self) -> errors.FileRefused:
        """Say why the child ended: by what signal, or else through a fault of this program."""
        status = self._kill(patience=5.0)
        if status == -signal.SIGXCPU:
            return errors.TimedOut(
                "The file takes more computing than is allowed. "
                "Export it anew as JPEG, or save a smaller copy."
            )
        if status == -signal.SIGKILL:  # the system's way to end what takes too much memory
            return errors.TooLarge(
                "The system ended the reading of this file, most likely for lack of memory. "
                "Save a smaller copy and hash that: its hash is nearly the same."
            )
        if status is None or status >= 0:
            return errors.ProgramFault.of("the process ended")
        return errors.CorruptFile(
            "The file made its decoder crash, so it is damaged or made to do harm. "
            "Nothing else was touched. Use another copy, or export it anew as JPEG or PNG."
        )

    def _ensure(self) -> subprocess.Popen[bytes]:
        if self._stopped:
            raise errors.SandboxUnavailable("This sandbox was stopped. Make another one.")
        if self._child is not None and self._owner != os.getpid():
            _forget(self._child)  # this process is a fork: the child answers to its parent
            self._child = None
        if self._child is not None and self._child.poll() is not None:
            self._kill()
        if self._child is None:
            self._child, self._isolation = _start(self._limits)
            self._owner = os.getpid()
        return self._child

    def _kill(self, patience: float = 0.0) -> int | None:
        """End the child and wait for it; it holds nothing worth saving."""
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
) -> Item:
    """Hash a file in a child process that starts with the first call and ends with this process.

    See `Sandbox.hash_file`.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        SandboxUnavailable: the child does not start; nothing was decoded.
        ValueError: unknown variants, or no signals.
    """
    return _shared.hash_file(path, variants=variants, signals=signals, fast=fast)


# The one global here: a function that starts a child for every file would cost 0.6 s each time, and
# one that hands the child to its caller would not be a function of one line in a user's script.
_shared = Sandbox()
atexit.register(_shared.close)


def _start(limits: Limits) -> tuple[subprocess.Popen[bytes], tuple[str, ...]]:
    """Start a child, and wait until it is confined.

    Raises:
        SandboxUnavailable: it does not start, or says that it cannot work.
    """
    advice = "Nothing was decoded; pass --no-sandbox to decode without it."
    if os.name != "posix":
        raise errors.SandboxUnavailable(
            f"The process that decodes files needs Linux or macOS in this version. {advice}"
        )
    # last, where this package came from the current folder, which is not passed on
    root = str(Path(__file__).resolve().parents[2])
    modules = [entry for entry in sys.path if Path(entry).is_absolute()] + [root]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # without a home, Python asks the system's user database for it, over a socket
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
            start_new_session=True,  # Ctrl-C is for this process, which ends the child itself
        )
    except OSError as error:
        raise errors.SandboxUnavailable(
            f"The process that decodes files cannot start. {advice}"
        ) from error
    try:
        os.set_blocking(_out(child), False)  # a child that reads no more must not hold us up
        reply = receive(_in(child), time.monotonic() + _START_SECONDS)
        walls = tuple(name for name in WALLS if name in reply["ready"])
        _check_filter(walls)
    except errors.SandboxUnavailable:
        _end(child)
        raise
    except (EOFError, TimeoutError, ValueError, KeyError, TypeError) as error:
        _end(child)
        raise errors.SandboxUnavailable(
            f"The process that decodes files does not start up. {advice}"
        ) from error
    except BaseException:
        _end(child)
        raise
    return child, walls


def _check_filter(walls: tuple[str, ...]) -> None:
    """Refuse, or report, a child without a filter where the system could give it one.

    Raises:
        SandboxUnavailable: it has none, and nobody said that it may do without.
    """
    if sys.platform != "linux" or _FILTER in walls:
        return
    if os.environ.get(_WITHOUT_FILTER) != "1":
        raise errors.SandboxUnavailable(
            f"{_NO_FILTER} Nothing was decoded. In a container, let its profile permit the system "
            f"call seccomp, as Docker's own does; {_WITHOUT_FILTER}=1 accepts limits of memory, "
            "time and files alone, which protects less."
        )
    if _first_warning.acquire(blocking=False):  # it is never released
        _log.warning("%s It has limits of memory, time and files alone.", _NO_FILTER)


def _end(child: subprocess.Popen[bytes], patience: float = 0.0) -> int:
    """Kill a child, unless it ends by itself within `patience` seconds; give its status."""
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
    finally:
        _close(child)


def _forget(child: subprocess.Popen[bytes]) -> None:
    """Let go of a child that is the parent process's, not this fork's."""
    _close(child)
    child.returncode = 0  # or its finalizer would complain that it still runs


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _out(child: subprocess.Popen[bytes]) -> int:
    assert child.stdin is not None  # noqa: S101 - `stdin=PIPE`
    return child.stdin.fileno()


def _in(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None  # noqa: S101 - `stdout=PIPE`
    return child.stdout.fileno()
