"""The allowlist, quarantine, flags, and the removal of files."""

import json

import pytest

from clearinghouse.abuse import review
from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.platforms.contributions import lookup_of
from nciihash.signals import Signal, SignalType
from support.command_line import operate
from support.serving import credentials, figures, item, near, opening, pdq

FLAG = pdq(7)


def signal(value):
    return Signal.from_hex(SignalType.PDQ, value)


@pytest.fixture
def store(service):
    return service.parts.store


@pytest.fixture
def listed(service, store):
    assert review.list_lawful(store, [signal(FLAG)], now=service.clock()) == (1, 0)
    return service


def ops(peer, cursor=None):
    return [entry["op"] for entry in peer.feed(**({"cursor": cursor} if cursor else {}))["entries"]]


def one(store):
    (question,) = review.questions(store)
    return question


# --- the allowlist ---------------------------------------------------------------------------


def test_a_file_near_a_lawful_picture_is_quarantined_and_not_published(listed, store):
    peer = listed.platform()
    case = listed.open(item(near(FLAG, 31), pdq()), item(pdq()))
    assert case.reply["items"] == [
        {
            "item": 1,
            "accepted": 0,
            "refused": [{"signal": n, "code": "quarantined"} for n in (0, 1)],
        },
        {"item": 2, "accepted": 1, "refused": []},
    ]
    assert ops(peer) == ["add"]
    assert peer.match(near(FLAG, 31)) == [[]]
    assert stopncii(listed, peer) == 1
    assert [i["held_back"] for i in case.status()["items"]] == [True, False]
    assert one(store).kind == "quarantined"


def stopncii(service, peer):
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    return service.client.get("/stopncii/v1/FetchHashes", headers=headers).json()["count"]


def test_a_case_may_have_only_quarantined_files(listed, store):
    case = listed.open(item(FLAG))
    assert case.status()["state"] == "open"
    reply = listed.client.post(
        "/v1/case/items", json={"items": [item(near(FLAG, 3))]}, headers=case.headers
    )
    assert reply.json()["items"][0]["accepted"] == 0
    assert len(review.questions(store)) == 2


def test_one_bit_beyond_the_distance_is_not_near(listed, store):
    """A hash 32 bits away matches no copy of the flag itself, but many altered ones."""
    assert listed.open(item(near(FLAG, 49))).reply["items"][0]["accepted"] == 1
    assert review.questions(store) == []
    assert listed.open(item(near(FLAG, 48))).reply["items"][0]["accepted"] == 0


def test_a_kept_file_is_published_everywhere(listed, store):
    peer = listed.platform()
    value = near(FLAG, 5)
    case = listed.open(item(value, near(value, 2)))
    cursor = peer.feed()["cursor"]
    review.keep(store, one(store).number, now=listed.clock())
    listed.parts.waiters.poke()
    page = peer.feed(cursor=cursor)
    assert {(e["op"], e["value"]) for e in page["entries"]} == {
        ("add", value),
        ("add", near(value, 2)),
    }
    assert len(peer.match(value)[0]) == 2
    assert stopncii(listed, peer) == 2
    assert not case.status()["items"][0]["held_back"]
    assert review.questions(store) == []
    case.withdraw()
    assert ops(peer, page["cursor"]) == ["remove", "remove"]
    assert peer.match(value) == [[]]


def test_a_removed_file_was_never_published(listed, store):
    peer = listed.platform()
    case = listed.open(item(FLAG), item(pdq()))
    review.remove(store, one(store).number, now=listed.clock())
    first, second = case.status()["items"]
    assert (first["taken_out"], first["held_back"]) == ("operator", False)
    assert first["withdrawn"] is not None
    assert (second["taken_out"], second["withdrawn"]) == (None, None)
    assert ops(peer) == ["add", "remove"]
    assert peer.match(FLAG) == [[]]
    assert review.questions(store) == []


def test_a_withdrawal_closes_the_question(listed, store):
    case = listed.open(item(FLAG))
    case.withdraw(1)
    assert review.questions(store) == []
    with pytest.raises(review.ReviewUnknown):
        review.keep(store, 1, now=listed.clock())
    assert case.status()["items"][0]["taken_out"] is None


