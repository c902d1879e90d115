import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nciihash.search.near_duplicates import Member, groups
from nciihash.signals import Hashed, Item, Media, Signal, SignalType

RANDOM = np.random.default_rng(3)


def value(base=None, flip=0):
    base = RANDOM.bytes(32) if base is None else base
    bits = int.from_bytes(base) ^ ((1 << flip) - 1)
    return bits.to_bytes(32)


def item(*values, media=Media.IMAGE, quality=90):
    hashes = (Hashed(Signal(SignalType.PDQ, v), quality, time=None) for v in values)
    return Item(media, tuple(hashes), len(values))


def test_similar_images_are_grouped_directly_or_through_others():
    a, b = value(), value()
    items = [item(a), item(b), item(value(a, 20)), item(value()), item(value(a, 40)), item(b)]
    assert groups(items, 31) == [
        (Member(0, 20), Member(2, 20), Member(4, 20)),
        (Member(1, 0), Member(5, 0)),
    ]
    assert groups(items, 19) == [(Member(1, 0), Member(5, 0))]
    assert groups([], 31) == groups(items[:2], 31) == []


def test_plain_images_are_in_no_group():
    a = value()
    assert groups([item(a, quality=49), item(a, quality=49), item(a)], 31) == []


def video(values):
    return item(*values, media=Media.VIDEO)


def test_videos_match_by_four_fifths_of_the_frames_of_one():
    frames = [value() for _ in range(10)]
    clip = video([*frames[2:6], value()])
    assert groups([video(frames), clip], 31) == [(Member(0, 0), Member(1, 0))]
    assert groups([video(frames), video([*frames[2:5], value(), value()])], 31) == []
    assert groups([video(frames), item(frames[0])], 31) == []  # an image is no copy of a video


def test_repeated_frames_each_count():
    frames = [value() for _ in range(5)]
    repeated = video([frames[0]] * 4)
    assert groups([video(frames), repeated], 31) == [(Member(0, 0), Member(1, 0))]
    assert groups([video(frames), video([frames[0]] * 3 + [value(), value()])], 31) == []


@given(st.lists(st.integers(0, 12), min_size=2, max_size=30), st.integers(0, 40))
def test_groups_are_the_connected_components(flips, radius):
    base = bytes(32)
    items = [item(value(base, 9 * flip)) for flip in flips]
    expected = []
    for position in sorted(range(len(flips)), key=lambda p: flips[p]):
        if expected and 9 * (flips[position] - flips[expected[-1][-1]]) <= radius:
            expected[-1].append(position)
        else:
            expected.append([position])
    found = [tuple(m.file for m in group) for group in groups(items, radius)]
    assert sorted(found) == sorted(tuple(sorted(g)) for g in expected if len(g) > 1)
    assert found == sorted(found)
