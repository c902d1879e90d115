"""Veiled hashes: no match is lost, and exact values are specific to a platform."""

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from nciihash.bank import Bank
from nciihash.errors import InvalidSignal
from nciihash.feed import apply
from nciihash.hamming import distances
from nciihash.hashing.hasher import hash_bytes
from nciihash.search.index import Index
from nciihash.signals import FILE_SIGNAL_TYPES, Signal, SignalType
from nciihash.veil import VEILS, Veil, positions, veil_pdq
from nciihash.wire import FeedReply, MatchQuery, SignalIn
from nciihash.wire.veil import VeilReply
from support.serving import item, near, pdq

KEY = bytes(range(32))
HASHES = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("type", VEILS)
def test_a_veil_shows_the_highest_frequencies(type):
    chosen = positions(type.bits)
    assert len(set(chosen.tolist())) == type.bits
    frequency = {p: sum(divmod(255 - p, 16)) for p in range(256)}
    hidden = set(range(256)) - set(chosen.tolist())
    assert min(frequency[p] for p in chosen.tolist()) >= max(frequency[p] for p in hidden)
    assert 255 in hidden, "the lowest of all"
    assert 0 in chosen, "the highest of all"


def test_a_wider_veil_includes_a_narrower_one():
    """So both together reveal no more than the wider one."""
    narrow, middle, wide = (set(positions(type.bits).tolist()) for type in VEILS)
    assert narrow < middle < wide


@given(HASHES, st.sets(st.integers(0, 255), max_size=31), st.sampled_from(VEILS))
def test_no_match_is_lost(value, flips, type):
    """Because a subset of the bits cannot differ in more bits than the whole hash does."""
    row = np.frombuffer(value, np.uint8)[None]
    bits = np.unpackbits(row)
    bits[list(flips)] ^= 1
    other = np.packbits(bits)[None]
    assert distances(row, other)[0, 0] == len(flips)
    apart = int(distances(veil_pdq(row, type), veil_pdq(other, type))[0, 0])
    assert apart <= len(flips) <= SignalType.PDQ.threshold == type.threshold


