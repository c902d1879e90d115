import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash import vpdq
from nciihash.hashing import frame_selection
from nciihash.hashing.frame_selection import FrameSelector
from nciihash.signals import Hashed, Match, Signal, SignalType, Variant
from nciihash.vpdq import Share

RANDOM = np.random.default_rng(5)


def hashed(value=None, *, flip=0, quality=90, variant=Variant.ORIGINAL, time=None, tied=False):
    """Make a hash; `flip` of its first bits differ from `value`."""
    value = RANDOM.bytes(32) if value is None else value
    bits = int.from_bytes(value) ^ (((1 << flip) - 1) << (256 - flip) if flip else 0)
    signal = Signal(SignalType.PDQ, bits.to_bytes(32))
    return Hashed(signal, quality, variant, tied, time)


def filled(reel, count):
    for number in range(count):
        time = number * frame_selection.EVERY
        if reel.due(time, time + frame_selection.EVERY):
            frame = hashed()
            assert reel.take(frame)
            reel.keep((frame,))
    return reel


def looked(reel, starts):
    ends = [*starts[1:], math.inf]
    return [start for start, end in zip(starts, ends, strict=True) if reel.due(start, end)]


def test_a_reel_looks_four_times_a_second_whatever_the_rate():
    for rate in (24, 29.97, 30, 60, 240):
        starts = [n / rate for n in range(int(10 * rate))]
        seen = looked(FrameSelector(1000), starts)
        assert len(seen) == 41  # with the last frame
        assert np.diff(seen).max() <= 0.25 + 1 / rate
        for moment in np.arange(0, 9.75, 0.25):
            assert max(start for start in starts if start <= moment) in seen


def test_the_frame_that_is_shown_at_a_moment_is_looked_at():
    assert looked(FrameSelector(1000), [0.0, 0.1, 0.26, 7.3, 7.4, 7.6]) == [
        0.0,
        0.1,
        0.26,
        7.4,
        7.6,
    ]
    assert looked(FrameSelector(1000), [0.0, 0.05, 0.1, 0.2]) == [0.0, 0.2]
    assert looked(FrameSelector(1000, loop=True), [0.0, 0.05, 0.1, 0.2]) == [0.0, 0.05, 0.1, 0.2]


@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60), st.booleans(), st.data())
def test_every_frame_that_stays_for_a_quarter_second_is_looked_at(lengths, close, data):
    starts = [0.0, *np.cumsum(lengths).tolist()]
    reel = FrameSelector(10_000, close=close)
    scenes = [hashed() for _ in range(4)]
    seen = []
    for start, end in zip(starts, [*starts[1:], math.inf], strict=True):
        if reel.due(start, end):
            seen.append(start)
            if reel.take(frame := data.draw(st.sampled_from(scenes))):
                reel.keep((frame,))
    stayed = [s for s, e in zip(starts, [*starts[1:], math.inf], strict=True) if e - s >= 0.2501]
    assert set(stayed) <= set(seen)


def test_near_frames_and_plain_ones_are_left_out():
    reel, value = FrameSelector(10), RANDOM.bytes(32)
    assert reel.take(hashed(value))
    assert not reel.take(hashed(value, flip=15))
    assert not reel.take(hashed(quality=49))
    assert not reel.take(hashed(tied=True))
    assert reel.take(hashed(value, flip=16))
    assert not reel.take(hashed(value, flip=1))  # within 15 of the last one kept


def test_of_plain_frames_alone_the_best_is_given():
    reel = FrameSelector(10)
    for quality, tied in ((3, False), (60, True), (7, False), (5, False)):
        assert not reel.take(hashed(quality=quality, tied=tied))
    (only,) = reel.hashes()
    assert only.quality == 7
    assert only.plain


@pytest.mark.parametrize("count", [99, 100, 101, 201, 1000, 5000])
def test_a_long_film_is_thinned_evenly_and_says_so(count):
    reel = filled(FrameSelector(100), count)
    times = [h.time for h in reel.hashes()]
    assert min(count, 50) <= len(times) <= 100
    assert times[0] == 0.0
    assert set(np.diff(times)) == {reel.every}
    assert times[-1] + reel.every > (count - 1) * frame_selection.EVERY
    assert (reel.every > frame_selection.EVERY) == (count > 100)


@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 300))
def test_a_bound_on_hashes_holds_and_no_frame_is_lost(frames, copies, most):
    reel = FrameSelector(1000)
    for number in range(frames):
        own = hashed()
        altered = [hashed(variant=Variant.MIRROR) for _ in range(copies)]
        assert reel.due(number, number + 1)
        reel.keep((own, *altered))
    kept = reel.hashes(most)
    assert len(kept) <= max(most, frames + copies)
    assert [h.time for h in kept if h.variant is Variant.ORIGINAL] == list(range(frames))
    assert list(kept) == sorted(kept, key=lambda h: h.time)
    if frames * (1 + copies) <= most:
        assert len(kept) == frames * (1 + copies)


