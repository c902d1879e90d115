import asyncio
from contextlib import ExitStack, suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from nciihash.gate.config import UploadLimits
from nciihash.gate.dialects.uploads import (
    FILES_MAX,
    PARTS_MAX,
    BodyRefused,
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    EncodedBody,
    FormFiles,
    MalformedForm,
    NoFile,
    TooManyParts,
    is_multipart,
    read_uploads,
)
from nciihash.gate.outcome import Reason
from nciihash.gate.upload import Upload, UploadMemory

B = "xyz-123"
TYPE = f"multipart/form-data; boundary={B}"
FILE = 'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg'
FIELD = 'Content-Disposition: form-data; name="title"'


def form(*parts, end=True, boundary=B):
    """Return a body of parts, each the text of its headers and its content."""
    body = b""
    for headers, content in parts:
        body += f"--{boundary}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"
    return body + (f"--{boundary}--\r\n".encode() if end else b"")


def new_upload(most=1 << 20):
    memory = UploadMemory(1 << 24)
    return lambda: Upload(memory, most)


def files(body, *, size=1 << 20, content_type=TYPE):
    found = FormFiles(content_type, new_upload())
    for start in range(0, len(body), size):
        found.feed(body[start : start + size])
    found.close()
    return [bytes(upload.data) for upload in found.uploads]


def test_takes_the_files_of_a_form_and_drops_its_fields():
    body = form((FIELD, b"holiday"), (FILE, b"one"), (FIELD, b""), (FILE, b"two\r\n--"))
    assert files(body) == [b"one", b"two\r\n--"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 64])
def test_pieces_of_any_size_make_the_same_files(size):
    body = form((FIELD, b"x" * 30), (FILE, b"\r\n--xyz-12" * 9 + b"\r"), (FILE, b""), (FILE, b"2"))
    assert files(body, size=size) == [b"\r\n--xyz-12" * 9 + b"\r", b"", b"2"]


@pytest.mark.parametrize(
    "headers",
    [
        FILE,
        'content-disposition: form-data; name="f"; FileName="x"',
        "Content-Disposition: form-data; name=f; filename*=UTF-8''x",
        "Content-Disposition: form-data; name=f; filename*0=a; filename*1=b",
        'Content-Disposition: form-data; name="f"\r\nContent-Type: application/octet-stream',
        'Content-Disposition: form-data; name="f"\r\nContent-Type: image/png; name=text/plain',
        "Content-Type: multipart/mixed; boundary=inner",
    ],
)
def test_a_part_is_a_file(headers):
    assert files(form((headers, b"content"))) == [b"content"]


@pytest.mark.parametrize(
    "headers",
    [
        FIELD,
        f"{FIELD}\r\nContent-Type: text/plain; charset=utf-8",
        f"{FIELD}\r\nContent-Type: application/json",
        f"{FIELD}\r\nContent-Type: application/ld+json",
        'Content-Disposition: form-data; name="filename"',
    ],
)
def test_a_part_is_a_field(headers):
    assert files(form((headers, b"content"))) == []


def test_a_file_input_without_a_file_is_none():
    empty = 'Content-Disposition: form-data; name="f"; filename=""\r\nContent-Type: image/png'
    assert files(form((empty, b""), (FILE, b"one"))) == [b"one"]
    assert files(form((empty, b"content"))) == [b"content"]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        'multipart/form-data; boundary="a; boundary=b"',
        "multipart/form-data; boundary*=UTF-8''a",
        "multipart/form-data; boundary=" + "a" * 71,
        'multipart/form-data; boundary="a\tb"',
        'multipart/form-data; boundary="a "',
    ],
)
def test_refuses_a_type_without_one_valid_boundary(content_type):
    with pytest.raises(MalformedForm):
        FormFiles(content_type, new_upload())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        form((FILE, b"one"), end=False),
        form((FILE, b"one"))[:-4],  # the last two dashes
        b"preamble\r\n" + form((FILE, b"one")),
        form((FILE, b"one")).replace(b"\r\n", b"\n"),
        form((FILE + "\r\nContent-Transfer-Encoding: base64", b"b25l")),
        form(("No colon", b"one")),
        form(("X: " + "x" * 10_000, b"one")),
        form(("\r\n".join(f"X-{n}: x" for n in range(40)), b"one")),
        # other programs end the part at the inner boundary, and see a file after it
        form((FIELD, b"\r\n--" + B.encode() + b"-not\r\n" + FILE.encode() + b"\r\n\r\npicture")),
        form((FIELD, b"\n--" + B.encode() + b"\n" + FILE.encode() + b"\n\npicture")),
        form((FILE, b"one")) + form((FILE, b"two")),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_refuses_a_body_that_deviates_from_the_standard(body, size):
    with pytest.raises(MalformedForm):
        files(body, size=size)


def test_a_content_that_contains_the_boundary_within_a_line_is_no_deviation():
    assert files(form((FILE, b"a --" + B.encode() + b" b"))) == [b"a --" + B.encode() + b" b"]


def test_an_epilogue_is_dropped():
    assert files(form((FILE, b"one")) + b"\r\nepilogue") == [b"one"]


