"""The flood stop: copies of one picture never cause it, unlike pictures of one item do."""

import io
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from nciihash import pdq
from nciihash.feed import Added
from nciihash.gate.config import FloodConfig
from nciihash.gate.flood import UNLIKE, FloodStop, orientations
from nciihash.gate.outcome import Decision, Reason
from nciihash.gate.policy import Policy, judge
from nciihash.hamming import distances
from nciihash.hashing.hasher import hash_bytes
from nciihash.sdk.lookup import LookupResult
from nciihash.sdk.matcher import Matcher, bank_of
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

PICTURES = FloodConfig().pictures
PHOTOS = ("kodak__19.jpg",)
SETS = (VariantSet.STANDARD, VariantSet.FULL, VariantSet.THOROUGH)


class Bank:
    """A bank of one item, with what a gate uses of it."""

    def __init__(self, item: Item, config: FloodConfig | None = None) -> None:
        self.alerts = 0
        self._matcher = Matcher.from_items({"item": item}, level=Level.FAST)
        entry = bank_of([item]).entry
        self.stop = FloodStop(config or FloodConfig(), entry, alert=self._alert)

    def _alert(self) -> None:
        self.alerts += 1

    def decisions(self, uploads: Iterable[Item]) -> Iterator[tuple[Decision, Reason]]:
        """Upload files at the same time, and yield what is decided about those that match."""
        uploads = list(uploads)
        for upload, found in zip(uploads, self._matcher.look_up(uploads), strict=True):
            if found.found:
                flooded = self.stop.meet(upload, found, now=0.0)
                judged = judge(Policy(), upload, found, flooded=flooded)
                yield judged.decision, judged.reason


def picture(value: bytes) -> Item:
    """Return an upload of a picture that has detail, given its hash."""
    signal = Signal(SignalType.PDQ, value)
    return Item(Media.IMAGE, (Hashed(signal, 100, distinctive=True),))


def flipped(value: bytes, bits: int, rng: np.random.Generator) -> bytes:
    """Flip some bits of a hash."""
    mask = np.zeros(256, np.uint8)
    mask[rng.choice(256, bits, replace=False)] = 1
    return (np.frombuffer(value, np.uint8) ^ np.packbits(mask)).tobytes()


@cache
def unlike(count: int) -> tuple[bytes, ...]:
    """Return the hashes of unlike pictures."""
    found = []
    for seed in range(count):
        data = encode(textured(seed, 224, 160), "PNG")
        found.append(hash_bytes(data).hashes[0].signal.value)
    return tuple(found)


def poisoned(values: Iterable[bytes], media: Media = Media.IMAGE) -> Item:
    """Return an item that claims to be one picture, or a video, and has any hashes."""
    return Item(media, tuple(Hashed(Signal(SignalType.PDQ, value), 100) for value in values))


