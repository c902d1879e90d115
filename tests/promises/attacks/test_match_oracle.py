"""Attack: extract whole hashes with a veiled list and a match key, or block blank pictures."""

import json
import random
import time

import numpy as np
import pytest
from PIL import Image

from nciihash.errors import ServiceRefused
from nciihash.hashing.hasher import hash_image
from nciihash.signals import Hashed, Item, Media, Signal, SignalType
from nciihash.veil import positions
from support.attacks import BITS, flipped, hashed, item_of, some_pdq
from support.service_process import ServiceProcess, bearer

DRAW = random.Random(13)
BOUND = 8  # queries around one file in a day, before the operator is alerted


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as process:
        yield process


def ask(process, key, values):
    """Return the nearest band for each query; None if it matches nothing."""
    octets = b"".join(value.to_bytes(32, "big") for value in values)
    headers = bearer(key) | {"Content-Type": "application/octet-stream"}
    reply = process.client.post("/v1/match", content=octets, headers=headers).raise_for_status()
    return [row[0]["band"] if row else None for row in reply.json()["matches"]]


def await_in_bank(process, key, value):
    for _ in range(200):
        if ask(process, key, [value]) == ["strong"]:
            return
        time.sleep(0.02)
    raise AssertionError("the index does not follow the log")


def alarms(process, name):
    """Return the alarms about a platform's keys, after those in memory were saved."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        rows = json.loads(process.command("review", "list", "--json").stdout)
        found = [row for row in rows if (row["kind"], row["platform"]) == ("oracle", name)]
        if found:
            return found
        time.sleep(0.1)
    return []


def guesses(known, count):
    """Complete the published bits of a hash at random, with half of all bits set."""
    bits = {n: int(known >> n & 1) for n in published()}
    free = [n for n in range(BITS) if n not in bits]
    base = sum(1 << n for n, bit in bits.items() if bit)
    ones = BITS // 2 - sum(bits.values())
    return [base + sum(1 << n for n in DRAW.sample(free, ones)) for _ in range(count)]


def published():
    """Return the numbers of the published bits; position 0 of an unpacked hash is bit 255."""
    return [BITS - 1 - position for position in positions(160).tolist()]


def test_guessing_the_hidden_bits_raises_an_alarm(service, record_property):
    """Nine wrong guesses are enough, although none of them matches anything."""
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("veil160,match", name="Guesser")
    await_in_bank(service, key, target)
    wrong = [value for value in guesses(target, 40) if (value ^ target).bit_count() > 33]
    assert set(ask(service, key, wrong[: BOUND + 1])) == {None}
    (alarm,) = alarms(service, "Guesser")
    assert alarm["count"] <= BOUND + 2, "including the queries that waited for the bank"
    record_property("got", f"an alarm at wrong guess {BOUND + 1}, of some 4,400 that are needed")


def test_guesses_with_some_published_bits_flipped_raise_an_alarm_too(service, record_property):
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("veil160,match", name="Careful guesser")
    await_in_bank(service, key, target)
    wrong = [flipped(DRAW, value, 10, published()) for value in guesses(target, BOUND + 1)]
    assert set(ask(service, key, wrong)) == {None}
    assert alarms(service, "Careful guesser")
    record_property("got", "the same alarm with 10 published bits flipped in each guess")


def test_other_queries_without_matches_raise_no_alarm(service):
    """Queries of a platform with a veiled list that match nothing are no attack in themselves."""
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("veil160,match", name="Ordinary")
    await_in_bank(service, key, target)
    ask(service, key, [flipped(DRAW, target, 50) for _ in range(60)])
    time.sleep(0.5)
    assert alarms_now(service, "Ordinary") == []


def alarms_now(process, name):
    rows = json.loads(process.command("review", "list", "--json").stdout)
    return [row for row in rows if row["platform"] == name]


def test_an_alarm_stays_after_its_file_is_withdrawn(service, record_property):
    """An attacker who probes her own files cannot clear the alarm by withdrawing them."""
    target = some_pdq(DRAW)
    case = service.open(item_of(target))
    key = service.platform("match", name="Withdrawer")
    await_in_bank(service, key, target)
    edge = flipped(DRAW, target, 30)
    ask(service, key, [flipped(DRAW, edge, 2) for _ in range(40)])
    service.withdraw(case)
    assert ask(service, key, [target]) == [None]
    (alarm,) = alarms(service, "Withdrawer")
    record_property("got", f"the alarm stays after the withdrawal ({alarm['count']} queries)")


def test_impossible_hashes_match_nothing(service, record_property):
    """A query with one bit flipped is a possible PDQ hash with a probability of one half."""
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("match")
    await_in_bank(service, key, target)
    impossible = target
    for n in [n for n in range(BITS) if not target >> n & 1][:2]:
        impossible |= 1 << n
    assert ask(service, key, [impossible, target]) == [None, "strong"]
    record_property("got", "nothing, from a copy with 130 of 256 bits set")


@pytest.mark.parametrize(
    "value", [0, 2**BITS - 1, 2**64 - 1], ids=["no bit set", "all set", "a quarter set"]
)
def test_a_blank_picture_cannot_be_listed_or_blocked(service, value, record_property):
    """Whatever quality the client claims, the hash of a blank is refused and matches nothing."""
    with pytest.raises(ServiceRefused) as refused:
        service.open(Item(Media.IMAGE, (hashed(value, quality=100),)))
    assert refused.value.problem == "nothing_accepted"
    screenshot = np.zeros((900, 450, 3), np.uint8)
    screenshot[:24] = 12  # a status bar
    black = hash_image(Image.fromarray(screenshot))
    key = service.platform("match")
    number = int.from_bytes(black.signal.value, "big")
    assert ask(service, key, [value, number]) == [None, None]
    record_property("got", f"refused with {value.bit_count()} bits set; quality {black.quality}")


def test_pictures_of_low_quality_match_nothing(service, record_property):
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("match")
    await_in_bank(service, key, target)
    body = {"type": "pdq", "values": [f"{target:064x}"] * 2, "qualities": [49, 50]}
    reply = service.client.post("/v1/match", json=body, headers=bearer(key)).raise_for_status()
    assert [len(row) for row in reply.json()["matches"]] == [0, 1]
    record_property("got", "nothing at quality 49")


def test_small_hashes_are_neither_accepted_nor_matched(service, record_property):
    """They match pictures that are merely similar, so listing one blocks pictures of others."""
    small = Hashed(Signal(SignalType.DHASH, bytes(8)), None)
    with pytest.raises(ServiceRefused):
        service.open(Item(Media.IMAGE, (small,)))
    case, _ = service.open(Item(Media.IMAGE, (small, hashed(some_pdq(DRAW)))))
    assert case
    key = service.platform("match")
    body = {"type": "dhash", "values": ["0" * 16]}
    reply = service.client.post("/v1/match", json=body, headers=bearer(key))
    assert (reply.status_code, reply.json()["code"]) == (422, "type_not_matched")
    record_property("got", "type_not_matched")