def test_limits_the_number_of_files_and_of_parts():
    assert len(files(form(*[(FILE, b"1")] * FILES_MAX))) == FILES_MAX
    with pytest.raises(TooManyParts):
        files(form(*[(FILE, b"1")] * (FILES_MAX + 1)))
    assert files(form(*[(FIELD, b"1")] * PARTS_MAX)) == []
    with pytest.raises(TooManyParts):
        files(form(*[(FIELD, b"1")] * (PARTS_MAX + 1)))


def test_errors_quote_nothing_of_the_body():
    with pytest.raises(MalformedForm) as caught:
        files(b"--" + B.encode() + b"Q secret.jpg")
    assert str(caught.value) == ""
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


PARTS = st.lists(
    st.tuples(
        st.sampled_from([FILE, FIELD]),
        st.binary(max_size=80) | st.sampled_from([b"\r\n--" + B.encode()[:5], b"\r", b"\n", b"--"]),
    ),
    min_size=1,
    max_size=6,
)


@given(parts=PARTS, size=st.integers(1, 90))
def test_reads_back_what_was_written(parts, size):
    expected = [content for headers, content in parts if headers == FILE]
    assert files(form(*parts), size=size) == expected


@given(
    body=st.lists(
        st.sampled_from(
            [*(f"--{B}", "--", "\r\n", "\r", "\n", " ", B, FILE, FIELD, "x"), "\r\n\r\n", ": "]
        ),
        max_size=20,
    ).map(lambda words: "".join(words).encode())
    | st.binary(max_size=200),
    size=st.integers(1, 50),
)
@example(f"--{B}--".encode(), 1)
@example(f"--{B} \t\r\n{FILE}\r\n\r\nx\r\n--{B}--".encode(), 3)
def test_any_body_is_read_or_refused_alike_in_any_pieces(body, size):
    def outcome(size):
        try:
            return files(body, size=size)
        except BodyRefused as refusal:
            return type(refusal)

    assert outcome(size) == outcome(1 << 20)


@given(st.text(max_size=80), st.binary(max_size=80))
def test_any_type_is_taken_or_refused(content_type, body):
    with suppress(BodyRefused):
        files(body, content_type="multipart/form-data;" + content_type)


# --- requests ---


def read(*messages, headers=None, limits=None, most=1 << 20):
    """Read a request of these ASGI messages, after which nothing arrives."""
    waiting = list(messages)

    async def receive():
        if waiting:
            return waiting.pop(0)
        return await asyncio.Event().wait()

    async def run():
        with ExitStack() as opened:
            new = new_upload(most)
            uploads = await read_uploads(
                Headers(headers or {}),
                receive,
                lambda: opened.enter_context(new()),
                limits or UploadLimits(),
            )
            return [(bytes(upload.data), upload.refused) for upload in uploads]

    return asyncio.run(run())


def piece(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_one_file():
    assert read(piece(b"on"), piece(b""), piece(b"e", more=False)) == [(b"one", None)]
    assert read(piece(b"", more=False)) == [(b"", None)]


def test_a_form_may_have_several_files():
    body = form((FILE, b"one"), (FIELD, b"x"), (FILE, b"two"))
    headers = {"content-type": TYPE}
    found = read(piece(body[:50]), piece(body[50:], more=False), headers=headers)
    assert found == [(b"one", None), (b"two", None)]


def test_a_file_of_any_other_type_is_the_body():
    assert not is_multipart("image/jpeg")
    assert is_multipart(" Multipart/Form-Data; boundary=x")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert read(piece(b"one", more=False), headers=headers) == [(b"one", None)]


def test_a_file_that_is_too_large_is_read_to_its_end():
    found = read(piece(b"x" * 60), piece(b"x" * 60), piece(b"x", more=False), most=100)
    assert found == [(b"", Reason.TOO_LARGE)]


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "unknown"])
def test_refuses_a_content_coding(coding):
    with pytest.raises(EncodedBody):
        read(piece(b"one", more=False), headers={"content-encoding": coding})


def test_refuses_a_form_without_a_file():
    with pytest.raises(NoFile):
        read(piece(form((FIELD, b"x")), more=False), headers={"content-type": TYPE})


def test_refuses_a_declared_length_before_the_body():
    limits = UploadLimits(video_bytes=100)
    with pytest.raises(BodyTooLarge):
        read(headers={"content-length": "201"}, limits=limits)
    with pytest.raises(BodyTooLarge):
        read(headers={"content-length": "9" * 30, "content-type": TYPE}, limits=limits)


def test_an_endless_body_is_refused():
    limits = UploadLimits(video_bytes=100)
    with pytest.raises(BodyTooLarge):
        read(*[piece(b"x" * 50)] * 5, limits=limits)
    body = form((FIELD, b"x" * 300), end=False)
    with pytest.raises(BodyTooLarge):
        read(piece(body), headers={"content-type": TYPE}, limits=limits)


def test_a_body_that_pauses_is_refused():
    with pytest.raises(BodyTooSlow):
        read(piece(b"x"), limits=UploadLimits(idle_seconds=0.01))


def test_a_body_that_trickles_is_refused():
    async def trickle():
        await asyncio.sleep(0)
        return piece(b"x")

    limits = UploadLimits(idle_seconds=30, request_seconds=0.05)
    with pytest.raises(BodyTooSlow):
        asyncio.run(read_uploads(Headers({}), trickle, new_upload(), limits))


def test_a_client_that_hangs_up_ends_the_request():
    with pytest.raises(ClientGone):
        read(piece(b"x"), {"type": "http.disconnect"})
