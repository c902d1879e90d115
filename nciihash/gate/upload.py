"""The bytes of uploads, in memory only and within a total."""

from types import TracebackType
from typing import Self

from nciihash.gate.outcome import Reason


class UploadMemory:
    """The memory that all uploads together may take. Belongs to one event loop.

    Args:
        total: bytes.

    Attributes:
        used: bytes that uploads take at the moment.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def reserve(self, size: int) -> bool:
        """Whether `size` bytes were free; they are reserved then."""
        if self.used + size > self.total:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        self.used -= size


class Upload:
    """The bytes of one upload; a context manager that releases them.

        with gate.upload() as upload:
            upload.write(chunk)
            outcome = await gate.check(Dialect.HTTP, upload)

    `write` never fails. Once the upload is refused, it drops what it holds and what follows, so a
    caller may read a request to its end, and `check` returns the reason.

    Args:
        memory: of all uploads.
        most: the largest size, in bytes.

    Attributes:
        size: bytes received, including dropped ones.
        refused: why the bytes were dropped: `TOO_LARGE`, `QUEUE_FULL`, or the reason that `refuse`
            was called with; None if they are all here.
    """

    def __init__(self, memory: UploadMemory, most: int) -> None:
        self.size = 0
        self.refused: Reason | None = None
        self._memory = memory
        self._most = most
        self._data = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def data(self) -> bytes | bytearray:
        """The bytes received, if the upload was not refused. Not to be changed."""
        return self._data

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self.size += len(chunk)
        if self.refused is not None:
            return
        if self.size > self._most:
            self.refuse(Reason.TOO_LARGE)
        elif not self._memory.reserve(len(chunk)):
            self.refuse(Reason.QUEUE_FULL)
        else:
            self._data += chunk

    def close(self) -> None:
        """Release the bytes."""
        self._memory.release(len(self._data))
        self._data = bytearray()

    def refuse(self, reason: Reason) -> None:
        """Drop the bytes and what follows, because they are not the whole file."""
        self.refused = reason
        self.close()
