"""A case on the page: opened, claimed, added to, read and withdrawn."""

import time
from pathlib import Path

from golden.pictures import blocks
from nciihash.client.advocate import AdvocateClient
from nciihash.wire import AddItems, Reason
from support.browsers.chosen_files import clip, file, pictures, png
from support.browsers.leaks import assert_holds_nothing_of, leaks
from support.hashes import by_python
from support.local import random_item


def test_a_request_whose_answer_is_lost_is_retried_without_a_second_case(visit, serving):
    """The service opens the case, its answer is lost, she tries again."""
    visitor = visit()
    sent = []

    def lose(route):
        sent.append((route.request.headers["idempotency-key"], route.request.post_data))
        if len(sent) == 1:
            assert route.fetch().status == 201
            route.abort()
        else:
            route.continue_()

    visitor.page.route("**/v1/cases", lose)
    before = serving.cases()
    visitor.answer_questions()
    visitor.choose(pictures())
    visitor.press("continue")
    visitor.press("review.send")
    visitor.sees("error.offline")
    # she cannot change her files now: another request would open a second case
    assert visitor.page.get_by_role("button", name=visitor.say("back"), exact=True).count() == 0
    visitor.press("again")
    visitor.at("receipt.title")
    secret = visitor.page.locator(".secret").all_inner_texts()
    assert sent[0] == sent[1]
    assert serving.cases() == before + 1
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.sign_in(*secret)
    visitor.sees("status.file", number=2, media="picture")


def test_a_request_to_a_busy_service_is_retried_with_the_same_key(visit):
    visitor = visit()
    tries = []

    def busy(route):
        tries.append(route.request.headers["idempotency-key"])
        if len(tries) == 1:
            route.fulfill(
                status=429, headers={"Retry-After": "1"}, body='{"code":"too_many_checks"}'
            )
        else:
            route.continue_()

    visitor.page.route("**/v1/cases", busy)
    visitor.open_case(pictures())
    assert len(tries) == 2
    assert len(set(tries)) == 1


def test_what_platforms_did_is_shown_and_what_is_not_known(visit, add_platform, serving):
    visitor = visit()
    with (
        add_platform("Follower") as follower,
        add_platform("Asker", "match") as asker,
        add_platform("Veiled", "veil,match"),
    ):
        number, passphrase = visitor.open_case(pictures())
        visitor.press("receipt.done")
        visitor.press("next.finish")
        visitor.sign_in(number.lower().replace("-", " "), passphrase.upper())
        visitor.at("status.title")
        visitor.sees_of("Follower", "platform.unknown")
        visitor.sees_of("Asker", "platform.asks")
        visitor.sees_of("Veiled", "platform.part")
        visitor.sees_of("Asker", "platform.none")
        # the cases of other tests come first
        feed = follower.get("/v1/feed", params={"limit": 10_000}).raise_for_status().json()
        assert not feed["more"]
        follower.post("/v1/feed/ack", json={"cursor": feed["cursor"]}).raise_for_status()
        ids = [e["id"] for e in feed["entries"] if e["op"] == "add"][-2:]
        verdicts = [{"id": ids[0], "verdict": "blocked"}, {"id": ids[1], "verdict": "unsure"}]
        follower.post("/v1/feedback", json={"verdicts": verdicts}).raise_for_status()
        value = by_python(pictures()[0]["buffer"])[0]
        for _ in range(50):  # until the service's index has this case too, and not only others'
            asker.post("/v1/match", json={"type": "pdq", "values": [value]}).raise_for_status()
            serving.backdate_a_day()
            visitor.press("status.refresh")
            visitor.at("status.title")
            if visitor.page.get_by_text("Uploads that looked the same").count():
                break
            time.sleep(0.1)
        visitor.sees("verdict.blocked", count=1)
        visitor.sees("verdict.unsure", count=1)
        visitor.sees("status.counts")
        assert visitor.page.get_by_text("Has had the fingerprint since").count() == 2
        assert visitor.page.get_by_text("Uploads that looked the same").count() >= 1
        visitor.press("status.withdraw_one", number=1)
        visitor.sees("withdraw.memory")
        visitor.press("withdraw.yes")
        visitor.at("status.title")
        visitor.sees_of("Follower", "platform.not_deleted")
        feed = follower.get("/v1/feed", params={"cursor": feed["cursor"], "limit": 10_000}).json()
        follower.post("/v1/feed/ack", json={"cursor": feed["cursor"]}).raise_for_status()
        visitor.press("status.refresh")
        visitor.page.get_by_text("Told us that it deleted the fingerprint").wait_for()
        assert visitor.page.get_by_text("Told us that it deleted the fingerprint").count() == 1


def test_a_case_is_claimed_with_a_code_and_a_lost_answer_is_retried(visit, serving, operator):
    key = operator("advocate", "add", "Helpline")["key"]
    with AdvocateClient(serving.address, key) as advocate:
        facts = {"reason": Reason.SHARED, "consent": True, "adult": True, "depicted": True}
        reference = advocate.open_case([random_item()], **facts).reference
        code = advocate.hand_over(reference).code
        visitor = visit()
        visitor.press("start.have")
        visitor.press("claim.have")
        visitor.at("claim.title")
        visitor.page.fill("#code", "K7Q4-29XD-0000")
        visitor.press("claim.go")
        visitor.sees("error.code_unknown")
        lost = []

        def lose(route):
            lost.append(route.fetch().status)
            route.abort()

        visitor.page.route("**/v1/claim", lose, times=1)
        visitor.page.fill("#code", code.lower().replace("-", " "))
        visitor.press("claim.go")
        visitor.sees("error.offline")
        assert lost == [200]
        visitor.press("claim.go")
        visitor.at("receipt.title")
        secret = visitor.page.locator(".secret").all_inner_texts()
        assert advocate.cases().cases == ()
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.sign_in(*secret)
    visitor.sees("status.file", number=1, media="picture")
    assert leaks(visitor) == [f"request: {visitor.url}/"]


