"""Submitted files: prepared before the lock, in linear time, within limits, and in parts."""

import threading
from contextlib import contextmanager
from itertools import pairwise

import pytest
from sqlalchemy import event

from clearinghouse.abuse import review
from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.cases import advocates
from clearinghouse.database.queries.cases import Cases
from clearinghouse.database.queries.reviews import QUARANTINED
from clearinghouse.database.store import Store
from clearinghouse.maintenance.key_rotation import rotate
from clearinghouse.routes import filing
from clearinghouse.sealing.vault import ReplyVault, Vault
from clearinghouse.settings import Settings
from nciihash.signals import Signal, SignalType
from nciihash.wire import REQUEST_SIGNALS_MAX, SIGNALS_MAX
from support import stopncii
from support.serving import item, near, opening, pdq, problem


def video(count, *, more=False):
    return item(*(pdq() for _ in range(count)), media="video") | ({"more": True} if more else {})


def part(after, count, *, more=False):
    return {"after": after, "signals": video(count)["signals"], "more": more}


def append(case, number, body, **headers):
    path = f"/v1/case/items/{number}/signals"
    return case.client.post(path, json=body, headers=case.headers | headers)


def live(service):
    """Return how many signals are live."""
    with service.parts.store.read() as tx:
        return len(tx.signals.live(0, 10_000))


# --- before the lock -------------------------------------------------------------------------


@pytest.fixture
def locked(monkeypatch):
    """The names of the costly calls made while a write transaction was open."""
    writing, calls = threading.local(), []
    write = Store.write

    @contextmanager
    def noting(store):
        with write(store) as tx:
            writing.now = True
            try:
                yield tx
            finally:
                writing.now = False

    monkeypatch.setattr(Store, "write", noting)

    def watch(owner, name):
        original = getattr(owner, name)

        def watched(*args, **kwargs):
            if getattr(writing, "now", False):
                calls.append(f"{owner.__name__}.{name}")
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in (
        (Vault, "seal"),
        (Vault, "open"),
        (Vault, "lookup"),
        (Vault, "tag"),
        (AllowlistIndex, "near"),
        (ReplyVault, "seal"),
    ):
        watch(owner, name)
    return calls


def test_nothing_is_sealed_looked_up_or_compared_under_the_lock(service, locked):
    key = {"Idempotency-Key": "5f" * 16}
    case = service.open(item(pdq(), pdq()), video(3, more=True))
    assert append(case, 2, part(3, 5), **key).status_code == 201
    new = {"items": [item(pdq(), pdq())]}
    case.client.post("/v1/case/items", json=new, headers=case.headers).raise_for_status()
    case.withdraw(1).raise_for_status()
    case.withdraw().raise_for_status()
    assert locked == ["ReplyVault.seal"]
    advocate_key = advocates.add(service.parts.store, "Helpline", service.clock())
    peer = service.platform()
    locked.clear()
    content = opening(item(pdq())) | {"consent": True}
    del content["work"]
    helper = {"Authorization": f"Bearer {advocate_key}"}
    assert (
        service.client.post("/v1/advocate/cases", json=content, headers=helper).status_code == 201
    )
    stopncii.submit(peer, *(pdq() for _ in range(20))).raise_for_status()
    assert stopncii.feedback(peer, pdq(), "Blocked").status_code == 200
    assert locked == []


def test_one_reply_is_sealed_in_the_transaction_that_it_reports(service, locked):
    """The only exception, once per request: a retry must find write and reply, or neither."""
    headers = {"Idempotency-Key": "5f" * 16}
    content = opening(item(*(pdq() for _ in range(50))))
    assert service.client.post("/v1/cases", json=content, headers=headers).status_code == 201
    assert locked == ["ReplyVault.seal"]


class Statements:
    """A counter of the statements of write transactions, and of their rows."""

    def __init__(self, service):
        self.count = self.rows = 0
        event.listen(service.parts.store._database.writer, "before_cursor_execute", self.note)

    def note(self, _connection, _cursor, _statement, parameters, _context, many):
        self.count += 1
        self.rows += len(parameters) if many else 1

    def spent(self, act):
        before = self.count, self.rows
        act()
        return self.count - before[0], self.rows - before[1]


def test_statements_and_rows_are_linear_in_the_signals(service):
    """Twice the signals need at most twice the rows, and no statement per signal."""
    statements = Statements(service)
    service.open()  # reserves row numbers
    sizes = (128, 256, 512, REQUEST_SIGNALS_MAX)
    cases = []
    opened = [statements.spent(lambda n=n: cases.append(service.open(video(n)))) for n in sizes]
    withdrawn = [statements.spent(case.withdraw) for case in cases]
    assert opened[-1][0] < 40, "a few per batch, and none per signal"
    assert withdrawn[-1][0] < 160
    for spent in (opened, withdrawn):
        for (count, rows), (more_count, more_rows) in pairwise(spent):
            assert more_count <= 2 * count + 4
            assert more_rows <= 2 * rows + 4


