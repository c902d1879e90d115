"""The survivor's page in Firefox, where private windows alter what a canvas returns."""

import pytest

from nciihash.hashing.hasher import hash_bytes, hash_image
from support.browsers.chosen_files import clip
from support.browsers.firefox import FIREFOX, started
from support.browsers.person import WORDS, Person, moments_apart, stills
from support.hashes import bits_apart

pytestmark = pytest.mark.skipif(
    FIREFOX is None, reason="no Firefox is installed (apt-get install firefox-esr)"
)


@pytest.fixture
def person(serving, tmp_path):
    """Return a function that starts Firefox with given preferences and opens the page."""
    pytest.importorskip("marionette_driver", reason="no marionette_driver")
    running = []

    def start(**preferences):
        running.append(started(tmp_path, **preferences))
        return Person(running[-1].__enter__(), serving.address)

    yield start
    for firefox in running:
        firefox.__exit__(None, None, None)


def files(folder):
    """Return photos as files, and a video."""
    path = folder / "d.webm"
    path.write_bytes(clip()["buffer"])
    return [*stills(folder), path]


def test_firefox_makes_the_same_fingerprints_and_opens_a_case(person, serving, tmp_path):
    person = person()
    person.to_files()
    chosen = files(tmp_path)
    for path in chosen:
        person.choose(path)
    person.find(f"Fingerprints ready: \u2068{4}\u2069 of \u2068{4}\u2069")
    found = person.prints()
    expected = [hash_image(path.read_bytes()).signal.hex for path in chosen[:3]]
    assert [bits_apart(found[n + 1][0][1], value) for n, value in enumerate(expected)] == [0, 0, 0]
    moments = moments_apart(found[4], chosen[3])
    assert len(moments) == 3
    assert max(moments) <= 6
    before = serving.cases()
    person.press("review.send")
    person.at("receipt.title")
    assert serving.cases() == before + 1


@pytest.mark.parametrize("which", ["standard", "thorough"])
def test_firefox_makes_the_chosen_set(person, tmp_path, which):
    person = person()
    person.to_files()
    picture = stills(tmp_path)[1]
    assert picture.suffix == ".png"
    if which == "thorough":
        person.client.find_element("css selector", "[aria-describedby=parts]").click()
    person.choose(picture)
    person.find(WORDS["file.ready"])
    made = hash_bytes(picture.read_bytes(), variants=which).hashes
    expected = [(h.variant.value, h.signal.hex) for h in made if not h.plain]
    assert person.prints() == {1: expected}


def test_no_fingerprint_is_wrong_where_firefox_alters_the_canvas(person, tmp_path):
    person = person(**{"privacy.resistFingerprinting": "true"})
    person.to_files()
    chosen = files(tmp_path)
    for path in chosen:
        person.choose(path)
    person.find(WORDS["refused.blocked"])
    person.find(WORDS["refused.hidden"])
    found = person.prints()
    assert sorted(found) == [1, 2]
    expected = [hash_image(path.read_bytes()).signal.hex for path in chosen[:2]]
    assert all(bits_apart(found[n + 1][0][1], value) <= 2 for n, value in enumerate(expected))
