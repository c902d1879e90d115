"""Read the bodies of requests into uploads: one file, or the files of a `multipart` body.

Nothing is written to disk, and file names, field names and the values of form fields are dropped.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import ClassVar, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from nciihash.gate.config import UploadLimits
from nciihash.gate.upload import Upload

PARTS_MAX: Final = 128  # of one form, fields included
FILES_MAX: Final = 32  # of one form

_HEADERS_MAX: Final = 16  # of one part
_HEADER_BYTES: Final = 8192  # of one header of a part; browsers send whole file names
_BODY_SIZES: Final = 2  # a body may have this many times the size of the largest upload
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046
_BOUNDARY_PARAMETER: Final = re.compile(r"\bboundary\W*=", re.IGNORECASE)
# `filename`, and its forms of RFC 5987 and RFC 2231, in which `filename` may be split
_FILE_NAME: Final = re.compile(rb"\bfilename[*0-9\s]*=", re.IGNORECASE)
_FIELD_TYPES: Final = re.compile(
    rb"\s*(text/|application/(json|xml|x-www-form-urlencoded)|[^;]*\+(json|xml)\s*(;|$)|\s*$)",
    re.IGNORECASE,
)
_PLAIN_ENCODINGS: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})


class BodyRefused(Exception):
    """A body that was not read to its end, or from which no files can be taken.

    Attributes:
        status: the HTTP status of the response.
        code: what failed, for programs.
        title: what failed, for people.
        detail: what to do next.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    detail: ClassVar[str]


class MalformedForm(BodyRefused):
    """A `multipart` body that does not follow RFC 7578, or that parsers may read differently."""

    status = 400
    code = "malformed_form"
    title = "The form cannot be read"
    detail = "Send a multipart/form-data body as RFC 7578 describes, or one file as the body."


class TooManyParts(BodyRefused):
    """A `multipart` body of too many parts."""

    status = 413
    code = "too_many_parts"
    title = "The form has too many parts"
    detail = f"Send at most {FILES_MAX} files and {PARTS_MAX} fields in one request."


class BodyTooLarge(BodyRefused):
    """A body beyond what one request may have."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"
    detail = "Send fewer or smaller files in one request."


class BodyTooSlow(BodyRefused):
    """A body that did not arrive in time."""

    status = 408
    code = "body_too_slow"
    title = "The body did not arrive in time"
    detail = "Send the request again over a faster connection."


class EncodedBody(BodyRefused):
    """A body with a content coding, such as gzip."""

    status = 415
    code = "encoded_body"
    title = "The body has a content coding"
    detail = "Send the file as it is, without a Content-Encoding."


class NoFile(BodyRefused):
    """A form without a file."""

    status = 400
    code = "no_file"
    title = "The form has no file"
    detail = "Send the file in a part with a file name, or as the body."


class ClientGone(Exception):
    """The client has closed the connection; nobody waits for a response."""


def is_multipart(content_type: str) -> bool:
    """Whether a body of this type has parts."""
    return content_type.strip().lower().startswith("multipart/")


class FormFiles:
    """The files of a `multipart` body (RFC 7578), which arrives in pieces.

        form = FormFiles(content_type, gate.upload)
        for piece in pieces:
            form.feed(piece)
        form.close()

    A part is a file if it has a file name, or if its type is not that of a form field: text, JSON,
    XML or a URL-encoded form. A file input without a chosen file is none.

    Other programs may divide a body differently where it deviates from the standard, and then see
    files where this one sees a field. So such bodies are refused: without a final boundary, with
    two boundaries in the header, with a boundary inside of a part, or with encoded parts.

    Args:
        content_type: the Content-Type of the body.
        new_upload: returns an upload for the next file; closed by the caller.

    Attributes:
        uploads: the files so far. After an error the last one may be incomplete.

    Raises:
        MalformedForm: the type has no valid boundary.
    """

    def __init__(self, content_type: str, new_upload: Callable[[], Upload]) -> None:
        self.uploads: list[Upload] = []
        self._new_upload = new_upload
        boundary = _boundary(content_type)
        self._delimiter = b"\n--" + boundary
        self._tail = b"\n"  # of the previous piece; a body may start with a boundary
        self._delimiters = 0  # all that the body contains, even where the parser sees none
        self._parts = 0
        self._ended = False
        self._file: Upload | None = None  # the current part, if it is a file
        self._headers: list[tuple[bytes, bytes]] = []
        self._name = b""
        self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._write,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=_HEADERS_MAX,
            max_header_size=_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            MalformedForm: it does not follow RFC 7578.
            TooManyParts: it has too many parts.
        """
        reach = len(self._delimiter) - 1
        self._delimiters += data.count(self._delimiter)
        self._delimiters += (self._tail + data[:reach]).count(self._delimiter)
        self._tail = (self._tail + data[-reach:])[-reach:]
        try:
            self._parser.write(data)
        except FormParserError:
            raise MalformedForm from None  # its message quotes the body

    def close(self) -> None:
        """Check that the body is complete.

        Raises:
            MalformedForm: it is not, or it contains a boundary inside of a part.
        """
        if not self._ended or self._delimiters != self._parts + 1:
            raise MalformedForm

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            raise TooManyParts
        self._headers = []

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers.append((self._name.lower(), self._value))
        self._name = self._value = b""

    def _end_headers(self) -> None:
        for name, value in self._headers:
            if name == b"content-transfer-encoding" and (
                value.strip().lower() not in _PLAIN_ENCODINGS
            ):
                raise MalformedForm
        if not _is_file(self._headers):
            return
        if len(self.uploads) == FILES_MAX:
            raise TooManyParts
        self._file = self._new_upload()
        self.uploads.append(self._file)

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        file, self._file = self._file, None
        if file is not None and not file.size and _not_chosen(self._headers):
            self.uploads.remove(file)

    def _end(self) -> None:
        self._ended = True


