"""The whole bank at once, and the feed behind it."""

import json
import random

import pytest

from clearinghouse.errors import CursorExpired
from clearinghouse.platforms import feed, keys
from support.serving import item, near, pdq


def snapshot(peer, packed="gzip"):
    reply = peer.service.client.get(
        "/v1/feed/snapshot", headers=peer.headers | {"Accept-Encoding": packed}
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers.get("content-encoding", "") == packed.replace("identity", "")
    return [json.loads(line) for line in reply.text.splitlines()]


@pytest.mark.parametrize("packed", ["gzip", "identity"])
def test_the_snapshot_is_what_the_feed_leaves(service, packed):
    peer = service.platform()
    kept = [pdq() for _ in range(5)]
    case = service.open(item(*kept[:3]), item(pdq()), item(*kept[3:]))
    case.withdraw(2)
    [page] = snapshot(peer, packed)
    assert sorted(entry["value"] for entry in page["entries"]) == sorted(kept)
    assert {entry["op"] for entry in page["entries"]} == {"add"}
    assert not page["more"]
    feed = peer.feed()
    assert page["cursor"] == feed["cursor"]
    gone = {entry["id"] for entry in feed["entries"] if entry["op"] == "remove"}
    adds = [entry for entry in feed["entries"] if entry["op"] == "add" and entry["id"] not in gone]
    assert page["entries"] == adds
    assert peer.feed(cursor=page["cursor"])["entries"] == []


def test_an_empty_bank_has_a_snapshot_from_which_the_feed_goes_on(service):
    peer = service.platform()
    [page] = snapshot(peer)
    assert (page["entries"], page["more"]) == ([], False)
    service.open()
    assert len(peer.feed(cursor=page["cursor"])["entries"]) == 1


def test_each_line_of_a_snapshot_leads_on_in_the_feed(service, monkeypatch):
    """What is withdrawn or added while it is read comes by the feed, from whichever line."""
    monkeypatch.setattr(feed, "_SNAPSHOT_PAGE", 2)
    peer = service.platform()
    case = service.open(*[item(pdq()) for _ in range(5)])
    case.withdraw(2)
    platform = keys.identify(service.parts.store, peer.key, service.clock())
    pages = feed.read_snapshot(service.parts.store, platform, None)
    first = next(pages)
    case.withdraw(1)
    case.withdraw(4)
    late = service.open()
    lines = [first, *pages]
    assert [line.more for line in lines] == [True, False]
    truth = {entry["id"] for entry in peer.feed()["entries"] if entry["op"] == "add"}
    truth -= {entry["id"] for entry in peer.feed()["entries"] if entry["op"] == "remove"}
    for last in range(len(lines)):
        held = {entry.id for line in lines[: last + 1] for entry in line.entries}
        for entry in peer.feed(cursor=lines[last].cursor)["entries"]:
            held = held | {entry["id"]} if entry["op"] == "add" else held - {entry["id"]}
        assert held == truth, "whichever line was the last one"
    assert late.status()["state"] == "open"


def test_a_snapshot_ends_where_the_database_is_put_back(service, monkeypatch):
    monkeypatch.setattr(feed, "_SNAPSHOT_PAGE", 1)
    peer = service.platform()
    service.open(item(pdq()), item(pdq()))
    platform = keys.identify(service.parts.store, peer.key, service.clock())
    pages = feed.read_snapshot(service.parts.store, platform, None)
    next(pages)
    with service.parts.store.write() as tx:
        tx.facts.write("epoch", (tx.log.epoch() + 1).to_bytes(8, "big"))
    with pytest.raises(CursorExpired):
        next(pages)


def test_a_snapshot_is_packed_without_looking_for_repetitions(service):
    """Else its length would tell a stranger who submits hashes which ones stand beside them."""
    peer = service.platform()
    value = pdq()
    shuffled = "".join(random.Random(0).sample(value, 64))
    lengths = []
    for second in (shuffled, near(value, 2)):  # as many bits are set in both
        case = service.open(item(value), item(second))
        reply = service.client.get(
            "/v1/feed/snapshot", headers=peer.headers | {"Accept-Encoding": "gzip"}
        )
        lengths.append(int(reply.num_bytes_downloaded))
        case.withdraw()
    assert abs(lengths[0] - lengths[1]) < 12, "one repetition of 63 digits would save 30 bytes"