@pytest.mark.parametrize("type", VEILS)
@pytest.mark.parametrize("radius", [0, 7, 15, 31])
def test_an_index_of_veiled_hashes_finds_every_match_of_whole_ones(type, radius):
    rng = np.random.default_rng(radius)
    bank = rng.integers(0, 256, (20_000, 32), dtype=np.uint8)
    queries = bank[rng.integers(0, len(bank), 200)].copy()
    for row in queries:
        for bit in rng.choice(256, rng.integers(0, radius + 1), replace=False):
            row[bit // 8] ^= 1 << bit % 8
    whole, veiled = Index(256), Index(type.bits)
    ids = np.arange(len(bank), dtype=np.uint64)
    whole.add(ids, bank)
    veiled.add(ids, veil_pdq(bank, type))
    exact, found = whole.query(queries, radius), veiled.query(veil_pdq(queries, type), radius)
    for n in range(len(queries)):
        true = set(exact.ids[exact.offsets[n] : exact.offsets[n + 1]].tolist())
        assert true, "each query was made from a row"
        assert true <= set(found.ids[found.offsets[n] : found.offsets[n + 1]].tolist())


def test_exact_values_are_keyed_per_platform():
    signals = [Signal(type, bytes([7]) * (type.bits // 8)) for type in FILE_SIGNAL_TYPES]
    pdq_, phash, dhash, md5, sha256 = Veil(SignalType.PDQ_VEIL128, KEY).over(signals)
    assert pdq_.type is SignalType.PDQ_VEIL128
    assert phash is dhash is None
    whole = hmac.digest(KEY, b"md5\0" + bytes([7]) * 16, hashlib.sha256)
    assert (md5.type, md5.value) == (SignalType.MD5_VEIL, whole[:16])
    assert sha256.type is SignalType.SHA256_VEIL
    other = Veil(SignalType.PDQ_VEIL128, bytes(32)).over(signals)
    assert other[0] == pdq_, (
        "veiled PDQ hashes are the same for all platforms, since they are searched"
    )
    assert other[3] != md5
    assert other[4] != sha256


def test_invalid_veils_are_refused():
    for type, key in ((SignalType.PDQ, KEY), (SignalType.PDQ_VEIL128, KEY[:-1])):
        with pytest.raises(ValueError, match="A veil has"):
            Veil(type, key)
    with pytest.raises(InvalidSignal):
        veil_pdq(np.zeros((1, 16), np.uint8), SignalType.PDQ_VEIL128)
    with pytest.raises(ValidationError):
        VeilReply(type=SignalType.MD5, key="0" * 64)
    assert KEY.hex() not in repr(VeilReply.of(Veil(SignalType.PDQ_VEIL144, KEY)))
    assert "key" not in repr(Veil(SignalType.PDQ_VEIL144, KEY))


@pytest.mark.parametrize("type", [type for type in SignalType if type.veils])
def test_veiled_types_cannot_be_submitted_queried_or_computed(type):
    value = "0" * (type.bits // 4)
    for quality in (None, 90):
        with pytest.raises(ValidationError):
            SignalIn(type=type, value=value, quality=quality)
    with pytest.raises(ValidationError):
        MatchQuery(type=type, values=(value,))
    with pytest.raises(ValueError, match="a file can be hashed to"):
        hash_bytes(b"", signals=(type,))


# --- the service -----------------------------------------------------------------------------


def md5_item(value):
    return {"media": "image", "signals": [{"type": "md5", "value": value}]}


def veil_of(peer):
    reply = peer.service.client.get("/v1/veil", headers=peer.headers)
    assert reply.status_code == 200
    return VeilReply.model_validate_json(reply.content).veil


@pytest.mark.parametrize(
    ("scope", "type"),
    list(zip([Scope.VEIL, Scope.VEIL144, Scope.VEIL160], VEILS, strict=True)),
)
def test_a_key_with_a_veil_scope_never_gets_a_whole_hash(service, scope, type):
    values, digest = [pdq() for _ in range(3)], "ab" * 16
    service.open(*(item(value) for value in values), md5_item(digest))
    peer = service.platform("Veiled", [scope, Scope.MATCH])
    veil = veil_of(peer)
    assert veil.type is type
    signals = [Signal.from_hex(SignalType.PDQ, value) for value in values]
    signals.append(Signal.from_hex(SignalType.MD5, digest))
    veiled = sorted(signal.hex for signal in veil.over(signals))
    options = {"headers": peer.headers}
    for query in ({}, {"veil": "false"}):
        page = service.client.get("/v1/feed", params=query, **options)
        assert sorted(entry["value"] for entry in page.json()["entries"]) == veiled
        lines = service.client.get("/v1/feed/snapshot", params=query, **options)
        assert sorted(entry["value"] for entry in lines.json()["entries"]) == veiled
        for text in (page.text, lines.text):
            assert not [value for value in (*values, digest) if value in text]
    headers = {"x-functions-key": peer.key, "Ocp-Apim-Subscription-Key": peer.key}
    assert service.client.get("/stopncii/v1/FetchHashes", headers=headers).status_code == 403


def test_a_key_with_the_feed_scope_can_ask_for_veiled_hashes(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform("Both", [Scope.FEED])
    assert peer.feed()["entries"][0]["value"] == value
    [entry] = peer.feed(veil=True)["entries"]
    assert (entry["type"], len(entry["value"])) == ("pdq-veil128", 32)


def test_two_platforms_cannot_link_their_lists_by_exact_hashes(service):
    service.open(md5_item("cd" * 16))
    one, two = (service.platform(name, [Scope.VEIL]) for name in ("One", "Two"))
    seen = [peer.feed()["entries"][0]["value"] for peer in (one, two)]
    assert seen[0] != seen[1]
    assert veil_of(one).key == veil_of(one).key != veil_of(two).key
    keys.rotate_key(service.parts.store, "One", service.clock())
    assert one.feed()["entries"][0]["value"] == seen[0], "also with a new key"


def test_veiled_feeds_are_acknowledged_and_marked_in_the_case_status(service):
    veiled = service.platform("Veiled", [Scope.VEIL, Scope.MATCH])
    service.platform("Whole", [Scope.FEED])
    service.platform("Matches", [Scope.MATCH])
    value = pdq()
    case = service.open(item(value))
    page = veiled.feed()
    assert veiled.post("/v1/feed/ack", {"cursor": page["cursor"]}).status_code == 200
    status = {p["platform"]: p for p in case.status()["items"][0]["platforms"]}
    assert {name: (p["follows"], p["veiled"]) for name, p in status.items()} == {
        "Veiled": (True, True),
        "Whole": (True, False),
        "Matches": (False, False),
    }
    assert status["Veiled"]["has_it_since"] is not None
    assert veiled.match(near(value, 20))[0][0]["band"] == "likely"
    case.withdraw()
    last = veiled.feed(cursor=page["cursor"])
    assert [entry["op"] for entry in last["entries"]] == ["remove"]
    assert veiled.post("/v1/feed/ack", {"cursor": last["cursor"]}).status_code == 200
    status = {p["platform"]: p for p in case.status()["items"][0]["platforms"]}
    assert status["Veiled"]["deletion_acknowledged"] is not None
    assert status["Whole"]["deletion_acknowledged"] is None


def test_a_veiled_bank_finds_every_match(service, tmp_path):
    values = [pdq() for _ in range(50)]
    service.open(*(item(value) for value in values))
    peer = service.platform("Veiled", [Scope.VEIL])
    page = FeedReply.model_validate(peer.feed(limit=1000)).page
    with Bank.open(tmp_path / "bank") as bank:
        assert apply(page, bank._contents).added == 50
        queries = [Signal.from_hex(SignalType.PDQ, near(value, 31)) for value in values]
        found = bank.query([signal for signal in veil_of(peer).over(queries) if signal])
    assert all(found)
    assert not [v for v in values if bytes.fromhex(v) in (tmp_path / "bank").read_bytes()]
