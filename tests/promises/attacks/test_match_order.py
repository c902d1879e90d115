"""Attack: infer distances from the order of hits, or from which hits are returned.

The attacker has a match key, and adds files of her own whose distances from her queries she knows.
If hits were sorted by distance, the rank of another person's file among hers would reveal its exact
distance. The distances to some 260 queries determine the whole hash, without any query at the edge
of a band.
"""

import random

import pytest

from nciihash.signals import Item, Media
from support.attacks import flipped, hashed, item_of, some_pdq
from support.service_process import ServiceProcess, bearer

REFERENCES = 20
DRAW = random.Random(7)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as process:
        yield process


def ask(process, key, values):
    """Return the hits of each query as (file id, band), and the indexes of truncated queries."""
    body = {"type": "pdq", "values": [f"{value:064x}" for value in values]}
    reply = process.client.post("/v1/match", json=body, headers=bearer(key))
    reply.raise_for_status()
    body = reply.json()
    hits = [[(hit["item"], hit["band"]) for hit in row] for row in body["matches"]]
    return hits, body.get("truncated", [])


@pytest.mark.parametrize(("nearest", "farthest"), [(2, 14), (18, 30)], ids=["strong", "likely"])
@pytest.mark.parametrize("others", [5, REFERENCES], ids=["all returned", "some omitted"])
def test_order_and_choice_of_hits_reveal_no_distance(
    service, nearest, farthest, others, record_property
):
    """Whatever distances the files have within a band, the response is the same."""
    query = some_pdq(DRAW)
    # between the two distances, so that two flipped bits keep each file in its band
    reach = [DRAW.randrange(nearest + 2, farthest - 1, 2) for _ in range(others)]
    references = [flipped(DRAW, query, bits) for bits in reach]
    target = flipped(DRAW, query, (nearest + farthest) // 2)
    service.open(*(item_of(value) for value in references))
    service.open(*([item_of(target)] * (1 if others < REFERENCES else 3)))
    key = service.platform("match")
    differing = [n for n in range(256) if (query ^ target) >> n & 1]
    queries = [query, *(flipped(DRAW, query, 2, differing) for _ in range(20))]
    queries += [flipped(DRAW, query, 2) for _ in range(80)]
    await_all(service, key, query, min(others + 1, 20))
    hits, cut = ask(service, key, queries)
    distances = {(q ^ target).bit_count() for q in queries}
    assert len(distances) > 2, "the target's distance does change"
    assert {tuple(row) for row in hits} == {tuple(hits[0])}
    assert hits[0] == sorted(hits[0]), "by the ids that the platform sees anyway"
    assert len(hits[0]) == min(others + 1, 20)
    assert cut == ([] if others < REFERENCES else list(range(len(queries))))
    record_property("got", f"1 order for {len(queries)} queries, {len(distances)} distances")


def await_all(process, key, query, count):
    for _ in range(200):
        [hits], _ = ask(process, key, [query])
        if len(hits) >= count:
            return
    raise AssertionError("the index does not follow the log")


def test_a_case_does_not_crowd_out_others(service, record_property):
    """Forty copies in one case do not displace the files of other cases."""
    query = some_pdq(DRAW)
    service.open(*(item_of(flipped(DRAW, query, 4)) for _ in range(40)))
    alone = [service.open(item_of(flipped(DRAW, query, 6))) for _ in range(5)]
    key = service.platform("match")
    await_all(service, key, flipped(DRAW, query, 2), 20)
    [hits], cut = ask(service, key, [query])
    assert cut == [0]
    assert len(hits) == len(set(hits)) == 20
    mine = {hit for hit, _ in hits}
    for case in alone:
        service.withdraw(case)
    [left], _ = ask(service, key, [query])
    assert len({hit for hit, _ in left} - mine) == 5, "each of the five was returned, and is gone"
    record_property("got", "5 of 5 files of other cases among 20 returned, next to 40 of one case")


def test_the_hits_of_one_file_are_limited(service, record_property):
    query = some_pdq(DRAW)
    many = tuple(hashed(flipped(DRAW, query, 2 * (n % 7) + 2)) for n in range(60))
    service.open(Item(Media.IMAGE, many))
    key = service.platform("match")
    await_all(service, key, query, 8)
    [hits], cut = ask(service, key, [query])
    assert (len(hits), cut) == (8, [0])
    record_property("got", "8 hits of a file with 60 near hashes")
