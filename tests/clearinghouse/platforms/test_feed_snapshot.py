"""Snapshots of the feed, and the feed from their cursors on."""

import json
import random

import pytest

from clearinghouse.errors import CursorExpired
from clearinghouse.platforms import feed, keys
from support.serving import item, near, pdq


def snapshot(peer, encoding="gzip"):
    reply = peer.service.client.get(
        "/v1/feed/snapshot", headers=peer.headers | {"Accept-Encoding": encoding}
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers.get("content-encoding", "") == encoding.replace("identity", "")
    return [json.loads(line) for line in reply.text.splitlines()]


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_the_snapshot_is_the_result_of_the_feed(service, encoding):
    peer = service.platform()
    kept = [pdq() for _ in range(5)]
    case = service.open(item(*kept[:3]), item(pdq()), item(*kept[3:]))
    case.withdraw(2)
    [page] = snapshot(peer, encoding)
    assert sorted(entry["value"] for entry in page["entries"]) == sorted(kept)
    assert {entry["op"] for entry in page["entries"]} == {"add"}
    assert not page["more"]
    feed = peer.feed()
    assert page["cursor"] == feed["cursor"]
    removed = {entry["id"] for entry in feed["entries"] if entry["op"] == "remove"}
    adds = [
        entry for entry in feed["entries"] if entry["op"] == "add" and entry["id"] not in removed
    ]
    assert page["entries"] == adds
    assert peer.feed(cursor=page["cursor"])["entries"] == []


def test_the_feed_continues_from_an_empty_snapshot(service):
    peer = service.platform()
    [page] = snapshot(peer)
    assert (page["entries"], page["more"]) == ([], False)
    service.open()
    assert len(peer.feed(cursor=page["cursor"])["entries"]) == 1


def test_the_feed_continues_from_each_line_of_a_snapshot(service, monkeypatch):
    """The feed has what is added or withdrawn while the snapshot is read."""
    monkeypatch.setattr(feed, "_SNAPSHOT_PAGE", 2)
    peer = service.platform()
    case = service.open(*[item(pdq()) for _ in range(5)])
    case.withdraw(2)
    platform = keys.authenticate(service.parts.store, peer.key, service.clock())
    pages = feed.read_snapshot(service.parts.store, platform, None)
    first = next(pages)
    case.withdraw(1)
    case.withdraw(4)
    late = service.open()
    lines = [first, *pages]
    assert [line.more for line in lines] == [True, False]
    expected = {entry["id"] for entry in peer.feed()["entries"] if entry["op"] == "add"}
    expected -= {entry["id"] for entry in peer.feed()["entries"] if entry["op"] == "remove"}
    for last in range(len(lines)):
        bank = {entry.id for line in lines[: last + 1] for entry in line.entries}
        for entry in peer.feed(cursor=lines[last].cursor)["entries"]:
            bank = bank | {entry["id"]} if entry["op"] == "add" else bank - {entry["id"]}
        assert bank == expected, f"from line {last}"
    assert late.status()["state"] == "open"


def test_a_snapshot_ends_if_the_database_is_restored(service, monkeypatch):
    monkeypatch.setattr(feed, "_SNAPSHOT_PAGE", 1)
    peer = service.platform()
    service.open(item(pdq()), item(pdq()))
    platform = keys.authenticate(service.parts.store, peer.key, service.clock())
    pages = feed.read_snapshot(service.parts.store, platform, None)
    next(pages)
    with service.parts.store.write() as tx:
        tx.facts.write("epoch", (tx.log.epoch() + 1).to_bytes(8, "big"))
    with pytest.raises(CursorExpired):
        next(pages)


def test_a_snapshot_is_compressed_without_string_matching(service):
    """Otherwise its length would reveal hashes to somebody who submits others (CRIME, BREACH)."""
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
    assert abs(lengths[0] - lengths[1]) < 12, "a match of 63 digits would save 30 bytes"
