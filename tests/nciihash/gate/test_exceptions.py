"""Excepted files: which matches of which uploads no longer count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nciihash.gate.decisions.records import ExceptedFile
from nciihash.gate.exceptions import SAME_FILE, Exceptions
from nciihash.hashing.hasher import hash_bytes
from nciihash.sdk.lookup import LookupResult
from nciihash.sdk.matcher import Matcher
from nciihash.signals import (
    Band,
    Edit,
    Hashed,
    Item,
    Level,
    Match,
    Media,
    PartKind,
    Signal,
    SignalType,
    Variant,
    VariantSet,
)
from nciihash.wire import Hit
from support.pictures import encode, textured

WINDOW = Edit(PartKind.WHOLE, (0.0, 0.0, 0.5, 0.5))


def name(number: int) -> str:
    return f"{number:032x}"


def signal(bits: int = 0) -> Signal:
    """Return a hash whose lowest bits are those of a number."""
    return Signal(SignalType.PDQ, bits.to_bytes(32, "big"))


def flipped(count: int, start: int = 0) -> Signal:
    return signal(((1 << count) - 1) << start)


def picture(*signals: Signal, media: Media = Media.IMAGE) -> Item:
    return Item(media, tuple(Hashed(each, 100) for each in signals))


def excepted(*signals: Signal) -> Exceptions:
    return Exceptions.of([ExceptedFile(1, signals, "R", "Ana", 0)])


def match(number: int = 1, distance: int = 20, item: int = 1, **fields) -> Match:
    type = fields.pop("type", SignalType.PDQ)
    return Match(name(number), name(item), type, Variant.ORIGINAL, distance, **fields)


def hit(number: int = 1, band: Band = Band.LIKELY, item: int = 1) -> Hit:
    return Hit(id=name(number), item=name(item), band=band)


def result(*matches: Match | Hit) -> LookupResult:
    return LookupResult(
        tuple((m.type if isinstance(m, Match) else SignalType.PDQ, m) for m in matches)
    )


def numbers(ids: frozenset[str]) -> set[int]:
    return {int(each, 16) for each in ids}


@pytest.mark.parametrize("apart", range(12))
@pytest.mark.parametrize("distance", range(0, 32, 3))
def test_only_the_same_file_and_only_if_the_bank_is_farther(apart, distance):
    found = excepted(signal()).matches(picture(flipped(apart)), result(match(distance=distance)))
    assert numbers(found) == ({1} if apart <= SAME_FILE and apart < distance else set())


def test_one_near_match_of_an_item_keeps_all_of_its_matches():
    exceptions = excepted(signal())
    matches = result(match(1, 3, item=1), match(2, 30, item=1), match(3, 30, item=2))
    assert numbers(exceptions.matches(picture(flipped(5)), matches)) == {3}
    assert numbers(exceptions.matches(picture(flipped(2)), matches)) == {1, 2, 3}


def test_another_picture_in_the_same_frame_is_not_excepted():
    framed, lawful, hers = signal(), flipped(120), flipped(120, 120)
    exceptions = excepted(framed, lawful)
    assert exceptions.matches(picture(framed, lawful), result(match()))
    assert not exceptions.matches(picture(framed, hers), result(match()))
    assert not exceptions.matches(picture(framed, hers), result(hit()))


def test_every_frame_of_a_video_must_be_excepted():
    exceptions = excepted(signal(), flipped(100))
    video = picture(signal(), flipped(100), flipped(102), media=Media.VIDEO)
    assert numbers(exceptions.matches(video, result(match()))) == {1}
    longer = picture(signal(), flipped(100), flipped(150), media=Media.VIDEO)
    assert not exceptions.matches(longer, result(match()))


def test_a_window_is_as_near_as_it_aligned():
    window = match(distance=50, aligned=6, edit=WINDOW, review=True)
    assert numbers(excepted(signal()).matches(picture(flipped(5)), result(window))) == {1}
    assert not excepted(signal()).matches(picture(flipped(6)), result(window))


def test_of_hits_only_likely_ones_are_known_to_be_farther():
    exceptions = excepted(signal())
    assert numbers(exceptions.matches(picture(flipped(8)), result(hit()))) == {1}
    assert not exceptions.matches(picture(signal()), result(hit(band=Band.STRONG)))
    both = result(hit(1, Band.STRONG), hit(2))
    assert not exceptions.matches(picture(signal()), both)


@pytest.mark.parametrize("type", [SignalType.MD5, SignalType.SHA256, SignalType.PHASH])
def test_matches_of_other_types_count(type):
    found = result(match(distance=9, type=type))
    assert not excepted(signal()).matches(picture(signal()), found)


def test_hashes_that_are_not_looked_up_are_not_compared():
    blank = Hashed(flipped(128), 10)
    item = Item(Media.IMAGE, (Hashed(signal(), 100), blank))
    assert excepted(signal()).matches(item, result(match()))
    only_blank = Item(Media.IMAGE, (blank,))
    window = match(distance=50, aligned=16, edit=WINDOW, review=True)
    assert not excepted(flipped(128)).matches(only_blank, result(window))


def test_no_exceptions():
    assert Exceptions.of([]).matches(picture(signal()), result(match())) == frozenset()
    digest = Signal(SignalType.SHA256, bytes(32))
    assert not excepted(digest).matches(picture(signal()), result(match()))


hashes = st.lists(st.integers(0, 2**10 - 1).map(signal), max_size=4)
found = st.one_of(
    st.builds(match, st.integers(0, 9), st.integers(0, 31), st.integers(0, 3)),
    st.builds(hit, st.integers(0, 9), st.sampled_from(Band), st.integers(0, 3)),
)


@given(hashes, hashes, st.lists(found, max_size=6))
def test_it_agrees_with_its_definition(own, lawful, matches):
    def apart(one: Signal, other: Signal) -> int:
        return (int(one.hex, 16) ^ int(other.hex, 16)).bit_count()

    def nearest(item: str) -> int:
        distances = [
            m.distance if isinstance(m, Match) else {Band.STRONG: 0, Band.LIKELY: 17}[m.band]
            for m in matches
            if m.item == item
        ]
        return min(distances)

    expected = {
        m.id
        for m in matches
        if own
        and lawful
        and all(
            any(apart(h, e) <= 8 and apart(h, e) < nearest(m.item) for e in lawful) for h in own
        )
    }
    assert excepted(*lawful).matches(picture(*own), result(*matches)) == expected


class TestPictures:
    """Drawn pictures, edited and hashed as uploads are."""

    def hash(self, image: Image.Image, variants: VariantSet = VariantSet.MATCH, **options) -> Item:
        kind = options.pop("kind", "PNG")
        return hash_bytes(encode(image, kind, **options), variants=variants.value)

    def lookup(self, bank: Image.Image, upload: Item) -> LookupResult:
        hers = self.hash(bank, VariantSet.STANDARD)
        (found,) = Matcher.from_items({"hers": hers}, level=Level.FAST).look_up([upload])
        return found

    def test_a_lawful_picture_that_resembles_hers_passes_and_hers_stays(self):
        """The lawful one is a mixture of hers and another, so that it matches hers."""
        hers, other = textured(1), textured(2)
        for percent in range(2, 50):
            lawful = Image.blend(hers, other, percent / 100)
            files = [ExceptedFile(1, tuple(h.signal for h in self.hash(lawful).hashes), "", "", 0)]
            again = self.hash(lawful, kind="JPEG", quality=40)
            matches = self.lookup(hers, again)
            if min(match.distance for _, match in matches.found) > 16:
                break
        assert matches.found[0][1].band is Band.LIKELY
        exceptions = Exceptions.of(files)
        assert exceptions.matches(again, matches) == {match.id for _, match in matches.found}
        pixels = np.asarray(hers)
        for edited in (
            pixels,
            pixels[8:-8, 8:-8],
            pixels[:, ::-1],
            np.pad(pixels, ((30, 30), (30, 30), (0, 0))),
        ):
            upload = self.hash(Image.fromarray(np.ascontiguousarray(edited)))
            matches = self.lookup(hers, upload)
            assert matches.found
            assert not exceptions.matches(upload, matches)
