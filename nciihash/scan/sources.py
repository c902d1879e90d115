"""Where files to be scanned lie: a folder of this machine, or an object store by its URL.

URLs are opened by the package fsspec (`s3://`, `gs://`, `memory://`, `file://` …), which asks for a
package of its own for most of them and takes keys from where that looks for them.
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

# what stores tell of an object's version; the first that is there is taken
_MARKS: Final = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created")
_CHUNK: Final = 1 << 20  # bytes
_OURS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # no fault of the file that is opened
_LINKS: Final = {errno.ELOOP, errno.ENAMETOOLONG}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a store lists: its name there, its size in bytes, and a mark of its version."""

    name: str
    size: int
    mark: str


class Folder:
    """A folder, or a single file, of this machine."""

    def __init__(self, path: Path) -> None:
        self.root = path

    def entries(self) -> Iterator[SourceFile]:
        """List all files, folders in folders included, in the order of names.

        Raises:
            SourceInvalid: nothing is there.
        """
        if not self.root.exists():
            raise SourceInvalid(f"There is nothing at {self.root}. Check the path.")
        for path in files_in([self.root]):
            try:
                status = path.stat()
            except OSError:  # whoever opens it is told why
                yield SourceFile(str(path), 0, "")
                continue
            yield SourceFile(str(path), status.st_size, str(status.st_mtime_ns))

    def opened(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return Path(name).open("rb")

    def refusal(self, error: OSError) -> FileRefused | None:
        """Say why one file cannot be read; None if it is this process that lacks something."""
        return None if error.errno in _OURS else _refusal(error)

    def sees(self, name: str) -> bool:
        """Tell whether a file is there and can be opened."""
        return _sees(self, name)

    @contextmanager
    def at_hand(self, name: str) -> Iterator[Path]:
        """Give a file's path on this machine."""
        yield Path(name)


class Objects:
    """What lies behind a URL.

    Raises:
        ExtraMissing: a package that this kind of URL needs is not installed.
        SourceInvalid: an unknown kind of URL.
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
        """List all objects in the order of names.

        Raises:
            SourceInvalid: nothing is there.
        """
        found = self._files.find(self.root, detail=True)
        if not found:
            raise SourceInvalid("There is nothing behind this URL. Check it.")
        for name in sorted(found):
            told = found[name]
            if told.get("type") == "other" and _is_special(told.get("mode", 0)):
                continue
            if told.get("islink") and self._files.isdir(name):
                continue  # as in a `Folder`
            mark = next((str(told[key]) for key in _MARKS if told.get(key)), "")
            yield SourceFile(name, int(told.get("size") or 0), mark)

    def refusal(self, error: OSError) -> FileRefused | None:
        """Say why one object cannot be read; None if the store itself may be what fails."""
        theirs = isinstance(error, FileNotFoundError | PermissionError) or error.errno in _LINKS
        return _refusal(error) if theirs else None

    def opened(self, name: str) -> BinaryIO:
        """Open an object for reading."""
        opened: BinaryIO = self._files.open(name, "rb")
        return opened

    def sees(self, name: str) -> bool:
        """Tell whether an object is there and can be opened."""
        return _sees(self, name)

    @contextmanager
    def at_hand(self, name: str) -> Iterator[Path]:
        """Fetch an object into a folder that only this user reads, and delete it afterwards.

        Raises:
            NotAFile, UnreadableFile: it is gone, or not to be read by this user.
            OSError: it cannot be fetched now.
        """
        with tempfile.TemporaryDirectory(prefix="nciihash-") as folder:
            path = Path(folder) / "object"
            with path.open("wb") as copy:
                try:
                    with self.opened(name) as source:
                        shutil.copyfileobj(source, copy, _CHUNK)
                except OSError as error:
                    if (refusal := self.refusal(error)) is None:
                        raise
                    raise refusal from None
            yield path


ScanSource: TypeAlias = Folder | Objects


def store(source: str) -> ScanSource:
    """Tell a URL from a path.

    Raises:
        ExtraMissing, SourceInvalid: as `Objects` does.
    """
    return Objects(source) if "://" in source else Folder(Path(source))


def _is_special(mode: int) -> bool:
    """Whether a file's mode is that of a folder, a pipe, a socket or a device."""
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode))


def _refusal(error: OSError) -> FileRefused:
    if isinstance(error, FileNotFoundError):
        return NotAFile("Nothing is there any more. It was when it was listed.")
    return unreadable(error)


def _sees(store: ScanSource, name: str) -> bool:
    try:
        store.opened(name).close()
    except OSError:
        return False
    return True