def test_a_quarantined_file_and_who_removed_it_are_shown(visit, operator, tmp_path):
    photo = pictures()[0]
    flags = tmp_path / "flags.txt"
    flags.write_text(by_python(photo["buffer"])[0])
    operator("review", "lawful", "add", str(flags))
    try:
        visitor = visit()
        secret = visitor.open_case([photo])
        visitor.sees("status.held_back")
        visitor.press("receipt.done")
        visitor.press("next.finish")
        visitor.sign_in(*secret)
        visitor.sees("status.held_back")
        quarantined = [q for q in operator("review", "list") if q["kind"] == "quarantined"]
        operator("review", "remove", str(quarantined[-1]["number"]))
        visitor.press("status.refresh")
        visitor.sees("status.taken_out.operator")
        assert visitor.page.get_by_text(visitor.say("status.held_back")).count() == 0
    finally:
        operator("review", "lawful", "remove", str(flags))


def test_a_file_that_platforms_did_not_block_is_being_checked(visit, operator, add_platform):
    photo = pictures()[0]
    with add_platform("Doubter") as one, add_platform("Doubter too") as two:
        feed = {"limit": 10_000}
        before = {p: p.get("/v1/feed", params=feed).json()["cursor"] for p in (one, two)}
        visitor = visit()
        secret = visitor.open_case([photo])
        visitor.press("receipt.done")
        visitor.press("next.finish")
        try:
            for peer, cursor in before.items():
                page = peer.get("/v1/feed", params=feed | {"cursor": cursor}).json()
                ids = [entry["id"] for entry in page["entries"] if entry["op"] == "add"]
                verdicts = [{"id": id, "verdict": "not_blocked"} for id in ids]
                peer.post("/v1/feedback", json={"verdicts": verdicts}).raise_for_status()
            visitor.sign_in(*secret)
            visitor.sees("status.being_checked", count=len(ids), of=len(ids))
            assert visitor.page.get_by_text(visitor.say("status.held_back")).count() == 0
            again = visit()
            again.open_case([photo])
            again.sees("receipt.being_checked")
        finally:
            assert operator("review", "put-back", "Doubter")["kept"] == 1
        visitor.press("status.refresh")
        visitor.at("status.title")
        text = visitor.say("status.being_checked", count=len(ids), of=len(ids))
        assert visitor.page.get_by_text(text).count() == 0
        visitor.press("status.withdraw_one", number=1)


def test_files_are_added_with_one_post_that_holds_only_hashes(visit):
    visitor = visit()
    secret = visitor.open_case(pictures()[:1])
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.sign_in(*secret)
    visitor.press("status.add")
    files = [file("beach day.png", png(blocks(300, 400)))]
    visitor.choose(files)
    visitor.press("continue")
    before = len(visitor.requests)
    visitor.press("review.send")
    visitor.at("added.title")
    (post,) = visitor.requests[before:]
    assert post.url == visitor.url + "/v1/case/items"
    AddItems.model_validate_json(post.post_data_buffer)
    assert_holds_nothing_of(post.post_data_buffer, files)
    assert secret[0] not in post.url


def test_a_large_case_is_sent_in_several_requests_and_a_lost_one_is_retried(visit, serving):
    """As with many videos; here a request holds the fingerprints of one picture."""
    visitor = visit(arrive=False)

    def smaller(route):
        reply = route.fetch()
        body = reply.text()
        assert body.count("SIGNALS_MAX = 1024") == 1
        route.fulfill(response=reply, body=body.replace("SIGNALS_MAX = 1024", "SIGNALS_MAX = 30"))

    visitor.page.route("**/page/api.js", smaller)
    visitor.arrive()
    before = serving.cases()
    visitor.answer_questions()
    visitor.choose([*pictures(), clip()])
    visitor.press("continue")
    keys = []

    def lose(route):
        keys.append(route.request.headers["idempotency-key"])
        assert route.fetch().status == 201
        route.abort()

    visitor.page.route("**/v1/case/items", lose, times=1)
    visitor.press("review.send")
    visitor.at("unsent.part")
    assert visitor.page.get_by_role("button", name=visitor.say("back"), exact=True).count() == 0
    visitor.press("unsent.receipt")
    visitor.sees("receipt.part", count=2)
    secret = visitor.page.locator(".secret").all_inner_texts()
    visitor.press("receipt.done")
    visitor.press("next.finish")
    visitor.sign_in(*secret)
    visitor.sees("status.file", number=2, media="picture")
    assert serving.cases() == before + 1
    assert len(keys) == 1


def test_the_receipt_is_saved_under_a_neutral_name(visit):
    visitor = visit()
    number, passphrase = visitor.open_case(pictures())
    with visitor.page.expect_download() as download:
        visitor.press("receipt.save")
    assert download.value.suggested_filename == "notes.txt"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert number in text
    assert "IMG_0042" not in text
    assert "(0" in text
    assert passphrase in text
    assert visitor.errors == []
