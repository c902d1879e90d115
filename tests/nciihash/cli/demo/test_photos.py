"""The photos of the demo, and the counts of matches."""

import pytest

from nciihash.cli.demo import photos as samples
from nciihash.cli.demo.photos import DemoHashes, PlatformMatches, Score, hash_photos
from nciihash.cli.terminal import Terminal
from nciihash.errors import ExtraMissing, TooPlain
from nciihash.signals import Band, Hashed, Item, Media, Signal, SignalType
from nciihash.wire import Hit
from support.pictures import scene


def test_without_photos_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r'pip install "nciihash\[demo\]"'):
        hash_photos(Terminal(), [], tmp_path)


def test_own_photos_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "find_spec", lambda name: None)
    scene(400, 300, seed=51).save(tmp_path / "one.jpg")
    hashes = hash_photos(Terminal(), [tmp_path / "one.jpg"], tmp_path)
    assert (len(hashes.photos), hashes.unrelated) == (1, ())


def test_only_plain_photos(tmp_path):
    scene(64, 64).resize((1, 1)).resize((64, 64)).save(tmp_path / "plain.png")
    with pytest.raises(TooPlain):
        hash_photos(Terminal(), [tmp_path / "plain.png"], tmp_path)


# --- counts ----------------------------------------------------------------------------


def hashed(first):
    return Hashed(Signal(SignalType.PDQ, bytes([first] * 32)), quality=90)


def hit(item):
    return Hit(id=f"{item:032x}", item=f"{item:032x}", band=Band.STRONG)


def item(*first):
    return Item(Media.IMAGE, tuple(hashed(n) for n in first))


HASHES = DemoHashes(
    names=("a", "b"),
    photos=(item(0), item(255)),
    copies=((item(0), item(1)), (item(255), item(254))),
    unrelated=(item(85), item(51)),
)


def matches(*rows):
    """Return the matches with the items in `rows`, one row for each query."""
    assert len(rows) == len(HASHES.queries)
    return PlatformMatches.of(HASHES, lambda items: [[hit(item) for item in row] for row in rows])


def test_counts_of_matches():
    found = matches([1], [2], [1], [], [2], [1, 2], [], [])
    assert [bool(found.nearest(p, e)) for p in (0, 1) for e in (0, 1)] == [True, False, True, True]
    assert (found.false, found.total) == (1, 5)  # the last copy matches the other photo as well


def test_unrelated_photos_that_match_are_false():
    found = matches([1], [2], [1], [1], [2], [2], [1], [])
    assert (found.false, found.total) == (1, 7)
    assert found.ids == [f"{n:032x}" for n in (1, 2)]


def test_near_duplicates_among_the_photos_are_not_false():
    found = matches([1, 2], [1, 2], [1], [2], [1, 2], [], [], [])
    assert found.false == 0


def test_distances_between_copies_and_their_photo():
    assert [HASHES.distance(p, e) for p in (0, 1) for e in (0, 1)] == [0, 32, 0, 32]


def test_each_file_is_one_query():
    """A photo is queried without its altered copies, an edited copy with its trimmed form."""
    hashes = DemoHashes(("a",), (item(0, 15),), ((item(85, 7), item(3)),), (item(51, 204),))
    found = PlatformMatches.of(hashes, lambda items: [[hit(1)], [hit(1), hit(2)], [], [hit(3)]])
    assert [len(query.hashes) for query in hashes.queries] == [1, 2, 1, 2]
    assert {m.item for m in found.copies[0][0]} == {hit(1).item, hit(2).item}
    assert found.nearest(0, 0).id == hit(1).id
    assert (found.nearest(0, 1), found.false) == (None, 2)
    assert [hashes.distance(0, e) for e in (0, 1)] == [32, 64]


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
def test_which_scores_are_good(score, good):
    assert score.good is good


def test_the_last_line():
    assert Score(80, 60, 0, 0).line == "demo: 60 of 80 copies found, 0 false, withdrawn: 0 found"
