r"""clamd's protocol without input or output (sans-I/O): bytes in, events and replies out.

Follows clamd 1.4 (clamd(8), and its `server-th.c` and `session.c`). A command has a prefix and the
terminator that the prefix names: `nPING\n` or `zPING\0`; without a prefix it ends with a newline
or with its packet. Replies have the terminator of their command. A connection is closed after one
command, except after `IDSESSION`: until `END`, commands are then numbered from 1, and replies start
with the number.

`INSTREAM` is followed by chunks, each a length (32 bits, big-endian) and as many bytes, until the
length 0. Without a prefix, clamd does not accept `INSTREAM` and `VERSIONCOMMANDS`; they are
accepted here if a newline ends them.

Commands that name files or pass file descriptors are refused: this process reads no files of the
machine. So are those that control clamd.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

COMMAND_MAX: Final = 4096 + 16  # bytes: a path (PATH_MAX), and the name of a command
ANSWERED: Final = (
    *("PING", "VERSION", "VERSIONCOMMANDS", "STATS"),
    *("INSTREAM", "IDSESSION", "END"),
)
# What clamd 1.5 answers to commands that its configuration disables
UNAVAILABLE: Final = "COMMAND UNAVAILABLE"
UNKNOWN: Final = "UNKNOWN COMMAND"
FILES_REFUSED: Final = "INSTREAM only: this gate reads no files. Use clamdscan --stream. ERROR"
INVALID_IN_SESSION: Final = "Command invalid inside IDSESSION. ERROR"
OLD_STYLE_IN_SESSION: Final = (
    "Only new-line terminated nCMDS or NULL-terminated zCMDS are accepted inside IDSESSION. ERROR"
)
TOO_LONG: Final = "Error processing command. ERROR"
TOO_LARGE: Final = "INSTREAM size limit exceeded. ERROR"

_WITH_PATHS: Final = ("SCAN", "CONTSCAN", "MULTISCAN", "ALLMATCHSCAN", "OPTSCAN")  # and an argument
_WITH_DESCRIPTOR: Final = "FILDES"
_CONTROL: Final = ("RELOAD", "SHUTDOWN", "QUIT", "DETSTATS", "DETSTATSCLEAR")
_LENGTH_BYTES: Final = 4
_TOO_LONG: Final = b"\0"  # no command has this byte


@dataclass(frozen=True, slots=True)
class Command:
    """A command that has an answer: one of `ANSWERED`, but `IDSESSION` and `END`.

    `INSTREAM` is followed by `Data` and `EndOfStream`, and answered then.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream."""

    content: bytes


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The end of a stream."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that is answered with `text`, and ends the connection."""

    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of the connection, without an answer."""


Event = Command | Data | EndOfStream | Refused | Closed


class _State(Enum):
    COMMAND = auto()  # a command is expected
    ANSWER = auto()  # the answer to a command is expected from the caller
    LENGTH = auto()  # the length of a chunk is expected
    CHUNK = auto()  # bytes of a chunk are expected
    CLOSED = auto()  # everything else is ignored


class ClamdProtocol:
    """The server's half of a connection.

        protocol.receive(data)
        while event := protocol.next_event():
            ...
            send(protocol.reply("PONG"))

    Args:
        stream_max: bytes of a stream.

    Attributes:
        closed: whether the connection is to be closed; replies have been returned before.
    """

    def __init__(self, stream_max: int) -> None:
        self.closed = False
        self._stream_max = stream_max
        self._received = bytearray()
        self._searched = 0  # bytes of `_received` without the end of a command
        self._state = _State.COMMAND
        self._terminator = b"\n"
        self._number: int | None = None  # of the command in a session; None outside of one
        self._chunk = 0  # bytes that remain of a chunk
        self._stream = 0  # bytes that remain of `stream_max`

    @property
    def unprefixed(self) -> bool:
        """Whether a command without a prefix has begun: it may end with its packet."""
        return (
            self._state is _State.COMMAND
            and bool(self._received)
            and not self._received.startswith((b"n", b"z"))
        )

    @property
    def waiting(self) -> bool:
        """Whether no command has begun."""
        return self._state is _State.COMMAND and not self._received

    @property
    def buffered(self) -> int:
        """The number of bytes received that are in no event yet."""
        return len(self._received)

    def receive(self, data: bytes) -> None:
        """Take received bytes. Events must be read until there are none, before the next call."""
        if self._state is not _State.CLOSED:
            self._received += data

    def end_packet(self) -> None:
        """Take the command without a prefix as complete: for now, the peer sends nothing more."""
        if self.unprefixed:
            self._received += b"\n"

    def next_event(self) -> Event | None:
        """Return the next event; None if more bytes are needed, or an answer."""
        match self._state:
            case _State.COMMAND:
                return self._next_command()
            case _State.LENGTH | _State.CHUNK:
                return self._next_of_stream()
            case _:
                return None

    def reply(self, text: str) -> bytes:
        """Return the answer to the last command as bytes."""
        number = "" if self._number is None else f"{self._number}: "
        answer = f"{number}{text}".encode("ascii", "replace") + self._terminator
        if self._state is _State.ANSWER:
            if self._number is None:
                self._close()
            else:
                self._number += 1
                self._state = _State.COMMAND
        return answer

    def _next_command(self) -> Event | None:
        while (line := self._take_line()) is not None:
            if line is _TOO_LONG:
                return self._refuse(TOO_LONG)
            prefix, name = line[:1], line
            if prefix in {b"n", b"z"}:
                name = line[1:]
            elif self._number is not None:
                return self._refuse(OLD_STYLE_IN_SESSION)
            event = self._parse(name.decode("latin-1"))
            if event is not None:
                return event
        return None

    def _take_line(self) -> bytes | None:
        """Remove and return a command without its terminator; None if it is incomplete."""
        if not self._received:
            return None
        terminator = b"\0" if self._received[:1] == b"z" else b"\n"
        self._terminator = terminator
        end = self._received.find(terminator, self._searched)
        if end > COMMAND_MAX or (end < 0 and len(self._received) > COMMAND_MAX):
            return _TOO_LONG
        if end < 0:
            self._searched = len(self._received)
            return None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        return line if terminator == b"\0" else line.rstrip(b"\r\n")

    def _parse(self, name: str) -> Event | None:
        """Return the event of a command; None if it has none."""
        session = self._number is not None
        if name == "IDSESSION" and not session:
            self._number = 1
            return None
        if name == "END" and session:
            self._close()
            return Closed()
        if name in ANSWERED and name not in {"IDSESSION", "END"}:
            self._state = _State.ANSWER
            if name == "INSTREAM":
                self._state = _State.LENGTH
                self._stream = self._stream_max
            return Command(name)
        if name == _WITH_DESCRIPTOR or any(
            name.startswith(each) and len(name) > len(each) for each in _WITH_PATHS
        ):
            return self._refuse(FILES_REFUSED)
        if session:
            return self._refuse(INVALID_IN_SESSION)
        return self._refuse(UNAVAILABLE if name in _CONTROL else UNKNOWN)

    def _next_of_stream(self) -> Event | None:
        if self._state is _State.LENGTH:
            if len(self._received) < _LENGTH_BYTES:
                return None
            self._chunk = int.from_bytes(self._received[:_LENGTH_BYTES], "big")
            del self._received[:_LENGTH_BYTES]
            if not self._chunk:
                self._state = _State.ANSWER
                return EndOfStream()
            if self._chunk > self._stream:
                return self._refuse(TOO_LARGE)
            self._stream -= self._chunk
            self._state = _State.CHUNK
        if not self._received:
            return None
        content = bytes(self._received[: self._chunk])
        del self._received[: self._chunk]
        self._chunk -= len(content)
        if not self._chunk:
            self._state = _State.LENGTH
        return Data(content)

    def _refuse(self, text: str) -> Refused:
        self._close()
        return Refused(text)

    def _close(self) -> None:
        self._state = _State.CLOSED
        self.closed = True
        self._received.clear()
