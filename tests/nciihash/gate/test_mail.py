"""The pictures of emails, well-formed and not."""

import base64
import binascii
from contextlib import suppress
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.gate.dialects import mail
from support.pictures import encode, scene

JPEG = encode(scene(64, 48), "JPEG")
PNG = encode(scene(32, 24, seed=2), "PNG")


def message(*attachments, text="See the attachment."):
    it = EmailMessage()
    it["From"] = "a@example.org"
    it["To"] = "b@example.org"
    it["Subject"] = "A picture"
    it.set_content(text)
    for content, subtype in attachments:
        it.add_attachment(content, "image", subtype, filename="a picture.jpg")
    return it


def found(data):
    return list(mail.files(data))


@pytest.mark.parametrize("policy", [SMTP, SMTP.clone(linesep="\n")])
def test_attachments_are_found(policy):
    data = message((JPEG, "jpeg"), (PNG, "png")).as_bytes(policy=policy)
    assert mail.is_message(data)
    assert found(data) == [JPEG, PNG]
    # as Haraka's plugin and mailboxes send it
    for start in (b"Received: from Haraka clamd plugin\r\n", b"From a@example.org Mon Nov 30\n"):
        assert mail.is_message(start + data)
        assert found(start + data) == [JPEG, PNG]


def test_a_message_without_pictures():
    data = message().as_bytes()
    assert mail.is_message(data)
    assert found(data) == []


def test_parts_within_parts():
    inner = message((PNG, "png"))
    outer = message((JPEG, "jpeg"))
    outer.add_attachment(inner)
    data = outer.as_bytes()
    assert sorted(found(data)) == sorted([JPEG, PNG])


def test_a_picture_that_is_the_whole_message():
    data = b"From: a\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
    assert found(data + base64.encodebytes(JPEG)) == [JPEG]


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        (b"quoted-printable", binascii.b2a_qp(JPEG, istext=False)),
        (b"8bit", JPEG),
        (b"binary", JPEG),
        (b"", JPEG),
        (b"7bit", b"begin 644 a.jpg\n" + b"".join(
            binascii.b2a_uu(JPEG[i : i + 45]) for i in range(0, len(JPEG), 45)
        ) + b"`\nend\n"),
        (b"x-uuencode", b"begin-base64 644 a.jpg\n" + base64.encodebytes(JPEG) + b"====\n"),
        (b"base64", b"\r\n".join(base64.b64encode(JPEG)[i : i + 7] for i in range(0, 1 << 16, 7))),
        (b"base64", base64.b64encode(JPEG[:30]) + b"=\n" + base64.b64encode(JPEG[30:])),
    ],
)  # fmt: skip
def test_transfer_encodings(name, encoded):
    data = (
        b"From: a\nMIME-Version: 1.0\nContent-Type: application/octet-stream\n"
        b"Content-Transfer-Encoding:\n " + name + b" \n\n" + encoded
    )
    (content,) = found(data)
    assert content.startswith(JPEG)


def test_a_picture_is_found_whatever_its_header_says():
    data = message((JPEG, "jpeg")).as_bytes().replace(b"image/jpeg", b"text/plain; x=1")
    assert found(data) == [JPEG]


def test_what_a_header_calls_a_picture_is_passed_on():
    assert found(message((b"no picture", "jpeg")).as_bytes()) == [b"no picture"]


@pytest.mark.parametrize("boundary", [b"b", b"=_a(1)+?.[x]", b"'b'", b"0" * 70])
@pytest.mark.parametrize("closed", [True, False])
def test_boundaries(boundary, closed):
    start = b'Content-Type: Multipart/Mixed;\r\n\tcharset=x; BOUNDARY = "' + boundary + b'"\r\n\r\n'
    part = b"\r\n--" + boundary + b" \r\nContent-Transfer-Encoding: base64\r\n\r\n"
    data = start + b"--" + boundary + b"x" + part + base64.encodebytes(JPEG)
    data += part + base64.encodebytes(PNG)
    if closed:
        data += b"--" + boundary + b"--\r\n"
    assert found(data) == [JPEG, PNG]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"x", b"\0" * 100, b"a text\nwith lines", b"note: buy milk\n\nand more", JPEG, PNG),
        *(b"%PDF-1.7\nFrom: x\n", b"GIF89a: x\nFrom: a\n\n", b"From here on\nit is text\n"),
    ],
)
def test_other_files_are_no_messages(data):
    assert not mail.is_message(data)


def test_limits():
    part = b"--b\n\nx\n"
    start = b"Content-Type: multipart/mixed; boundary=b\n\n"
    assert found(start + part * (mail.MAX_PARTS - 2)) == []
    with pytest.raises(mail.TooComplex):
        found(start + part * (mail.MAX_PARTS + 1))
    picture = b"--b\nContent-Type: image/gif\n\nx\n"
    assert len(found(start + picture * mail.MAX_FILES)) == mail.MAX_FILES
    with pytest.raises(mail.TooComplex):
        found(start + picture * (mail.MAX_FILES + 1))
    nested = b"Content-Type: message/rfc822\n\n"
    assert found(nested * (mail.MAX_DEPTH) + b"\nx") == []
    with pytest.raises(mail.TooComplex):
        found(nested * (mail.MAX_DEPTH + 1) + b"\nx")
    with pytest.raises(mail.TooComplex):
        found(b"From: a\n\n" + bytes(mail.MAX_BYTES))
    levels = [b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(30)]
    with pytest.raises(mail.TooComplex):
        found(b"".join(levels))


@given(st.binary(max_size=500), st.integers(0, 2000), st.integers(0, 300))
def test_damaged_messages_do_no_harm(junk, at, cut):
    data = message((JPEG[:200], "jpeg"), (PNG[:200], "png")).as_bytes()
    data = data[:at] + junk + data[at + cut :]
    mail.is_message(data)
    for each in found(data):
        assert len(each) <= len(data)


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        (b"From: a\n\n", b"begin 644 a\n"),
        (b"a:", b"\n "),
        (b"Content-Type: multipart/mixed; boundary=b\n\n", b"\n--b"),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b", b" "),
        (b"Content-Type: multipart/mixed", b";boundary"),
        (b"Content-Type: multipart/mixed;", b" "),
        (b"Content-Transfer-Encoding: base64\n\n", b"="),
        (b"", b"\n"),
        (b"Content-Type: multipart/mixed; boundary=b\n\n", b"--b"),
        (b"From: a\n\n", b"begin"),
        (b"From: a\n\nbegin 644 a\n", b"!\n"),
    ],
)
def test_no_input_makes_the_work_quadratic(start, repeated):
    data = start + repeated * (2 << 20)  # at quadratic cost it would take days
    with suppress(mail.TooComplex):
        found(data)