def test_withdrawing_values_of_another_case_is_linear(service):
    """Regression: records were moved one by one, with four statements each, under the lock."""
    statements = Statements(service)
    service.open()  # reserves row numbers
    counts = []
    for size in (64, 512):
        values = [pdq() for _ in range(size)]
        one, _ = (service.open(item(*values)) for _ in range(2))
        counts.append(statements.spent(one.withdraw))
    (few, few_rows), (many, many_rows) = counts
    assert many <= few + 60, "a few more per batch, and none per signal"
    assert few_rows > 3 * 64, "each is removed, logged and moved"
    assert many_rows <= 9 * few_rows


def test_releasing_a_file_needs_no_statement_per_signal(service):
    store, now = service.parts.store, service.clock()
    statements, counts = Statements(service), []
    for size in (64, 512):
        values = [pdq() for _ in range(size)]
        review.list_lawful(store, [Signal.from_hex(SignalType.PDQ, near(values[0], 2))], now=now)
        service.open(item(*values))
        [number] = [q.number for q in review.questions(store) if q.kind == QUARANTINED]
        counts.append(statements.spent(lambda n=number: review.keep(store, n, now=now)))
    (few, few_rows), (many, many_rows) = counts
    assert many <= few + 5
    assert few_rows >= 2 * 64, "each is moved and logged"
    assert many_rows >= 2 * 512


def test_equal_signals_are_stored_once(service):
    """Regression: a list of equal ones was compared with itself, pair by pair."""
    value = pdq()
    case = service.open(item(*[value] * REQUEST_SIGNALS_MAX))
    assert case.reply["items"][0]["accepted"] == REQUEST_SIGNALS_MAX
    assert live(service) == 1


