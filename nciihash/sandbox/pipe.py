"""Messages between the sandbox and its child: JSON with its length before it, over a pipe.

A file's bytes follow in frames, each with its length before it; a frame of no bytes ends them. Of a
video, the child asks for the pieces that it needs, for it may be larger than any memory:
`{"read": [START, LENGTH]}`, which is answered with one frame.
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
_READ: Final = 1 << 16  # bytes, what a pipe holds

PIECE: Final = 1 << 18  # bytes of a video asked for at once


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write one message to a pipe: four bytes of length, big-endian, then JSON."""
    text = json.dumps(message).encode()
    data = len(text).to_bytes(4) + text
    while data:
        data = data[os.write(descriptor, data) :]


def send_bytes(descriptor: int, data: bytes, deadline: float) -> None:
    """Write one frame to a pipe that does not block; `b""` ends a file.

    Raises:
        BrokenPipeError: the other side has closed the pipe.
        TimeoutError: the deadline has passed.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    for part in (len(data).to_bytes(4), data):
        left = memoryview(part)
        while left:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # less room than the system takes at once
                continue


def receive_bytes(descriptor: int, limit: int) -> bytes | None:
    """Read a file's frames to their end, and join them; None where memory does not suffice.

    Raises:
        EOFError: the other side has closed the pipe.
        ValueError: more bytes than the limit.
    """
    file: io.BytesIO | None = io.BytesIO()
    total = 0
    while length := int.from_bytes(_exactly(descriptor, 4, None)):
        total += length
        if total > limit:
            raise ValueError("a file of absurd length")
        while length:
            chunk = os.read(descriptor, min(length, _READ))
            if not chunk:
                raise EOFError
            length -= len(chunk)
            try:
                if file is not None:
                    file.write(chunk)
            except MemoryError:
                file = None  # and read on, so that the next message is found
    return None if file is None else file.getvalue()


class Remote(io.RawIOBase):
    """A file of which another process reads the pieces that are asked for; binary and seekable.

    Args:
        inlet: the pipe on which pieces come.
        outlet: the pipe on which they are asked for.
        size: of the file, in bytes.
    """

    def __init__(self, inlet: int, outlet: int, size: int) -> None:
        super().__init__()
        self._inlet = inlet
        self._outlet = outlet
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it has places."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, within the file or at its end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = min(max(0, base + offset), self._size)
        return self._place

    def tell(self) -> int:
        """Tell the place."""
        return self._place

    def readinto(self, buffer: "Buffer") -> int:
        """Read one piece.

        Raises:
            EOFError: the other side has closed the pipe.
            ValueError: it sends more than was asked for.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), PIECE, self._size - self._place)
        if not wanted:
            return 0
        send(self._outlet, {"read": [self._place, wanted]})
        length = int.from_bytes(_exactly(self._inlet, 4, None))
        if length > wanted:
            raise ValueError("a piece of absurd length")
        piece = _exactly(self._inlet, length, None)
        view[:length] = piece
        self._place += length
        return length


def receive(descriptor: int, deadline: float | None = None) -> dict[str, Any]:
    """Read one message from a pipe.

    Args:
        descriptor: the pipe's.
        deadline: on the clock of `time.monotonic`; None waits for ever.

    Raises:
        EOFError: the other side has closed the pipe.
        TimeoutError: the deadline has passed.
        ValueError: not a message.
    """
    length = int.from_bytes(_exactly(descriptor, 4, deadline))
    if length > _MESSAGE_MAX:
        raise ValueError("a message of absurd length")
    try:
        message = json.loads(_exactly(descriptor, length, deadline))
    except RecursionError:
        raise ValueError("a message of absurd depth") from None
    if isinstance(message, dict):
        return message
    raise ValueError("a message is an object")


def _exactly(descriptor: int, length: int, deadline: float | None) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    data = b""
    while len(data) < length:
        if deadline is not None and not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        chunk = os.read(descriptor, length - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
