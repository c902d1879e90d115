"""Atomic, durable replacement of files: after a crash or Ctrl-C the old or the new one is whole."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` when the block ends without an exception.

    The file is written under a temporary name in the same folder with mode 0600, fsynced and
    renamed; then the folder is fsynced, so that the change is durable when the block has ended.
    After an exception the temporary file is deleted and `path` is unchanged. Only a crash can leave
    a file `.NAME.XXXXXXXX.tmp`, which nothing reads.

    Raises:
        OSError: the file cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with filename_in_errors(path):
            descriptor = os.open(temporary, flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)  # the user does not know the temporary name
        raise
    fsync_folder(path.parent)


@contextmanager
def filename_in_errors(path: Path) -> Iterator[None]:
    """Set the `filename` of an OSError raised in the block, if it has none.

    Writing, syncing and locking by file descriptor raise errors without a file name ("No space
    left on device").
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def fsync_folder(folder: Path) -> None:
    """Fsync a folder, so that files created, renamed or deleted in it stay so after a power cut.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with filename_in_errors(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
