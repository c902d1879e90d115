"""Cases that a helpline opens for others, and their handover."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from clearinghouse.cases import advocates
from clearinghouse.maintenance.purge import expire, purge
from nciihash.cli import tables
from nciihash.client import Client
from nciihash.client.advocate import AdvocateClient
from nciihash.errors import InvalidRequest, ServiceRefused
from nciihash.wire import Reason
from nciihash.wire.advocates import AssistedCase
from support.command_line import operate
from support.local import random_item
from support.pictures import scene
from support.serving import credentials, figures, flood, item, near, pdq, problem

KEY = "0123456789abcdef0123456789abcdef"


class Helpline:
    def __init__(self, service, name="Helpline"):
        self.service = service
        self.key = advocates.add(service.parts.store, name, service.clock())

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.key}"}

    def ask(self, method, rest="", body=None, **headers):
        return self.service.client.request(
            method, f"/v1/advocate/cases{rest}", json=body, headers=self.headers | headers
        )

    def open(self, *items, **changes):
        body = {
            "consent": True,
            "declaration": {"adult": True, "depicted": True},
            "reason": "threatened",
            "items": list(items) or [item(pdq())],
        }
        return self.ask("POST", body=body | changes)

    def opened(self, *items):
        reply = self.open(*items)
        assert reply.status_code == 201, reply.text
        return reply.json()["reference"]

    def listed(self):
        return self.ask("GET").json()["cases"]

    def code(self, reference):
        reply = self.ask("POST", f"/{reference}/handover")
        assert reply.status_code == 200, reply.text
        return reply.json()["code"]


@pytest.fixture
def helpline(service):
    return Helpline(service)


def claim(service, code, **headers):
    return service.client.post("/v1/claim", json={"code": code}, headers=headers)


def test_a_case_for_somebody_else_matches_like_any_other(service, helpline):
    value = pdq()
    body = helpline.open(item(value), item(pdq())).json()
    assert [(i["item"], i["accepted"]) for i in body["items"]] == [(1, 1), (2, 1)]
    peer = service.platform()
    assert len(peer.match(near(value, 3))[0]) == 1
    reference = body["reference"]
    assert helpline.listed() == [
        {
            "reference": reference,
            "reason": "threatened",
            "opened": "2026-05-17T13:00:00Z",
            "expires": "2028-05-17T13:00:00Z",
            "consent": "2026-05-17T13:00:00Z",
            "files": 2,
            "reported": None,
            "due": None,
            "code_until": None,
        }
    ]
    status = helpline.ask("GET", f"/{reference.lower()}").json()
    assert [i["signals"] for i in status["items"]] == [1, 1]
    assert helpline.ask("DELETE", f"/{reference}/items/1").json()["remaining"] == 1
    assert peer.match(value) == [[]]
    assert helpline.ask("DELETE", f"/{reference}").json()["state"] == "withdrawn"
    assert helpline.ask("DELETE", f"/{reference}").json()["withdrawn"] == 0
    assert helpline.listed() == []


def test_no_case_is_opened_without_consent_or_declaration(service, helpline):
    problem(helpline.open(consent=False), 422, "consent_missing")
    problem(helpline.open(consent="yes"), 422, "invalid_request")
    problem(helpline.open(name="Her name"), 422, "invalid_request")
    minor = {"adult": False, "depicted": True}
    problem(helpline.open(declaration=minor), 422, "declaration_missing")
    problem(helpline.open(item(pdq(), quality=3)), 422, "nothing_accepted")
    assert figures(service)["cases_open"] == 0
    assert helpline.listed() == []


def test_no_work_is_asked_of_an_advocate(service, helpline):
    flood(service.parts.proof_of_work, 500, service.clock())
    problem(
        service.client.post(
            "/v1/cases",
            json={
                "declaration": {"adult": True, "depicted": True},
                "reason": "shared",
                "items": [item(pdq())],
            },
        ),
        428,
        "work_needed",
    )
    assert helpline.open().status_code == 201


def test_a_case_may_have_a_thousand_files(helpline, service):
    many = [item(pdq()) for _ in range(200)]
    reference = helpline.opened(*many)
    for _ in range(4):
        assert helpline.ask("POST", f"/{reference}/items", {"items": many}).status_code == 201
    over = helpline.ask("POST", f"/{reference}/items", {"items": many[:1]})
    problem(over, 422, "too_many_items")
    assert helpline.listed()[0]["files"] == 1000
    own = service.open(*many)
    over = service.client.post("/v1/case/items", json={"items": many[:1]}, headers=own.headers)
    problem(over, 422, "too_many_items")


def test_a_retried_request_is_executed_once(helpline):
    headers = {"Idempotency-Key": KEY}
    body = {
        "consent": True,
        "declaration": {"adult": True, "depicted": True},
        "reason": "shared",
        "items": [item(pdq())],
    }
    first, again = (helpline.ask("POST", body=body, **headers) for _ in range(2))
    assert first.json() == again.json()
    assert len(helpline.listed()) == 1


def test_only_its_advocate_has_access(service, helpline):
    reference = helpline.opened()
    other = Helpline(service, "Another")
    peer = service.platform()
    requests = (("GET", ""), ("DELETE", ""), ("POST", "/reported"), ("POST", "/handover"))
    for method, rest in requests:
        problem(other.ask(method, f"/{reference}{rest}"), 404, "case_unknown")
        path = f"/v1/advocate/cases/{reference}{rest}"
        problem(service.client.request(method, path), 401, "credentials_missing")
        for key in (peer.key, "nciia_nothing"):
            headers = {"Authorization": f"Bearer {key}"}
            reply = service.client.request(method, path, headers=headers)
            problem(reply, 401, "credentials_wrong")
    assert other.listed() == []
    reply = service.client.get("/v1/feed", headers=helpline.headers)
    problem(reply, 401, "credentials_wrong")
    # without number and passphrase, the survivors' API opens no such case
    for number in ("0000-0000-0000", reference):
        reply = service.client.get("/v1/case", headers=credentials(number, ""))
        assert reply.status_code == 401


def test_the_deadline_counts_from_the_last_notice(service, helpline):
    reference = helpline.opened()
    service.clock.advance(hours=5)
    reply = helpline.ask("POST", f"/{reference}/reported").json()["cases"][0]
    assert (reply["reported"], reply["due"]) == ("2026-05-17T18:00:00Z", "2026-05-19T18:00:00Z")


# --- handover --------------------------------------------------------------------------------


def test_after_the_handover_the_advocate_has_no_access(service, helpline):
    value = pdq()
    reference = helpline.opened(item(value), item(pdq()))
    helpline.ask("DELETE", f"/{reference}/items/2")
    code = helpline.code(reference)
    assert helpline.listed()[0]["code_until"] == "2026-05-24T13:00:00Z"
    reply = claim(service, code.lower().replace("-", " "))
    assert reply.status_code == 200, reply.text
    holder = reply.json()
    assert holder["items"] == [{"item": 1, "accepted": 1, "refused": []}]
    headers = credentials(holder["case"], holder["passphrase"])
    assert service.client.get("/v1/case", headers=headers).json()["state"] == "open"
    assert holder["case"] != code
    assert helpline.listed() == []
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/handover")):
        problem(helpline.ask(method, f"/{reference}{rest}"), 404, "case_unknown")
    problem(claim(service, code), 404, "code_unknown")
    assert len(service.platform().match(value)[0]) == 1
    from sqlalchemy import text

    with service.parts.store.read() as tx:
        (row,) = tx.connection.execute(text("SELECT * FROM assisted")).mappings().all()
    assert row["consent"] == 1779022800
    assert {name for name, value in row.items() if value is not None} == {"case_id", "consent"}


def test_a_code_expires_and_a_new_one_replaces_it(service, helpline):
    reference = helpline.opened()
    old, new = helpline.code(reference), helpline.code(reference)
    problem(claim(service, old), 404, "code_unknown")
    service.clock.advance(days=8)
    problem(claim(service, new), 404, "code_unknown")
    assert helpline.listed()[0]["code_until"] is None
    assert claim(service, helpline.code(reference)).status_code == 200


@pytest.mark.parametrize("code", ["", "0000-0000-0000", "K7Q4", "x" * 40, "no such code"])
def test_an_unknown_code_is_refused_and_creates_no_verifier(service, helpline, code, monkeypatch):
    helpline.opened()
    monkeypatch.setattr(type(service.parts.checks), "make", None)
    problem(claim(service, code), 404, "code_unknown")


def test_a_closed_case_cannot_be_claimed(service, helpline):
    reference = helpline.opened()
    code = helpline.code(reference)
    helpline.ask("DELETE", f"/{reference}")
    problem(claim(service, code), 404, "code_unknown")


def test_a_lost_reply_can_be_requested_again(service, helpline):
    code = helpline.code(helpline.opened())
    first, again = (claim(service, code, **{"Idempotency-Key": KEY}) for _ in range(2))
    assert first.content == again.content
    problem(claim(service, code, **{"Idempotency-Key": KEY[::-1]}), 404, "code_unknown")


def test_the_database_contains_no_code_or_key(service, helpline):
    code = helpline.code(helpline.opened())
    from pathlib import Path

    database = Path(service.settings.database.removeprefix("sqlite:///"))
    stored = b"".join(
        path.read_bytes() for path in database.parent.glob("db.sqlite3*") if path.is_file()
    )
    for secret in (code, code.replace("-", ""), helpline.key):
        assert secret.encode() not in stored


def test_a_key_is_rotated_and_revoked_and_its_cases_stay(service, helpline):
    store, reference = service.parts.store, helpline.opened()
    old = helpline.key
    helpline.key = advocates.rotate(store, "Helpline", service.clock())
    assert helpline.listed()[0]["reference"] == reference
    advocates.revoke(store, "Helpline", service.clock())
    problem(helpline.ask("GET"), 401, "credentials_wrong")
    helpline.key = old
    problem(helpline.ask("GET"), 401, "credentials_wrong")
    helpline.key = advocates.rotate(store, "Helpline", service.clock())
    assert helpline.listed()[0]["reference"] == reference
    service.clock.advance(days=401)
    problem(helpline.ask("GET"), 401, "credentials_wrong")
    with pytest.raises(advocates.AdvocateExists):
        advocates.add(store, "Helpline", service.clock())
    with pytest.raises(advocates.AdvocateUnknown):
        advocates.rotate(store, "Nobody", service.clock())


def test_an_unvisited_case_of_an_advocate_expires_too(service, helpline):
    helpline.opened()
    service.clock.advance(days=800)
    expire(service.parts.store, service.clock())
    helpline.key = advocates.rotate(service.parts.store, "Helpline", service.clock())
    assert helpline.listed() == []
    service.clock.advance(days=500)
    purge(service.parts.store, retention_days=400, now=service.clock())
    assert figures(service)["cases_closed"] == 0


def test_the_operator_manages_advocates(service, capsys, monkeypatch):
    where = ("--database", service.settings.database)
    code, out, err = operate(capsys, monkeypatch, "advocate", "add", "Helpline", *where)
    assert (code, "cannot be shown again" in err) == (0, True)
    key = out.strip()
    helpline = Helpline(service, "Other")
    helpline.key = key
    helpline.opened()
    _, out, _ = operate(capsys, monkeypatch, "advocate", "list", "--json", *where)
    rows = {row["advocate"]: row for row in json.loads(out)}
    assert (rows["Helpline"]["cases"], rows["Other"]["cases"]) == (1, 0)
    assert key not in out
    assert operate(capsys, monkeypatch, "advocate", "revoke", "Helpline", *where)[0] == 0
    problem(helpline.ask("GET"), 401, "credentials_wrong")
    assert operate(capsys, monkeypatch, "advocate", "rotate", "Nobody", *where)[0] == 2
    assert operate(capsys, monkeypatch, "advocate", "add", "x" * 65, *where)[0] == 2


# --- the client and the command line ---------------------------------------------------------


@pytest.fixture(scope="module")
def key(local):
    done = local.command("advocate", "add", "Helpline")
    return done.stdout.strip()


def test_the_client_from_opening_to_claim(local, key):
    with AdvocateClient(local.address, key) as client, local.survivor() as survivor:
        opened = client.open_case(
            [random_item(), random_item()],
            reason=Reason.SHARED,
            consent=True,
            adult=True,
            depicted=True,
        )
        assert [i.item for i in client.add(opened.reference, [random_item()]).items] == [3]
        assert client.withdraw(opened.reference, 1).remaining == 2
        assert len(client.status(opened.reference).items) == 3
        assert client.note_report(opened.reference).cases[-1].due is not None
        hand_over = client.hand_over(opened.reference)
        assert hand_over.code not in repr(hand_over)
        holder = survivor.claim(hand_over.code)
        assert survivor.withdraw(holder.case, holder.passphrase).withdrawn == 2
        with pytest.raises(ServiceRefused) as caught:
            client.status(opened.reference)
        assert caught.value.problem == "case_unknown"
        with pytest.raises(InvalidRequest):
            client.status("../cases")
    with (
        AdvocateClient(local.address, "nciia_x") as client,
        pytest.raises(ServiceRefused, match="this key"),
    ):
        client.cases()
    with Client(local.address) as survivor, pytest.raises(InvalidRequest):
        survivor.claim(" ")


@pytest.fixture
def photos(tmp_path):
    for number in range(3):
        scene(320, 240, seed=number + 40).save(tmp_path / f"photo{number}.jpg", quality=95)
    return [tmp_path / f"photo{number}.jpg" for number in range(3)]


def test_the_commands_from_submission_to_claim(request, local, key, photos, tmp_path):
    command = request.getfixturevalue("run")
    where = ("--server", local.address)
    environment = {"NCIIHASH_ADVOCATE_KEY": key}
    done = command(
        "submit", "--advocate", photos[0], *where, answers="yes\nyes\n2\nyes\n", **environment
    )
    assert done.code == 0, done.err
    assert "agree" in done.err
    assert "Are you the person" not in done.err
    assert "assphrase" not in done.out
    (reference,) = (
        line.split()[-1].rstrip(".") for line in done.out.splitlines() if "reference" in line
    )
    done = command(
        *("submit", "--advocate", "--resume", reference, "--yes", "--json", *photos[1:], *where)
    )
    assert done.code == 0, done.err
    assert [i["item"] for i in done.line["items"]] == [2, 3]
    done = command("advocate", "reported", reference, *where)
    assert "47 h left" in done.out or "46 h left" in done.out
    done = command("advocate", "list", *where)
    assert reference in done.out
    done = command("advocate", "status", reference, *where)
    assert "The case is open" in done.out
    done = command("advocate", "withdraw", reference, "--item", "2", "--yes", *where)
    assert "1 withdrawn; 2 still matched" in done.out
    done = command("advocate", "hand-over", reference, "--json", *where)
    code = done.line["code"]
    receipt = tmp_path / "receipt.txt"
    done = command("claim", "--receipt", receipt, *where, answers=f"{code}\n")
    assert done.code == 0, done.err
    assert "Passphrase" in done.out
    assert "Files          2" in receipt.read_text()
    done = command("advocate", "status", reference, *where)
    assert (done.code, "no case with this reference" in done.err) == (3, True)
    done = command("claim", *where, NCIIHASH_CODE=code)
    assert done.code == 3


def test_without_consent_or_key_no_case_is_opened(request, local, key, photos, monkeypatch):
    command = request.getfixturevalue("run")
    where = ("--server", local.address)
    monkeypatch.delenv("NCIIHASH_ADVOCATE_KEY", raising=False)
    done = command("submit", "--advocate", photos[0], *where, answers="yes\nno\n")
    assert (done.code, "NCIIHASH_ADVOCATE_KEY" in done.err) == (2, True)
    environment = {"NCIIHASH_ADVOCATE_KEY": key}
    done = command("submit", "--advocate", photos[0], *where, answers="yes\nno\n", **environment)
    assert (done.code, "Only the person" in done.err) == (1, True)
    done = command("submit", "--advocate", photos[0], *where, answers="no\n", **environment)
    assert (done.code, "Take It Down" in done.err) == (1, True)
    for wrong in (
        ("submit", photos[0], "--resume", "7KQ2", *where),
        ("submit", photos[0], "--advocate", "--yes", *where),
        ("submit", photos[0], "--advocate", "--receipt", "r", *where),
    ):
        assert command(*wrong).code == 2


def test_the_table_shows_the_hours_left():
    now = datetime(2026, 5, 17, 13, tzinfo=UTC)
    case = AssistedCase(
        reference="7KQ2",
        reason=Reason.SHARED,
        opened=now,
        expires=now,
        consent=now,
        files=1,
        reported=now,
        due=now + timedelta(hours=48),
        code_until=None,
    )
    for later, text in ((0, "(48 h left)"), (47.5, "(0 h left)"), (48.5, "(over)")):
        table = tables.assisted_table([case], now=now + timedelta(hours=later))
        (shown,) = list(table.columns[4].cells)
        assert shown.endswith(text)
