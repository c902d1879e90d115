"""The replies of other servers, read up to a bound."""


class ReplyTooLong(Exception):
    """The reply of another server has more bytes than its reader allows."""


class BoundedBody:
    """The body of another server's reply. It does no I/O, so that any client can fill it.

    Args:
        most: bytes that are allowed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._body = bytearray()

    def add(self, part: bytes) -> None:
        """Add what arrived.

        Raises:
            ReplyTooLong: the bound is passed.
        """
        self._body += part
        if len(self._body) > self._most:
            raise ReplyTooLong

    def __bytes__(self) -> bytes:
        """Return what has arrived so far."""
        return bytes(self._body)
