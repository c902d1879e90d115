"""The pictures and videos of an email (RFC 5322, MIME: RFC 2045 to 2047), as mail servers scan it.

Mail servers send scanners whole messages. The parser needs no well-formed message, since mail
programs show malformed ones too, and its work is linear in the size of a message: `MAX_DEPTH`
bounds how often a byte is searched. Not found: pictures in archives, in `winmail.dat` (TNEF), in
`data:` URLs of HTML, and encrypted ones.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

from nciihash.errors import FileRefused
from nciihash.media import formats

MAX_BYTES: Final = 64 << 20  # of a message; mail servers accept some 25 to 50 MB
MAX_DEPTH: Final = 12  # of parts within parts
MAX_PARTS: Final = 1000
MAX_FILES: Final = 100  # pictures and videos
_MAX_CANDIDATES: Final = 100 * MAX_PARTS  # texts that look like a boundary
_HEADERS_MAX: Final = 1 << 16  # bytes of the headers of a message or part
START: Final = 4096 + 32  # bytes that are enough to detect a format, or an email

_HEADER_LINE: Final = re.compile(rb"[!-9;-~]{1,76}[ \t]*:")
_MBOX_LINE: Final = re.compile(rb"\AFrom [^\n]{1,998}\n")
_END_OF_HEADERS: Final = re.compile(rb"\r?\n\r?\n|\A\r?\n")
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
# Headers of which a message has at least one, and a text that only looks like headers has none
_OF_MESSAGES: Final = re.compile(
    rb"^(received|from|date|message-id|mime-version|return-path|subject|content-type)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_BOUNDARY: Final = re.compile(rb";\s*boundary\s*=\s*(?:\"([^\"]{1,500})\"|([^\s;\"]{1,500}))", re.I)
_AFTER_BOUNDARY: Final = re.compile(rb"(?:--)?[ \t]{0,100}\r?(?:\n|\Z)")
_UUENCODED: Final = re.compile(rb"begin(?:-base64)? [0-7]{3,4} [^\n]{0,998}\n")
_LINE: Final = re.compile(rb"[^\n]*\n?")
_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)


class TooComplex(Exception):
    """A message is larger than the limits, or has more parts, levels or pictures."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a message: a range of its bytes, headers included."""

    start: int
    end: int
    depth: int


def is_message(start: bytes) -> bool:
    """Whether a file that starts so, with at least `START` bytes, is an email."""
    if _format(start):
        return False
    if mbox := _MBOX_LINE.match(start):
        start = start[mbox.end() :]
    end = _END_OF_HEADERS.search(start)
    headers = start if end is None else start[: end.start()]
    return bool(_HEADER_LINE.match(headers) and _OF_MESSAGES.search(headers))


def files(data: bytes | bytearray) -> Iterator[bytes]:
    """Yield the pictures and videos of a message, decoded.

    They are those that are one, whatever their header says; and those whose header says that they
    are one, whatever they are.

    Raises:
        TooComplex: more than the limits.
    """
    if len(data) > MAX_BYTES:
        raise TooComplex
    found = 0
    waiting = [_Part(0, len(data), 0)]
    for count in range(MAX_PARTS + 1):
        if not waiting:
            return
        if count == MAX_PARTS:
            break
        part = waiting.pop()
        headers, start = _headers(data, part)
        kind = _value(headers, b"content-type").strip().lower()
        if kind.startswith((b"multipart/", b"message/")) and part.depth >= MAX_DEPTH:
            break
        if inner := _inner(data, part, start, kind, headers):
            waiting += reversed(inner)
            continue
        encoding = _value(headers, b"content-transfer-encoding").strip().lower()
        content = _decoded(bytes(data[start : part.end]), encoding)
        if content and (kind.startswith((b"image/", b"video/")) or _format(content)):
            found += 1
            if found > MAX_FILES:
                break
            decoded = [content]
            del content
            yield decoded.pop()  # so that this generator does not keep it
    raise TooComplex


