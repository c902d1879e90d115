"""Case numbers and passphrases: their form, their verification, and the cost of guessing."""

import asyncio
import math
import re

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.cases import passphrases
from clearinghouse.cases.passphrases import (
    PassphraseChecker,
    mint_number,
    mint_passphrase,
    read_number,
)
from clearinghouse.errors import TooManyChecks

KEY = b"k" * 32
CHEAP = 64  # KiB; the operator sets the cost, and no test measures it


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(work):
    return asyncio.run(work)


def test_a_passphrase_has_six_words_of_a_list_of_7776():
    from importlib.resources import files

    words = (files("xkcdpass") / "static" / "eff-long").read_text().split()
    assert len(set(words)) == 7776
    assert 6 * math.log2(len(set(words))) > 77
    minted = [mint_passphrase().split(" ") for _ in range(50)]
    assert all(len(m) == 6 and set(m) <= set(words) for m in minted)
    assert len({tuple(m) for m in minted}) == 50


def test_a_number_can_be_read_aloud_and_typed():
    number = mint_number()
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", number)
    assert read_number(f"  {number.lower().replace('-', ' ')} ") == number
    assert read_number("ilol-0000-0000") == "1101-0000-0000"


@given(st.text(max_size=40))
def test_any_text_has_one_canonical_form_or_none(text):
    number = read_number(text)
    assert number is None or read_number(number) == number


def test_the_right_passphrase_passes_in_any_spelling():
    async def work():
        checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
        verifier = await checks.make("drop-down Apple  zebra")
        assert re.fullmatch(r"[0-9a-f]{4}\$argon2id\$.*", verifier)
        for typed in ("drop-down apple zebra", "DROPDOWN  Apple, zebra", "drop down apple zebra."):
            assert await checks.passes(b"case", verifier, typed)
        assert not await checks.passes(b"case", verifier, "drop-down apple")
        assert not await checks.passes(b"case", verifier, "")

    run(work())


@pytest.fixture
def verified(monkeypatch):
    """Return a list of the verifiers for which Argon2 was run."""
    checked = []
    real = PasswordHasher.verify

    def verify(self, verifier, secret):
        checked.append(verifier)
        return real(self, verifier, secret)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    return checked


def test_an_unknown_case_costs_the_same_and_is_refused(verified, monkeypatch):
    async def work():
        checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
        verifier = await checks.make("right")
        assert not await checks.passes(b"known", verifier, "wrong")
        assert not await checks.passes(b"unknown", None, "wrong")
        assert verified == [], "a wrong tag is enough to refuse"
        monkeypatch.setattr(PassphraseChecker, "_tag", lambda *_: verifier[:4])
        assert not await checks.passes(b"known", verifier, "wrong")
        assert not await checks.passes(b"unknown", None, "wrong")
        assert len(verified) == 2, "the tag is right"
        # the same algorithm with the same parameters: all but salt and digest
        assert verified[0].rsplit("$", 2)[0] == verified[1].rsplit("$", 2)[0]

    run(work())


class ShortTags(PassphraseChecker):
    """A checker with tags of four bits, since few guesses have the right tag of 16 bits."""

    def _tag(self, kind, value):
        return super()._tag(kind, value)[0] + "000"


def test_wrong_guesses_reach_argon2_equally_rarely_for_an_unknown_case(verified):
    async def reached(known):
        """Guess at 2,000 cases, so that earlier guesses do not delay later ones."""
        checks = ShortTags(memory=CHEAP, clock=Clock(), key=KEY)
        _, dollar, argon2 = (await checks.make("right")).partition("$")
        before = len(verified)
        for n in range(2000):
            verifier = (
                checks._tag(b"passphrase", n.to_bytes(4)) + dollar + argon2 if known else None
            )
            assert not await checks.passes(n.to_bytes(4), verifier, "wrong " + "x" * n)
        return len(verified) - before

    for known in (True, False):
        assert 70 < run(reached(known)) < 190  # 125 of 2,000, and six standard deviations


