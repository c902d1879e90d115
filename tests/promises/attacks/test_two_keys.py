"""Attack: empty the bank with the verdicts of two stolen platform keys."""

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


def read_bank(process, key):
    """Read the whole feed; return the resulting bank, by id."""
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
    everything = {key: list(read_bank(process, key)) for key in thieves.values()}
    for _ in range(2):  # repetition on the same day achieves nothing
        for key, ids in everything.items():
            doubt(process, key, ids)
    left = set(read_bank(process, honest).values())
    held_back = FILES - len(left)
    record_property(
        "got", f"{held_back} of {FILES} files held back in a day, all released by one command"
    )
    assert held_back == 20

    # the status and the audit trail show each
    holder = credentials(case["case"], case["passphrase"])
    status = process.client.get("/v1/case", headers=holder).json()
    assert sum(file.get("being_checked", 0) for file in status["items"]) == held_back
    assert sum(file["held_back"] for file in status["items"]) == held_back
    assert {file["withdrawn"] for file in status["items"]} == {None}
    trail = json.loads(process.command("audit", "list", "--last", "1000", "--json").stdout)
    assert sum(row["act"] == "file held back by verdicts" for row in trail) == held_back

    # a survivor who submits one of them again is not refused
    gone = next(value for value in values if value not in left)
    again = process.client.post("/v1/cases", json=opening(item(gone)))
    assert again.status_code == 201
    assert again.json()["items"][0]["refused"] == [{"signal": 0, "code": "being_checked"}]

    # the operator is asked about every file, and releases all of them
    questions = json.loads(process.command("review", "list", "--json").stdout)
    kinds = [question["kind"] for question in questions]
    assert (kinds.count("verdicts"), kinds.count("resubmitted")) == (FILES, 1)
    assert questions[0]["said_by"] == ["One", "Two"]
    process.command("platform", "revoke", "One")
    done = json.loads(process.command("review", "put-back", "One", "--json").stdout)
    assert done == {"kept": FILES}
    doubt(process, thieves["Two"], list(read_bank(process, thieves["Two"])))
    released = read_bank(process, honest).values()
    assert sorted(released) == sorted([*values, gone]), "with the resubmitted one"
    status = process.client.get("/v1/case", headers=holder).json()
    assert {file.get("being_checked", 0) for file in status["items"]} == {0}
    assert {file["held_back"] for file in status["items"]} == {False}
