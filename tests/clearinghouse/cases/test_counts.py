"""The counts of matches and verdicts in a case's status: by day, and rounded down."""

import pytest

from clearinghouse.cases.status import coarse
from support.serving import item, pdq


@pytest.fixture
def peer(service):
    return service.platform()


def shown(case):
    [platform] = case.status()["items"][0]["platforms"]
    return platform["matches"], platform["verdicts"]


def match(service, peer, value, times=1):
    for _ in range(times):
        peer.match(value)
    service.parts._write_counts()


def submit_verdict(peer, value, verdict):
    [hit] = peer.match(value)[0]
    peer.post("/v1/feedback", {"verdicts": [{"id": hit["id"], "verdict": verdict}]})


@pytest.mark.parametrize(
    ("count", "rounded"),
    [(0, 0), (1, 1), (9, 1), (10, 10), (99, 10), (100, 100), (12_345, 10_000)],
)
def test_a_count_is_rounded_down_to_a_power_of_ten(count, rounded):
    assert coarse(count) == rounded


def test_matches_are_shown_from_the_next_day(service, peer):
    value = pdq()
    case = service.open(item(value))
    match(service, peer, value, 4)
    match(service, peer, value, 5)
    assert shown(case)[0] == 0
    service.clock.advance(hours=10)  # from 13:45 to 23:45
    assert shown(case)[0] == 0
    service.clock.advance(hours=1)
    assert shown(case)[0] == 1
    match(service, peer, value)
    assert shown(case)[0] == 1, "the tenth is from today"
    service.clock.advance(days=3)
    assert shown(case)[0] == 10
    match(service, peer, value)
    assert shown(case)[0] == 10, "the earlier count stays"


def test_verdicts_are_those_of_midnight(service, peer):
    value = pdq()
    case = service.open(item(value))
    submit_verdict(peer, value, "pending")
    submit_verdict(peer, value, "blocked")
    assert shown(case)[1] == {}
    service.clock.advance(days=1)
    assert shown(case)[1] == {"blocked": 1}
    submit_verdict(peer, value, "blocked")
    assert shown(case)[1] == {"blocked": 1}, "a repeated verdict does not disappear for a day"
    submit_verdict(peer, value, "unsure")
    submit_verdict(peer, value, "not_blocked")
    assert shown(case)[1] == {"blocked": 1}
    service.clock.advance(days=1)
    assert shown(case)[1] == {"not_blocked": 1}


def test_the_operator_sees_exact_counts_at_once(service, peer):
    from clearinghouse.abuse import review

    value = pdq()
    service.open(item(value))
    others = [service.platform(f"Platform {n}") for n in range(2)]
    for other in (peer, *others):
        match(service, other, value, 2)
        submit_verdict(other, value, "blocked")
    service.parts._write_counts()
    [question] = review.questions(service.parts.store)
    assert (question.platforms, question.matches) == (3, 9)
    assert question.verdicts == {"blocked": 3}
