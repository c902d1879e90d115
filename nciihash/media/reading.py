"""Read files that may be anything: a picture, a folder, a named pipe, a device, something huge.

Folders are walked through here too. No decoder is loaded here, for the process that opens a file
need not be the one that decodes it.
"""

import io
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from nciihash.errors import NotAFile, TooLarge, UnreadableFile
from nciihash.media.limits import LIMITS, Limits

HEAD: Final = 512  # bytes that tell a video from anything else

_CHUNK: Final = 1 << 20  # bytes


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[io.FileIO, int]]:
    """Open a regular file for reading, and tell its size in bytes.

    Raises:
        NotAFile: nothing is there, or a directory, a named pipe or a device.
        UnreadableFile: the system refuses to open or read it, in the block as well.
    """
    try:
        path = Path(path)
        # Opening a device may do something, hence the look before it. What has taken the file's
        # place since then is opened without waiting, as a named pipe would have us, and seen after.
        _check_regular(path.stat())
        waiting = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, os.O_RDONLY | waiting)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise NotAFile("Nothing is there. Check the path of the file.") from error
    except OSError as error:
        raise _unreadable() from error
    with io.FileIO(descriptor, "rb") as file:
        try:
            status = os.fstat(descriptor)
            _check_regular(status)
            yield file, status.st_size
        except OSError as error:
            raise _unreadable() from error


def read_path(
    path: str | os.PathLike[str], *, limits: Limits = LIMITS
) -> Generator[bytes, None, None]:
    """Read a regular file piece by piece; it is opened with the first one.

    Args:
        path: the file.
        limits: `max_bytes` holds.

    Yields:
        What follows, at most 1 MiB, never empty.

    Raises:
        NotAFile: nothing is there, or a directory, a named pipe or a device.
        UnreadableFile: the system refuses to open or read it.
        TooLarge: more bytes than the limits allow.
    """
    with opened(path) as (file, size):
        if size > limits.max_bytes:
            raise _too_large(limits)
        yield from read_file(file, limits=limits)


def read_file(file: BinaryIO, *, limits: Limits = LIMITS) -> Iterator[bytes]:
    """Read an open binary file from where it stands, piece by piece, at most 1 MiB each.

    Raises:
        TooLarge: more bytes than the limits allow.
        TypeError: it was opened as text.
        OSError: the system refuses to read it.
    """
    left = limits.max_bytes + 1
    while chunk := file.read(min(left, _CHUNK)):
        if not isinstance(chunk, bytes):
            raise TypeError("open the file in binary mode")
        left -= len(chunk)
        if left <= 0:
            raise _too_large(limits)
        yield chunk


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise NotAFile("This is a folder. Give the paths of the files inside, or --recursive.")
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile("This is not a regular file. Give the path of a picture.")


def check_video_size(size: int, limits: Limits) -> None:
    """Refuse a video of more bytes than `video_bytes`.

    Raises:
        TooLarge: it has.
    """
    if size > limits.video_bytes:
        raise TooLarge(
            f"The video is larger than {limits.video_bytes >> 30} GiB. Export it at a smaller size "
            "and hash that: its hashes are nearly the same."
        )


def _unreadable() -> UnreadableFile:
    return UnreadableFile(
        "The file cannot be read. Check its permissions, or copy it to another place."
    )


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(
        f"The file is larger than {limits.max_bytes >> 20} MiB. "
        "Save a smaller copy as JPEG and hash that: its hash is nearly the same."
    )


def files_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Go through files, and through what is in folders, theirs included, in the order of names.

    Links to folders are not followed, since they may lead round in a circle. A folder that cannot
    be read is given itself, so that whoever opens it is told.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            yield path
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from files_in([path / entry.name])
            elif entry.is_file():
                yield path / entry.name


def file_name(path: Path) -> str:
    """Write a file's name as text that any program can read, whatever bytes it has."""
    return os.fsencode(path).decode(errors="backslashreplace")
