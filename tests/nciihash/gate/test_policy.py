"""The policy: which matches count, and what is decided about them."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.gate.outcome import Decision, Reason
from nciihash.gate.policy import Action, Judgement, MediaPolicy, Policy, judge
from nciihash.sdk.lookup import LookupResult, SharedFrames
from nciihash.signals import (
    Band,
    Edit,
    Hashed,
    Item,
    Match,
    Media,
    PartKind,
    Signal,
    SignalType,
    Variant,
)
from nciihash.vpdq import Share
from nciihash.wire import Hit

HASHED = Hashed(Signal(SignalType.PDQ, b"\x55" * 32), 100)
IMAGE = Item(Media.IMAGE, (HASHED,))
VIDEO = Item(Media.VIDEO, (replace(HASHED, time=0.0),), frames=10, every=1.0)
WINDOW = Edit(PartKind.WHOLE, (0.0, 0.0, 0.5, 0.5))


def name(number: int) -> str:
    return f"{number:032x}"


def match(number: int = 1, distance: int = 20, item: int = 1, **fields) -> Match:
    type = fields.pop("type", SignalType.PDQ)
    return Match(name(number), name(item), type, Variant.ORIGINAL, distance, **fields)


def window(number: int = 1, distance: int = 50, item: int = 1) -> Match:
    return match(number, distance, item, aligned=9, edit=WINDOW, review=True)


def hit(number: int = 1, band: Band = Band.LIKELY, item: int = 1) -> Hit:
    return Hit(id=name(number), item=name(item), band=band)


def result(*matches: Match | Hit, **fields) -> LookupResult:
    found = tuple((m.type if isinstance(m, Match) else SignalType.PDQ, m) for m in matches)
    return LookupResult(found, **fields)


def decide(found: LookupResult, item: Item = IMAGE, sets=None, **media) -> Judgement:
    policy = MediaPolicy(**media)
    return judge(Policy(image=policy, video=policy), item, found, **(sets or {}))


def test_no_match_is_clear():
    assert decide(result()) == Judgement(Decision.CLEAR, Reason.NO_MATCH)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("strong", match(distance=16)),
        ("strong", match(distance=0, type=SignalType.SHA256)),
        ("strong", hit(band=Band.STRONG)),
        ("likely", match(distance=17)),
        ("likely", match(distance=31)),
        ("likely", hit()),
        ("review", match(distance=3, review=True)),
        ("review", window()),
    ],
)
def test_each_kind_of_match_has_its_own_action(kind, found, action):
    """The other kinds have another action, so that it matters which one is used."""
    other = Action.CLEAR if action is not Action.CLEAR else Action.BLOCK
    actions = {"strong": other, "likely": other, "review": other} | {kind: action}
    judged = decide(result(found), **actions)
    assert judged.decision == action.value
    if action is Action.CLEAR:
        assert judged == Judgement(Decision.CLEAR, Reason.POLICY)
    else:
        assert judged.reason is Reason.MATCH
        assert [m for _, m in judged.result.found] == [found]


def test_a_hit_of_which_only_plain_hashes_are_known_is_reviewed():
    found = hit(band=Band.STRONG)
    assert decide(result(found, plain_hits=frozenset({found.id}))).decision is Decision.REVIEW
    assert decide(result(found, plain_hits=frozenset())).decision is Decision.BLOCK


@pytest.mark.parametrize("band", Band)
def test_the_band_decides_where_it_is_unknown_whether_a_hit_needs_a_review(band):
    found = result(hit(band=band))
    assert found.needs_review(found.found[0][1]) is None
    actions = {"strong": Action.CLEAR, "likely": Action.CLEAR, "review": Action.REVIEW}
    assert decide(found, **actions | {band.value: Action.BLOCK}).decision is Decision.BLOCK


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_strictest_action_wins_and_its_match_comes_first(order):
    matches = [window(1, item=1), match(2, 25, item=2), match(3, 30, item=3)]
    found = result(*(matches[i] for i in order))
    judged = decide(found)
    assert judged.decision is Decision.BLOCK
    kept = [m for _, m in judged.result.found]
    assert kept == [m for _, m in found.found if m.item != name(1)] + [matches[0]]


def test_matches_that_are_clear_are_not_in_the_result():
    near, far = match(1, 5, item=1), match(2, 25, item=2)
    judged = decide(result(near, far), likely=Action.CLEAR)
    assert [m for _, m in judged.result.found] == [near]


class TestRadius:
    @given(st.integers(0, 31), st.integers(0, 31), st.booleans())
    def test_only_matches_of_own_hashes_within_it_count(self, radius, distance, plain):
        judged = decide(result(match(distance=distance, review=plain)), radius=radius)
        assert (judged.decision is Decision.CLEAR) == (distance > radius)

    def test_windows_digests_and_hits_ignore_it(self):
        for found in (window(distance=60), hit(), match(distance=9, type=SignalType.PHASH)):
            assert decide(result(found), radius=0).decision is not Decision.CLEAR


class TestFrames:
    def found(self, frames: int) -> LookupResult:
        return result(
            match(1, 4), shared=(SharedFrames(name(1), Share(frames, 10), Share(frames, frames)),)
        )

    @given(st.integers(1, 10), st.integers(0, 10))
    def test_a_video_must_share_enough_of_its_frames(self, frames, tenths):
        judged = decide(self.found(frames), VIDEO, frames=tenths / 10)
        assert (judged.decision is Decision.BLOCK) == (frames >= tenths)

    def test_pictures_and_digests_ignore_it(self):
        assert decide(result(match()), IMAGE, frames=1.0).decision is Decision.BLOCK
        digest = match(distance=0, type=SignalType.MD5)
        assert decide(result(digest), VIDEO, frames=1.0).decision is Decision.BLOCK

    def test_the_result_has_only_the_shares_of_items_that_count(self):
        shared = tuple(SharedFrames(name(n), Share(n, 10), None) for n in (8, 2))
        found = result(match(1, 4, item=8), match(2, 4, item=2), shared=shared)
        judged = decide(found, VIDEO, frames=0.5)
        assert judged.result.shared == shared[:1]
        assert [m.item for _, m in judged.result.found] == [name(8)]


def test_pictures_and_videos_have_their_own_policies():
    policy = Policy(video=MediaPolicy(likely=Action.REVIEW))
    shared = (SharedFrames(name(1), Share(1, 10), None),)
    assert judge(policy, IMAGE, result(match())).decision is Decision.BLOCK
    assert judge(policy, VIDEO, result(match(), shared=shared)).decision is Decision.REVIEW


class TestExceptions:
    def test_an_excepted_match_does_not_count(self):
        judged = decide(result(match()), sets={"excepted": {name(1)}})
        assert judged == Judgement(Decision.CLEAR, Reason.EXCEPTED)

    def test_other_matches_of_the_same_item_do(self):
        near, far = match(1, 17), match(2, 30)
        judged = decide(result(near, far), sets={"excepted": {near.id}})
        assert judged.decision is Decision.BLOCK
        assert [m for _, m in judged.result.found] == [far]

    def test_policy_is_the_reason_if_the_excepted_match_was_clear_anyway(self):
        judged = decide(result(match()), sets={"excepted": {name(1)}}, likely=Action.CLEAR)
        assert judged.reason is Reason.POLICY


class TestFlood:
    def test_likely_matches_of_a_flooded_item_are_reviewed(self):
        judged = decide(result(match(distance=17)), sets={"flooded": {name(1)}})
        assert (judged.decision, judged.reason) == (Decision.REVIEW, Reason.FLOOD)

    @pytest.mark.parametrize("found", [match(distance=16), hit(band=Band.STRONG)])
    def test_strong_matches_stay_blocked(self, found):
        judged = decide(result(found), sets={"flooded": {name(1)}})
        assert (judged.decision, judged.reason) == (Decision.BLOCK, Reason.MATCH)

    def test_another_item_still_blocks(self):
        flooded, other = match(1, 20, item=1), match(2, 30, item=2)
        judged = decide(result(flooded, other), sets={"flooded": {name(1)}})
        assert (judged.decision, judged.reason) == (Decision.BLOCK, Reason.MATCH)
        assert [m for _, m in judged.result.found] == [other, flooded]

    def test_it_never_makes_an_action_stricter(self):
        judged = decide(result(match()), sets={"flooded": {name(1)}}, likely=Action.CLEAR)
        assert judged == Judgement(Decision.CLEAR, Reason.POLICY)