def test_the_signals_of_a_request_are_limited(service):
    halves = [video(REQUEST_SIGNALS_MAX // 2), video(REQUEST_SIGNALS_MAX // 2)]
    case = service.open(*halves)
    for items in ([*halves, item(pdq())], [video(REQUEST_SIGNALS_MAX + 1)]):
        reply = service.client.post("/v1/cases", json=opening(*items))
        assert "too_many_signals" in problem(reply, 422, "invalid_request")["detail"]
        reply = case.client.post("/v1/case/items", json={"items": items}, headers=case.headers)
        problem(reply, 422, "invalid_request")
    problem(append(case, 1, part(1, REQUEST_SIGNALS_MAX + 1)), 422, "invalid_request")


def test_row_numbers_are_reserved_once(settings):
    one, other = Store.open(settings), Store.open(settings)
    reserved = [n for _ in range(3) for store in (one, other) for n in store.reserve_items(700)]
    assert len(set(reserved)) == len(reserved) == 4200
    one.close()
    other.close()


# --- what changes in between -----------------------------------------------------------------


def test_a_picture_listed_as_lawful_in_the_meantime_is_quarantined(service, monkeypatch):
    value = pdq()
    signals = [Signal.from_hex(SignalType.PDQ, value)]
    once = iter([True])
    seal = Vault.seal

    def listing(vault, *args):
        if args[1] == "signals" and next(once, False):
            review.list_lawful(service.parts.store, signals, now=service.clock())
        return seal(vault, *args)

    monkeypatch.setattr(Vault, "seal", listing)
    case = service.open(item(near(value, 3)))
    assert case.reply["items"][0]["refused"] == [{"signal": 0, "code": "quarantined"}]
    assert case.status()["items"][0]["held_back"]


def test_values_sealed_under_the_old_key_are_sealed_again(service, monkeypatch):
    once = iter([True])
    seal = Vault.seal

    def rotating(vault, *args):
        sealed = seal(vault, *args)
        if args[1] == "signals" and next(once, False):
            rotate(
                service.parts.store,
                service.settings,
                now=service.clock(),
                pause=lambda _seconds: None,
            )
        return sealed

    monkeypatch.setattr(Vault, "seal", rotating)
    value = pdq()
    case = service.open(item(value))
    monkeypatch.undo()
    fresh = Vault(bytes.fromhex(service.settings.key_file.read_text()))
    with service.parts.store.read() as tx:
        [row] = tx.signals.live(0, 10)
    assert fresh.open(row.value, "signals", "value", row.item_id, row.ordinal).hex() == value
    assert case.withdraw().json()["withdrawn"] == 1


# --- long videos -----------------------------------------------------------------------------


def test_a_long_video_is_sent_in_parts(service):
    case = service.open(item(pdq()), video(REQUEST_SIGNALS_MAX - 1, more=True))
    assert append(case, 2, part(REQUEST_SIGNALS_MAX - 1, 1, more=True)).status_code == 201
    assert [i["complete"] for i in case.status()["items"]] == [True, False]
    added = append(case, 2, part(REQUEST_SIGNALS_MAX, 500, more=True)).json()
    assert (added["item"], added["accepted"], added["refused"]) == (2, 500, [])
    assert not case.status()["items"][1]["complete"]
    rest = part(REQUEST_SIGNALS_MAX + 500, SIGNALS_MAX - REQUEST_SIGNALS_MAX - 500)
    assert append(case, 2, rest).status_code == 201
    found = case.status()["items"][1]
    assert (found["signals"], found["complete"]) == (SIGNALS_MAX, True)
    service.caught_up()
    assert [m for m in service.platform().match(rest["signals"][-1]["value"]) if m]
    assert case.withdraw(2).json() == {"withdrawn": 1, "remaining": 1, "state": "open"}
    assert live(service) == 1


def test_a_repeated_part_is_acknowledged_but_not_added(service):
    case = service.open(video(10, more=True))
    middle, last = part(10, 20, more=True), part(30, 5)
    middle["signals"][3]["quality"] = 1
    first = append(case, 1, middle).json()
    assert first["refused"] == [{"signal": 3, "code": "low_quality"}]
    assert append(case, 1, middle).json() == first
    ended = append(case, 1, last).json()
    assert append(case, 1, last).json() == ended
    assert append(case, 1, middle).json() == first
    assert live(service) == 34


def test_parts_are_accepted_only_in_order_and_for_incomplete_files(service):
    case = service.open(video(10, more=True), item(pdq()))
    problem(append(case, 1, part(11, 5)), 409, "not_the_next_part")
    problem(append(case, 1, part(9, 5)), 409, "not_the_next_part")
    problem(append(case, 2, part(1, 5)), 409, "not_the_next_part")
    problem(append(case, 3, part(1, 5)), 404, "item_unknown")
    for after in (10, 10 + 1024):
        reply = append(case, 1, part(after, min(1024, SIGNALS_MAX - after), more=True))
        assert reply.status_code == 201
    problem(append(case, 1, part(SIGNALS_MAX - 1, 5)), 409, "not_the_next_part")
    assert live(service) == SIGNALS_MAX + 1
    case.withdraw(1)
    problem(append(case, 1, part(10, 5)), 404, "item_unknown")
    case.withdraw()
    problem(append(case, 2, part(10, 5)), 409, "case_closed")


def test_the_signals_of_a_file_are_limited(service):
    case = service.open(video(REQUEST_SIGNALS_MAX, more=True))
    append(case, 1, part(REQUEST_SIGNALS_MAX, 1000, more=True)).raise_for_status()
    reply = append(case, 1, part(REQUEST_SIGNALS_MAX + 1000, 25))
    problem(reply, 422, "too_many_signals")
    assert live(service) == REQUEST_SIGNALS_MAX + 1000


def test_a_part_near_a_lawful_picture_waits_for_the_operator(service):
    value = pdq()
    case = service.open(video(3, more=True))
    review.list_lawful(
        service.parts.store, [Signal.from_hex(SignalType.PDQ, value)], now=service.clock()
    )
    bad = {"after": 3, "signals": item(pdq(), near(value, 2))["signals"], "more": True}
    reply = append(case, 1, bad).json()
    assert (reply["accepted"], len(reply["refused"])) == (0, 2)
    assert append(case, 1, part(5, 2)).json()["accepted"] == 0, "and so do the following parts"
    peer = service.platform()
    assert len(peer.feed()["entries"]) == 3
    assert case.status()["items"][0]["held_back"]
    [question] = review.questions(service.parts.store)
    assert question.kind == "quarantined"
    review.keep(service.parts.store, question.number, now=service.clock())
    assert len(peer.feed()["entries"]) == 7, "each once"
    assert append(case, 1, bad).json()["item"] == 1, "and it can be repeated"


def test_a_part_without_work_is_not_stored(service, monkeypatch):
    """It was not the next part when it was checked, but became it before it was stored."""
    case = service.open(video(1, more=True))
    paid = []
    pay = type(service.parts.proof_of_work).pay

    def record(*args, **kwargs):
        paid.append(kwargs["signals"])
        return pay(*args, **kwargs)

    monkeypatch.setattr(type(service.parts.proof_of_work), "pay", record)
    prepare_part = filing.prepare_part

    def late(*args):
        monkeypatch.setattr(filing, "prepare_part", prepare_part)
        assert append(case, 1, part(1, 1, more=True)).status_code == 201
        return prepare_part(*args)

    monkeypatch.setattr(filing, "prepare_part", late)
    problem(append(case, 1, part(2, 1000)), 409, "not_the_next_part")
    assert paid == [1]
    assert append(case, 1, part(2, 1000)).status_code == 201


def test_a_first_part_of_low_quality_does_not_end_the_file(service):
    plain = video(3, more=True)
    for signal in plain["signals"]:
        signal["quality"] = 1
    case = service.open(plain, item(pdq()))
    assert append(case, 1, part(3, 2)).json()["accepted"] == 2
    assert [i["item"] for i in case.status()["items"]] == [1, 2]
    assert case.withdraw().json()["withdrawn"] == 2


def test_no_work_is_asked_for_what_exceeds_a_limit(service, monkeypatch):
    case = service.open(video(1000, more=True))
    append(case, 1, part(1000, 1024, more=True)).raise_for_status()
    monkeypatch.setattr(type(service.parts.proof_of_work), "pay", None)
    problem(append(case, 1, part(2024, 25)), 422, "too_many_signals")
    many = {"items": [item(pdq())] * 200}
    problem(
        service.client.post("/v1/case/items", json=many, headers=case.headers),
        422,
        "too_many_items",
    )


def test_further_parts_of_a_quarantined_file_are_quarantined_too(service):
    value = pdq()
    store, now = service.parts.store, service.clock()
    review.list_lawful(store, [Signal.from_hex(SignalType.PDQ, value)], now=now)
    case = service.open(item(near(value, 2)) | {"more": True})
    assert append(case, 1, part(1, 4)).status_code == 201
    peer = service.platform()
    assert peer.feed()["entries"] == []
    [question] = review.questions(store)
    review.keep(store, question.number, now=now)
    assert len(peer.feed()["entries"]) == 5


def test_an_advocates_long_video_is_sent_in_parts(service):
    key = advocates.add(service.parts.store, "Helpline", service.clock())
    headers = {"Authorization": f"Bearer {key}"}
    content = opening(video(4, more=True)) | {"consent": True}
    del content["work"]
    opened = service.client.post("/v1/advocate/cases", json=content, headers=headers).json()
    path = f"/v1/advocate/cases/{opened['reference']}/items/1/signals"
    reply = service.client.post(path, json=part(4, 6), headers=headers)
    assert (reply.status_code, reply.json()["accepted"]) == (201, 6)
    problem(service.client.post(path, json=part(1, 1), headers=headers), 409, "not_the_next_part")


def test_a_large_case_is_withdrawn_in_several_transactions(service, monkeypatch):
    monkeypatch.setattr("clearinghouse.cases.lifecycle._AT_ONCE", 7)
    case = service.open(video(20), item(pdq()), video(7), video(30))
    entries = len(service.platform().feed()["entries"])
    assert case.withdraw(1).json() == {"withdrawn": 1, "remaining": 3, "state": "open"}
    assert case.withdraw().json() == {"withdrawn": 3, "remaining": 0, "state": "withdrawn"}
    assert case.withdraw().json() == {"withdrawn": 0, "remaining": 0, "state": "withdrawn"}
    assert live(service) == 0
    assert (entries, service.parts.store.high_water_mark().seq) == (58, 2 * 58)


def test_an_interrupted_withdrawal_continues(service, monkeypatch):
    monkeypatch.setattr("clearinghouse.cases.lifecycle._AT_ONCE", 7)
    case = service.open(video(20))
    some, calls = Cases.withdraw_some, iter(range(10))

    def fail(*args, **kwargs):
        if next(calls) == 1:
            raise OSError("the disk failed")
        return some(*args, **kwargs)

    monkeypatch.setattr(Cases, "withdraw_some", fail)
    problem(case.withdraw(), 503, "database_away")
    assert 0 < live(service) < 20
    assert case.status()["state"] == "open"
    assert case.withdraw().json() == {"withdrawn": 1, "remaining": 0, "state": "withdrawn"}
    assert live(service) == 0


def test_a_case_is_withdrawn_even_if_the_journal_cannot_be_written(service, monkeypatch):
    monkeypatch.setattr("clearinghouse.cases.lifecycle._AT_ONCE", 7)
    case = service.open(video(40))
    with monkeypatch.context() as full:

        def fail(_store):
            raise OSError("no space left")

        full.setattr(Store, "update_journal", fail)
        problem(case.withdraw(), 503, "database_away")
        assert live(service) == 0
    assert case.withdraw().json() == {"withdrawn": 0, "remaining": 0, "state": "withdrawn"}


def test_documented_limits_are_unchanged():
    """The documentation states these limits; change both."""
    assert (REQUEST_SIGNALS_MAX, SIGNALS_MAX) == (1024, 2048)
    assert Settings(database="sqlite:///x").body_max == 2 * 2**20
