"""Messages between the sandbox's parent and child: length-prefixed JSON over a pipe.

A file's bytes follow in frames, length-prefixed too; an empty frame ends the file. The pixels of a
reply's parts follow it in one frame: in the JSON, as base64, they would take 50 times as long.

A video may be larger than the memory, so the child requests the ranges it needs,
`{"read": [START, LENGTH]}`; each is sent as one frame.
"""

import io
import json
import os
import select
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_MESSAGE_MAX: Final = 1 << 22  # bytes
_READ: Final = 1 << 16  # bytes, the capacity of a pipe

RANGE_MAX: Final = 1 << 18  # bytes of a video per request


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write one message to a pipe: four bytes of length, big-endian, then JSON."""
    send_frame(descriptor, json.dumps(message).encode())


def send_frame(descriptor: int, data: bytes) -> None:
    """Write one frame to a blocking pipe: four bytes of length, big-endian, then the bytes."""
    remaining = memoryview(len(data).to_bytes(4) + data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def send_bytes(descriptor: int, data: bytes | memoryview, deadline: float) -> None:
    """Write one frame to a non-blocking pipe; `b""` ends a file.

    Raises:
        BrokenPipeError: the other side has closed the pipe.
        TimeoutError: the deadline has passed.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    for part in (len(data).to_bytes(4), data):
        remaining = memoryview(part)
        while remaining:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            try:
                remaining = remaining[os.write(descriptor, remaining) :]
            except BlockingIOError:  # less free space in the pipe than an atomic write needs
                continue


def receive_bytes(descriptor: int, limit: int) -> bytes | None:
    """Read all frames of a file and return its bytes; None if they exceed the memory.

    Raises:
        EOFError: the other side has closed the pipe.
        ValueError: there are more bytes than the limit.
    """
    file: io.BytesIO | None = io.BytesIO()
    total = 0
    while length := int.from_bytes(_read_exactly(descriptor, 4, None)):
        total += length
        if total > limit:
            raise ValueError("the file exceeds the limit")
        while length:
            chunk = os.read(descriptor, min(length, _READ))
            if not chunk:
                raise EOFError
            length -= len(chunk)
            try:
                if file is not None:
                    file.write(chunk)
            except MemoryError:
                file = None  # read the rest all the same, to reach the next message
    return None if file is None else file.getvalue()


class RemoteFile(io.RawIOBase):
    """A binary, seekable, read-only file whose bytes another process reads and sends on request.

    Args:
        inlet: the pipe from which bytes are received.
        outlet: the pipe to which requests are sent.
        size: the file's size in bytes.
    """

    def __init__(self, inlet: int, outlet: int, size: int) -> None:
        super().__init__()
        self._inlet = inlet
        self._outlet = outlet
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Whether the file can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether the file can be seeked: always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, clamped to the file, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = min(max(0, base + offset), self._size)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: "Buffer") -> int:
        """Request one range and read it into `buffer`; return the number of bytes.

        Raises:
            EOFError: the other side has closed the pipe.
            ValueError: it sends more than was requested.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), RANGE_MAX, self._size - self._position)
        if not wanted:
            return 0
        send(self._outlet, {"read": [self._position, wanted]})
        length = int.from_bytes(_read_exactly(self._inlet, 4, None))
        if length > wanted:
            raise ValueError("more bytes than requested")
        view[:length] = _read_exactly(self._inlet, length, None)
        self._position += length
        return length


def receive(descriptor: int, deadline: float | None = None) -> dict[str, Any]:
    """Read one message from a pipe.

    Args:
        descriptor: the pipe's.
        deadline: a time of `time.monotonic`; None for no timeout.

    Raises:
        EOFError: the other side has closed the pipe.
        TimeoutError: the deadline has passed.
        ValueError: the bytes are not a message.
    """
    length = int.from_bytes(_read_exactly(descriptor, 4, deadline))
    if length > _MESSAGE_MAX:
        raise ValueError("the message is too long")
    try:
        message = json.loads(_read_exactly(descriptor, length, deadline))
    except RecursionError:
        raise ValueError("the message is nested too deeply") from None
    if isinstance(message, dict):
        return message
    raise ValueError("the message is not a JSON object")


def receive_frame(descriptor: int, length: int, deadline: float) -> bytes:
    """Read one frame from a pipe, of a length that is known.

    Raises:
        EOFError: the other side has closed the pipe.
        TimeoutError: the deadline has passed.
        ValueError: it has another length.
    """
    if int.from_bytes(_read_exactly(descriptor, 4, deadline)) != length:
        raise ValueError("the frame has another length")
    return _read_exactly(descriptor, length, deadline)


def _read_exactly(descriptor: int, length: int, deadline: float | None) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    data = bytearray(length)
    remaining = memoryview(data)
    while remaining:
        if deadline is not None and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        count = os.readv(descriptor, [remaining])
        if not count:
            raise EOFError
        remaining = remaining[count:]
    return bytes(data)
