"""Parse the ICAP requests of a connection, without I/O (RFC 3507, sans-I/O as in h11)."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from nciihash.gate.dialects.icap.messages import NULL_BODY, VERSION, Data, End, Event, Head, Pause

METHODS: Final = frozenset({"OPTIONS", "REQMOD", "RESPMOD"})
# The sections that a request may encapsulate, in this order (RFC 3507 section 4.4.1).
_HEADS: Final = {"OPTIONS": (), "REQMOD": ("req-hdr",), "RESPMOD": ("req-hdr", "res-hdr")}
_BODIES: Final = {"OPTIONS": "opt-body", "REQMOD": "req-body", "RESPMOD": "res-body"}

_REQUEST_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) (\S+)")
_VERSION: Final = re.compile(r"ICAP/\d{1,3}\.\d{1,3}")
_URI: Final = re.compile(r"(?:icaps?://[^/?#]*)?(/[^?#]*)?(?:\?[^#]*)?", re.IGNORECASE)
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_SECTION: Final = re.compile(r"([a-z]{3,4}-[a-z]{3,4})=(\d{1,10})")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\x00-\x08\x0a-\x1f\x7f]*)?")

_BLANK: Final = 4  # bytes of empty lines before a request


class BadRequest(Exception):
    """A request that cannot be answered normally, after which the connection is closed.

    Attributes:
        status: the ICAP status of the answer.
    """

    def __init__(self, status: int = 400) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Limits on a request.

    Attributes:
        head: bytes of the ICAP head.
        fields: header fields of it.
        http: bytes of the encapsulated HTTP heads together. Squid's own limit is 64 KiB for each.
        chunk_line: bytes of a line with a chunk's size and extensions.
        trailers: bytes after the last chunk.
    """

    head: int = 32 << 10
    fields: int = 100
    http: int = 160 << 10
    chunk_line: int = 1 << 10
    trailers: int = 8 << 10


class _State(Enum):
    HEAD = auto()
    HTTP = auto()
    NO_BODY = auto()
    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    PAUSED = auto()
    ENDED = auto()


