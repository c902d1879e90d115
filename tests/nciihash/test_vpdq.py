import math
from operator import attrgetter

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
    """Return a hash whose first `flip` bits differ from `value`."""
    value = RANDOM.bytes(32) if value is None else value
    bits = int.from_bytes(value) ^ (((1 << flip) - 1) << (256 - flip) if flip else 0)
    signal = Signal(SignalType.PDQ, bits.to_bytes(32))
    return Hashed(signal, quality, variant, tied, time)


def filled(selector, count):
    for number in range(count):
        time = number * frame_selection.SAMPLE_INTERVAL
        if selector.due(time, time + frame_selection.SAMPLE_INTERVAL):
            frame = hashed()
            assert selector.take(frame)
            selector.keep((frame,))
    return selector


def sampled(selector, starts):
    ends = [*starts[1:], math.inf]
    return [start for start, end in zip(starts, ends, strict=True) if selector.due(start, end)]


def test_four_frames_a_second_are_sampled_at_any_frame_rate():
    for rate in (24, 29.97, 30, 60, 240):
        starts = [n / rate for n in range(int(10 * rate))]
        seen = sampled(FrameSelector(1000), starts)
        assert len(seen) == 41  # with the last frame
        assert np.diff(seen).max() <= 0.25 + 1 / rate
        for moment in np.arange(0, 9.75, 0.25):
            assert max(start for start in starts if start <= moment) in seen


def test_the_frame_shown_at_a_sampling_time_is_sampled():
    assert sampled(FrameSelector(1000), [0.0, 0.1, 0.26, 7.3, 7.4, 7.6]) == [
        0.0,
        0.1,
        0.26,
        7.4,
        7.6,
    ]
    assert sampled(FrameSelector(1000), [0.0, 0.05, 0.1, 0.2]) == [0.0, 0.2]
    assert sampled(FrameSelector(1000, loop=True), [0.0, 0.05, 0.1, 0.2]) == [0.0, 0.05, 0.1, 0.2]


@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60), st.booleans(), st.data())
def test_every_frame_shown_for_a_quarter_second_is_sampled(lengths, close, data):
    starts = [0.0, *np.cumsum(lengths).tolist()]
    selector = FrameSelector(10_000, close=close)
    scenes = [hashed() for _ in range(4)]
    seen = []
    for start, end in zip(starts, [*starts[1:], math.inf], strict=True):
        if selector.due(start, end):
            seen.append(start)
            if selector.take(frame := data.draw(st.sampled_from(scenes))):
                selector.keep((frame,))
    long = [s for s, e in zip(starts, [*starts[1:], math.inf], strict=True) if e - s >= 0.2501]
    assert set(long) <= set(seen)


def test_similar_frames_and_plain_ones_are_skipped():
    selector, value = FrameSelector(10), RANDOM.bytes(32)
    assert selector.take(hashed(value))
    assert not selector.take(hashed(value, flip=15))
    assert not selector.take(hashed(quality=49))
    assert not selector.take(hashed(tied=True))
    assert selector.take(hashed(value, flip=16))
    assert not selector.take(hashed(value, flip=1))  # within 15 bits of the last one kept


def test_of_only_plain_frames_the_best_is_returned():
    selector = FrameSelector(10)
    for quality, tied in ((3, False), (60, True), (7, False), (5, False)):
        assert not selector.take(hashed(quality=quality, tied=tied))
    (only,) = selector.hashes()
    assert only.quality == 7
    assert only.plain


@pytest.mark.parametrize("count", [99, 100, 101, 201, 1000, 5000])
def test_a_long_video_is_thinned_evenly_and_reports_its_interval(count):
    selector = filled(FrameSelector(100), count)
    times = [h.time for h in selector.hashes()]
    assert min(count, 50) <= len(times) <= 100
    assert times[0] == 0.0
    assert set(np.diff(times)) == {selector.every}
    assert times[-1] + selector.every > (count - 1) * frame_selection.SAMPLE_INTERVAL
    assert (selector.every > frame_selection.SAMPLE_INTERVAL) == (count > 100)


@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 300))
def test_the_limit_on_hashes_is_kept_without_losing_a_frame(frames, copies, limit):
    selector = FrameSelector(1000)
    for number in range(frames):
        own = hashed()
        altered = [hashed(variant=Variant.MIRROR) for _ in range(copies)]
        assert selector.due(number, number + 1)
        selector.keep((own, *altered))
    kept = selector.hashes(limit)
    assert len(kept) <= max(limit, frames + copies)
    assert [h.time for h in kept if h.variant is Variant.ORIGINAL] == list(range(frames))
    assert list(kept) == sorted(kept, key=attrgetter("time"))
    if frames * (1 + copies) <= limit:
        assert len(kept) == frames * (1 + copies)


