"""A platform reads in the feed in which order a survivor chose her files."""

from itertools import pairwise

import pytest

from support.service_process import ServiceProcess, bearer
from support.serving import opening, pdq

FILES, HASHES = 40, 3


@pytest.fixture
def process(tmp_path):
    with ServiceProcess(tmp_path) as process:
        yield process


def file(values):
    """Return a file whose hashes tell their order by the quality alone, as seen by nobody here."""
    return {
        "media": "image",
        "signals": [{"type": "pdq", "value": value, "quality": 90} for value in values],
    }


def correlation(ranks):
    """Return Spearman's correlation of an order of 0..n-1 with the natural one."""
    n = len(ranks)
    return 1 - 6 * sum((at - rank) ** 2 for at, rank in enumerate(ranks)) / (n * (n * n - 1))


def orders(entries, sent):
    """Return the ranks of hashes as they come, and of files by their first hash."""
    rank = {value: at for at, value in enumerate(value for values in sent for value in values)}
    hashes = [rank[value] for value in entries]
    files = list(dict.fromkeys(at // HASHES for at in hashes))
    return hashes, files


def neighbours(ranks):
    """Return the share of entries that come next to the one that they were sent next to."""
    pairs = list(pairwise(ranks))
    return sum(abs(one - other) == 1 for one, other in pairs) / len(pairs)


@pytest.mark.parametrize("door", ["feed", "snapshot", "stopncii"])
def test_the_order_of_a_case_is_not_in_the_feed(process, door, record_property):
    key = process.platform("feed")
    sent = [[pdq() for _ in range(HASHES)] for _ in range(FILES)]
    reply = process.client.post("/v1/cases", json=opening(*map(file, sent)))
    assert reply.status_code == 201
    if door == "stopncii":
        headers = {"x-functions-key": key, "Ocp-Apim-Subscription-Key": key}
        page = process.client.get("/stopncii/v1/FetchHashes", headers=headers).json()
        seen = [record["hashValue"] for record in page["hashRecords"]]
    else:
        path = "/v1/feed" if door == "feed" else "/v1/feed/snapshot"
        query = {"limit": 10_000} if door == "feed" else {}
        page = process.client.get(path, params=query, headers=bearer(key)).json()
        seen = [entry["value"] for entry in page["entries"]]
    hashes, files = orders(seen, sent)
    assert sorted(hashes) == list(range(FILES * HASHES)), "all of it is there"
    told = correlation(hashes), correlation(files), neighbours(hashes)
    record_property(
        "got",
        f"correlation of hashes {told[0]:.2f}, of files {told[1]:.2f} with the order sent; "
        f"{told[2]:.0%} next to their neighbours",
    )
    # five standard deviations of a random order: 1/sqrt(n - 1); and some 2 neighbours by chance
    assert abs(told[0]) < 5 / (len(hashes) - 1) ** 0.5
    assert abs(told[1]) < 5 / (len(files) - 1) ** 0.5
    assert told[2] < 0.2
