"""Messages between the sandbox and its child: JSON with its length before it, over a pipe.

A file's bytes follow in frames, each with its length before it; a frame of no bytes ends them.
"""

import io
import json
import os
import select
import time
from typing import Any, Final

_MESSAGE_MAX: Final = 1 << 22  # bytes
_READ: Final = 1 << 16  # bytes, what a pipe holds


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
    message = json.loads(_exactly(descriptor, length, deadline))
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
