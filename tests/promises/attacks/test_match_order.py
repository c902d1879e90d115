"""Find out distances by the order of hits, or by which of them are told.

The attacker has a match key, and adds files of her own whose distances from her queries she knows.
Were hits sorted by distance, a stranger's place among hers would tell his, exactly; from the
distances to some 260 queries follows his whole hash, without a question at the edge of a band.
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
    """Return for each query its hits as (id of the file, band), and the places of cut answers."""
    body = {"type": "pdq", "values": [f"{value:064x}" for value in values]}
    reply = process.client.post("/v1/match", json=body, headers=bearer(key))
    reply.raise_for_status()
    told = reply.json()
    hits = [[(hit["item"], hit["band"]) for hit in row] for row in told["matches"]]
    return hits, told.get("truncated", [])


@pytest.mark.parametrize(("nearest", "farthest"), [(2, 14), (18, 30)], ids=["strong", "likely"])
@pytest.mark.parametrize("others", [5, REFERENCES], ids=["all told", "some not told"])
def test_the_order_and_the_choice_of_hits_tell_no_distance(
    service, nearest, farthest, others, record_property
):
    """Whatever distances the files have within a band, the answer is the same to the byte."""
    query = some_pdq(DRAW)
    # between the two distances, so that a query two bits away leaves each in its band
    reach = [DRAW.randrange(nearest + 2, farthest - 1, 2) for _ in range(others)]
    references = [flipped(DRAW, query, bits) for bits in reach]
    target = flipped(DRAW, query, (nearest + farthest) // 2)
    service.open(*(item_of(value) for value in references))
    service.open(*([item_of(target)] * (1 if others < REFERENCES else 3)))
    key = service.platform("match")
    apart = [place for place in range(256) if (query ^ target) >> place & 1]
    queries = [query, *(flipped(DRAW, query, 2, apart) for _ in range(20))]
    queries += [flipped(DRAW, query, 2) for _ in range(80)]
    await_all(service, key, query, min(others + 1, 20))
    answers, cut = ask(service, key, queries)
    distances = {(q ^ target).bit_count() for q in queries}
    assert len(distances) > 2, "the target's distance does change"
    assert {tuple(answer) for answer in answers} == {tuple(answers[0])}
    assert answers[0] == sorted(answers[0]), "by the ids that the platform sees anyway"
    assert len(answers[0]) == min(others + 1, 20)
    assert cut == ([] if others < REFERENCES else list(range(len(queries))))
    record_property("got", f"1 order for {len(queries)} queries, {len(distances)} distances")


def await_all(process, key, query, count):
    for _ in range(200):
        [hits], _ = ask(process, key, [query])
        if len(hits) >= count:
            return
    raise AssertionError("the index stands still")


def test_a_case_does_not_crowd_out_another(service, record_property):
    """Forty copies in one case leave each other case's file its place."""
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
    assert len({hit for hit, _ in left} - mine) == 5, "each of the five was told, and is gone"
    record_property("got", "5 of 5 files of other cases among 20 told, next to 40 of one case")


def test_hits_of_one_file_are_few(service, record_property):
    query = some_pdq(DRAW)
    many = tuple(hashed(flipped(DRAW, query, 2 * (n % 7) + 2)) for n in range(60))
    service.open(Item(Media.IMAGE, many))
    key = service.platform("match")
    await_all(service, key, query, 8)
    [hits], cut = ask(service, key, [query])
    assert (len(hits), cut) == (8, [0])
    record_property("got", "8 hits of a file with 60 near hashes")
