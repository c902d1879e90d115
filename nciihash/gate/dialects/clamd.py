"""The dialect of ClamAV's daemon clamd, over TCP or a Unix socket.

A match is answered as a virus: `stream: NCII.match.strong.REFERENCE FOUND`, `NCII.match.likely` or,
where the policy says `review_as = "block"`, `NCII.review`. The reference is that of the decision.

If the dialect fails closed, so is a file that cannot be hashed (`NCII.unreadable.REASON`) or that
could not be checked (`NCII.unchecked.REASON`): ownCloud Infinite Scale and many versions of
Nextcloud store a file for which clamd answers `ERROR`. An email that could not be checked is
answered with `stream: SENTENCE ERROR` instead: mail servers then ask the sender to try again later,
while a virus is final.

A file over the limits is read to its end before it is answered, since Nextcloud, when it cannot
write, sends the rest of a file as another stream. The files of emails are checked one by one, and
the strictest outcome is answered.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

from nciihash import __version__
from nciihash.gate.config import DialectConfig
from nciihash.gate.dialects import mail
from nciihash.gate.dialects.answers import detail, strictest, threat
from nciihash.gate.dialects.clamd_protocol import (
    ANSWERED,
    ClamdProtocol,
    Command,
    Data,
    EndOfStream,
    Event,
    Refused,
)
from nciihash.gate.gate import Gate
from nciihash.gate.logs import RateLimitedLog, describe
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.transport.connections import Connection, StreamLimits
from nciihash.gate.transport.stream_server import StreamServer

STREAM_MAX: Final = 1 << 32  # bytes of a stream, read to its end although the gate's limit is less
PARSED_AT_ONCE: Final = 2  # emails; decoding one takes up to three times its size
PACKET_SECONDS: Final = 0.2  # after which a command without prefix and newline is complete
TIMED_OUT: Final = b"COMMAND READ TIMED OUT\n"  # clamd sends it with a newline for all commands

_log: Final = logging.getLogger("nciihash.gate")


async def serve(gate: Gate, config: DialectConfig) -> StreamServer:
    """Listen, and answer commands until the server is closed.

    Raises:
        OSError: the address is taken or invalid, or the certificate cannot be read.
    """
    dialect = _Clamd(gate)
    server = StreamServer(config.listen, dialect.handle, StreamLimits.of(gate.config.limits))
    await server.start()
    return server


def answer(outcome: Outcome, *, message: bool) -> str:
    """Return clamd's answer about a stream; `message` is whether it is an email."""
    if not outcome.stop:
        return "stream: OK"
    if message and outcome.decision is Decision.UNCHECKED:
        return f"stream: {detail(outcome)} ERROR"
    return f"stream: {threat(outcome)} FOUND"


class _Clamd:
    """The handler of connections.

    Args:
        gate: checks streams.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._scans = 0  # streams that are being received or checked
        self._errors = RateLimitedLog(_log)
        self._parsing = asyncio.Semaphore(PARSED_AT_ONCE)

    async def handle(self, connection: Connection) -> None:
        """Answer the commands of a connection."""
        protocol = ClamdProtocol(STREAM_MAX)
        try:
            while not protocol.closed:
                if not protocol.buffered:
                    if not (data := await connection.read_some()):
                        return
                    protocol.receive(data)
                with connection.busy():
                    refused = await self._command(connection, protocol)
                if refused:
                    await connection.linger()
        except TimeoutError:
            with suppress(TimeoutError, ConnectionError):
                await connection.write(TIMED_OUT)
            raise

    async def _command(self, connection: Connection, protocol: ClamdProtocol) -> bool:
        """Answer a command; return whether it was refused."""
        match await _next(connection, protocol):
            case Command("INSTREAM"):
                self._scans += 1
                try:
                    return await self._stream(connection, protocol)
                finally:
                    self._scans -= 1
            case Command(name):
                await connection.write(protocol.reply(self._text(name)))
            case Refused(text):
                await connection.write(protocol.reply(text))
                return True
        return False

    async def _stream(self, connection: Connection, protocol: ClamdProtocol) -> bool:
        start = b""
        with self._gate.upload() as upload:
            while True:
                match await _next(connection, protocol):
                    case Data(content):
                        start += content[: mail.START - len(start)]
                        upload.write(content)
                    case EndOfStream():
                        break
                    case Refused(text):
                        await connection.write(protocol.reply(text))
                        return True
            message = mail.is_message(start)
            if message and upload.refused is None:
                outcome = await self._check_message(upload.data)
            else:
                outcome = await self._gate.check(Dialect.CLAMD, upload)
        await connection.write(protocol.reply(answer(outcome, message=message)))
        return False

    async def _check_message(self, data: bytes | bytearray) -> Outcome:
        """Check the pictures and videos of an email; return the strictest outcome."""
        outcomes: list[Outcome] = []
        files = mail.files(data)
        more = True
        while more:
            with self._gate.upload() as part:
                try:
                    async with self._parsing:
                        content = await asyncio.to_thread(next, files, None)
                except mail.TooComplex:
                    part.refused, more = Reason.TOO_LARGE, False
                except Exception as error:  # noqa: BLE001 - the caller needs an answer
                    self._errors.error("An email could not be parsed: %s", describe(error))
                    part.refused, more = Reason.INTERNAL, False
                else:
                    if content is None:
                        break
                    part.write(content)
                    content = None
                outcomes.append(await self._gate.check(Dialect.CLAMD, part))
            more = more and outcomes[-1].decision is not Decision.BLOCK
        return strictest(outcomes or [Outcome(Decision.CLEAR, Reason.NO_MATCH)])

    def _text(self, command: str) -> str:
        match command:
            case "PING":
                return "PONG"
            case "VERSION":
                return self._version()
            case "VERSIONCOMMANDS":
                return f"{self._version()}| COMMANDS: {' '.join(ANSWERED)}"
            case _:
                return self._stats()

    def _version(self) -> str:
        """Return the version in clamd's form: program, number of the bank, and its date."""
        state = self._gate.bank.state()
        program = f"nciihash-gate {__version__}"
        if state.as_of is None:
            return program
        number = int(state.version[:8], 16)  # programs that parse it expect an integer
        return f"{program}/{number}/{time.asctime(time.gmtime(state.as_of))}"

    def _stats(self) -> str:
        """Return statistics in the form that `clamdtop` reads."""
        memory = self._gate.memory
        used, total = (f"{size / 2**20:.3f}M" for size in (memory.used, memory.total))
        limits = self._gate.config.limits
        return (
            "POOLS: 1\n\nSTATE: VALID PRIMARY\n"
            f"THREADS: live {self._scans}  idle 0 max {limits.connections}"
            f" idle-timeout {limits.idle_seconds:.0f}\n"
            "QUEUE: 0 items\n\n"
            "MEMSTATS: heap N/A mmap N/A used N/A free N/A releasable N/A"
            f" pools 1 pools_used {used} pools_total {total}\nEND"
        )


async def _next(connection: Connection, protocol: ClamdProtocol) -> Event | None:
    """Return the next event; None if a command has none, and no other has begun.

    Raises:
        TimeoutError: the peer is too slow.
        ConnectionError: the peer ended the connection within a command.
    """
    while (event := protocol.next_event()) is None:
        if protocol.waiting:
            return None
        try:
            data = await connection.read_some(PACKET_SECONDS if protocol.unprefixed else None)
        except TimeoutError:
            if not protocol.unprefixed:
                raise
            protocol.end_packet()
            continue
        if data:
            protocol.receive(data)
        elif protocol.unprefixed:
            protocol.end_packet()
        else:
            raise ConnectionResetError
    return event
