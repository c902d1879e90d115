import pytest

from nciihash.gate.dialects import answers
from nciihash.gate.outcome import UNCHECKED, UNREADABLE, Decision, Outcome, Reason
from nciihash.sdk.lookup import LookupResult, SharedFrames
from nciihash.signals import Band, Media, SignalType
from nciihash.vpdq import Share
from nciihash.wire import Hit

BLOCK = Outcome(Decision.BLOCK, Reason.MATCH, stop=True)
REVIEW = Outcome(Decision.REVIEW, Reason.MATCH)
CLEAR = Outcome(Decision.CLEAR, Reason.NO_MATCH)
UNREADABLE_CLOSED = Outcome(Decision.UNREADABLE, Reason.CORRUPT, stop=True)
UNREADABLE_OPEN = Outcome(Decision.UNREADABLE, Reason.CORRUPT)
UNCHECKED_CLOSED = Outcome(Decision.UNCHECKED, Reason.BANK_STALE, stop=True)
UNCHECKED_OPEN = Outcome(Decision.UNCHECKED, Reason.BANK_STALE)
# the strictest first
ORDER = [
    *(BLOCK, UNCHECKED_CLOSED, UNREADABLE_CLOSED, REVIEW),
    *(UNCHECKED_OPEN, UNREADABLE_OPEN, CLEAR),
]


def test_the_strictest_outcome_decides():
    for row, outcome in enumerate(ORDER):
        assert answers.strictest([*reversed(ORDER[row:])]) is outcome


@pytest.mark.parametrize(
    ("outcome", "status"), list(zip(ORDER, [451, 503, 422, 202, 200, 200, 200], strict=True))
)
def test_each_outcome_has_a_status(outcome, status):
    assert answers.status_of(outcome) == status


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_each_reason_has_a_sentence_that_says_what_to_do(reason, stop, dry_run):
    decision = Decision.CLEAR
    if not dry_run and reason in UNREADABLE | UNCHECKED:
        decision = Decision.UNREADABLE if reason in UNREADABLE else Decision.UNCHECKED
    sentence = answers.detail(Outcome(decision, reason, stop=stop, dry_run=dry_run))
    refused = stop and decision is not Decision.CLEAR
    assert sentence.startswith("Refuse" if refused else "Accept")
    assert sentence.endswith(".")
    assert ("dry run" in sentence) == dry_run
    assert answers.retry_after(Outcome(decision, reason)) > 0


def test_shows_the_frames_that_videos_share():
    hit = Hit(id="1" * 32, item="2" * 32, band=Band.STRONG)
    shared = SharedFrames("2" * 32, Share(3, 9), None)
    result = LookupResult(((SignalType.PDQ, hit),), (shared,), truncated=True)
    outcome = Outcome(Decision.BLOCK, Reason.MATCH, media=Media.VIDEO, result=result, as_of=0.5)
    answer = answers.fields(outcome)
    assert answer["matches"] == [
        {"id": "1" * 32, "item": "2" * 32, "type": "pdq", "band": "strong"}
    ]
    assert answer["items"] == [{"item": "2" * 32, "query": {"found": 3, "frames": 9}, "bank": None}]
    assert answer["truncated"] is True
    assert answer["as_of"] == "1970-01-01T00:00:00Z"
