"""The messages of ICAP (RFC 3507): the parts of a request, and the bytes of an answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeAlias

VERSION: Final = "ICAP/1.0"
CONTINUE: Final = b"ICAP/1.0 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
NULL_BODY: Final = "null-body"  # the section of a message without a body

_REASONS: Final = {
    204: "Unmodified",
    404: "ICAP Service not found",
    405: "Method not allowed for service",
    505: "ICAP version not supported",
}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an ICAP request, with the HTTP heads that it encapsulates.

    Attributes:
        method: `OPTIONS`, `REQMOD` or `RESPMOD`.
        service: the path of the URI, without slashes at its ends.
        fields: the header fields by lower-case name; repeated ones are joined by commas.
        request: the head of the HTTP request, with the empty line; empty if there is none.
        response: the head of the HTTP response, likewise.
        has_body: whether a body follows.
        preview: how many bytes of the body come first, as a preview; None for no preview.
    """

    method: str
    service: str
    fields: Mapping[str, str] = field(repr=False)
    request: bytes = field(default=b"", repr=False)
    response: bytes = field(default=b"", repr=False)
    has_body: bool = False
    preview: int | None = None

    @property
    def allows_204(self) -> bool:
        """Whether 204 may answer the whole message, not only its preview."""
        return "204" in tokens(self.fields.get("allow", ""))

    @property
    def close(self) -> bool:
        """Whether the connection ends after the answer."""
        return "close" in tokens(self.fields.get("connection", ""))


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the body, at least one."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """The end of a preview, after which the client waits for `100 Continue` or the answer."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a request.

    Attributes:
        in_preview: whether the preview was the whole body, so that 204 may answer it.
    """

    in_preview: bool = False


Event: TypeAlias = Head | Data | Pause | End


def tokens(value: str) -> set[str]:
    """Return the comma-separated elements of a header field, in lower case."""
    return {each.strip().lower() for each in value.split(",")} - {""}


def response(
    status: int, fields: Iterable[tuple[str, str]] = (), encapsulated: str = "null-body=0"
) -> bytes:
    """Return the head of an ICAP response.

    `Encapsulated` comes last, because Nextcloud's client stops reading fields there.
    """
    reason = _REASONS.get(status) or HTTPStatus(status).phrase
    lines = [f"{VERSION} {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, f"Encapsulated: {encapsulated}", "", ""]).encode("latin-1")


def encapsulate(kind: str, head: bytes, *, has_body: bool) -> str:
    """Return the value of `Encapsulated` for an HTTP head and what follows.

    Args:
        kind: `req` or `res`.
        head: the HTTP head; may be empty.
        has_body: whether a body follows, in chunks.
    """
    start = f"{kind}-hdr=0, " if head else ""
    return f"{start}{f'{kind}-body' if has_body else NULL_BODY}={len(head)}"


def chunk(data: bytes | bytearray | memoryview) -> bytes:
    """Return a chunk of a body; nothing for no bytes, since an empty chunk is the last one."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n")) if data else b""
