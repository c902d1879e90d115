"""Hash files in a child process that a hostile picture cannot use for anything.

This process opens each file and sends its bytes on, piece by piece. The child (`nciihash.child`)
decodes them and answers with hashes; it can open nothing itself, for a process that may read any
file could read this one's secrets. It has limits of memory and time, and where the system permits,
no network and no system call that it does not need (`nciihash.confinement`). This process never
loads a decoder, and never decodes when the child fails: a file that kills the child is refused, and
the next file meets a new child.

A plain child over pipes: `multiprocessing` would need sockets or a script that can be imported.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Self

from nciihash import errors
from nciihash.files import read_path
from nciihash.limits import LIMITS, Limits
from nciihash.pipe import receive, send, send_bytes
from nciihash.signals import Hashed, Item, Media, Signal, SignalType, Variant

_START_SECONDS: Final = 60.0  # a cold disk is slow
_SENTENCE_MAX: Final = 500  # characters of a reason
_WALLS: Final = (
    *("process", "memory", "no-file-growth", "no-core-dump", "few-open-files"),
    *("network-namespace", "system-call-filter"),
)
# `-I` keeps the environment and the current folder out of the child; the modules that it may import
# are this process's, given as an argument, so that every kind of installation works.
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from nciihash.child import serve; serve(json.loads(sys.argv[2]))"
)
# What the dynamic loader may need; no secret that this process has been given is among it.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "LANG", "LC_ALL")

_REFUSALS: Final = {
    kind.code: kind
    for kind in (
        *(errors.FileRefused, errors.NotAFile, errors.UnreadableFile, errors.EmptyFile),
        *(errors.UnsupportedFormat, errors.TooLarge, errors.CorruptFile, errors.TimedOut),
        errors.TooPlain,
    )
}


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

    @property
    def isolation(self) -> tuple[str, ...]:
        """Name the walls that stand around the child on this system.

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
    ) -> Item:
        """Hash a file as `nciihash.hasher.hash_file` does, in the child.

        Raises:
            FileRefused: one of its subclasses, with a sentence that says what to do.
            SandboxUnavailable: the child does not start; nothing was decoded.
            ValueError: unknown variants, or no signals.
        """
        request = {
            "variants": variants,
            "signals": [SignalType(type) for type in signals],
        }
        chunks = read_path(os.fsdecode(path), limits=self._limits)
        with self._lock, closing(chunks):
            try:
                reply = self._ask(request, chunks)
            except errors.NciihashError:
                raise
            except BaseException:
                # Ctrl-C: what the child says next would answer a question nobody asks any more
                self._kill()
                raise
            return _understand(reply, signals)

    def _ask(self, request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:
        chunk = next(chunks, b"")  # a file that cannot be read is no affair of the child's
        try:
            child, reply, deadline = self._announce(request)
            if reply != {"file": "wanted"}:
                return reply
            while chunk:
                send_bytes(_out(child), chunk, deadline)
                chunk = next(chunks, b"")
            send_bytes(_out(child), b"", deadline)
            return receive(_in(child), deadline)
        except TimeoutError:
            self._kill()
            raise errors.TimedOut(
                f"The file takes longer than {self._limits.seconds:g} seconds. "
                "Export it anew as JPEG, or save a smaller copy."
            ) from None
        except (EOFError, BrokenPipeError):
            raise self._autopsy() from None
        except errors.FileRefused:  # it cannot be read to its end, for which the child would wait
            self._kill()
            raise
        except ValueError:  # it has lost the thread, or somebody else is speaking through it
            self._kill()
            return {}

    def _announce(
        self, request: dict[str, Any]
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
            deadline = time.monotonic() + self._limits.seconds
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
        """Say what the file did to the child, by the signal that ended it."""
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
        return errors.CorruptFile(
            "The file made its decoder crash, so it is damaged or made to do harm. "
            "Nothing else was touched. Use another copy, or export it anew as JPEG or PNG."
        )

    def _ensure(self) -> subprocess.Popen[bytes]:
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
) -> Item:
    """Hash a file in a child process that starts with the first call and ends with this process.

    See `Sandbox.hash_file`.

    Raises:
        FileRefused: one of its subclasses, with a sentence that says what to do.
        SandboxUnavailable: the child does not start; nothing was decoded.
        ValueError: unknown variants, or no signals.
    """
    return _shared.hash_file(path, variants=variants, signals=signals)


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
    root = str(Path(__file__).resolve().parent.parent)
    modules = [entry for entry in sys.path if Path(entry).is_absolute()] + [root]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # without a home, Python asks the system's user database for it, over a socket
    environment |= {"HOME": "/", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    settings = {
        "max_bytes": limits.max_bytes,
        "max_pixels": limits.max_pixels,
        "memory": limits.memory,
        "seconds": limits.seconds,
    }
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
        walls = tuple(name for name in _WALLS if name in reply["ready"])
    except (EOFError, TimeoutError, ValueError, KeyError, TypeError) as error:
        _end(child)
        raise errors.SandboxUnavailable(
            f"The process that decodes files does not start up. {advice}"
        ) from error
    except BaseException:
        _end(child)
        raise
    return child, walls


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


def _understand(reply: dict[str, Any], asked: Sequence[SignalType]) -> Item:
    """Read the child's answer, trusting nothing in it.

    Raises:
        FileRefused: the child refused the file, or its answer is not one.
        ValueError: the child refused the request.
    """
    invalid = ""
    try:
        match reply:
            case {"item": {"media": media, "hashes": list(hashes), **more}}:
                frames = more.get("frames", 1)
                told = tuple(_hashed(entry) for entry in hashes)
                if {hashed.signal.type for hashed in told} == set(asked) and (
                    isinstance(frames, int) and frames >= 1
                ):
                    return Item(Media(media), told, frames)
            case {"refused": code, "message": str(message)} if code in _REFUSALS:
                # what a person reads in a terminal must not be able to command it
                if message.isprintable() and len(message) <= _SENTENCE_MAX:
                    raise _REFUSALS[code](message)
            case {"invalid": str(message)} if message.isprintable():
                invalid = message
    except (ValueError, TypeError, KeyError):
        pass
    if invalid:
        raise ValueError(invalid)
    raise errors.CorruptFile(
        "The process that decodes files answered nonsense about this one, so it was not hashed. "
        "Use another copy, or export it anew as JPEG or PNG."
    )


def _hashed(entry: dict[str, Any]) -> Hashed:
    type = SignalType(entry["type"])
    quality = entry["quality"]
    if type is SignalType.PDQ and not (isinstance(quality, int) and 0 <= quality <= 100):
        raise ValueError
    return Hashed(
        Signal.from_hex(type, entry["value"]),
        quality=int(quality) if type is SignalType.PDQ else None,
        variant=Variant(entry["variant"]),
        tied=bool(entry["tied"]),
    )


def _out(child: subprocess.Popen[bytes]) -> int:
    assert child.stdin is not None  # noqa: S101 - `stdin=PIPE`
    return child.stdin.fileno()


def _in(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None  # noqa: S101 - `stdout=PIPE`
    return child.stdout.fileno()
