"""The dialect of ClamAV's daemon clamd, over TCP or a Unix socket.

A match is answered as a virus: `stream: NCII.match.strong FOUND`, `NCII.match.likely` or, where the
policy says `review_as = "block"`, `NCII.review`. A file that cannot be hashed is `OK`, or
`NCII.unreadable.REASON FOUND` if the dialect fails closed for such files: they will not become
readable, so this is final. A file that could not be checked is `OK`, or `stream: SENTENCE ERROR` if
the dialect fails closed: mail servers then ask the sender to try again later. Platforms differ in
what they do about `ERROR`; see `examples/gate/`.

A file over the limits is read to its end before it is answered, since some clients, when they
cannot write, send the rest of a file as another stream.

The files of emails are checked one by one, and the strictest outcome is answered.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

from nciihash import __version__
from nciihash.gate import mail
from nciihash.gate.answers import detail, strictest
from nciihash.gate.clamd_protocol import (
    ANSWERED,
    ClamdProtocol,
    Command,
    Data,
    EndOfStream,
    Event,
    Refused,
)
from nciihash.gate.config import DialectConfig
from nciihash.gate.connections import Connection, StreamLimits, StreamServer
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.gate.upload import Upload
from nciihash.signals import Band

STREAM_MAX: Final = 1 << 32  # bytes of a stream, read to its end although the gate's limit is less
PACKET_SECONDS: Final = 0.2  # after which a command without prefix and newline is complete
TIMED_OUT: Final = b"COMMAND READ TIMED OUT\n"  # clamd sends it with a newline for all commands


async def serve(gate: Gate, config: DialectConfig) -> StreamServer:
    """Listen, and answer commands until the server is closed.

    Raises:
        OSError: the address is taken or invalid, or the certificate cannot be read.
    """
    dialect = _Clamd(gate)
    server = StreamServer(config.listen, dialect.handle, StreamLimits.of(gate.config.limits))
    await server.start()
    return server


def answer(outcome: Outcome) -> str:
    """Return clamd's answer about a stream."""
    if not outcome.stop:
        return "stream: OK"
    match outcome.decision:
        case Decision.UNCHECKED:
            return f"stream: {detail(outcome)} ERROR"
        case Decision.UNREADABLE:
            name = f"unreadable.{outcome.reason}"
        case Decision.REVIEW:
            name = "review"
        case _:
            name = f"match.{_band(outcome)}"
    return f"stream: NCII.{name} FOUND"


async def check(gate: Gate, upload: Upload) -> Outcome:
    """Check a file, or all pictures and videos of an email."""
    if upload.refused is not None or not mail.is_message(upload.data):
        return await gate.check(Dialect.CLAMD, upload)
    outcomes = []
    files = mail.files(upload.data)
    while True:
        with gate.upload() as part:
            try:
                content = await asyncio.to_thread(next, files, None)
            except mail.TooComplex:
                part.refused = Reason.TOO_LARGE
                outcomes.append(await gate.check(Dialect.CLAMD, part))
                break
            if content is None:
                break
            part.write(content)
            outcomes.append(await gate.check(Dialect.CLAMD, part))
        if outcomes[-1].decision is Decision.BLOCK:
            break
    return strictest(outcomes or [Outcome(Decision.CLEAR, Reason.NO_MATCH)])


class _Clamd:
    """The handler of connections.

    Args:
        gate: checks streams.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._scans = 0  # streams that are being received or checked

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
        with self._gate.upload() as upload:
            while True:
                match await _next(connection, protocol):
                    case Data(content):
                        upload.write(content)
                    case EndOfStream():
                        break
                    case Refused(text):
                        await connection.write(protocol.reply(text))
                        return True
            outcome = await check(self._gate, upload)
        await connection.write(protocol.reply(answer(outcome)))
        return False

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


def _band(outcome: Outcome) -> Band:
    found = outcome.result.found if outcome.result else []
    bands = {match.band for _, match in found}
    return Band.STRONG if Band.STRONG in bands else Band.LIKELY
