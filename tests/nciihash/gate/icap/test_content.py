"""Bodies of encapsulated HTTP messages: codings, forms, text, bombs, and what is kept."""

import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.gate.dialects.icap.content import (
    DETECTABLE,
    PIECE,
    Content,
    Decompressor,
    may_be_media,
)
from nciihash.gate.dialects.icap.http_head import HttpHead, prefers_json
from nciihash.gate.outcome import Reason
from nciihash.gate.upload import Upload, UploadMemory
from support.pictures import encode, scene

FORM = "multipart/form-data; boundary=xyz"


def picture(image_format="JPEG", seed=1):
    return encode(scene(seed=seed), image_format)


def form(*files):
    """Return a form of files and a field."""
    parts = [b'--xyz\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n']
    parts += [
        b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\n\r\n%b\r\n' % file
        for file in files
    ]
    return b"".join([*parts, b"--xyz--\r\n"])


def head(**fields):
    """Return the head of a request with these fields."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return HttpHead.parse("\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode())


def received(data, *, memory=None, most=1 << 24, inflated=1 << 24, keep=False, size=None, **fields):
    """Return the content of a message with this body, received in pieces of `size` bytes."""
    memory = memory or UploadMemory(1 << 25)
    content = Content(
        head(**fields), lambda: Upload(memory, most), memory, inflated=inflated, keep=keep
    )
    size = size or max(len(data), 1)
    for start in range(0, len(data), size):
        for _ in content.write(data[start : start + size]):
            pass
    content.end()
    return content


def files(content):
    return [bytes(upload.data) for upload in content.uploads]


def raw_deflate(data):
    out = zlib.compressobj(wbits=-15)
    return out.compress(data) + out.flush()


CODED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate without a header": raw_deflate,
    "gzip in two members": lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:]),
}


def test_a_plain_body_is_one_upload_and_kept_once():
    memory, data = UploadMemory(1 << 25), picture()
    with received(data, keep=True, memory=memory, Content_Type="image/jpeg") as content:
        assert files(content) == [data]
        assert content.uploads == [content.original]
        assert memory.used == len(data)
    assert memory.used == 0


@pytest.mark.parametrize("coding", CODED)
@pytest.mark.parametrize("size", [1, 7, None])
def test_a_compressed_body_is_decompressed(coding, size):
    data = picture("BMP")
    coded = CODED[coding](data)
    with received(
        coded, size=size, keep=True, Content_Encoding=coding.split()[0].upper()
    ) as content:
        assert files(content) == [data]
        assert bytes(content.original.data) == coded


@pytest.mark.parametrize("size", [1, 64, None])
def test_a_form_is_taken_apart(size):
    one, two = picture(seed=1), picture(seed=2)
    with received(form(one, two), size=size, keep=True, Content_Type=FORM) as content:
        assert files(content) == [one, two]
        assert bytes(content.original.data) == form(one, two)


def test_a_compressed_form_is_taken_apart():
    data = form(picture())
    with received(gzip.compress(data), Content_Type=FORM, Content_Encoding="gzip") as content:
        assert files(content) == [picture()]
        assert content.original is None


def test_a_second_content_type_does_not_hide_a_form():
    parsed = HttpHead.parse(
        f"POST / HTTP/1.1\r\nContent-Type: text/plain\r\nCONTENT-TYPE: {FORM}\r\n\r\n".encode()
    )
    assert parsed.content_type == FORM


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (form(picture())[:-30], {"Content_Type": FORM}),
        (b"no form", {"Content_Type": FORM}),
        (form(picture()), {"Content_Type": "multipart/form-data"}),
        (gzip.compress(picture())[:-9], {"Content_Encoding": "gzip"}),
        (b"no gzip", {"Content_Encoding": "gzip"}),
        (b"", {"Content_Encoding": "gzip"}),
        (b"\x08", {"Content_Encoding": "deflate"}),
        (picture(), {"Content_Encoding": "br"}),
        (form(picture()), {"Content_Encoding": "zstd", "Content_Type": FORM}),
        (gzip.compress(gzip.compress(picture())), {"Content_Encoding": "gzip, gzip"}),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(data, fields):
    with received(data, **fields) as content:
        assert {Reason.CORRUPT, Reason.UNSUPPORTED} & {each.refused for each in content.uploads}


def test_files_before_the_fault_of_a_form_are_checked():
    damaged = form(picture())[:-11] + b"\r\n--xyz\r\nno header\r\n\r\n"
    with received(damaged, Content_Type=FORM) as content:
        assert files(content) == [picture(), b""]
        assert [each.refused for each in content.uploads] == [None, Reason.CORRUPT]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate without a header"])
def test_a_bomb_takes_a_bounded_amount_of_memory(coding):
    memory = UploadMemory(1 << 30)
    bomb = CODED[coding](bytes(50 << 20))
    content = Content(
        head(Content_Encoding=coding.split()[0]),
        lambda: Upload(memory, 1 << 30),
        memory,
        inflated=1 << 20,
        keep=False,
    )
    most = pieces = 0
    for _ in content.write(bomb):
        pieces += 1
        most = max(most, memory.used)
    content.end()
    assert most <= (1 << 20) + PIECE
    assert pieces <= (1 << 20) // PIECE + 1
    assert [each.refused for each in content.uploads] == [Reason.TOO_LARGE]
    assert memory.used == 0


def test_a_bomb_in_a_form_is_refused():
    with received(
        gzip.compress(form(bytes(4 << 20))),
        inflated=1 << 20,
        Content_Type=FORM,
        Content_Encoding="gzip",
    ) as content:
        assert content.uploads[-1].refused is Reason.TOO_LARGE


def test_what_was_kept_is_available_when_the_rest_is_too_large():
    memory = UploadMemory(1000)
    with received(bytes(100), size=30, most=80, keep=True, memory=memory) as content:
        held, data = content.overflow
        assert (len(held), len(data)) == (60, 30)
        assert memory.used == 60
        assert content.original.refused is Reason.TOO_LARGE
    assert memory.used == 0


def test_nothing_is_kept_for_a_client_that_allows_204():
    assert received(bytes(100), size=30, most=80).overflow is None


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        *(("text/html; charset=utf-8", True), ("application/json", True), ("font/woff2", True)),
        *(("application/problem+json", True), ("application/x-www-form-urlencoded", True)),
        *(("image/jpeg", False), ("image/svg+xml", False), ("application/octet-stream", False)),
        *(("", False), ("application/pdf", False), ("video/mp4", False)),
    ],
)
def test_text_is_not_a_file(content_type, text):
    content = received(b'{"a": 1}' * 600, Content_Type=content_type)
    assert content.not_a_file(whole=True) == text


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_picture_is_a_file_whatever_its_type_says(image_format):
    assert not received(picture(image_format), Content_Type="text/plain").not_a_file(whole=True)


def test_the_start_of_a_body_does_not_decide_until_it_is_long_enough():
    content = received(b"a" * (DETECTABLE - 1), Content_Type="text/plain")
    assert not content.not_a_file(whole=False)
    assert content.not_a_file(whole=True)
    longer = received(b"a" * DETECTABLE, Content_Type="text/plain")
    assert longer.not_a_file(whole=False)


@given(st.sampled_from(["JPEG", "PNG", "TIFF", "BMP", "WEBP"]), st.integers(1, 4000))
def test_the_start_of_a_picture_may_be_a_picture(image_format, size):
    data = encode(scene(500, 500), image_format)
    assert may_be_media(data[:DETECTABLE])
    assert may_be_media(data[: DETECTABLE + size])


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_split_decompresses_to_the_same(data, positions):
    coded = gzip.compress(data)
    bounds = [0, *sorted(position % (len(coded) + 1) for position in positions), len(coded)]
    inflate = Decompressor("gzip")
    out = b"".join(
        piece
        for start, end in itertools.pairwise(bounds)
        for piece in inflate.pieces(coded[start:end])
    )
    assert out == data
    assert inflate.complete


def inflated(data, coding, size):
    inflate = Decompressor(coding)
    starts = range(0, len(data), size)
    out = b"".join(piece for at in starts for piece in inflate.pieces(data[at : at + size]))
    return out, inflate.failed


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_decompress_without_an_error(data, coding):
    assert inflated(data, coding, 3) == inflated(data, coding, 300)


@given(st.integers(0, 5000), st.integers(0, 255), st.integers(1, 400))
def test_what_comes_before_damage_does_not_depend_on_the_split(position, byte, size):
    data = bytearray(gzip.compress(picture("BMP")[:20_000]))
    data[position % len(data)] = byte
    assert inflated(bytes(data), "gzip", size) == inflated(bytes(data), "gzip", 1 << 20)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head(data):
    parsed = HttpHead.parse(data)
    assert isinstance(parsed.content_type, str)
    assert isinstance(parsed.codings, list)
    prefers_json(",".join(parsed.values("accept")))


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("application/problem+json", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/html, application/json;q=0.9", False),
        ("text/html;q=0.5, application/json;q=0.9", True),
        ("*/*", False),
        ("", False),
        ("application/json;q=0", False),
        ("application/json;q=nan", False),
        ("application/json;q=x", False),
    ],
)
def test_json_where_the_client_prefers_it(accept, json):
    assert prefers_json(accept) == json