def test_the_list_changes_while_serving(service, store):
    now = service.clock()
    service.open(item(FLAG))
    assert review.list_lawful(store, [signal(FLAG)] * 2, now=now) == (1, 1)
    assert one(store).kind == "lawful"
    assert review.list_lawful(store, [signal(FLAG)], now=now) == (0, 0)
    assert service.open(item(FLAG)).reply["items"][0]["accepted"] == 0
    assert review.unlist_lawful(store, [signal(FLAG), signal(pdq())], now=service.clock()) == 1
    assert service.open(item(FLAG)).reply["items"][0]["accepted"] == 1


def test_a_live_file_near_a_new_lawful_picture_matches_until_decided(service, store):
    peer = service.platform()
    case = service.open(item(near(FLAG, 9)))
    review.list_lawful(store, [signal(FLAG)], now=service.clock())
    assert len(peer.match(FLAG)[0]) == 1
    review.remove(store, one(store).number, now=service.clock())
    assert peer.match(FLAG) == [[]]
    assert case.status()["items"][0]["taken_out"] == "operator"


def test_the_list_is_encrypted(listed, store):
    from sqlalchemy import text

    with store.read() as tx:
        (row,) = tx.connection.execute(text("SELECT value, lookup FROM lawful")).all()
    assert bytes.fromhex(FLAG) not in row.value + row.lookup
    assert row.lookup != lookup_of(store, signal(FLAG)), "the two kinds of lookup value differ"


def test_a_contribution_near_a_lawful_picture_is_skipped(listed, store):
    peer = listed.platform()
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    wanted = pdq()
    records = [{"signalType": "ImagePDQ", "hashValue": value} for value in (near(FLAG, 31), wanted)]
    reply = listed.client.post(
        "/stopncii/v1/SubmitHashes",
        json={"count": 2, "hashRecords": records},
        headers=headers,
    )
    assert reply.json() == {"count": 2}
    assert [e["value"] for e in peer.feed()["entries"]] == [wanted]
    assert review.questions(store) == []


def test_the_list_survives_a_change_of_the_master_key(listed, store):
    rotate(store, listed.parts.settings, now=listed.clock(), pause=lambda _: None)
    for lawful in (AllowlistIndex(), listed.parts.lawful):
        lawful._version = (0, 0)  # as after any change of the list
        with store.read() as tx:
            assert lawful.near(tx, [signal(near(FLAG, 4)), signal(pdq())]) == [True, False]


def test_a_damaged_row_does_not_prevent_opening_cases(listed, store, caplog):
    with store.write() as tx:
        ((_, _, lookup),) = tx.allowlist.read()
        tx.master_key.reseal_lawful(lookup, b"damaged")
    listed.parts.lawful._version = (0, 0)
    assert listed.open(item(FLAG)).reply["items"][0]["accepted"] == 1
    assert "cannot be decrypted" in caplog.text


# --- flags -----------------------------------------------------------------------------------


def test_hits_at_many_platforms_open_a_question_and_remove_nothing(service, store):
    value = pdq()
    service.open(item(value))
    peers = [service.platform(f"Platform {n}") for n in range(4)]
    for peer in peers[:2]:
        peer.match(value)
        peer.match(value)
    service.parts._write_counts()
    assert review.questions(store) == []
    peers[2].match(value)
    service.parts._write_counts()
    question = one(store)
    assert (question.kind, question.platforms, question.matches) == ("hits", 3, 5)
    assert len(peers[3].match(value)[0]) == 1
    review.keep(store, question.number, now=service.clock())
    peers[3].match(value)
    service.parts._write_counts()
    assert review.questions(store) == [], "it was decided"


def test_any_number_of_files_may_be_matched_at_once(service, store):
    with store.write() as tx:
        review.flag_hits(tx, range(100_000), platforms=1, now=service.clock())
    assert review.questions(store) == []


def test_hits_on_an_older_file_open_no_question(service, store):
    value = pdq()
    service.open(item(value))
    service.clock.advance(days=2)
    for n in range(4):
        service.platform(f"Platform {n}").match(value)
    service.parts._write_counts()
    assert review.questions(store) == []


def submit_verdict(peer, hit, verdict):
    reply = peer.post("/v1/feedback", {"verdicts": [{"id": hit["id"], "verdict": verdict}]})
    assert reply.json() == {"recorded": 1, "unknown": 0}


