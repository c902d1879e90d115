"""Messages between the sandbox and its child: JSON with its length before it, over a pipe."""

import json
import os
import select
import time
from typing import Any, Final

_MESSAGE_MAX: Final = 1 << 22  # bytes


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write one message to a pipe: four bytes of length, big-endian, then JSON."""
    text = json.dumps(message).encode()
    data = len(text).to_bytes(4) + text
    while data:
        data = data[os.write(descriptor, data) :]


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
