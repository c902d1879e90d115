"""Overturned blocks: the questions they open, and how many."""

import json

import pytest

from clearinghouse.abuse import review, verdict_holds
from clearinghouse.database import audit
from clearinghouse.platforms import keys
from support.command_line import operate
from support.serving import ALL, item, pdq


@pytest.fixture
def store(service):
    return service.parts.store


@pytest.fixture
def peers(service):
    return [service.platform(f"Platform {n}") for n in range(2)]


def send(peer, values, *verdicts):
    """Send verdicts one after another, each on the live hashes that equal one of some values."""
    ids = [hits[0]["id"] for hits in peer.match(*values)]
    for verdict in verdicts:
        body = {"verdicts": [{"id": id, "verdict": verdict} for id in ids]}
        assert peer.post("/v1/feedback", body).json()["recorded"] == len(ids)


def asked(store):
    return [question for question in review.questions(store) if question.kind == "overturned"]


def one(store):
    (question,) = asked(store)
    return question


def test_an_overturned_block_opens_a_question(service, store, peers):
    value = pdq()
    service.open(item(value), item(pdq()))
    send(peers[0], [value], "blocked")
    assert asked(store) == []
    send(peers[0], [value], "not_blocked")
    question = one(store)
    assert (question.platform, question.count, question.held) == ("Platform 0", 1, 0)
    assert question.said_by == ("Platform 0",)
    assert question.verdicts == {"not_blocked": 1}
    assert len(peers[1].match(value)[0]) == 1, "one mistake puts nothing on hold"


@pytest.mark.parametrize(
    "verdicts",
    [
        ("not_blocked",),
        ("pending", "not_blocked"),
        ("unsure", "not_blocked"),
        ("blocked", "unsure", "not_blocked"),
        ("blocked", "blocked"),
        ("not_blocked", "blocked"),
    ],
)
def test_other_verdicts_open_none(service, store, peers, verdicts):
    value = pdq()
    service.open(item(value))
    send(peers[0], [value], *verdicts)
    assert asked(store) == []


def test_anothers_block_is_not_overturned(service, store, peers):
    value = pdq()
    service.open(item(value))
    send(peers[1], [value], "blocked")
    send(peers[0], [value], "not_blocked")
    assert asked(store) == []


def test_the_question_stays_open_and_counts_when_it_happens_again(service, store, peers):
    values = [pdq(), pdq()]
    service.open(item(*values))
    send(peers[0], values, "blocked", "not_blocked", "blocked")
    assert (one(store).count, one(store).said_by) == (2, ())
    service.clock.advance(days=3)
    send(peers[0], values[:1], "not_blocked")
    assert one(store).count == 3
    send(peers[1], values, "blocked", "not_blocked")
    assert [(q.platform, q.count) for q in asked(store)] == [("Platform 0", 3), ("Platform 1", 2)]


def test_keys_of_one_platform_share_a_question(service, store, peers):
    value = pdq()
    service.open(item(value))
    send(peers[0], [value], "blocked", "not_blocked", "blocked")
    peers[0].key = keys.rotate_key(store, "Platform 0", service.clock(), scopes=ALL)
    send(peers[0], [value], "not_blocked")
    assert one(store).count == 2


def test_a_kept_file_is_asked_about_again_when_it_happens_again(service, store, peers):
    value = pdq()
    case = service.open(item(value))
    send(peers[0], [value], "blocked", "not_blocked")
    review.keep(store, one(store).number, now=service.clock())
    assert asked(store) == []
    assert len(peers[0].match(value)[0]) == 1
    send(peers[0], [value], "not_blocked")
    assert asked(store) == [], "nothing new"
    send(peers[0], [value], "blocked", "not_blocked")
    review.remove(store, one(store).number, now=service.clock())
    assert asked(store) == []
    assert peers[0].match(value) == [[]]
    assert case.status()["items"][0]["taken_out"] == "operator"


