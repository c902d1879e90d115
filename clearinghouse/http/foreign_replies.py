"""Bodies of other servers' responses, read up to a limit."""


class ReplyTooLong(Exception):
    """The response of another server is longer than its reader allows."""


class BoundedBody:
    """The body of another server's response. Does no I/O, so it works with any HTTP client.

    Args:
        most: the maximum length, in bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._body = bytearray()

    def add(self, part: bytes) -> None:
        """Append a part of the body.

        Raises:
            ReplyTooLong: the body is longer than the maximum.
        """
        self._body += part
        if len(self._body) > self._most:
            raise ReplyTooLong

    def __bytes__(self) -> bytes:
        """Return what was added so far."""
        return bytes(self._body)