def asked(scene, seconds=10, rate=30):
    """Look at a film for a query; `scene` gives its frame of a time. Give times, and the reel."""
    reel, times = FrameSelector(1000, close=True), []
    for number in range(seconds * rate):
        if reel.due(time := number / rate, (number + 1) / rate):
            times.append(time)
            if reel.take(frame := scene(time)):
                reel.keep((frame,))
    return times, reel


def test_for_a_query_what_moves_is_looked_at_closely():
    value = RANDOM.bytes(32)
    moving = range(4, 7)
    times, reel = asked(lambda t: hashed() if int(t) in moving else hashed(value))
    fast = [t for t in times if int(t) in moving]
    assert len(fast) >= 0.9 * 3 * 30
    assert len([t for t in times if t < 3.5]) <= 3.5 * 4 + 6
    assert len([t for t in times if t >= 8]) <= 2 * 4 + 1
    assert len(reel.hashes()) >= len(fast)


def test_frames_of_one_moment_are_told_as_one():
    film = [[hashed(time=n / 4)] for n in range(40)]
    # in each moment of the copy there is one frame that the original was looked at
    _, reel = asked(lambda t: film[int(t * 4)][0] if (t * 4) % 1 < 0.2 else hashed(), seconds=9)
    moments = vpdq.frames_of(reel.hashes())
    assert len(moments) == len(reel) == 36
    assert {m[0].time for m in moments} == {n / 4 for n in range(36)}
    assert max(len(m) for m in moments) > 5
    found = vpdq.compare(moments, film)
    assert (found.query, found.bank) == (Share(36, 36), Share(36, 40))


def test_a_lively_query_is_thinned_to_one_frame_a_moment_first():
    reel = FrameSelector(60, close=True)
    for number in range(15 * 30):
        if reel.due(number / 30, (number + 1) / 30) and reel.take(frame := hashed()):
            reel.keep((frame,))
    times = [h.time for h in reel.hashes()]
    assert reel.every == frame_selection.EVERY
    assert len(times) == len(reel) == 60
    assert set(np.diff(times).round(2)) <= {0.23, 0.25, 0.27}


def test_copies_that_say_the_same_are_left_out():
    reel, value = FrameSelector(10), RANDOM.bytes(32)
    for time in (0.0, 1.0):
        own = hashed()
        assert reel.due(time, time + 1)
        reel.keep((own, hashed(value, flip=int(time), variant=Variant.CROP05)))
    assert [h.variant.value for h in reel.hashes(100)] == ["original", "crop05", "original"]
    assert len(reel.hashes()) == 4


def test_shares_are_counted_on_either_side():
    film = [[hashed(time=float(n))] for n in range(20)]
    cut = [[hashed(f[0].signal.value, flip=31)] for f in film[5:10]] + [[hashed()]]
    both = vpdq.compare(cut, film)
    assert (both.query, both.bank, both.distance) == (Share(5, 6), Share(5, 20), 31)
    back = vpdq.compare(film, cut)
    assert (back.query, back.bank) == (Share(5, 20), Share(5, 6))
    assert both.bank.of_one == 0.25
    strangers = vpdq.compare([[hashed()]], film)
    assert strangers.query.found == strangers.bank.found == 0
    assert strangers.distance > 31


def test_any_hash_of_a_frame_finds_it():
    value = RANDOM.bytes(32)
    bank = [[hashed(), hashed(value, variant=Variant.MIRROR)], [hashed()]]
    found = vpdq.compare([[hashed(), hashed(value, flip=3)]], bank)
    assert (found.query, found.bank) == (Share(1, 1), Share(1, 2))
    assert (found.distance, found.variant) == (3, Variant.MIRROR)


def test_frames_are_told_by_their_times():
    file = Hashed(Signal(SignalType.MD5, bytes(16)))
    parts = [hashed(time=0.0), hashed(time=0.0), hashed(time=0.25), file]
    assert vpdq.frames_of(parts) == [parts[:2], parts[2:3]]
    assert vpdq.frames_of([hashed(), hashed()])[0].__len__() == 2
    with pytest.raises(ValueError, match="without frames"):
        vpdq.compare([], [parts])


def _match(id, variant):
    return Match(id, "item", SignalType.PDQ, variant, 9)


def test_of_a_bank_those_hashes_count_of_which_most_were_found():
    mirrored = [_match(str(n), Variant.MIRROR) for n in range(8)] * 2
    stray = [_match("x", Variant.CROP05)]
    held = {Variant.ORIGINAL: 40, Variant.MIRROR: 10, Variant.CROP05: 1}
    assert vpdq.bank_share([*mirrored, *stray], held) == Share(8, 10)
    assert vpdq.bank_share([], held) == Share(0, 40)
    assert vpdq.bank_share([], {}).of_one == 0.0
    assert vpdq.bank_share(stray, {}) == Share(1, 1)  # withdrawn between the two questions