def test_two_platforms_that_do_not_block_put_the_signal_on_hold(service):
    value, other = pdq(), pdq()
    case = service.open(item(value, other), item(value))
    one, two = service.platform("One"), service.platform("Two")
    # each platform gets hits in another order, but the feed in the same random order
    entries = one.feed()["entries"]
    [file] = [e["item"] for e in entries if e["value"] == other]
    [hit] = [e for e in entries if e["value"] == value and e["item"] == file]
    [twin] = [e for e in entries if e["item"] != file]
    mine = two.feed()["entries"][entries.index(hit)]
    cursor = one.feed()["cursor"]
    submit_verdict(one, hit, "not_blocked")
    submit_verdict(one, hit, "not_blocked")
    assert len(one.match(value)[0]) == 2, "a repeated verdict counts once"
    submit_verdict(two, mine, "not_blocked")
    assert [h["id"] for h in one.match(value)[0]] == [twin["id"]]
    page = one.feed(cursor=cursor)
    assert page["entries"] == [{"op": "remove", "id": hit["id"]}]
    assert len(one.match(other)[0]) == 1, "the rest of the file stays"
    assert [i["being_checked"] for i in case.status()["items"]] == [1, 0]
    (hit,), (mine,) = one.match(other)[0], two.match(other)[0]
    submit_verdict(one, hit, "not_blocked")
    submit_verdict(two, mine, "not_blocked")
    first, second = case.status()["items"]
    assert (first["being_checked"], first["held_back"], first["withdrawn"]) == (2, True, None)
    assert (second["being_checked"], second["held_back"]) == (0, False)


def test_a_platform_that_blocks_keeps_it_matching(service):
    value = pdq()
    service.open(item(value))
    peers = [service.platform(f"Platform {n}") for n in range(4)]
    hits = [peer.match(value)[0][0] for peer in peers]
    submit_verdict(peers[0], hits[0], "blocked")
    for peer, hit in zip(peers[1:], hits[1:], strict=True):
        submit_verdict(peer, hit, "not_blocked")
    assert len(peers[0].match(value)[0]) == 1
    submit_verdict(peers[0], hits[0], "unsure")
    submit_verdict(peers[1], hits[1], "not_blocked")
    assert peers[0].match(value) == [[]]


def test_stopncii_feedback_counts_too_and_its_record_is_removed(service):
    value = pdq()
    service.open(item(value))
    one, two = service.platform("One"), service.platform("Two")
    for peer in (one, two):
        assert stopncii(service, peer) == 1
        headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
        feedback = {"hashValue": value, "feedbackValue": "NotBlocked"}
        reply = service.client.post(
            "/stopncii/v1/SubmitFeedback",
            json={"count": 1, "hashFeedbacks": [feedback]},
            headers=headers,
        )
        assert reply.status_code == 200
    assert stopncii(service, one) == 0
    assert one.match(value) == [[]]


def test_a_quarantined_file_is_not_in_the_log_and_does_not_match(listed):
    listed.open(item(FLAG))
    assert figures(listed)["log"] == 0
    assert listed.platform().match(FLAG) == [[]]


# --- the command line ------------------------------------------------------------------------


def test_the_operator_works_alongside_a_running_service(service, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    where = ("--database", service.settings.database)
    file = tmp_path / "flags.txt"
    file.write_text(f"# flags\n{FLAG.upper()}  # ours\n\n{'0f' * 16}\n")
    code, out, _ = operate(capsys, monkeypatch, "review", "lawful", "add", file, "--json", *where)
    assert (code, json.loads(out)) == (0, {"listed": 2, "questions": 0})
    body = opening(item(FLAG))
    reply = service.client.post("/v1/cases", json=body).json()
    assert reply["items"][0]["accepted"] == 0
    code, out, _ = operate(capsys, monkeypatch, "review", "list", *where)
    assert "quarantined" in out
    assert reply["case"] not in out
    operate(capsys, monkeypatch, "review", "keep", 1, *where)
    peer = service.platform()
    assert len(peer.match(FLAG)[0]) == 1
    code, _, err = operate(capsys, monkeypatch, "review", "keep", 1, *where)
    assert (code, "review list" in err) == (2, True)
    code, out, _ = operate(
        capsys, monkeypatch, "review", "lawful", "remove", file, "--json", *where
    )
    assert json.loads(out) == {"unlisted": 2}
    file.write_text("IMG_1.jpg")
    code, _, err = operate(capsys, monkeypatch, "review", "lawful", "add", file, *where)
    assert (code, "IMG_1" in err) == (2, False)
    status = service.client.get(
        "/v1/case", headers=credentials(reply["case"], reply["passphrase"])
    ).json()
    assert status["items"][0]["signals"] == 1
