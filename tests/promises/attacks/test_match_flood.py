"""Attack: make one lookup expensive by thousands of near copies of a common picture."""

import random
from pathlib import Path

import pytest

from support.attacks import flipped, flood, item_of, some_pdq
from support.service_process import ServiceProcess, bearer

COPIES = 16_000
QUERIES = 300
DRAW = random.Random(11)


@pytest.fixture(scope="module")
def picture():
    return some_pdq(DRAW)


@pytest.fixture(scope="module")
def service(tmp_path_factory, picture):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as process:
        key = process.platform("match")
        flood(process, [flipped(DRAW, picture, 2 * (n % 8)) for n in range(COPIES)])
        process.open(item_of(some_pdq(DRAW)))  # wakes the index
        while "truncated" not in ask(process, key, [picture]).json():
            pass
        yield process


def ask(process, key, values):
    octets = b"".join(value.to_bytes(32, "big") for value in values)
    headers = bearer(key) | {"Content-Type": "application/octet-stream"}
    return process.client.post("/v1/match", content=octets, headers=headers).raise_for_status()


def test_the_response_to_one_query_stays_small(service, picture, record_property):
    reply = ask(service, service.platform("match"), [picture])
    body = reply.json()
    assert len({hit["item"] for hit in body["matches"][0]}) == 20
    assert body["truncated"] == [0]
    assert set(body) == {"as_of", "matches", "truncated"}, "no count of omitted hits"
    assert len(reply.content) < 4_000
    record_property(
        "got", f"{len(reply.content):,} bytes for a query that matches {COPIES:,} files"
    )


def test_bytes_and_memory_of_a_batch_are_bounded(service, picture, record_property):
    key = service.platform("match")
    ask(service, key, [picture])
    before = peak_memory(service)
    reply = ask(service, key, [flipped(DRAW, picture, 2) for _ in range(QUERIES)])
    grown = peak_memory(service) - before
    assert len(reply.json()["matches"]) == QUERIES
    assert len(reply.content) < QUERIES * 4_000
    assert grown < 300, "MiB; as objects, 4.8 million hits would be some gigabytes"
    record_property(
        "got", f"{len(reply.content) / 2**20:.1f} MiB and {grown:.0f} MiB of memory for {QUERIES}"
    )


def test_the_matches_of_a_full_batch_are_bounded():
    """Ten thousand queries with up to twenty files each share the capacity of a response."""
    import numpy as np

    from clearinghouse.platforms import hits

    queries = np.repeat(np.arange(10_000), 20)
    rows = np.arange(len(queries))
    chosen = hits.ChosenHits(
        queries, rows, rows, rows < 0, np.tile(np.arange(20), 10_000), rows[:0]
    )
    kept = hits.merge([chosen])
    assert len(kept.query) == hits.REPLY_MAX == 40_000
    assert np.bincount(kept.query).tolist() == [4] * 10_000
    assert kept.cut.tolist() == list(range(10_000))


def peak_memory(process):
    """Return the peak memory of the service, in MiB."""
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
