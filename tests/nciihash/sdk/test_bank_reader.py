"""A reader sees what a follower in another process writes, and how old it is."""

import asyncio
import json
import secrets
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nciihash import Matcher
from nciihash.bank import Bank
from nciihash.bank.journal import Journal
from nciihash.errors import BankCorrupt, BankError, BankStale
from nciihash.feed import FeedPage, Removed
from nciihash.sdk.bank_reader import BankReader
from nciihash.sdk.veiled import save_veil
from nciihash.signals import SignalType
from nciihash.veil import Veil
from support.local import random_item
from support.paths import ROOT
from support.scripted_feed import added, hex_id

SIGNALS = [added(n).signal for n in range(4)]
PACKED = np.frombuffer(b"".join(signal.value for signal in SIGNALS), np.uint8).reshape(-1, 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bank"


def reader(path, **options):
    return BankReader(path, **{"interval": 0.005} | options)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def page(number, *entries, more=False):
    return FeedPage(entries, hex_id(10**6 + number), more)


def ids(results):
    return [[match.id for match in matches] for matches in results]


def test_it_reads_what_is_appended_removed_and_compacted(path):
    with Bank.open(path) as bank:
        bank.append(page(1, added(0), added(1)))
        bank.note_current(time.time())
        with reader(path) as read:
            assert read.ready(0)
            assert ids(read.query(SIGNALS[:2])) == [[hex_id(0)], [hex_id(1)]]
            bank.append(page(2, Removed(hex_id(0)), added(2)))
            wait_until(lambda: ids(read.query(SIGNALS[:3])) == [[], [hex_id(1)], [hex_id(2)]])
            bank.compact()
            bank.append(page(3, added(3)))
            wait_until(lambda: ids(read.query(SIGNALS[3:])) == [[hex_id(3)]])
            found = read.candidates(SignalType.PDQ, PACKED, 60)
            assert {found.entry(n).id for n in range(len(found))} == {
                hex_id(1),
                hex_id(2),
                hex_id(3),
            }
            assert read.health().signals == len(read.bank) == 3
            assert read.health().error is None


def test_its_age_is_that_of_the_note(path):
    now, item = [1000.0], random_item()
    with Bank.open(path) as bank:
        bank.append(page(1, added(0)))
        with reader(path, max_age=300.0, now=lambda: now[0]) as read:
            assert not read.ready(0)
            assert read.health().age is None
            with pytest.raises(BankStale, match="ever had everything"):
                read.query(SIGNALS)
            bank.note_current(990.0)
            assert read.ready(60)
            assert (read.health().age, read.health().current) == (10.0, True)
            now[0] = 1290.0
            assert ids(read.query(SIGNALS[:1])) == [[hex_id(0)]]
            assert not read.health().current
            now[0] = 1290.5
            for ask in (
                lambda: read.query(SIGNALS),
                lambda: read.candidates(SignalType.PDQ, PACKED, 60),
                lambda: Matcher(read).find(item),
            ):
                with pytest.raises(BankStale, match="the limit is 300"):
                    ask()
            bank.note_current(1290.0)
            wait_until(lambda: read.health().age == 0.5)
            assert ids(read.query(SIGNALS[:1])) == [[hex_id(0)]]


def test_what_is_noted_as_current_is_in_memory(path):
    """The note is read before the pages, so a young age implies those pages."""
    finished = threading.Event()

    def write(bank):
        for number in range(300):
            bank.append(page(number, added(number)))
            bank.note_current(float(2 * number))
        finished.set()

    now = 10_000.0
    with Bank.open(path) as bank:
        bank.append(page(0))
        bank.note_current(-2.0)
        with reader(path, interval=0.0, now=lambda: now) as read:
            writer = threading.Thread(target=write, args=(bank,))
            writer.start()
            while not finished.is_set() or read.health().age != now - 598.0:
                age = read.health().age
                newest = (now - age) // 2  # the number of the last page that must be there
                assert read.health().signals > newest
            writer.join()


def test_it_waits_for_a_bank_that_does_not_exist_yet(path):
    with reader(path) as read:
        with pytest.raises(BankStale):
            read.query(SIGNALS)
        with pytest.raises(BankError, match="no bank"):
            _ = read.bank
        wait_until(lambda: read.health().error is not None)
        assert (read.health().signals, read.health().age) == (0, None)
        with Bank.open(path) as bank:
            bank.append(page(1, added(0)))
            bank.note_current(time.time())
            assert read.ready(60)
            assert ids(read.query(SIGNALS[:1])) == [[hex_id(0)]]
            wait_until(lambda: read.health().error is None)


def test_another_bank_may_replace_it(path):
    with Bank.open(path) as bank:
        bank.append(page(1, added(0)))
        bank.note_current(time.time())
    other = path.with_name("other")
    with Bank.open(other) as bank:
        bank.append(page(1, added(1)))
        bank.note_current(time.time())
    with reader(path) as read:
        assert ids(read.query(SIGNALS[:2])) == [[hex_id(0)], []]
        for suffix in ("-journal", "-current", ""):
            other.with_name(f"other{suffix}").rename(path.with_name(f"bank{suffix}"))
        wait_until(lambda: read.health().age is not None and hex_id(1) in read.bank)
        wait_until(lambda: read.health().error is None)
        assert ids(read.query(SIGNALS[:2])) == [[], [hex_id(1)]]


def test_a_damaged_bank_is_reported_while_the_old_contents_answer(path, caplog):
    with Bank.open(path) as bank:
        bank.append(page(1, added(0)))
        bank.note_current(time.time())
    good = path.read_bytes()
    with reader(path) as read:
        path.with_name("damaged").write_bytes(good[:100] + b"?" + good[101:])
        path.with_name("damaged").rename(path)
        wait_until(lambda: read.health().error is not None)
        assert ids(read.query(SIGNALS[:1])) == [[hex_id(0)]]
    warnings = [record for record in caplog.records if record.name == "nciihash.follower"]
    assert len(warnings) == 1
    with pytest.raises(BankCorrupt), reader(path):
        pass


def test_an_unexpected_error_is_reported_without_its_message(path, monkeypatch):
    with Bank.open(path) as bank:
        bank.append(page(1, added(0)))
        bank.note_current(time.time())

    def fail(self):
        raise ZeroDivisionError("a secret")

    with reader(path) as read:
        monkeypatch.setattr(Journal, "read", fail)
        wait_until(lambda: read.health().error is not None)
        assert "ZeroDivisionError" in read.health().error
        assert "secret" not in read.health().error
        monkeypatch.undo()
        wait_until(lambda: read.health().error is None)


def test_a_veiled_bank_is_refused(path):
    Bank.open(path).close()
    save_veil(path, Veil(SignalType.PDQ_VEIL128, secrets.token_bytes(32)))
    with pytest.raises(BankError, match="veiled"), reader(path):
        pass


def test_in_asyncio(path):
    async def run():
        async with reader(path, interval=3600.0) as read:
            return ids(await asyncio.to_thread(read.query, SIGNALS[:1]))

    with Bank.open(path) as bank:
        bank.append(page(1, added(0)))
        bank.note_current(time.time())
    assert asyncio.run(run()) == [[hex_id(0)]]


READER = """
import json, sys
from nciihash import BankReader
from nciihash.signals import Signal, SignalType
signal = Signal.from_hex(SignalType.PDQ, sys.argv[2])
with BankReader(sys.argv[1], interval=0.01, max_age=60) as reader:
    for line in sys.stdin:
        found = len(reader.query([signal])[0]) if reader.ready(60) else None
        print(json.dumps(found), flush=True)
"""


def test_from_another_process(path):
    """The process of the follower never answers for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(path), SIGNALS[0].hex],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )

    def ask():
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with process, Bank.open(path) as bank:
        bank.append(page(1, added(0)))
        bank.note_current(time.time())
        assert ask() == 1
        bank.append(page(2, Removed(hex_id(0))))
        wait_until(lambda: ask() == 0)
        process.stdin.close()
