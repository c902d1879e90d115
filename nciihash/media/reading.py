"""Read files that may be anything: a picture, a folder, a named pipe, a device, something huge.

Folders are walked through here too. No decoder is loaded here, for the process that opens a file
need not be the one that decodes it.
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

HEAD: Final = 4096  # bytes that tell a video from anything else

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
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) and not os.access(path, os.R_OK | os.X_OK):
            raise UnreadableFile("This folder cannot be read. Check its permissions.")
        _check_regular(status)
        waiting = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, os.O_RDONLY | waiting)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise NotAFile("Nothing is there. Check the path of the file.") from error
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


_REASONS: Final = {
    errno.ELOOP: "Its link leads back to itself, or through too many links. Give the file's own "
    "path.",
    errno.ENAMETOOLONG: "Its path, or the one that its link leads to, is too long. Move it to a "
    "folder with a shorter path.",
    errno.EACCES: "The file cannot be read: permission is denied. Check its permissions and those "
    "of the folders above it, or copy it to another place.",
    errno.EMFILE: "Too many files are open. Raise the limit (`ulimit -n`), or use fewer `--jobs`.",
    errno.EIO: "The file cannot be read: the disk reports an error. Use another copy of it.",
}


def unreadable(error: OSError) -> UnreadableFile:
    """Return the refusal of a file that the system does not open or read."""
    return UnreadableFile(
        _REASONS.get(error.errno or 0)
        or "The file cannot be read. Check its permissions, or copy it to another place."
    )


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(
        f"The file is larger than {limits.max_bytes >> 20} MiB. "
        "Save a smaller copy as JPEG and hash that: its hash is nearly the same."
    )


def files_in(paths: Iterable[Path]) -> Iterator[Path]:
    """Go through files, and through what is in folders, theirs included, in the order of names.

    Links to folders are not followed, since they may lead round in a circle; named pipes, sockets
    and devices in a folder are skipped. What cannot be looked at is yielded, so that whoever opens
    it is told: a folder that cannot be read, and a link that leads to nothing, to itself or to
    where permission is denied.
    """
    for start in paths:
        # a stack, since folders may be nested deeper than calls
        left = [(start, _is_folder(start))]
        while left:
            path, folder = left.pop()
            if not folder:
                yield path
                continue
            try:
                with os.scandir(path) as found:
                    entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
            except OSError:
                yield path
                continue
            kinds = [(path / entry.name, _kind(entry)) for entry in reversed(entries)]
            left += [(inside, bool(kind)) for inside, kind in kinds if kind is not None]


def _is_folder(path: Path) -> bool:
    """Whether a path leads to a folder, as far as can be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _kind(entry: "os.DirEntry[str]") -> bool | None:
    """Whether an entry is a folder or else to be opened; None if it is to be skipped.

    To be opened are files, links to files, and what the system says nothing of.
    """
    try:
        if entry.is_dir(follow_symlinks=False):
            return True
        wanted = entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return False
    return False if wanted else None


def file_name(path: str | os.PathLike[str]) -> str:
    """Write a file's name as text that any program can read, whatever bytes it has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def name_fields(path: str | os.PathLike[str]) -> dict[str, str]:
    r"""Return a file's name as the fields that all results write.

    `file` is the name as UTF-8. A name that is no UTF-8 has its wrong bytes there as `\\xNN`, which
    cannot be told from a name with these characters; then `file_bytes` holds the name's bytes in
    base64. `path_of` gives the path back.
    """
    raw = os.fsencode(path)
    try:
        return {"file": raw.decode()}
    except UnicodeDecodeError:
        return {"file": file_name(path), "file_bytes": base64.b64encode(raw).decode()}


def path_of(fields: Mapping[str, object]) -> str:
    """Return the path that `name_fields` described.

    Raises:
        KeyError: there is no `file`.
        ValueError: `file_bytes` is no base64.
    """
    if raw := fields.get("file_bytes"):
        return os.fsdecode(base64.b64decode(str(raw), validate=True))
    return str(fields["file"])
