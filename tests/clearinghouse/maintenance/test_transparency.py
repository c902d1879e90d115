"""Counts by month for a transparency report."""

import json

from clearinghouse.maintenance import transparency
from clearinghouse.maintenance.transparency import by_month
from support.command_line import operate
from support.serving import item, pdq


def test_small_counts_are_suppressed_and_others_rounded(service):
    assert by_month(service.parts.store) == {}
    case = service.open(*[item(pdq()) for _ in range(14)])
    service.open(item(pdq()))
    service.clock.advance(days=31)
    case.withdraw(1)
    nothing = {"verdicts_blocked": 0, "verdicts_not_blocked": 0}
    assert by_month(service.parts.store) == {
        "2026-05": {"cases_opened": None, "files_submitted": 20, "files_withdrawn": 0} | nothing,
        "2026-06": {"cases_opened": 0, "files_submitted": 0, "files_withdrawn": None} | nothing,
    }


def test_contributions_of_platforms_are_not_counted_as_cases(service):
    peer = service.platform()
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    records = [{"signalType": "ImagePDQ", "hashValue": pdq()} for _ in range(30)]
    body = {"count": 30, "hashRecords": records}
    reply = service.client.post("/stopncii/v1/SubmitHashes", json=body, headers=headers)
    assert reply.status_code == 200
    assert by_month(service.parts.store) == {}


def test_counts_below_ten_are_never_shown():
    rounded = [transparency._rounded(n) for n in range(26)]
    assert rounded[:1] + rounded[10:] == [0] + [10] * 5 + [20] * 10 + [30]
    assert rounded[1:10] == [None] * 9


def test_the_operator_prints_them(service, capsys, monkeypatch):
    service.open(*[item(pdq()) for _ in range(12)])
    database = ("--database", service.settings.database)
    _, out, _ = operate(capsys, monkeypatch, "stats", "--transparency", "--json", *database)
    assert json.loads(out)["2026-05"]["files_submitted"] == 10
    _, out, _ = operate(capsys, monkeypatch, "stats", "--transparency", *database)
    assert "under" in out