async def read_uploads(
    headers: Mapping[str, str],
    receive: Receive,
    new_upload: Callable[[], Upload],
    limits: UploadLimits,
) -> list[Upload]:
    """Read the body of an ASGI request: the files of a form, or else one file.

    Args:
        headers: of the request, looked up without regard to case.
        receive: of the request.
        new_upload: returns an upload for the next file; closed by the caller.
        limits: on size and time.

    Raises:
        BodyRefused: one of its subclasses; the rest of the body is unread, so the connection must
            be closed.
        ClientGone: the client has closed the connection.
    """
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise EncodedBody
    content_type = headers.get("content-type", "")
    length = headers.get("content-length", "")
    most = _BODY_SIZES * limits.video_bytes
    if length.isascii() and length.isdigit() and int(length) > most:
        raise BodyTooLarge
    async with aclosing(_pieces(receive, limits, most)) as pieces:
        if is_multipart(content_type):
            form = FormFiles(content_type, new_upload)
            async for piece in pieces:
                form.feed(piece)
            form.close()
            if not form.uploads:
                raise NoFile
            return form.uploads
        upload = new_upload()
        async for piece in pieces:
            upload.write(piece)
        return [upload]


async def _pieces(receive: Receive, limits: UploadLimits, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body within its limits."""
    clock = asyncio.get_running_loop().time
    end = clock() + limits.request_seconds
    received = 0
    while True:
        try:
            async with asyncio.timeout_at(min(end, clock() + limits.idle_seconds)):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        received += len(piece)
        if received > most:
            raise BodyTooLarge
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


def _boundary(content_type: str) -> bytes:
    """Return the boundary of a `multipart` type.

    Raises:
        MalformedForm: it has none, more than one, or an invalid one.
    """
    if len(_BOUNDARY_PARAMETER.findall(content_type)) != 1:
        raise MalformedForm
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary.decode("latin-1")):
        raise MalformedForm
    return boundary


def _is_file(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a part with these headers is a file."""
    return any(
        (name == b"content-disposition" and _FILE_NAME.search(value))
        or (name == b"content-type" and not _FIELD_TYPES.match(value))
        for name, value in headers
    )


def _not_chosen(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a part is a file input without a chosen file: an empty name (HTML, 4.10.22.4)."""
    return any(
        name == b"content-disposition"
        and parse_options_header(value.decode("latin-1"))[1].get(b"filename") == b""
        for name, value in headers
    )
