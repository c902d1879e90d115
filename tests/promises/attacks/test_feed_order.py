"""Attack: a platform infers from the feed the order in which a survivor chose her files."""

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
    """Return a file with these hashes, all of the same quality."""
    return {
        "media": "image",
        "signals": [{"type": "pdq", "value": value, "quality": 90} for value in values],
    }


def correlation(ranks):
    """Return Spearman's correlation of a permutation of 0..n-1 with the natural order."""
    n = len(ranks)
    return 1 - 6 * sum((index - rank) ** 2 for index, rank in enumerate(ranks)) / (n * (n * n - 1))


def orders(entries, sent):
    """Return the ranks of the hashes in feed order, and of the files by their first hash."""
    rank = {
        value: index for index, value in enumerate(value for values in sent for value in values)
    }
    hashes = [rank[value] for value in entries]
    files = list(dict.fromkeys(index // HASHES for index in hashes))
    return hashes, files


def neighbours(ranks):
    """Return the share of entries that are next to one that they were sent next to."""
    pairs = list(pairwise(ranks))
    return sum(abs(one - other) == 1 for one, other in pairs) / len(pairs)


@pytest.mark.parametrize("api", ["feed", "snapshot", "stopncii"])
def test_the_feed_does_not_show_the_order_of_a_case(process, api, record_property):
    key = process.platform("feed")
    sent = [[pdq() for _ in range(HASHES)] for _ in range(FILES)]
    reply = process.client.post("/v1/cases", json=opening(*map(file, sent)))
    assert reply.status_code == 201
    if api == "stopncii":
        headers = {"x-functions-key": key, "Ocp-Apim-Subscription-Key": key}
        page = process.client.get("/stopncii/v1/FetchHashes", headers=headers).json()
        seen = [record["hashValue"] for record in page["hashRecords"]]
    else:
        path = "/v1/feed" if api == "feed" else "/v1/feed/snapshot"
        query = {"limit": 10_000} if api == "feed" else {}
        page = process.client.get(path, params=query, headers=bearer(key)).json()
        seen = [entry["value"] for entry in page["entries"]]
    hashes, files = orders(seen, sent)
    assert sorted(hashes) == list(range(FILES * HASHES)), "everything is there"
    of_hashes, of_files, adjacent = correlation(hashes), correlation(files), neighbours(hashes)
    record_property(
        "got",
        f"correlation of hashes {of_hashes:.2f}, of files {of_files:.2f} with the order sent; "
        f"{adjacent:.0%} next to their neighbours",
    )
    # five standard deviations of a random order, 1/sqrt(n - 1); some 2 are neighbours by chance
    assert abs(of_hashes) < 5 / (len(hashes) - 1) ** 0.5
    assert abs(of_files) < 5 / (len(files) - 1) ** 0.5
    assert adjacent < 0.2
