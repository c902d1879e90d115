"""The body of an encapsulated HTTP message, and the uploads in it.

A body is decompressed and a form taken apart, and the bytes that may have to be echoed are kept.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from nciihash.errors import FileRefused
from nciihash.gate.dialects.icap.http_head import HttpHead
from nciihash.gate.dialects.uploads import BodyRefused, FormFiles, is_multipart
from nciihash.gate.outcome import Reason
from nciihash.gate.upload import Upload, UploadMemory
from nciihash.media import formats

DETECTABLE: Final = 4096  # bytes from which a format is detected: `formats.video_format`
PIECE: Final = 1 << 18  # bytes that are decompressed at a time

_DEFLATE: Final = "deflate"
_CODINGS: Final = frozenset({"gzip", "x-gzip", _DEFLATE})
_ZLIB_HEADER: Final = 2  # bytes (RFC 1950 section 2.2)
_ZLIB_METHOD: Final = 8
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def may_be_media(start: bytes | bytearray) -> bool:
    """Whether a file that starts like this can be hashed, as far as its format is concerned.

    Exact for files of at most `DETECTABLE` bytes and for the first `DETECTABLE` bytes of longer
    ones, except MXF videos with other bytes before their header, which are not recognized.
    """
    data = bytes(start)
    if data.startswith(_TIFF):  # a camera's raw file differs in what follows
        return True
    if formats.video_format(data):
        return True
    try:
        formats.detect(data)
    except FileRefused:
        return False
    return True


class Decompressor:
    """Decompresses gzip or deflate (RFC 9110 section 8.4.1) in pieces.

    Args:
        coding: `gzip`, `x-gzip` or `deflate`. The latter has a zlib header, but some programs send
            it without, which is recognized.

    Attributes:
        failed: whether the data is damaged; what follows is dropped.
    """

    def __init__(self, coding: str) -> None:
        self.failed = False
        self._raw_possible = coding == _DEFLATE
        self._held = b""
        self._inflate = zlib.decompressobj(wbits=47)  # a header of gzip or zlib
        self._ended = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data decompresses to, in pieces of at most `PIECE` bytes."""
        if self._raw_possible:
            data = self._held + data
            if len(data) < _ZLIB_HEADER:
                self._held = data
                return
            self._raw_possible = False
            if data[0] & 15 != _ZLIB_METHOD or int.from_bytes(data[:_ZLIB_HEADER]) % 31:
                self._inflate = zlib.decompressobj(wbits=-15)
        while data and not self.failed:
            if self._ended:  # another member (RFC 1952 section 2.2)
                self._inflate, self._ended = zlib.decompressobj(wbits=47), False
            before = self._inflate.copy()
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error:
                self.failed = True
                yield from _before_damage(before, data)
                return
            if self._inflate.eof:
                data, self._ended = self._inflate.unused_data, True
            else:
                data = self._inflate.unconsumed_tail
            if piece:
                yield piece

    @property
    def complete(self) -> bool:
        """Whether everything was received and undamaged."""
        return self._ended and not self.failed


