"""Make one look-up expensive: thousands of near copies of a picture that many upload."""

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
        process.open(item_of(some_pdq(DRAW)))  # so that it takes the rest in at once
        while "truncated" not in ask(process, key, [picture]).json():
            pass
        yield process


def ask(process, key, values):
    octets = b"".join(value.to_bytes(32, "big") for value in values)
    headers = bearer(key) | {"Content-Type": "application/octet-stream"}
    return process.client.post("/v1/match", content=octets, headers=headers).raise_for_status()


def test_one_answer_stays_small(service, picture, record_property):
    reply = ask(service, service.platform("match"), [picture])
    told = reply.json()
    assert len({hit["item"] for hit in told["matches"][0]}) == 20
    assert told["truncated"] == [0]
    assert set(told) == {"as_of", "matches", "truncated"}, "no count of the rest"
    assert len(reply.content) < 4_000
    record_property("got", f"{len(reply.content):,} bytes for a query that meets {COPIES:,} files")


def test_a_batch_is_bounded_in_bytes_and_memory(service, picture, record_property):
    key = service.platform("match")
    ask(service, key, [picture])
    before = peak(service)
    reply = ask(service, key, [flipped(DRAW, picture, 2) for _ in range(QUERIES)])
    grown = peak(service) - before
    assert len(reply.json()["matches"]) == QUERIES
    assert len(reply.content) < QUERIES * 4_000
    assert grown < 300, "MiB; 4.8 million hits were some gigabytes as objects"
    record_property(
        "got", f"{len(reply.content) / 2**20:.1f} MiB and {grown:.0f} MiB of memory for {QUERIES}"
    )


def test_a_full_batch_of_matches_has_a_bound_of_its_own():
    """Ten thousand queries that each may be told of twenty files share what an answer holds."""
    import numpy as np

    from clearinghouse.platforms import hits

    queries = np.repeat(np.arange(10_000), 20)
    rows = np.arange(len(queries))
    told = hits.ChosenHits(queries, rows, rows, rows < 0, np.tile(np.arange(20), 10_000), rows[:0])
    kept = hits.together([told])
    assert len(kept.query) == hits.REPLY_MAX == 40_000
    assert np.bincount(kept.query).tolist() == [4] * 10_000
    assert kept.cut.tolist() == list(range(10_000))


def peak(process):
    """Return the most memory that the service has had, in MiB."""
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
