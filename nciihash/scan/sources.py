"""Sources of the files to be scanned: a folder on this machine, or an object store by its URL.

The package fsspec opens URLs (`s3://`, `gs://`, `memory://`, `file://` …). Most kinds of URL need a
further package, which also defines where the credentials are read from.
"""

import errno
import importlib
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from nciihash.errors import ExtraMissing, FileRefused, NotAFile, SourceInvalid
from nciihash.media.reading import files_in, unreadable

# Under one of these keys a store lists the version of an object. The first one found is used.
_VERSIONS: Final = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created")
_CHUNK: Final = 1 << 20  # bytes
_OURS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # errors that are not the file's fault
_LINKS: Final = {errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a source lists: its name there, its size in bytes, and its version."""

    name: str
    size: int
    version: str


class Folder:
    """A folder on this machine, or a single file."""

    def __init__(self, path: Path) -> None:
        self.root = path

    def entries(self) -> Iterator[SourceFile]:
        """Yield all files, including those in subfolders, in the order of their names.

        Raises:
            SourceInvalid: the folder does not exist.
        """
        if not self.root.exists():
            raise SourceInvalid(f"There is nothing at {self.root}. Check the path.")
        for path in files_in([self.root]):
            try:
                status = path.stat()
            except OSError:  # reported when the file is opened
                yield SourceFile(str(path), 0, "")
                continue
            yield SourceFile(str(path), status.st_size, str(status.st_mtime_ns))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return Path(name).open("rb")

    def refusal(self, error: OSError) -> FileRefused | None:
        """Return why a file cannot be read; None if this process lacks resources."""
        return None if error.errno in _OURS else _refusal(error)

    def can_open(self, name: str) -> bool:
        """Whether a file exists and can be opened."""
        return _can_open(self, name)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Yield the path of a file."""
        yield Path(name)


class Objects:
    """The objects in an object store under a URL.

    Raises:
        ExtraMissing: a package that this kind of URL needs is not installed.
        SourceInvalid: the kind of URL is unknown.
    """

    def __init__(self, url: str) -> None:
        if find_spec("fsspec") is None:
            raise ExtraMissing(
                "Object stores need fsspec, which is not installed: "
                'pip install "nciihash[stores]", and s3fs for s3:// or gcsfs for gs://.'
            )
        core = importlib.import_module("fsspec.core")
        try:
            self._files: Any
            self._files, self.root = core.url_to_fs(url)
        except ImportError as error:
            raise ExtraMissing(f"{url.partition(':')[0]}:// needs a package. {error}") from None
        except ValueError as error:
            raise SourceInvalid(f"{url.partition(':')[0]}:// cannot be opened. {error}") from None

    def entries(self) -> Iterator[SourceFile]:
        """Yield all objects in the order of their names.

        Raises:
            SourceInvalid: there are none.
        """
        listing = self._files.find(self.root, detail=True)
        if not listing:
            raise SourceInvalid("There is nothing at this URL. Check it.")
        for name in sorted(listing):
            details = listing[name]
            if details.get("type") == "other" and _is_special(details.get("mode", 0)):
                continue
            if details.get("islink") and self._files.isdir(name):
                continue  # as in a `Folder`
            version = next((str(details[key]) for key in _VERSIONS if details.get(key)), "")
            yield SourceFile(name, int(details.get("size") or 0), version)

    def refusal(self, error: OSError) -> FileRefused | None:
        """Return why an object cannot be read; None if the store itself may have failed."""
        of_object = isinstance(error, FileNotFoundError | PermissionError) or error.errno in _LINKS
        return _refusal(error) if of_object else None

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading."""
        opened: BinaryIO = self._files.open(name, "rb")
        return opened

    def can_open(self, name: str) -> bool:
        """Whether an object exists and can be opened."""
        return _can_open(self, name)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Download an object to a private temporary folder, yield its path, and delete it.

        Raises:
            NotAFile, UnreadableFile: the object is gone, or this user may not read it.
            OSError: the download failed.
        """
        with tempfile.TemporaryDirectory(prefix="nciihash-") as folder:
            path = Path(folder) / "object"
            with path.open("wb") as copy:
                try:
                    with self.open(name) as source:
                        shutil.copyfileobj(source, copy, _CHUNK)
                except OSError as error:
                    if (refusal := self.refusal(error)) is None:
                        raise
                    raise refusal from None
            yield path


ScanSource: TypeAlias = Folder | Objects


def open_source(source: str) -> ScanSource:
    """Return the source at a path or a URL.

    Raises:
        ExtraMissing, SourceInvalid: as `Objects` does.
    """
    return Objects(source) if "://" in source else Folder(Path(source))


def _is_special(mode: int) -> bool:
    """Whether a file's mode is that of a folder, a pipe, a socket or a device."""
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode))


def _refusal(error: OSError) -> FileRefused:
    if isinstance(error, FileNotFoundError):
        return NotAFile("The file was listed, but it does not exist any more.")
    return unreadable(error)


def _can_open(source: ScanSource, name: str) -> bool:
    try:
        source.open(name).close()
    except OSError:
        return False
    return True
