"""The survivor's page in WebKit, the engine of every browser on an iPhone."""

from pathlib import Path

import pytest
from PIL import Image
from skimage import data as photos

from nciihash.hashing.hasher import hash_bytes, hash_image
from support.browsers import webkit
from support.browsers.chosen_files import clip, encoded
from support.browsers.person import WORDS, Person, moments_apart, stills
from support.hashes import bits_apart

pytestmark = pytest.mark.skipif(
    not webkit.installed(),
    reason="no WebKitGTK is installed (apt-get install webkit2gtk-driver xvfb)",
)


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    with webkit.started(tmp_path_factory.mktemp("webkit")) as client:
        yield client


@pytest.fixture
def person(serving, steered):
    return Person(steered, serving.address)


def distances(found, path):
    """Return, for each altered copy that both hash, the distance between the two hashes in bits."""
    wanted = {
        hashed.variant.value: hashed.signal.hex
        for hashed in hash_bytes(path.read_bytes(), variants="standard").hashes
    }
    return {name: bits_apart(value, wanted[name]) for name, value in found if name in wanted}


def test_webkit_makes_the_same_fingerprints_and_opens_a_case(person, serving, tmp_path):
    chosen = stills(tmp_path)
    person.to_files()
    for path in chosen:
        person.choose(path)
    person.find(f"Fingerprints ready: \u2068{3}\u2069 of \u2068{3}\u2069")
    found = person.prints()
    expected = [hash_image(path.read_bytes()).signal.hex for path in chosen]
    assert [bits_apart(found[n + 1][0][1], value) for n, value in enumerate(expected)] == [0, 0, 0]
    for n, path in enumerate(chosen):
        apart = distances(found[n + 1], path)
        assert len(apart) >= 20
        assert max(apart.values()) <= 8
    before = serving.cases()
    person.press("review.send")
    person.at("receipt.title")
    assert serving.cases() == before + 1


def test_colour_profiles_are_ignored(person, tmp_path):
    """An iPhone's pictures have a profile, by which its browsers convert what they draw."""
    with Image.open(Path(photos.data_dir) / "rocket.jpg") as photo:
        profile = photo.info["icc_profile"]
        assert b"Adobe RGB" in profile
        chosen = []
        for name, image_format in (("a.jpg", "JPEG"), ("b.png", "PNG")):
            path = tmp_path / name
            path.write_bytes(encoded(photo, image_format, icc_profile=profile))
            chosen.append(path)
    person.to_files()
    for path in chosen:
        person.choose(path)
    person.find(f"Fingerprints ready: \u2068{2}\u2069 of \u2068{2}\u2069")
    found = person.prints()
    for n, path in enumerate(chosen, 1):
        apart = distances(found[n], path)
        assert apart["original"] == 0
        assert len(apart) >= 20
        assert sorted(apart.values())[len(apart) // 2] <= 2


def test_files_that_cannot_be_opened_are_refused_with_a_reason(person, tmp_path):
    person.to_files()
    photo = Image.fromarray(photos.chelsea())
    for name, content, reason in (
        ("a.jpg", b"", "empty"),
        ("b.jpg", encoded(photo, "JPEG")[:9000], "damaged"),
        ("c.txt", b"words", "not_picture"),
        ("d.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "heic"),
    ):
        (tmp_path / name).write_bytes(content)
        person.choose(tmp_path / name)
        person.find(WORDS[f"refused.{reason}"])


def test_a_video_is_hashed_or_refused_as_unplayable(person, tmp_path):
    """Which kinds it plays depends on the installed plugins."""
    path = tmp_path / "video.webm"
    path.write_bytes(clip()["buffer"])
    person.to_files()
    person.choose(path)
    ready = f"Fingerprints ready: \u2068{1}\u2069 of \u2068{1}\u2069"
    if person.find(ready, WORDS["refused.unplayable"]).text != ready:
        pytest.skip("this WebKitGTK plays no WebM (apt-get install gstreamer1.0-plugins-good)")
    moments = moments_apart(person.prints()[1], path)
    assert len(moments) == 3
    assert max(moments) <= 6
