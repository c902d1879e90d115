"""Read paths that may be anything: a picture, a folder, a named pipe, a device, a huge file.

Folders are walked here too. No decoder is loaded here, since the process that opens a file need not
be the one that decodes it.
"""

import base64
import errno
import io
import os
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from nciihash.errors import NotAFile, TooLarge, UnreadableFile
from nciihash.media.limits import LIMITS, Limits

HEAD: Final = 4096  # bytes needed to detect a video

_CHUNK: Final = 1 << 20  # bytes
_UNITS: Final = (("GiB", 30), ("MiB", 20), ("KiB", 10), ("bytes", 0))


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[tuple[io.FileIO, int]]:
    """Open a regular file for reading; yield it and its size in bytes.

    Raises:
        NotAFile: the path does not exist, or is a directory, a named pipe or a device.
        UnreadableFile: the system cannot open it, or an `OSError` is raised in the block.
    """
    try:
        path = Path(path)
        # Opening a device may have effects, so check the type first. The file may be replaced after
        # that check: open without blocking, as a named pipe would, and check again.
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
            raise UnreadableFile("This folder cannot be read. Check its permissions.")
        _check_regular(status)
        flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, os.O_RDONLY | flags)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise NotAFile("This file does not exist. Check its path.") from error
    except OSError as error:
        raise unreadable(error) from error
    with io.FileIO(descriptor, "rb") as file:
        try:
            status = os.fstat(descriptor)
            _check_regular(status)
            yield file, status.st_size
        except OSError as error:
            raise unreadable(error) from error


def read_path(
    path: str | os.PathLike[str], *, limits: Limits = LIMITS
) -> Generator[bytes, None, None]:
    """Read a regular file in chunks; it is opened with the first one.

    Args:
        path: the file.
        limits: `max_bytes` applies.

    Yields:
        Chunks of at most 1 MiB, never empty.

    Raises:
        NotAFile: the path does not exist, or is a directory, a named pipe or a device.
        UnreadableFile: the system cannot open or read it.
        TooLarge: more bytes than the limits allow.
    """
    with open_file(path) as (file, size):
        check_size(size, limits)
        yield from read_file(file, limits=limits)


def read_file(file: BinaryIO, *, limits: Limits = LIMITS) -> Iterator[bytes]:
    """Yield chunks of an open binary file from its current position, at most 1 MiB each.

    Raises:
        TooLarge: more bytes than the limits allow.
        TypeError: it was opened in text mode.
        OSError: the system cannot read it.
    """
    size = 0
    while chunk := file.read(min(limits.max_bytes + 1 - size, _CHUNK)):
        if not isinstance(chunk, bytes):
            raise TypeError("open the file in binary mode")
        size += len(chunk)
        check_size(size, limits)
        yield chunk


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise NotAFile("This is a folder. Pass the paths of the files inside, or --recursive.")
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile("This is not a regular file. Pass the path of a picture or a video.")


def check_size(size: int, limits: Limits) -> None:
    """Check the size in bytes of a file that is not a video against `max_bytes`.

    Raises:
        TooLarge: it is larger.
    """
    if size > limits.max_bytes:
        raise TooLarge(
            f"The file is larger than {_amount(limits.max_bytes)}. "
            "Save a smaller copy as JPEG and hash that; its fingerprint is nearly the same."
        )


def check_video_size(size: int, limits: Limits) -> None:
    """Check a video's size in bytes against `video_bytes`.

    Raises:
        TooLarge: it is larger.
    """
    if size > limits.video_bytes:
        raise TooLarge(
            f"The video is larger than {_amount(limits.video_bytes)}. Export it at a smaller size "
            "and hash that; its fingerprints are nearly the same."
        )


def _amount(size: int) -> str:
    """Return a number of bytes in GiB, MiB or KiB."""
    unit, shift = next((u, s) for u, s in _UNITS if size >= 1 << s or not s)
    return f"{size / (1 << shift):.4g} {unit}"


_REASONS: Final = {
    errno.ELOOP: "The path is a link that points to itself, or through too many links. Pass the "
    "file's own path.",
    errno.ENAMETOOLONG: "The file's path, or the path that its link points to, is too long. Move "
    "it to a folder with a shorter path.",
    errno.EACCES: "The file cannot be read: permission denied. Check its permissions and those of "
    "its folders, or copy it to another folder.",
    errno.EMFILE: "Too many files are open. Raise the limit (`ulimit -n`), or use fewer `--jobs`.",
    errno.EIO: "The file cannot be read: the disk reports an error. Use another copy of it.",
}


def unreadable(error: OSError) -> UnreadableFile:
    """Return the error for a file that the system cannot open or read."""
    return UnreadableFile(
        _REASONS.get(error.errno or 0)
        or "The file cannot be read. Check its permissions, or copy it to another folder."
    )


def files_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files, and the files in folders and their subfolders, ordered by name.

    Links to folders are not followed, since they may form a cycle. Named pipes, sockets and devices
    in a folder are skipped. Paths that cannot be examined are yielded, so that opening them raises
    the error: unreadable folders, and links that are broken, cyclic or denied.
    """
    for start in paths:
        # a stack, since folders may be nested deeper than the recursion limit
        stack = [(start, _is_folder(start))]
        while stack:
            path, is_folder = stack.pop()
            if not is_folder:
                yield path
                continue
            try:
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
            except OSError:
                yield path
                continue
            children = [(path / entry.name, _is_walked(entry)) for entry in reversed(entries)]
            stack += [(child, walked) for child, walked in children if walked is not None]


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder; False if it cannot be examined."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_walked(entry: "os.DirEntry[str]") -> bool | None:
    """Return True for a folder, False for a path to yield, None for one to skip.

    Paths to yield are files, links to files, broken links, and entries that cannot be examined.
    """
    try:
        if entry.is_dir(follow_symlinks=False):
            return True
        wanted = entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return False
    return False if wanted else None


def file_name(path: str | os.PathLike[str]) -> str:
    r"""Return a file's name as valid UTF-8 text; bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def name_fields(path: str | os.PathLike[str]) -> dict[str, str]:
    r"""Return a file's name as the fields written in all results.

    `file` is the name as text. If the name is not UTF-8, its invalid bytes are written there as
    `\\xNN`, which is ambiguous; then `file_bytes` is the name's bytes in base64. `path_of` reverses
    this.
    """
    raw = os.fsencode(path)
    try:
        return {"file": raw.decode()}
    except UnicodeDecodeError:
        return {"file": file_name(path), "file_bytes": base64.b64encode(raw).decode()}


def path_of(fields: Mapping[str, object]) -> str:
    """Return the path described by `name_fields`.

    Raises:
        KeyError: there is no `file`.
        ValueError: `file_bytes` is not base64.
    """
    if raw := fields.get("file_bytes"):
        return os.fsdecode(base64.b64decode(str(raw), validate=True))
    return str(fields["file"])
