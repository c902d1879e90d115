"""One ICAP request and its answer on a connection."""

from collections.abc import Iterable

from nciihash.gate.dialects.icap.messages import CONTINUE, End, Event, Head, Pause, response
from nciihash.gate.dialects.icap.parser import BadRequest, RequestParser
from nciihash.gate.transport.connections import Connection


class Exchange:
    """Reads the events of one request, and writes its answer.

    Args:
        connection: of the client.
        parser: of the connection.
        tag: the ISTag of answers, with quotes (RFC 3507 section 4.7).

    Attributes:
        close: whether the connection is closed after the answer.
        answered: whether the head of the answer was written.
    """

    def __init__(self, connection: Connection, parser: RequestParser, tag: str) -> None:
        self.close = connection.draining
        self.answered = False
        self._connection = connection
        self._parser = parser
        self._tag = tag

    async def head(self) -> Head:
        """Return the head of the request.

        Raises:
            BadRequest: the request is malformed.
            TimeoutError: the client is too slow.
            ConnectionError: the connection was lost.
        """
        head = await self.event()
        if not isinstance(head, Head):
            raise BadRequest
        self.close = self.close or head.close
        return head

    async def event(self) -> Event:
        """Return the next event. Raises what `head` does."""
        while (event := self._parser.next_event()) is None:
            data = await self._connection.read_some()
            if not data:
                raise ConnectionResetError
            self._parser.feed(data)
        return event

    async def skip_body(self) -> None:
        """Read the body, but not what follows a preview. Raises what `head` does."""
        while not isinstance(await self.event(), End | Pause):
            pass

    async def proceed(self) -> None:
        """Ask for the rest of the body after its preview."""
        await self._connection.write(CONTINUE)
        self._parser.proceed()

    async def answer(
        self,
        status: int,
        fields: Iterable[tuple[str, str]] = (),
        encapsulated: str = "null-body=0",
        content: bytes = b"",
    ) -> None:
        """Send the head of the answer, and the start of what it encapsulates."""
        common = [("ISTag", self._tag)]
        if self.close:
            common.append(("Connection", "close"))
        self.answered = True
        head = response(status, [*common, *fields], encapsulated)
        await self._connection.write(head + content)

    async def write(self, data: bytes) -> None:
        """Send more of what the answer encapsulates."""
        await self._connection.write(data)
