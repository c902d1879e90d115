"""Two platforms' keys, stolen or misused, try to empty the bank with verdicts."""

import json

import pytest

from support.service_process import ServiceProcess, bearer
from support.serving import credentials, item, opening, pdq

FILES = 150


@pytest.fixture
def process(tmp_path):
    with ServiceProcess(tmp_path) as process:
        yield process


def feed(process, key, cursor=None):
    query = {"limit": 10_000} | ({"cursor": cursor} if cursor else {})
    return process.client.get("/v1/feed", params=query, headers=bearer(key)).json()


def held(process, key):
    """Follow the whole feed, and return what a platform holds then, by id."""
    bank = {}
    for entry in feed(process, key)["entries"]:
        if entry["op"] == "add":
            bank[entry["id"]] = entry["value"]
        else:
            bank.pop(entry["id"], None)
    return bank


def doubt(process, key, ids):
    body = {"verdicts": [{"id": id, "verdict": "not_blocked"} for id in ids]}
    reply = process.client.post("/v1/feedback", json=body, headers=bearer(key))
    assert reply.json() == {"recorded": len(ids), "unknown": 0}


def test_two_keys_cannot_empty_the_bank(process, record_property):
    values = [pdq() for _ in range(FILES)]
    case = process.client.post("/v1/cases", json=opening(*map(item, values))).json()
    thieves = {name: process.platform("feed,feedback", name) for name in ("One", "Two")}
    honest = process.platform("feed,match,feedback", "Honest")
    everything = {key: list(held(process, key)) for key in thieves.values()}
    for _ in range(2):  # saying it again on the same day gets no more
        for key, ids in everything.items():
            doubt(process, key, ids)
    left = set(held(process, honest).values())
    out = FILES - len(left)
    record_property("got", f"{out} of {FILES} files held back in a day, all put back by a command")
    assert out == 20

    # her status and the trail tell of each
    credit = credentials(case["case"], case["passphrase"])
    status = process.client.get("/v1/case", headers=credit).json()
    assert sum(file.get("being_checked", 0) for file in status["items"]) == out
    assert sum(file["held_back"] for file in status["items"]) == out
    assert {file["withdrawn"] for file in status["items"]} == {None}
    trail = json.loads(process.command("audit", "list", "--last", "1000", "--json").stdout)
    assert sum(row["act"] == "file held back by verdicts" for row in trail) == out

    # a survivor who submits one of them again is not refused
    gone = next(value for value in values if value not in left)
    again = process.client.post("/v1/cases", json=opening(item(gone)))
    assert again.status_code == 201
    assert again.json()["items"][0]["refused"] == [{"signal": 0, "code": "being_checked"}]

    # the operator is asked about every file, and puts all of them back
    asked = json.loads(process.command("review", "list", "--json").stdout)
    kinds = [question["kind"] for question in asked]
    assert (kinds.count("verdicts"), kinds.count("resubmitted")) == (FILES, 1)
    assert asked[0]["said_by"] == ["One", "Two"]
    process.command("platform", "revoke", "One")
    done = json.loads(process.command("review", "put-back", "One", "--json").stdout)
    assert done == {"kept": FILES}
    doubt(process, thieves["Two"], list(held(process, thieves["Two"])))
    back = held(process, honest).values()
    assert sorted(back) == sorted([*values, gone]), "with the one that was submitted again"
    status = process.client.get("/v1/case", headers=credit).json()
    assert {file.get("being_checked", 0) for file in status["items"]} == {0}
    assert {file["held_back"] for file in status["items"]} == {False}