def select_for_query(scene, seconds=10, rate=30):
    """Select frames of a video as for a query; return the sampled times and the selector.

    `scene` returns the frame at a time.
    """
    selector, times = FrameSelector(1000, close=True), []
    for number in range(seconds * rate):
        if selector.due(time := number / rate, (number + 1) / rate):
            times.append(time)
            if selector.take(frame := scene(time)):
                selector.keep((frame,))
    return times, selector


def test_for_a_query_motion_is_sampled_at_the_full_frame_rate():
    value = RANDOM.bytes(32)
    moving = range(4, 7)
    times, selector = select_for_query(lambda t: hashed() if int(t) in moving else hashed(value))
    fast = [t for t in times if int(t) in moving]
    assert len(fast) >= 0.9 * 3 * 30
    assert len([t for t in times if t < 3.5]) <= 3.5 * 4 + 6
    assert len([t for t in times if t >= 8]) <= 2 * 4 + 1
    assert len(selector.hashes()) >= len(fast)


def test_frames_of_one_moment_are_grouped():
    video = [[hashed(time=n / 4)] for n in range(40)]
    # each moment of the copy contains one frame that was sampled from the original
    _, selector = select_for_query(
        lambda t: video[int(t * 4)][0] if (t * 4) % 1 < 0.2 else hashed(), seconds=9
    )
    moments = vpdq.group_by_frame(selector.hashes())
    assert len(moments) == len(selector) == 36
    assert {m[0].time for m in moments} == {n / 4 for n in range(36)}
    assert max(len(m) for m in moments) > 5
    found = vpdq.compare(moments, video)
    assert (found.query, found.bank) == (Share(36, 36), Share(36, 40))


def test_a_query_with_much_motion_is_first_thinned_to_one_frame_a_moment():
    selector = FrameSelector(60, close=True)
    for number in range(15 * 30):
        if selector.due(number / 30, (number + 1) / 30) and selector.take(frame := hashed()):
            selector.keep((frame,))
    times = [h.time for h in selector.hashes()]
    assert selector.every == frame_selection.SAMPLE_INTERVAL
    assert len(times) == len(selector) == 60
    assert set(np.diff(times).round(2)) <= {0.23, 0.25, 0.27}


def test_variants_with_similar_hashes_are_skipped():
    selector, value = FrameSelector(10), RANDOM.bytes(32)
    for time in (0.0, 1.0):
        own = hashed()
        assert selector.due(time, time + 1)
        selector.keep((own, hashed(value, flip=int(time), variant=Variant.CROP05)))
    assert [h.variant.value for h in selector.hashes(100)] == ["original", "crop05", "original"]
    assert len(selector.hashes()) == 4


def test_shares_are_counted_for_both_videos():
    video = [[hashed(time=float(n))] for n in range(20)]
    cut = [[hashed(f[0].signal.value, flip=31)] for f in video[5:10]] + [[hashed()]]
    both = vpdq.compare(cut, video)
    assert (both.query, both.bank, both.distance) == (Share(5, 6), Share(5, 20), 31)
    swapped = vpdq.compare(video, cut)
    assert (swapped.query, swapped.bank) == (Share(5, 20), Share(5, 6))
    assert both.bank.fraction == 0.25
    unrelated = vpdq.compare([[hashed()]], video)
    assert unrelated.query.found == unrelated.bank.found == 0
    assert unrelated.distance > 31


def test_any_hash_of_a_frame_can_match():
    value = RANDOM.bytes(32)
    bank = [[hashed(), hashed(value, variant=Variant.MIRROR)], [hashed()]]
    found = vpdq.compare([[hashed(), hashed(value, flip=3)]], bank)
    assert (found.query, found.bank) == (Share(1, 1), Share(1, 2))
    assert (found.distance, found.variant) == (3, Variant.MIRROR)


def test_hashes_are_grouped_by_time():
    file = Hashed(Signal(SignalType.MD5, bytes(16)))
    parts = [hashed(time=0.0), hashed(time=0.0), hashed(time=0.25), file]
    assert vpdq.group_by_frame(parts) == [parts[:2], parts[2:3]]
    assert vpdq.group_by_frame([hashed(), hashed()])[0].__len__() == 2
    with pytest.raises(ValueError, match="without frames"):
        vpdq.compare([], [parts])


def _match(id, variant):
    return Match(id, "item", SignalType.PDQ, variant, 9)


def test_a_bank_share_counts_the_variant_with_most_matches():
    mirrored = [_match(str(n), Variant.MIRROR) for n in range(8)] * 2
    stray = [_match("x", Variant.CROP05)]
    stored = {Variant.ORIGINAL: 40, Variant.MIRROR: 10, Variant.CROP05: 1}
    assert vpdq.bank_share([*mirrored, *stray], stored) == Share(8, 10)
    assert vpdq.bank_share([], stored) == Share(0, 40)
    assert vpdq.bank_share([], {}).fraction == 0.0
    assert vpdq.bank_share(stray, {}) == Share(1, 1)  # withdrawn between the two calls