def test_a_withdrawal_closes_the_question(service, store, peers):
    value = pdq()
    case = service.open(item(value))
    send(peers[0], [value], "blocked", "not_blocked")
    case.withdraw()
    assert asked(store) == []


def test_the_second_platform_to_report_not_blocked_puts_it_on_hold_as_before(service, store, peers):
    value = pdq()
    service.open(item(value))
    send(peers[0], [value], "blocked", "not_blocked")
    send(peers[1], [value], "not_blocked")
    assert peers[0].match(value) == [[]]
    kinds = {question.kind for question in review.questions(store)}
    assert kinds >= {"overturned", "verdicts"}


def test_one_command_closes_what_a_misused_key_opened(
    service, store, peers, settings, capsys, monkeypatch
):
    values = [pdq() for _ in range(3)]
    cases = [service.open(item(value)) for value in values]
    send(peers[0], values, "blocked", "not_blocked")
    send(peers[1], values[:1], "blocked", "not_blocked")
    cases[2].withdraw()
    monkeypatch.setenv("CLEARINGHOUSE_KEY_FILE", str(settings.key_file))
    words = ("review", "put-back", "Platform 0", "--database", settings.database, "--json")
    code, out, err = operate(capsys, monkeypatch, *words)
    assert code == 0, err
    assert json.loads(out) == {"kept": 2}
    assert [question.platform for question in asked(store)] == ["Platform 1"]
    with store.read() as tx:
        acts = [(row.act, row.subject, row.amount) for row in audit.entries(tx, 100)]
    assert (audit.Act.VERDICTS_UNDONE, "Platform 0", 2) in acts
    assert json.loads(operate(capsys, monkeypatch, *words)[1]) == {"kept": 0}


def test_a_platform_opens_a_limited_number_in_a_day(service, store, peers):
    limit = verdict_holds.FILES_A_DAY
    values = [pdq() for _ in range(limit + 2)]
    other = pdq()
    service.open(*(item(value) for value in (*values, other)))
    send(peers[0], values, "blocked", "not_blocked")
    assert len(asked(store)) == limit
    send(peers[0], values, "blocked", "not_blocked")
    assert len(asked(store)) == limit
    assert {question.count for question in asked(store)} == {2}, "open ones still count"
    send(peers[1], [other], "blocked", "not_blocked")
    assert len(asked(store)) == limit + 1, "the limit is a platform's own"
    service.clock.advance(days=1)
    send(peers[0], values, "blocked", "not_blocked")
    assert len(asked(store)) == limit + 3


def test_stopncii_feedback_opens_it_too(service, store, peers):
    value = pdq()
    service.open(item(value))
    headers = {"x-functions-key": peers[0].key, "Ocp-Apim-Subscription-Key": peers[0].key}
    for feedback in ("Blocked", "NotBlocked"):
        body = {"count": 1, "hashFeedbacks": [{"hashValue": value, "feedbackValue": feedback}]}
        reply = service.client.post("/stopncii/v1/SubmitFeedback", json=body, headers=headers)
        assert reply.is_success, reply.text
    assert one(store).count == 1


def test_the_operator_sees_the_platform(service, store, peers, settings, capsys, monkeypatch):
    value = pdq()
    case = service.open(item(value))
    send(peers[0], [value], "blocked", "not_blocked")
    monkeypatch.setenv("CLEARINGHOUSE_KEY_FILE", str(settings.key_file))
    words = ("--database", settings.database)
    code, out, err = operate(capsys, monkeypatch, "review", "list", *words, "--json")
    assert code == 0, err
    (row,) = (row for row in json.loads(out) if row["kind"] == "overturned")
    assert (row["platform"], row["count"], row["verdicts"]) == ("Platform 0", 1, {"not_blocked": 1})
    monkeypatch.setenv("COLUMNS", "250")
    code, out, _ = operate(capsys, monkeypatch, "review", "list", *words)
    assert "found later that it should not have (Platform 0" in " ".join(out.split())
    assert case.number not in out
    assert value not in out