def _inner(
    data: bytes | bytearray, part: _Part, start: int, kind: bytes, headers: bytes
) -> list[_Part]:
    """Return the parts of a part; none if it is no container, or has no boundaries."""
    if kind.startswith((b"message/rfc822", b"message/global", b"message/news")):
        return [_Part(start, part.end, part.depth + 1)]
    boundary = _BOUNDARY.search(_value(headers, b"content-type"))
    if not kind.startswith(b"multipart/") or boundary is None:
        return []
    name = b"--" + (boundary[1] or boundary[2]).rstrip()
    spans = list(islice(_boundaries(data, name, start, part.end), MAX_PARTS + 1))
    spans.append((part.end, part.end))
    return [
        _Part(after, end, part.depth + 1) for (_, after), (end, _) in pairwise(spans) if after < end
    ]


def _boundaries(
    data: bytes | bytearray, name: bytes, start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Yield where the boundary lines of a part start and end.

    Raises:
        TooComplex: the name of the boundary occurs too often.
    """
    position = start
    for _ in range(_MAX_CANDIDATES):
        position = data.find(name, position, end)
        if position < 0:
            return
        line = _AFTER_BOUNDARY.match(data, position + len(name), end)
        if line and (position == start or data[position - 1] == ord("\n")):
            yield position, line.end()
            position = line.end()
        else:
            position += len(name)
    raise TooComplex


def _headers(data: bytes | bytearray, part: _Part) -> tuple[bytes, int]:
    """Return a part's headers, unfolded, and where its content starts."""
    block = bytes(data[part.start : min(part.end, part.start + _HEADERS_MAX)])
    skipped = 0
    if part.depth == 0 and (mbox := _MBOX_LINE.match(block)):
        skipped = mbox.end()
    end = _END_OF_HEADERS.search(block, skipped)
    if end is None:
        return _FOLD.sub(b" ", block[skipped:]), part.end
    return _FOLD.sub(b" ", block[skipped : end.start()]), part.start + end.end()


def _value(headers: bytes, name: bytes) -> bytes:
    """Return the value of a header; empty without one. Of several, the first counts."""
    found = re.search(rb"^" + name + rb"[ \t]*:([^\n]*)", headers, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else b""


def _decoded(content: bytes, encoding: bytes) -> bytes:
    """Return a part's content without its transfer encoding, as far as it is intact."""
    if encoding == b"base64":
        return _base64(content)
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(content)
    if (encoding or not _format(content)) and (found := _uu_header(content)):
        if found[0].startswith(b"begin-base64"):
            return _base64(content[found.end() :])
        return b"".join(_uu_lines(content, found.end()))
    return content


def _base64(content: bytes) -> bytes:
    digits = content.translate(None, _NOT_BASE64)  # padding in the middle, too
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _uu_header(content: bytes) -> re.Match[bytes] | None:
    """Return where uuencoded content has its first line (POSIX, uuencode); None if it has none."""
    position = -1
    for _ in range(MAX_PARTS):
        position = content.find(b"begin", position + 1)
        if position < 0:
            return None
        found = _UUENCODED.match(content, position)
        if found and content[position - 1 : position] in {b"", b"\n"}:
            return found
    return None


def _uu_lines(content: bytes, start: int) -> Iterator[bytes]:
    for found in _LINE.finditer(content, start):
        line = found[0].rstrip(b"\r\n")
        if not line or line == b"end":
            return
        try:
            yield binascii.a2b_uu(line)
        except binascii.Error:
            # Some programs pad lines with garbage: the first byte says how many count.
            size = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                yield binascii.a2b_uu(line[:size])
            except binascii.Error:
                return


def _format(content: bytes) -> bool:
    """Whether a file starts as a picture or video."""
    start = content[:START]
    try:
        return bool(formats.video_format(start) or formats.detect(start))
    except FileRefused:
        return False
