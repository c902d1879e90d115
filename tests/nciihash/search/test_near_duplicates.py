import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nciihash.search.near_duplicates import Member, groups
from nciihash.signals import Hashed, Item, Media, Signal, SignalType

RANDOM = np.random.default_rng(3)


def value(near=None, flip=0):
    base = RANDOM.bytes(32) if near is None else near
    bits = int.from_bytes(base) ^ ((1 << flip) - 1)
    return bits.to_bytes(32)


def item(*values, media=Media.IMAGE, quality=90):
    hashes = (Hashed(Signal(SignalType.PDQ, v), quality, time=None) for v in values)
    return Item(media, tuple(hashes), len(values))


def test_near_pictures_are_grouped_directly_or_through_others():
    a, b = value(), value()
    items = [item(a), item(b), item(value(a, 20)), item(value()), item(value(a, 40)), item(b)]
    assert groups(items, 31) == [
        (Member(0, 20), Member(2, 20), Member(4, 20)),
        (Member(1, 0), Member(5, 0)),
    ]
    assert groups(items, 19) == [(Member(1, 0), Member(5, 0))]
    assert groups([], 31) == groups(items[:2], 31) == []


def test_plain_pictures_are_near_nothing():
    a = value()
    assert groups([item(a, quality=49), item(a, quality=49), item(a)], 31) == []


def film(values):
    return item(*values, media=Media.VIDEO)


def test_videos_need_four_fifths_of_the_frames_of_one():
    frames = [value() for _ in range(10)]
    part = film([*frames[2:6], value()])
    assert groups([film(frames), part], 31) == [(Member(0, 0), Member(1, 0))]
    assert groups([film(frames), film([*frames[2:5], value(), value()])], 31) == []
    assert groups([film(frames), item(frames[0])], 31) == []  # a frame of it is no copy


def test_a_frame_that_comes_twice_counts_once_a_frame():
    frames = [value() for _ in range(5)]
    flicker = film([frames[0]] * 4)
    assert groups([film(frames), flicker], 31) == [(Member(0, 0), Member(1, 0))]
    assert groups([film(frames), film([frames[0]] * 3 + [value(), value()])], 31) == []


@given(st.lists(st.integers(0, 12), min_size=2, max_size=30), st.integers(0, 40))
def test_groups_are_the_connected_parts(flips, radius):
    base = bytes(32)
    items = [item(value(base, 9 * flip)) for flip in flips]
    expected = []
    for place in sorted(range(len(flips)), key=lambda p: flips[p]):
        if expected and 9 * (flips[place] - flips[expected[-1][-1]]) <= radius:
            expected[-1].append(place)
        else:
            expected.append([place])
    found = [tuple(m.file for m in group) for group in groups(items, radius)]
    assert sorted(found) == sorted(tuple(sorted(g)) for g in expected if len(g) > 1)
    assert found == sorted(found)
