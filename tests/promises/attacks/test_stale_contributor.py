"""Attack: a platform keeps an old list, and contributes all of it again after a withdrawal."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import make_url

from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq

FILES = 20


@pytest.fixture
def process(tmp_path):
    with ServiceProcess(tmp_path) as process:
        yield process


def contribute(process, key, values):
    records = [{"signalType": "ImagePDQ", "hashValue": value} for value in values]
    headers = {"x-functions-key": key, "Ocp-Apim-Subscription-Key": key}
    body = {"count": len(records), "hashRecords": records}
    return process.client.post("/stopncii/v1/SubmitHashes", json=body, headers=headers)


def matched(process, key, values):
    """Return the values that match, once the index has everything."""
    marker = pdq()
    process.client.post("/v1/cases", json=opening(item(marker)))
    while True:
        body = {"type": "pdq", "values": [marker, *values]}
        reply = process.client.post("/v1/match", json=body, headers=bearer(key)).json()
        last, *rows = reply["matches"]
        if last:
            return [value for value, row in zip(values, rows, strict=True) if row]


def test_a_withdrawn_hash_cannot_be_brought_back(process, record_property):
    stale = process.platform("feed,match,contribute", "Stale")
    values = [pdq() for _ in range(FILES)]
    case = process.client.post("/v1/cases", json=opening(*map(item, values))).json()
    copy = process.client.get("/v1/feed", headers=bearer(stale)).json()["entries"]
    assert sorted(entry["value"] for entry in copy) == sorted(values)
    holder = credentials(case["case"], case["passphrase"])
    assert process.client.delete("/v1/case", headers=holder).json()["withdrawn"] == FILES

    new = pdq()
    reply = contribute(process, stale, [*(entry["value"] for entry in copy), new])
    assert reply.json() == {"count": FILES + 1}, "the response does not show what was withdrawn"
    back = matched(process, stale, values)
    record_property("got", f"{len(back)} of {FILES} withdrawn hashes brought back")
    assert back == []
    assert matched(process, stale, [new]) == [new], "its own contribution is accepted"

    # all that is stored of the values
    with closing(sqlite3.connect(make_url(process.database).database)) as database:
        tags = database.execute("SELECT length(tag), day % 86400 FROM withdrawn").fetchall()
    assert tags == [(8, 0)] * FILES

    # a survivor's resubmission always works, and contributions of the value count again
    again = process.client.post("/v1/cases", json=opening(item(values[0]))).json()
    assert again["items"] == [{"item": 1, "accepted": 1, "refused": []}]
    assert matched(process, stale, values) == [values[0]]
    with closing(sqlite3.connect(make_url(process.database).database)) as database:
        (count,) = database.execute("SELECT count(*) FROM withdrawn").fetchone()
    assert count == FILES - 1