def _before_damage(inflate: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """Yield what comes before the damage, so that it does not depend on how the data was split."""
    with suppress(zlib.error):
        for position in range(len(data)):
            if piece := inflate.decompress(data[position : position + 1]):
                yield piece


class Content:
    """The body of an HTTP message, and the uploads in it; a context manager that releases them.

    A body is one upload, or a form's files. With `keep`, the bytes are kept as they were received,
    for a client that takes the message back unchanged. For a plain body these are the same bytes;
    a form or a compressed body takes up to twice its memory then.

    Args:
        head: of the message.
        new_upload: returns an empty upload.
        memory: of uploads.
        inflated: the largest size of a decompressed body, in bytes: a compressed body is cheap to
            send, so it may not take as much as others.
        keep: whether `original` is kept.

    Attributes:
        original: the bytes as received; None without `keep`.
        overflow: what `original` held when it was refused, and the bytes that it refused.
        is_form: whether the body has parts.
        received: whether there was a byte.
    """

    def __init__(
        self,
        head: HttpHead,
        new_upload: Callable[[], Upload],
        memory: UploadMemory,
        *,
        inflated: int,
        keep: bool,
    ) -> None:
        self._head = head
        self._memory = memory
        self._new_upload = new_upload
        self._inflated = inflated
        self._inflated_size = 0
        self._keep = keep
        self._start = bytearray()  # of the file, decompressed
        self._media: bool | None = None  # whether it may be a picture or video; None: not known
        self.received = False
        self._form: FormFiles | None = None
        self._file: Upload | None = None
        self._unreadable: Upload | None = None  # the rest of a form that cannot be read
        self._decompressor: Decompressor | None = None
        self.is_form = is_multipart(head.content_type)
        self.overflow: tuple[bytes | bytearray, bytes] | None = None
        codings = head.codings
        self._unknown_coding = bool(codings) and not (len(codings) == 1 and codings[0] in _CODINGS)
        if codings and not self._unknown_coding:
            self._decompressor = Decompressor(codings[0])
        self._plain = not codings and not self.is_form
        self.original = new_upload() if keep or self._plain else None
        if self._plain:
            self._file = self.original
        elif self._unknown_coding:
            self._refuse(Reason.UNSUPPORTED)
        elif self.is_form:
            try:
                self._form = FormFiles(head.content_type, new_upload)
            except BodyRefused:
                self._refuse(Reason.CORRUPT)
        else:
            self._file = new_upload()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release what is kept."""
        for upload in (self.original, *self.uploads):
            if upload is not None:
                upload.close()
        if self.overflow is not None:
            self._memory.release(len(self.overflow[0]))
            self.overflow = None

    @property
    def kept(self) -> list[bytes | bytearray]:
        """The bytes received so far, for an echo; empty without `keep`."""
        if self.overflow is not None:
            return list(self.overflow)
        return [] if self.original is None else [self.original.data]

    @property
    def uploads(self) -> list[Upload]:
        """What is to be checked, so far.

        It includes `original` where that was refused, since the rest will not be checked.
        """
        files = [] if self._form is None else list(self._form.uploads)
        rest = None if self._plain or self.overflow is None else self.original
        others = (self._file, self._unreadable, rest)
        return files + [each for each in others if each is not None]

    def write(self, data: bytes) -> Iterator[None]:
        """Take the next bytes; an iterator that yields while there is more to decompress.

        The caller may let other tasks run whenever it yields.
        """
        self.received = True
        if self.original is not None:
            held, refused = self.original.data, self.original.refused
            self.original.write(data)
            if self._keep and refused is None and self.original.refused is not None:
                self._memory.reserve(len(held))  # which was released just now
                self.overflow = held, data
        if self._decompressor is None:
            self._take(data)
            return
        for piece in self._decompressor.pieces(data):
            self._inflated_size += len(piece)
            self._take(piece)
            if self._inflated_size > self._inflated:
                self._refuse(Reason.TOO_LARGE)
                self._decompressor.failed = True
                return
            yield

    def end(self) -> None:
        """Note that the body is complete."""
        if self._decompressor is not None and not self._decompressor.complete:
            self._refuse(Reason.CORRUPT)
        if self._form is not None and self._unreadable is None:
            try:
                self._form.close()
            except BodyRefused:
                self._refuse(Reason.CORRUPT)

    @property
    def settled(self) -> bool:
        """Whether the rest of the body would not be checked, or cannot be kept."""
        return (
            self.overflow is not None
            or self._unreadable is not None
            or (self._file is not None and self._file.refused is not None)
            or self.not_media(whole=False)
        )

    def not_a_file(self, *, whole: bool) -> bool:
        """Whether the body is text by its type and no picture or video by its content.

        Args:
            whole: whether the body is complete.
        """
        return self._head.claims_text and self.not_media(whole=whole)

    def not_media(self, *, whole: bool) -> bool:
        """Whether the body cannot be a picture or a video, by its first bytes.

        Args:
            whole: whether the body is complete.
        """
        if self.is_form or self._unknown_coding:
            return False
        if self._media is None and (whole or len(self._start) >= DETECTABLE):
            self._media = may_be_media(self._start)
        return self._media is False

    def _take(self, data: bytes) -> None:
        if len(self._start) < DETECTABLE:
            self._start += data[: DETECTABLE - len(self._start)]
        if self._form is not None and self._unreadable is None:
            try:
                self._form.feed(data)
            except BodyRefused:
                self._refuse(Reason.CORRUPT)
        elif self._file is not None and not self._plain:
            self._file.write(data)

    def _refuse(self, reason: Reason) -> None:
        """Refuse the body, or what is left of a form after its complete files."""
        if self._file is not None:
            if self._file.refused is None:
                self._file.refuse(reason)
        elif self._unreadable is None:
            self._unreadable = self._new_upload()
            self._unreadable.refuse(reason)