def test_a_correct_passphrase_is_remembered_for_some_minutes(verified):
    async def work():
        clock = Clock()
        checks = PassphraseChecker(memory=CHEAP, clock=clock, key=KEY)
        verifier = await checks.make("right")
        for _ in range(3):
            assert await checks.passes(b"case", verifier, "Right")
        assert len(verified) == 1
        assert not await checks.passes(b"case", verifier, "wrong")
        changed = await checks.make("right")
        assert await checks.passes(b"case", changed, "right")
        assert len(verified) == 2, "a replaced verifier is checked again"
        clock.now += 601
        assert await checks.passes(b"case", verifier, "right")
        assert len(verified) == 3

    run(work())


def test_remembered_passphrases_are_bounded_and_hashed(monkeypatch):
    monkeypatch.setattr(passphrases, "_KNOWN_MAX", 3)

    async def work():
        checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
        verifiers = [await checks.make("right") for _ in range(5)]
        for verifier in verifiers:
            assert await checks.passes(b"case", verifier, "right")
        assert len(checks._known) == 3
        assert all(len(mark) == 32 for mark in checks._known)

    run(work())


def test_a_verifier_of_an_earlier_version_is_accepted(verified):
    async def work():
        checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
        verifier = (await checks.make("right"))[4:]
        assert not await checks.passes(b"case", verifier, "wrong")
        assert await checks.passes(b"case", verifier, "right")
        assert len(verified) == 2

    run(work())


def test_guesses_are_delayed_and_nobody_is_locked_out():
    async def work():
        clock = Clock()
        checks = PassphraseChecker(memory=CHEAP, clock=clock, key=KEY)
        verifier = await checks.make("right")
        delays = []
        for _ in range(12):
            delays.append(checks._delay(b"case"))
            checks._count(b"case")
        assert delays[:4] == [0, 0, 0, 0]
        assert delays[4:8] == [0.25, 0.5, 1.0, 2.0]
        assert max(delays) == 5.0
        assert checks._delay(b"another case") == 0
        clock.now += 60 * 20
        assert checks._delay(b"case") == 0
        assert await checks.passes(b"case", verifier, "right")
        assert checks._wrong == {}

    run(work())


def test_the_counts_of_guesses_are_bounded():
    checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
    for i in range(10_050):
        checks._count(i.to_bytes(4, "big"))
    assert len(checks._wrong) == 10_000


def test_verifiers_are_created_one_by_one_in_a_bounded_queue(monkeypatch):
    async def work():
        checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
        running = most = 0
        proceed = asyncio.Event()

        async def slow(_work):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await proceed.wait()
            running -= 1
            return "done"

        async def opening():
            with checks.opening_slot():
                return await checks.make("x")

        monkeypatch.setattr(asyncio, "to_thread", slow)
        waiting = [asyncio.create_task(opening()) for _ in range(200)]
        await asyncio.sleep(0.01)
        assert most == 1
        with pytest.raises(TooManyChecks):
            await opening()
        proceed.set()
        made = await asyncio.gather(*waiting)
        assert {verifier[4:] for verifier in made} == {"done"}
        assert most == 1
        assert (await opening())[4:] == "done"

    run(work())


def test_a_case_gets_one_slot_at_a_time():
    checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
    first = checks.opening_slot(of=1)
    with first, checks.opening_slot(of=2), checks.opening_slot(), pytest.raises(TooManyChecks):
        checks.opening_slot(of=1).__enter__()
    with checks.opening_slot(of=1):
        pass


def test_a_flood_of_openings_does_not_stop_checks(monkeypatch):
    async def work():
        checks = PassphraseChecker(memory=CHEAP, clock=Clock(), key=KEY)
        verifier = await checks.make("right")
        real, proceed = asyncio.to_thread, asyncio.Event()

        async def slow(work):
            if work.__name__ == "<lambda>":  # new verifiers
                await proceed.wait()
            return await real(work)

        monkeypatch.setattr(asyncio, "to_thread", slow)
        waiting = [asyncio.create_task(checks.make("x")) for _ in range(200)]
        await asyncio.sleep(0.01)
        assert await checks.passes(b"case", verifier, "right")
        proceed.set()
        await asyncio.gather(*waiting)

    run(work())
