"""What a case tells of matches and verdicts: by the day, and rounded down."""

import pytest

from clearinghouse.cases.status import coarse
from support.serving import item, pdq


@pytest.fixture
def peer(service):
    return service.platform()


def told(case):
    [platform] = case.status()["items"][0]["platforms"]
    return platform["matches"], platform["verdicts"]


def meet(service, peer, value, times=1):
    for _ in range(times):
        peer.match(value)
    service.parts._write_counts()


def say(peer, value, verdict):
    [hit] = peer.match(value)[0]
    peer.post("/v1/feedback", {"verdicts": [{"id": hit["id"], "verdict": verdict}]})


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, 0), (1, 1), (9, 1), (10, 10), (99, 10), (100, 100), (12_345, 10_000)],
)
def test_a_count_is_rounded_down_to_a_power_of_ten(count, shown):
    assert coarse(count) == shown


def test_matches_count_from_the_next_day_on(service, peer):
    value = pdq()
    case = service.open(item(value))
    meet(service, peer, value, 4)
    meet(service, peer, value, 5)
    assert told(case)[0] == 0
    service.clock.pass_(hours=10)  # from 13:45 to 23:45
    assert told(case)[0] == 0
    service.clock.pass_(hours=1)
    assert told(case)[0] == 1
    meet(service, peer, value)
    assert told(case)[0] == 1, "the tenth is of today"
    service.clock.pass_(days=3)
    assert told(case)[0] == 10
    meet(service, peer, value)
    assert told(case)[0] == 10, "what was known stays"


def test_verdicts_are_those_of_midnight(service, peer):
    value = pdq()
    case = service.open(item(value))
    say(peer, value, "pending")
    say(peer, value, "blocked")
    assert told(case)[1] == {}
    service.clock.pass_(days=1)
    assert told(case)[1] == {"blocked": 1}
    say(peer, value, "blocked")
    assert told(case)[1] == {"blocked": 1}, "said again, it does not go away for a day"
    say(peer, value, "unsure")
    say(peer, value, "not_blocked")
    assert told(case)[1] == {"blocked": 1}
    service.clock.pass_(days=1)
    assert told(case)[1] == {"not_blocked": 1}


def test_the_operator_sees_all_of_them_at_once(service, peer):
    from clearinghouse.abuse import review

    value = pdq()
    service.open(item(value))
    others = [service.platform(f"Platform {n}") for n in range(2)]
    for other in (peer, *others):
        meet(service, other, value, 2)
        say(other, value, "blocked")
    service.parts._write_counts()
    [question] = review.questions(service.parts.store)
    assert (question.platforms, question.matches) == (3, 9)
    assert question.verdicts == {"blocked": 3}
