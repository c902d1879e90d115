"""The photos of the demo, and the arithmetic of what was found."""

import pytest

from nciihash.cli.demo import photos as samples
from nciihash.cli.demo.photos import DemoHashes, PlatformMatches, Score, hash_photos
from nciihash.cli.terminal import Terminal
from nciihash.errors import ExtraMissing, TooPlain
from nciihash.signals import Band, Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Hit
from support.pictures import scene


def test_without_photos_it_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r'pip install "nciihash\[demo\]"'):
        hash_photos(Terminal(), [], tmp_path)


def test_photos_of_ones_own_need_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    scene(400, 300, seed=51).save(tmp_path / "one.jpg")
    hung = hash_photos(Terminal(), [tmp_path / "one.jpg"], tmp_path)
    assert (len(hung.photos), hung.unrelated) == (1, ())


def test_only_plain_photos(tmp_path):
    scene(64, 64).resize((1, 1)).resize((64, 64)).save(tmp_path / "plain.png")
    with pytest.raises(TooPlain):
        hash_photos(Terminal(), [tmp_path / "plain.png"], tmp_path)


# --- the arithmetic ----------------------------------------------------------------------------


def hashed(first):
    return Hashed(Signal(SignalType.PDQ, bytes([first] * 32)), quality=90)


def hit(item):
    return Hit(id=f"{item:032x}", item=f"{item:032x}", band=Band.STRONG)


def item(*first):
    return Item(Media.IMAGE, tuple(hashed(n) for n in first))


HUNG = DemoHashes(
    names=("a", "b"),
    photos=(item(0), item(255)),
    copies=((item(0), item(1)), (item(255), item(254))),
    unrelated=(item(85), item(51)),
)


def findings(*rows):
    assert len(rows) == len(HUNG.queries)
    return PlatformMatches.of(HUNG, lambda signals: [[hit(item) for item in row] for row in rows])


def test_counting_what_was_found():
    seen = findings([1], [2], [1], [], [2], [1, 2], [], [])
    assert [bool(seen.nearest(p, e)) for p in (0, 1) for e in (0, 1)] == [True, False, True, True]
    assert (seen.false, seen.total) == (1, 5)  # the last copy matches the other photo as well


def test_counting_strangers():
    seen = findings([1], [2], [1], [1], [2], [2], [1], [])
    assert (seen.false, seen.total) == (1, 7)
    assert seen.ids == [f"{n:032x}" for n in (1, 2)]


def test_nearly_equal_photos_are_not_false():
    seen = findings([1, 2], [1, 2], [1], [2], [1, 2], [], [], [])
    assert seen.false == 0


def test_distances_are_of_copies_to_their_photo():
    assert [HUNG.distance(p, e) for p in (0, 1) for e in (0, 1)] == [0, 32, 0, 32]


def test_a_picture_and_its_trimmed_form_are_one_query():
    hung = DemoHashes(("a",), (item(0, 15),), ((item(85, 7), item(3)),), (item(51, 204),))
    answers = [[hit(1)], [hit(2)], [hit(1), hit(2)], [], [], [hit(3)]]
    seen = PlatformMatches.of(hung, lambda signals: answers[: len(signals)])
    assert [len(signals) for signals in hung.queries] == [1, 2, 1, 2]
    assert {m.item for m in seen.copies[0][0]} == {hit(1).item, hit(2).item}
    assert seen.nearest(0, 0).id == hit(1).id
    assert (seen.nearest(0, 1), seen.false) == (None, 2)
    assert [hung.distance(0, e) for e in (0, 1)] == [32, 64]


@pytest.mark.parametrize(
    ("score", "good"),
    [
        (Score(20, 10, 0, 0), True),
        (Score(20, 9, 0, 0), False),
        (Score(20, 20, 1, 0), False),
        (Score(20, 20, 0, 1), False),
        (Score(0, 0, 0, 0), False),
    ],
)
def test_what_counts_as_good(score, good):
    assert score.good is good


def test_the_last_line():
    assert Score(80, 60, 0, 0).line == "demo: 60 of 80 copies found, 0 false, withdrawn: 0 found"