def edits(image: Image.Image) -> Iterator[Image.Image]:
    """Yield edited copies of a picture."""
    width, height = image.size
    pixels = np.asarray(image)
    for percent in (1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 20):
        x, y = width * percent // 100, height * percent // 100
        for left, top, right, bottom in ((1, 1, 1, 1), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1)):
            yield image.crop((left * x, top * y, width - right * x, height - bottom * y))
        for fill in (0, 255):
            grown = np.pad(pixels, ((y, y), (x, x), (0, 0)), constant_values=fill)
            yield Image.fromarray(grown)
    for box in ((0, 0, 50, 50), (50, 50, 100, 100), (0, 0, 50, 100), (15, 15, 85, 85)):
        yield image.crop(tuple(np.array(box) * (width, height, width, height) // 100))
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180):
        yield image.transpose(turn)
    for angle in (-5, -3, -1, 1, 2, 3, 4, 5):
        yield image.rotate(angle, Image.Resampling.BICUBIC)
    for factor in (0.5, 0.7, 1.4, 2.0):
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            yield enhance(image).enhance(factor)
    yield ImageOps.grayscale(image).convert("RGB")
    yield ImageOps.posterize(image, 3)
    yield image.resize((width // 3, height // 3))


@cache
def copies(image_data: bytes) -> tuple[Item, ...]:
    """Hash edited copies of a picture, and the same mirrored, each saved as JPEG."""
    with Image.open(io.BytesIO(image_data)) as opened:
        image = opened.convert("RGB")
    image.thumbnail((448, 448))
    found = []
    for number, edited in enumerate(edits(image)):
        for copy in (edited, ImageOps.mirror(edited)):
            data = encode(copy, "JPEG", quality=(20, 50, 90)[number % 3])
            found.append(hash_bytes(data, variants=VariantSet.MATCH.value))
    return tuple(found)


@pytest.fixture(params=["drawn", *(pytest.param(name, marks=pytest.mark.slow) for name in PHOTOS)])
def original(request) -> bytes:
    if request.param == "drawn":
        return encode(textured(77), "PNG")
    return (request.getfixturevalue("shared_data") / "photos" / request.param).read_bytes()


@pytest.mark.parametrize("variants", SETS)
def test_ten_thousand_copies_of_one_picture_stay_blocked(original, variants):
    """Edited copies, and any pictures whatever that meet one of its hashes."""
    item = hash_bytes(original, variants=variants.value)
    bank = Bank(item)
    rng = np.random.default_rng(7)
    uploads = list(copies(original))
    own = [copy.hashes[0].signal.value for copy in uploads]
    for values, most in ((own, 12), ([hashed.signal.value for hashed in item.hashes], 31)):
        for index in rng.integers(0, len(values), 9000):
            bits = int(rng.integers(0, most + 1))
            uploads.append(picture(flipped(values[index], bits, rng)))
    rng.shuffle(uploads)
    decided = list(bank.decisions(uploads))
    assert len(decided) >= 10_000
    # an edit may leave a picture mostly plain, which is a review for that reason
    assert set(decided) <= {(Decision.BLOCK, Reason.MATCH), (Decision.REVIEW, Reason.MATCH)}
    assert decided.count((Decision.BLOCK, Reason.MATCH)) >= 10_000
    assert bank.alerts == 0


@pytest.mark.parametrize("variants", SETS)
def test_uploads_chosen_to_be_unlike_each_other_do_not_unprotect_a_picture(original, variants):
    """Someone who has the picture makes a copy for each of its hashes, in any order."""
    item = hash_bytes(original, variants=variants.value)
    rng = np.random.default_rng(11)
    for _ in range(30):
        bank = Bank(item)
        hashes = rng.permutation(np.array([list(h.signal.value) for h in item.hashes], np.uint8))
        uploads = [picture(flipped(value.tobytes(), 31, rng)) for value in hashes]
        assert set(bank.decisions(uploads)) == {(Decision.BLOCK, Reason.MATCH)}
        assert len(bank.stop.flooded(now=0.0)) == 0


def test_fifty_unlike_pictures_of_one_item_go_to_review(caplog):
    """Its hashes were chosen so that unlike pictures match, and none of them closely."""
    rng = np.random.default_rng(3)
    pictures = unlike(50)
    bank = Bank(poisoned(flipped(value, int(rng.integers(17, 32)), rng) for value in pictures))
    with caplog.at_level(logging.DEBUG):
        decided = list(bank.decisions(map(picture, pictures)))
    assert len(decided) == 50
    assert decided[:PICTURES] == [(Decision.BLOCK, Reason.MATCH)] * PICTURES
    assert set(decided[PICTURES:]) == {(Decision.REVIEW, Reason.FLOOD)}
    assert bank.alerts == 1
    again = list(bank.decisions(map(picture, pictures)))
    assert set(again) == {(Decision.REVIEW, Reason.FLOOD)}
    assert bank.alerts == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.args == ()
    assert "item" in record.message


def test_close_matches_count_and_stay_blocked():
    pictures = unlike(50)
    bank = Bank(poisoned(pictures))
    assert set(bank.decisions(map(picture, pictures))) == {(Decision.BLOCK, Reason.MATCH)}
    assert bank.alerts == 1
    rng = np.random.default_rng(5)
    near, far = (picture(flipped(pictures[0], bits, rng)) for bits in (16, 17))
    assert list(bank.decisions([near, far])) == [
        (Decision.BLOCK, Reason.MATCH),
        (Decision.REVIEW, Reason.FLOOD),
    ]


def test_other_items_are_not_affected():
    pictures = unlike(50)
    items = {"faulty": poisoned(pictures[:45]), "hers": poisoned(pictures[45:46])}
    matcher = Matcher.from_items(items, level=Level.FAST)
    stop = FloodStop(FloodConfig(), bank_of(items.values()).entry)
    uploads = list(map(picture, pictures[:46]))
    for upload, found in zip(uploads, matcher.look_up(uploads), strict=True):
        flooded = stop.meet(upload, found, now=0.0)
    assert flooded == frozenset()
    assert stop.flooded(now=0.0) == {"faulty"}


class TestCounting:
    """With hashes written by hand: of n unlike pictures, and how they were met."""

    VALUES = tuple(
        np.random.default_rng(number).integers(0, 256, 32, np.uint8).tobytes()
        for number in range(60)
    )

    def stop(self, media: Media = Media.IMAGE, type: SignalType = SignalType.PDQ) -> FloodStop:
        def entry(id: str) -> Added | None:
            number = int(id, 16)
            if number >= len(self.VALUES):
                return None
            value = self.VALUES[number][: type.bits // 8]
            return Added(id, "0" * 32, Signal(type, value), 100, media, Variant.ORIGINAL)

        return FloodStop(FloodConfig(seconds=60.0), entry)

    def match(self, number: int, **fields) -> Match:
        item, distance = fields.pop("item", "item"), fields.pop("distance", 20)
        type = fields.pop("type", SignalType.PDQ)
        return Match(f"{number:032x}", item, type, Variant.ORIGINAL, distance, **fields)

    def meet(self, stop: FloodStop, *matches: Match | Hit, now: float = 0.0, media=Media.IMAGE):
        found = [(m.type if isinstance(m, Match) else SignalType.PDQ, m) for m in matches]
        upload = replace(picture(self.VALUES[0]), media=media)
        return stop.meet(upload, LookupResult(tuple(found)), now=now)

    def is_flooded(self, stop: FloodStop, matches: Iterable[Match | Hit], **options) -> bool:
        for match in matches:
            self.meet(stop, match, **options)
        return bool(stop.flooded(now=0.0))

    def test_the_number_that_is_allowed(self):
        matches = list(map(self.match, range(PICTURES + 1)))
        assert not self.is_flooded(self.stop(), matches[:-1])
        assert self.is_flooded(self.stop(), matches)

    def test_the_same_hash_counts_once(self):
        assert not self.is_flooded(self.stop(), [self.match(n % PICTURES) for n in range(500)])

    def test_only_the_nearest_match_of_an_upload_counts(self):
        stop = self.stop()
        for number in range(60):
            self.meet(stop, self.match(number, distance=21), self.match(0, distance=20))
        assert not stop.flooded(now=0.0)

    @pytest.mark.parametrize(
        "fields",
        [
            {"review": True},
            {"review": True, "aligned": 9, "edit": Edit(PartKind.WHOLE, (0, 0, 1, 1))},
            {"type": SignalType.PHASH, "distance": 9},
            {"type": SignalType.SHA256, "distance": 0},
        ],
    )
    def test_matches_that_block_nothing_or_prove_nothing_do_not_count(self, fields):
        assert not self.is_flooded(self.stop(), [self.match(n, **fields) for n in range(60)])

    def test_hits_do_not_count(self):
        hits = [Hit(id=f"{n:032x}", item="0" * 32, band=Band.LIKELY) for n in range(60)]
        assert not self.is_flooded(self.stop(), hits)

    def test_signals_that_were_removed_meanwhile_do_not_count(self):
        assert not self.is_flooded(self.stop(), map(self.match, range(60, 120)))

    def test_frames_of_a_video_of_the_bank_are_rightly_unlike(self):
        assert not self.is_flooded(self.stop(Media.VIDEO), map(self.match, range(60)))

    def test_a_veiled_bank_has_too_few_bits(self):
        stop = self.stop(type=SignalType.PDQ_VEIL128)
        assert not self.is_flooded(stop, map(self.match, range(60)))

    def test_videos_are_not_counted_and_are_demoted(self):
        matches = list(map(self.match, range(60)))
        assert not self.is_flooded(self.stop(), matches, media=Media.VIDEO)
        stop = self.stop()
        assert self.is_flooded(stop, matches)
        assert self.meet(stop, self.match(0), media=Media.VIDEO) == {"item"}

    def test_uploads_without_matches(self):
        assert self.meet(self.stop()) == frozenset()

    def test_only_items_that_an_upload_matches_are_returned_for_it(self):
        stop = self.stop()
        assert self.is_flooded(stop, map(self.match, range(60)))
        assert self.meet(stop, self.match(0, item="other")) == frozenset()

    def test_what_was_met_is_forgotten_in_time(self):
        stop = self.stop()
        for number in range(60):
            self.meet(stop, self.match(number), now=float(number))
        assert stop.flooded(now=60.0)
        # 41 are needed, and those met at 0 to 20 are forgotten by 80
        assert not stop.flooded(now=80.0)
        assert self.meet(stop, self.match(59), now=80.0) == frozenset()
        assert not stop.flooded(now=1000.0)
        for number in range(PICTURES):
            assert self.meet(stop, self.match(number), now=1000.0) == frozenset()

    def test_nothing_is_kept_after_that(self):
        stop = self.stop()
        self.is_flooded(stop, map(self.match, range(60)))
        stop.flooded(now=60.0)
        assert not stop._items

    def test_it_is_flooded_as_long_as_its_hashes_are_met(self):
        stop = self.stop()
        for now in range(0, 600, 20):
            for number in range(PICTURES + 1):
                flooded = self.meet(stop, self.match(number), now=float(now))
            assert flooded

    def test_its_memory_is_bounded(self):
        stop = self.stop()
        for number in range(5000):
            self.meet(stop, self.match(number % 60, item=f"item {number}"))
        assert len(stop._items) == 4096
        assert "item 4999" in stop._items
        self.is_flooded(stop, [self.match(n % 60) for n in range(600)])
        assert len(stop._items["item"].times) == PICTURES + 1

    def test_threads_raise_one_alert(self):
        alerts = []
        stop = FloodStop(FloodConfig(), self.stop()._entry, alert=lambda: alerts.append(1))

        def run() -> None:
            for number in range(60):
                self.meet(stop, self.match(number))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert alerts == [1]


@pytest.mark.parametrize("seed", range(5))
def test_orientations_are_those_of_the_picture(seed):
    rgb = np.asarray(textured(seed))
    exact = pdq.dihedral(rgb)
    apart = distances(orientations(exact[0].tobytes()), exact)
    assert apart.min(axis=0).max() <= 30
    # each of them is another one
    assert sorted(apart.argmin(axis=0)) == list(range(8))


def test_unrelated_pictures_are_unlike():
    values = np.array([list(value) for value in unlike(50)], np.uint8)
    apart = np.array([distances(orientations(v.tobytes()), values).min(axis=0) for v in values])
    assert apart[~np.eye(50, dtype=bool)].min() > UNLIKE