class RequestParser:
    """Parses the requests of one connection.

        parser.feed(data)
        while (event := parser.next_event()) is not None:
            match event:
                case Head(): ...
                case Data(): ...
                case Pause(): ...  # the preview ended: `proceed`, or answer
                case End(): ...  # answer

    The same bytes yield the same events however they are split, except that `Data` may be split.

    After `End` or, when the preview is answered, after `Pause`, `next_request` starts the next one.

    Args:
        limits: on a request.
    """

    def __init__(self, limits: MessageLimits | None = None) -> None:
        self._limits = limits or MessageLimits()
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._head: Head | None = None
        self._sections: dict[str, int] = {}
        self._http_size = 0
        self._left = 0  # bytes of the chunk
        self._previewing = False
        self._preview_left = 0  # bytes that the preview may still have
        self._ieof = False
        self._trailers = 0
        self._blank = 0  # bytes of empty lines before a request

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has arrived, apart from an empty line before it."""
        empty = len(self._buffer) <= _BLANK and not self._buffer.strip(b"\r\n")
        return self._state is _State.HEAD and empty

    def feed(self, data: bytes) -> None:
        """Add bytes that were received."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """Return the next event; None if it takes more bytes, or `proceed` or `next_request`.

        Raises:
            BadRequest: the request is malformed or too large, or its method or version is unknown.
        """
        while True:
            match self._state:
                case _State.HEAD:
                    if not self._parse_head():
                        return None
                case _State.HTTP:
                    return self._parse_http()
                case _State.NO_BODY:
                    self._state = _State.ENDED
                    return End()
                case _State.CHUNK_LINE:
                    if not self._parse_chunk_line():
                        return None
                case _State.CHUNK:
                    return self._take_chunk()
                case _State.CHUNK_END:
                    if len(self._buffer) < len(b"\r\n"):
                        return None
                    if self._take(2) != b"\r\n":
                        raise BadRequest
                    self._state = _State.CHUNK_LINE
                case _State.TRAILERS:
                    line = self._line(self._limits.trailers - self._trailers)
                    if line is None:
                        return None
                    self._trailers += len(line) + 2
                    if not line:
                        return self._end()
                case _State.PAUSED | _State.ENDED:
                    return None

    def proceed(self) -> None:
        """Expect the rest of the body after a preview, because `100 Continue` is sent."""
        if self._state is not _State.PAUSED:
            raise RuntimeError("There is no preview to continue.")
        self._state, self._previewing = _State.CHUNK_LINE, False

    def next_request(self) -> None:
        """Expect another request.

        Raises:
            BadRequest: bytes follow a preview that was answered. The client may mean them as the
                rest of the body, so they cannot be read as a request.
        """
        if self._state is _State.PAUSED and self._buffer:
            raise BadRequest
        if self._state not in {_State.PAUSED, _State.ENDED}:
            raise RuntimeError("The request has not ended.")
        self._state, self._head, self._blank = _State.HEAD, None, 0

    def _parse_head(self) -> bool:
        while self._buffer.startswith(b"\r\n"):  # tolerated before a request (RFC 9112 section 2.2)
            self._blank += len(self._take(2))
            if self._blank > _BLANK:
                raise BadRequest
        size = self._buffer.find(b"\r\n\r\n", 0, self._limits.head)
        if size < 0:
            if len(self._buffer) >= self._limits.head:
                raise BadRequest
            return False
        lines = self._take(size + 4)[:-4].decode("latin-1").split("\r\n")
        method, service = _parse_request_line(lines[0])
        fields = _parse_fields(lines[1:], self._limits.fields)
        sections = _parse_encapsulated(method, fields.get("encapsulated"))
        *heads, (body, offset) = sections
        if offset > self._limits.http:
            raise BadRequest
        has_body = body != NULL_BODY
        preview = fields.get("preview") if has_body else None
        if preview is not None and not re.fullmatch(r"[0-9]{1,10}", preview):
            raise BadRequest
        ends = [*(start for _, start in heads[1:]), offset]
        self._sections = {
            name: end - start for (name, start), end in zip(heads, ends, strict=False)
        }
        self._http_size = offset
        self._head = Head(
            method,
            service,
            MappingProxyType(fields),
            has_body=has_body,
            preview=None if preview is None else int(preview),
        )
        self._state = _State.HTTP
        return True

    def _parse_http(self) -> Head | None:
        """Take the HTTP heads, whose sizes `Encapsulated` states."""
        if len(self._buffer) < self._http_size or self._head is None:
            return None
        heads = {name: self._take(size) for name, size in self._sections.items()}
        for head in heads.values():
            # A head that ends elsewhere than stated would be understood differently by others.
            if head.find(b"\r\n\r\n") != len(head) - 4:
                raise BadRequest
        old = self._head
        self._head = Head(
            old.method,
            old.service,
            old.fields,
            heads.get("req-hdr", b""),
            heads.get("res-hdr", b""),
            old.has_body,
            old.preview,
        )
        self._previewing = old.preview is not None
        self._preview_left = old.preview or 0
        self._ieof = False
        self._state = _State.CHUNK_LINE if old.has_body else _State.NO_BODY
        return self._head

    def _parse_chunk_line(self) -> bool:
        line = self._line(self._limits.chunk_line)
        if line is None:
            return False
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise BadRequest
        self._left = int(match[1], 16)
        if self._left:
            self._state = _State.CHUNK
            if self._previewing:
                self._preview_left -= self._left
                if self._preview_left < 0:
                    raise BadRequest
            return True
        extensions = (match[2] or b"").lower().split(b";")
        self._ieof = self._previewing and b"ieof" in (each.strip() for each in extensions)
        self._state, self._trailers = _State.TRAILERS, 0
        return True

    def _take_chunk(self) -> Data | None:
        if not self._buffer:
            return None
        data = self._take(min(self._left, len(self._buffer)))
        self._left -= len(data)
        if not self._left:
            self._state = _State.CHUNK_END
        return Data(data)

    def _end(self) -> Pause | End:
        if self._previewing and not self._ieof:
            self._state = _State.PAUSED
            return Pause()
        self._state = _State.ENDED
        return End(in_preview=self._ieof)

    def _line(self, most: int) -> bytes | None:
        """Take a line of at most `most` bytes with its end; None if it is not complete."""
        end = self._buffer.find(b"\r\n", 0, max(most, 0))
        if end < 0:
            if len(self._buffer) >= most:
                raise BadRequest
            return None
        return self._take(end + 2)[:-2]

    def _take(self, size: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken


def _parse_request_line(line: str) -> tuple[str, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or not _VERSION.fullmatch(match[3]):
        raise BadRequest
    if match[3] != VERSION:
        raise BadRequest(505)
    if match[1] not in METHODS:
        raise BadRequest(501)
    uri = _URI.fullmatch(match[2])
    if uri is None:
        raise BadRequest
    return match[1], (uri[1] or "").strip("/")


def _parse_fields(lines: list[str], most: int) -> dict[str, str]:
    if len(lines) > most:
        raise BadRequest
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadRequest
        name, value = match[1].lower(), match[2].strip(" \t")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _parse_encapsulated(method: str, value: str | None) -> list[tuple[str, int]]:
    """Return the sections and their offsets, the body last (RFC 3507 section 4.4.1)."""
    if value is None:
        if method != "OPTIONS":
            raise BadRequest
        return [(NULL_BODY, 0)]
    sections = []
    for part in value.split(","):
        match = _SECTION.fullmatch(part.strip(" \t"))
        if match is None:
            raise BadRequest
        sections.append((match[1], int(match[2])))
    names = [name for name, _ in sections]
    offsets = [offset for _, offset in sections]
    heads = [name for name in _HEADS[method] if name in names]
    if names[:-1] != heads or names[-1] not in {_BODIES[method], NULL_BODY}:
        raise BadRequest
    if offsets[0] != 0 or offsets != sorted(set(offsets)):
        raise BadRequest
    return sections
