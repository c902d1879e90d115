"""Files that the page refuses, and the reason for each."""

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from golden.pictures import rings, waves
from nciihash.errors import FileRefused
from nciihash.hashing.hasher import hash_bytes
from support.browsers.chosen_files import encoded, png
from support.browsers.visitor import LANGUAGES, catalogue
from support.hashes import fingerprints


def refusals():
    """Yield files that people have, each with the code of its refusal."""
    photo = Image.fromarray(photos.chelsea())
    whole = {f: encoded(photo, f) for f in ("JPEG", "PNG", "GIF", "WEBP", "BMP")}
    progressive = encoded(photo, "JPEG", progressive=True)
    for share in (0.1, 0.5, 0.97):
        for image_format, data in (*whole.items(), ("progressive", progressive)):
            yield pytest.param(
                data[: int(len(data) * share)], "damaged", id=f"{image_format} cut {share}"
            )
    rotten = bytearray(whole["PNG"])
    rotten[len(rotten) // 2] ^= 1
    yield pytest.param(bytes(rotten), "damaged", id="PNG with one bit flipped")
    yield pytest.param(b"", "empty", id="empty")
    yield pytest.param(b"Dear all, this is no picture.", "not_picture", id="text")
    yield pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_picture", id="drawing")
    yield pytest.param(bytes(n * n % 251 + 1 for n in range(4096)), "not_picture", id="noise")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x10mdat12345678"
    yield pytest.param(heic, "heic", id="HEIC")
    yield pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "damaged", id="MP4's first bytes")
    yield pytest.param(b"\x1aE\xdf\xa3webm", "damaged", id="WebM's first bytes")
    yield pytest.param(encoded(photo, "TIFF"), "unopened", id="TIFF")
    flat = np.full((300, 300, 3), 120, np.uint8)
    yield pytest.param(png(flat), "too_plain", id="flat")
    yield pytest.param(encoded(Image.fromarray(flat), "JPEG"), "too_plain", id="flat JPEG")
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, 128:] = 255
    yield pytest.param(png(stripes), "too_plain", id="half black, half white")
    stripes = np.repeat(rings(1, 256), 256, axis=0)
    yield pytest.param(png(stripes), "too_plain", id="stripes")
    yield pytest.param(png(waves(4, 400)), "too_plain", id="4 pixels high")
    huge = bytearray(whole["JPEG"])
    start = whole["JPEG"].index(b"\xff\xc0")
    huge[start + 5 : start + 9] = b"\xff\xdc\xff\xdc"
    yield pytest.param(bytes(huge), "too_large", id="JPEG of 4 gigapixels")


@pytest.mark.parametrize(("data", "code"), list(refusals()))
def test_each_file_is_refused_with_a_reason_in_every_language(page, data, code):
    (got,) = fingerprints(page, [data])
    assert got["code"] == code
    for language in LANGUAGES:
        assert catalogue(language)[f"refused.{code}"]


def test_python_refuses_the_same_files():
    """Python also refuses the files that are damaged, empty or too large here."""
    for case in refusals():
        data, code = case.values
        if code in {"damaged", "empty", "too_large", "not_picture"}:
            with pytest.raises(FileRefused):
                hash_bytes(data)
        elif code == "too_plain":
            assert hash_bytes(data).hashes[0].plain, case.id
