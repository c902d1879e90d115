"""Find out whole hashes from a veiled list and a match key, and blank pictures that match."""

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
BOUND = 8  # of questions around one file on a day, before the operator is told


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as process:
        yield process


def ask(process, key, values):
    """Return the nearest band for each query, None where it matches nothing."""
    octets = b"".join(value.to_bytes(32, "big") for value in values)
    headers = bearer(key) | {"Content-Type": "application/octet-stream"}
    reply = process.client.post("/v1/match", content=octets, headers=headers).raise_for_status()
    return [row[0]["band"] if row else None for row in reply.json()["matches"]]


def in_bank(process, key, value):
    for _ in range(200):
        if ask(process, key, [value]) == ["strong"]:
            return
        time.sleep(0.02)
    raise AssertionError("the index stands still")


def alarms(process, name):
    """Return the alarms about a platform's keys, once those in memory were written."""
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
    bits = {place: int(known >> place & 1) for place in shown()}
    free = [place for place in range(BITS) if place not in bits]
    base = sum(1 << place for place, bit in bits.items() if bit)
    ones = BITS // 2 - sum(bits.values())
    return [base + sum(1 << p for p in DRAW.sample(free, ones)) for _ in range(count)]


def shown():
    """Return the published bits by their powers; place 0 of an unpacked hash is bit 255."""
    return [BITS - 1 - place for place in positions(160).tolist()]


def test_guessing_what_the_veil_hides_raises_an_alarm(service, record_property):
    """Nine wrong guesses are enough, none of which matches anything."""
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("veil160,match", name="Guesser")
    in_bank(service, key, target)
    wrong = [value for value in guesses(target, 40) if (value ^ target).bit_count() > 33]
    assert set(ask(service, key, wrong[: BOUND + 1])) == {None}
    (alarm,) = alarms(service, "Guesser")
    assert alarm["count"] <= BOUND + 2, "and the look that found the bank ready"
    record_property("got", f"an alarm at wrong guess {BOUND + 1}, of some 4,400 that it takes")


def test_guesses_that_spoil_some_published_bits_raise_it_as_well(service, record_property):
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("veil160,match", name="Careful guesser")
    in_bank(service, key, target)
    wrong = [flipped(DRAW, value, 10, shown()) for value in guesses(target, BOUND + 1)]
    assert set(ask(service, key, wrong)) == {None}
    assert alarms(service, "Careful guesser")
    record_property("got", "the same alarm with 10 published bits spoilt in each guess")


def test_guesses_at_other_places_raise_none(service):
    """What a platform with a veiled list asks about in vain is no attack by itself."""
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("veil160,match", name="Ordinary")
    in_bank(service, key, target)
    ask(service, key, [flipped(DRAW, target, 50) for _ in range(60)])
    time.sleep(0.5)
    assert alarms_now(service, "Ordinary") == []


def alarms_now(process, name):
    rows = json.loads(process.command("review", "list", "--json").stdout)
    return [row for row in rows if row["platform"] == name]


def test_an_alarm_outlives_the_file_it_is_about(service, record_property):
    """Questions around her own files, which she withdraws, do not end the operator's alarm."""
    target = some_pdq(DRAW)
    case = service.open(item_of(target))
    key = service.platform("match", name="Withdrawer")
    in_bank(service, key, target)
    edge = flipped(DRAW, target, 30)
    ask(service, key, [flipped(DRAW, edge, 2) for _ in range(40)])
    service.withdraw(case)
    assert ask(service, key, [target]) == [None]
    (alarm,) = alarms(service, "Withdrawer")
    record_property("got", f"the alarm stays after the withdrawal ({alarm['count']} questions)")


def test_values_that_no_picture_has_match_nothing(service, record_property):
    """A query with one bit turned over has half a chance of being one that PDQ could give."""
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("match")
    in_bank(service, key, target)
    turned = target
    for place in [place for place in range(BITS) if not target >> place & 1][:2]:
        turned |= 1 << place
    assert ask(service, key, [turned, target]) == [None, "strong"]
    record_property("got", "nothing, from a copy with 130 of 256 bits set")


@pytest.mark.parametrize(
    "value", [0, 2**BITS - 1, 2**64 - 1], ids=["no bit set", "all set", "a quarter set"]
)
def test_a_blank_picture_cannot_be_listed_or_blocked(service, value, record_property):
    """Whatever quality the client claims, a hash of nothing is not taken and matches nothing."""
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


def test_plain_pictures_match_nothing(service, record_property):
    target = some_pdq(DRAW)
    service.open(item_of(target))
    key = service.platform("match")
    in_bank(service, key, target)
    body = {"type": "pdq", "values": [f"{target:064x}"] * 2, "qualities": [49, 50]}
    reply = service.client.post("/v1/match", json=body, headers=bearer(key)).raise_for_status()
    assert [len(row) for row in reply.json()["matches"]] == [0, 1]
    record_property("got", "nothing at quality 49")


def test_small_hashes_are_neither_taken_nor_looked_for(service, record_property):
    """They match pictures that only look alike, so whoever lists one blocks others' pictures."""
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
