"""The sandbox's child: confine this process, then hash what the parent sends, file by file.

Started by `nciihash.sandbox`; it reads requests and files' bytes from standard input and answers on
what was its standard output. Of a video it asks for the pieces it needs. It gets no path, and opens
nothing once it is confined. It ends when the parent does.
"""

import contextlib
import io
import os
import pkgutil
import select
import signal
import threading
from importlib import import_module
from typing import Any, BinaryIO, Final

import av
import cv2

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.media.limits import Limits
from nciihash.sandbox import confinement
from nciihash.sandbox.pipe import PIECE, Remote, receive, receive_bytes, send
from nciihash.sandbox.warmup import SAMPLES, VIDEO
from nciihash.signals import MADE, Hashed, Item, SignalType

_TOO_MUCH: Final = {
    "refused": errors.TooLarge.code,
    "message": "Hashing this file takes more memory than is allowed. "
    "Save a smaller copy and hash that: its hash is nearly the same.",
}
_UNUSED: Final = {"av.__main__", "av.datasets"}  # a program, and downloads
_OF_VIDEOS: Final = (SignalType.PDQ, SignalType.MD5, SignalType.SHA256)


def serve(settings: dict[str, Any]) -> None:
    """Confine this process and answer requests until standard input closes.

    Args:
        settings: the fields of `nciihash.media.limits.Limits`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = Limits(**settings)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    walls = ["process"]
    if confinement.leave_network():
        walls.append("network-namespace")
    _wake()
    walls += confinement.limit(limits.memory, open_files=answers + 1)
    if confinement.filter_calls():
        walls.append("system-call-filter")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send(answers, {"ready": walls})
    with contextlib.suppress(EOFError):
        while True:
            request = receive(0)
            try:
                hasher.check_request(request["variants"], request["signals"])
            except ValueError as error:
                send(answers, {"invalid": str(error)})
                continue
            if (size := request["video"]) is not None:
                confinement.limit_cpu(limits.video_seconds * limits.threads)
                film: BinaryIO = io.BufferedReader(Remote(0, answers, size), PIECE)
                send(answers, _answer(request, film, limits))
                continue
            send(answers, {"file": "wanted"})
            confinement.limit_cpu(limits.seconds)
            data = receive_bytes(0, limits.max_bytes)
            send(answers, _TOO_MUCH if data is None else _answer(request, data, limits))


def _wake() -> None:
    """Hash files in ways that load whatever hashing loads late, so that it is loaded now."""
    av.logging.set_level(None)  # or its words would be written to where nobody reads
    cv2.setNumThreads(1)  # one a core otherwise, whose stacks fill the memory that is allowed
    _load_all_of_pyav()
    for sample in SAMPLES.values():  # of pictures "full" does all that the smaller sets do
        hasher.hash_bytes(sample, variants="full", signals=MADE)
        hasher.hash_bytes(sample, variants="full", fast=True)
    for variants in ("full", "match"):
        hasher.hash_bytes(VIDEO, variants=variants, signals=_OF_VIDEOS)
    import_module("nciihash.hamming")  # for videos with more frames than the sample has


def _load_all_of_pyav() -> None:
    """Import each module of PyAV: it loads some only when a file has a track of their kind."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in _UNUSED:
            import_module(module.name)


def _end_with_parent() -> None:
    """End this process when the parent closes the pipe, even in the middle of a file.

    The system's own signal for that (PR_SET_PDEATHSIG) comes when the *thread* that started the
    child ends, which may be long before its process does.
    """
    poll = select.poll()
    poll.register(0, 0)  # no events asked for: only the hang-up is told
    poll.poll()
    os._exit(0)


def _answer(request: dict[str, Any], file: bytes | BinaryIO, limits: Limits) -> dict[str, Any]:
    try:
        item = _hash(request, file, limits)
    except errors.FileRefused as error:
        return _refused(error)
    except MemoryError:
        return _TOO_MUCH
    except EOFError:  # the parent is gone, or has lost interest
        raise
    except ValueError as error:
        return {"invalid": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the next file is another matter
        return _refused(errors.ProgramFault.of(type(error).__name__))
    return {
        "item": {
            "media": item.media,
            "hashes": [_entry(hashed) for hashed in item.hashes],
            "frames": item.frames,
            "every": item.every,
            "reduced": item.reduced,
            "motion": item.motion,
        },
    }


def _refused(error: errors.FileRefused) -> dict[str, Any]:
    return {"refused": error.code, "message": str(error)}


def _hash(request: dict[str, Any], file: bytes | BinaryIO, limits: Limits) -> Item:
    variants, fast = request["variants"], request["fast"]
    signals = [SignalType(type) for type in request["signals"]]
    if isinstance(file, bytes):
        return hasher.hash_bytes(file, variants=variants, signals=signals, fast=fast, limits=limits)
    return hasher.hash_video(file, variants=variants, signals=signals, limits=limits)


def _entry(hashed: Hashed) -> dict[str, Any]:
    return {
        "type": hashed.signal.type,
        "value": hashed.signal.hex,
        "quality": hashed.quality,
        "variant": hashed.variant,
        "tied": hashed.tied,
        "time": hashed.time,
    }
