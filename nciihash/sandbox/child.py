"""The sandbox's child process: confine itself, then hash the files that the parent sends.

It is started by `nciihash.sandbox`. It reads requests and files' bytes from standard input and
writes replies to its original standard output. For a video, it requests the ranges it needs. It is
sent no paths, and opens nothing once it is confined. It ends when the parent does.
"""

import contextlib
import io
import os
import pkgutil
import select
import signal
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from nciihash import errors
from nciihash.hashing import hasher
from nciihash.hashing.parts import query_parts
from nciihash.hashing.trimming import trim
from nciihash.media.limits import Limits
from nciihash.sandbox import confinement
from nciihash.sandbox.pipe import (
    RANGE_MAX,
    RemoteFile,
    receive,
    receive_bytes,
    send,
    send_frame,
)
from nciihash.sandbox.warmup import SAMPLES, VIDEO
from nciihash.signals import FILE_SIGNAL_TYPES, Hashed, Item, Level, SignalType
from nciihash.windows import Part

_OUT_OF_MEMORY: Final = {
    "refused": errors.TooLarge.code,
    "message": "Hashing this file takes more memory than is allowed. "
    "Save a smaller copy and hash that; its fingerprint is nearly the same.",
}
_UNUSED: Final = {"av.__main__", "av.datasets"}  # its command line, and a downloader
_VIDEO_SIGNALS: Final = (SignalType.PDQ, SignalType.MD5, SignalType.SHA256)


def serve(settings: dict[str, Any]) -> None:
    """Confine this process and serve requests until standard input is closed.

    Args:
        settings: the fields of `nciihash.media.limits.Limits`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = Limits(**settings)
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not be taken for a reply
    isolation = ["process"]
    if confinement.leave_network():
        isolation.append("network-namespace")
    _warm_up()
    isolation += confinement.limit(limits.memory, open_files=replies + 1)
    if confinement.filter_calls():
        isolation.append("system-call-filter")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send(replies, {"ready": isolation})
    with contextlib.suppress(EOFError):
        while True:
            request = receive(0)
            try:
                hasher.check_request(request["variants"], request["signals"], request["level"])
            except ValueError as error:
                send(replies, {"invalid": str(error)})
                continue
            if (size := request["video"]) is not None:
                confinement.limit_cpu(limits.video_seconds * limits.threads)
                video: BinaryIO = io.BufferedReader(RemoteFile(0, replies, size), RANGE_MAX)
                _send_reply(replies, request, video, limits)
                continue
            send(replies, {"file": "wanted"})
            confinement.limit_cpu(limits.seconds)
            data = receive_bytes(0, limits.max_bytes)
            if data is None:
                send(replies, _OUT_OF_MEMORY)
            else:
                _send_reply(replies, request, data, limits)


def _warm_up() -> None:
    """Hash the sample files, so that all modules imported lazily are loaded before confinement."""
    av.logging.set_level(None)  # standard error is /dev/null
    cv2.setNumThreads(1)  # by default one per core, whose stacks use up the memory limit
    _load_all_of_pyav()
    for sample in SAMPLES.values():  # for images, "full" includes the smaller sets
        hasher.hash_bytes(sample, variants="full", signals=FILE_SIGNAL_TYPES)
        hasher.hash_bytes(sample, variants="full", fast=True)
    for variants in ("full", "match"):
        hasher.hash_bytes(VIDEO, variants=variants, signals=_VIDEO_SIGNALS)
    for page in _pages():
        query_parts(page, Level.THOROUGH, trim(page))
    import_module("nciihash.hamming")  # for videos of more frames than the sample has


def _pages() -> Iterator[NDArray[np.uint8]]:
    """Draw a collage of noise within a frame, large enough to be searched for parts; likewise grey.

    The samples are too small for that.
    """
    noise = np.random.default_rng(0).integers(0, 256, (800, 1200, 3), np.uint8)
    noise[:, 580:620] = 128
    noise[380:420] = 128
    yield np.pad(noise, ((100, 100), (0, 0), (0, 0)), constant_values=255)
    yield np.full((600, 800, 3), 128, np.uint8)


def _load_all_of_pyav() -> None:
    """Import all modules of PyAV, which imports some only for files with certain tracks."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in _UNUSED:
            import_module(module.name)


def _end_with_parent() -> None:
    """End this process when the parent closes the pipe, even in the middle of a file.

    PR_SET_PDEATHSIG would not do: the signal is sent when the *thread* that started the child ends,
    which may be long before its process does.
    """
    poll = select.poll()
    poll.register(0, 0)  # no events, so that only POLLHUP is reported
    poll.poll()
    os._exit(0)


def _send_reply(
    replies: int, request: dict[str, Any], file: bytes | BinaryIO, limits: Limits
) -> None:
    """Hash a file and send the reply, followed by the pixels of its parts, if it has any."""
    reply, parts = _reply(request, file, limits)
    send(replies, reply)
    if parts:
        send_frame(replies, b"".join(part.luma.tobytes() for part in parts))


def _reply(
    request: dict[str, Any], file: bytes | BinaryIO, limits: Limits
) -> tuple[dict[str, Any], tuple[Part, ...]]:
    try:
        item = _hash(request, file, limits)
    except errors.FileRefused as error:
        return _refused(error), ()
    except MemoryError:
        return _OUT_OF_MEMORY, ()
    except EOFError:  # the parent has ended or closed the pipe
        raise
    except ValueError as error:
        return {"invalid": str(error)}, ()
    except Exception as error:  # noqa: BLE001 - report it, and be ready for the next file
        return _refused(errors.ProgramFault.of(type(error).__name__)), ()
    reply = {
        "item": {
            "media": item.media,
            "hashes": [_entry(hashed) for hashed in item.hashes],
            "frames": item.frames,
            "every": item.every,
            "reduced": item.reduced,
            "motion": item.motion,
            "parts": [_part(part) for part in item.parts],
        },
    }
    return reply, item.parts


def _refused(error: errors.FileRefused) -> dict[str, Any]:
    return {"refused": error.code, "message": str(error)}


def _hash(request: dict[str, Any], file: bytes | BinaryIO, limits: Limits) -> Item:
    variants, fast = request["variants"], request["fast"]
    level = None if request["level"] is None else Level(request["level"])
    signals = [SignalType(type) for type in request["signals"]]
    if isinstance(file, bytes):
        return hasher.hash_bytes(
            file, variants=variants, signals=signals, fast=fast, level=level, limits=limits
        )
    return hasher.hash_video(file, variants=variants, signals=signals, level=level, limits=limits)


def _part(part: Part) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "box": part.box,
        "angle": part.angle,
        "shape": part.shape,
        "time": part.time,
    }


def _entry(hashed: Hashed) -> dict[str, Any]:
    return {
        "type": hashed.signal.type,
        "value": hashed.signal.hex,
        "quality": hashed.quality,
        "variant": hashed.variant,
        "tied": hashed.tied,
        "time": hashed.time,
        "distinctive": hashed.distinctive,
    }
