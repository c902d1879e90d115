"""Make JPEG files that violate the standard, like those of cameras, programs and bad copies."""

import random
from collections.abc import Iterator

SOS = 0xDA
EOI = b"\xff\xd9"


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of a valid JPEG's segments; scans' data have marker 0."""
    at = 2
    while data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        yield data[at + 1], at, end
        if data[at + 1] == SOS:
            start = end
            while data[end] != 0xFF or data[end + 1] in {0, *range(0xD0, 0xD8)}:
                end += 1
            yield 0, start, end
        at = end


def junk(length: int, seed: int = 0) -> bytes:
    """Return random bytes, none of which starts a marker."""
    rng = random.Random(seed)
    return bytes(rng.randrange(255) for _ in range(length))


def inserted(data: bytes, at: int, extra: bytes) -> bytes:
    return data[:at] + extra + data[at:]


def lengthened(data: bytes, start: int, by: int) -> bytes:
    """Increase a segment's length field by this many bytes, without changing its content."""
    length = int.from_bytes(data[start + 2 : start + 4]) + by
    return data[: start + 2] + length.to_bytes(2) + data[start + 4 :]


def with_comment(data: bytes, text: bytes = b"Made by a camera, long ago") -> bytes:
    """Insert a comment before the first segment."""
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + data[2:]


def with_thumbnail(data: bytes, thumbnail: bytes) -> bytes:
    """Insert a thumbnail after JFIF's segment, whose length is two bytes too long."""
    at = next(end for marker, _, end in segments(data) if marker == 0xE0)
    body = b"Exif\0\0MM\0*" + junk(40) + thumbnail
    whole = data[:at] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + data[at:]
    return lengthened(whole, 2, 2)


def sound_but_odd(data: bytes, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield invalid files that viewers show like `data`, a JPEG from libjpeg with JFIF."""
    first = data.index(bytes((0xFF, SOS)))
    for n, (marker, start, _) in enumerate(list(segments(data))):
        # bytes before a scan's data would be taken for data
        if marker:
            for length in (1, 2, 3, 7, 8, 60):
                # many different bytes after a scan mean damage
                extra = junk(length, n) if length < 9 or start <= first else b"U" * length
                yield f"{length} bytes before {marker:x}", inserted(data, start, extra)
            yield f"fill before {marker:x}", inserted(data, start, b"\xff" * 5)
            yield f"NULs before {marker:x}", inserted(data, start, bytes(9))
    for length in (1, 2, 3, 7, 8):
        yield f"{length} bytes before the end", data[:-2] + junk(length, length + seed) + EOI
    for length in (12, 64, 500):
        yield f"{length} equal bytes before the end", data[:-2] + b"U" * length + EOI
        yield f"{length} NULs before the end", data[:-2] + bytes(length) + EOI
    commented = with_comment(data)
    for by in (-3, -2, -1):
        yield f"a comment's length {by}", lengthened(commented, 2, by)
    for by in (1, 2, 3):
        # the comment then includes the start of the next one
        yield f"a comment's length +{by}", lengthened(with_comment(commented), 2, by)
    yield "no end", data[:-2]
    yield "half an end", data[:-1]
    yield "no end, NULs", data[:-2] + bytes(300)
    yield "an end, then NULs", data + bytes(5000)
    yield "an end, then bytes", data + junk(400)
    if (
        b"\xff\xc2" not in data
        and len(data[data.index(b"\xff\xc4") : data.index(b"\xff\xda")]) == 432
    ):
        kept = [data[start:end] for marker, start, end in segments(data) if marker != 0xC4]
        yield "the standard's tables left out", data[:2] + b"".join(kept) + EOI
    app0 = data.index(b"JFIF\0")
    start = max(end for marker, _, end in segments(data) if marker == SOS) - 3
    if b"\xff\xc2" not in data:  # in baseline files, the range has no meaning
        yield "a scan's range", data[:start] + b"\0\0\0" + data[start + 3 :]
    yield "an unknown JFIF", data[: app0 + 5] + b"\7" + data[app0 + 6 :]


def with_pixels_missing(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files with missing pixels, made of `data`, a JPEG from libjpeg."""
    *_, (marker, start, end) = segments(data)
    assert marker == 0
    for share in (0.3, 0.7, 0.9, 0.97):
        at = start + int((end - start) * share)
        cut = data[:at].rstrip(b"\xff")
        yield f"cut at {share}", cut
        yield f"cut at {share} and closed", cut + EOI
        yield f"cut at {share}, NULs", cut + bytes(end + 2 - at)
        yield f"cut at {share}, NULs and closed", cut + bytes(end - at) + EOI
        unknown = cut.replace(b"JFIF\0\1", b"JFIF\0\7", 1)
        yield f"cut at {share} and closed, an unknown JFIF", unknown + EOI


def out_of_step(data: bytes, count: int = 60) -> Iterator[tuple[str, bytes]]:
    """Yield files in which a scan has more data than its decoder uses, as after a flipped bit.

    After each scan of `data`, a JPEG from libjpeg, `count` bytes of the scan are repeated, none of
    which starts a marker.
    """
    components: list[int] = []
    for marker, start, end in segments(data):
        if marker == SOS:
            components = list(data[start + 5 : end - 3 : 2])
        extra = data[start:end].replace(b"\xff", b"")[:count]
        if marker == 0 and len(set(extra)) > 1 and len(extra) == count:
            yield f"more of a scan of {components}, at {start}", inserted(data, end, extra)
    for count in (20, 60, 500):  # a decoder may have read fewer ahead
        yield f"{count} bytes before the end", data[:-2] + junk(count) + EOI


def sampled(planes: list[tuple[bytes, int]], width: int, height: int) -> bytes:
    """Combine grey JPEGs of the same quality into one, each as the scan of one component.

    Each has its sampling factors in a byte, such as 0x31 for 3 horizontally and 1 vertically.
    """
    parts = {marker: planes[0][0][start:end] for marker, start, end in segments(planes[0][0])}
    tables = [
        planes[0][0][start:end]
        for marker, start, end in segments(planes[0][0])
        if marker in {0xDB, 0xC4}
    ]
    frame = parts[0xC0][4:5] + height.to_bytes(2) + width.to_bytes(2) + bytes((len(planes),))
    for n, (_, factors) in enumerate(planes, 1):
        frame += bytes((n, factors, 0))
    out = [b"\xff\xd8", *tables, b"\xff\xc0", (len(frame) + 2).to_bytes(2), frame]
    for n, (data, _) in enumerate(planes, 1):
        (start, end), *_ = ((s, e) for marker, s, e in segments(data) if marker == 0)
        out += [b"\xff\xda\0\x08\1", bytes((n, 0)), b"\0\x3f\0", data[start:end]]
    return b"".join(out) + EOI
