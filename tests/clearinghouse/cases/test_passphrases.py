"""Numbers and passphrases: what they are made of, and what guessing costs."""

import asyncio
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.cases.passphrases import Checks, mint_number, mint_passphrase, read_number
from clearinghouse.errors import TooManyChecks

CHEAP = 64  # KiB; the cost is the operator's to set, and no test measures it


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


def test_a_number_survives_being_read_aloud_and_typed():
    number = mint_number()
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", number)
    assert read_number(f"  {number.lower().replace('-', ' ')} ") == number
    assert read_number("ilol-0000-0000") == "1101-0000-0000"


@given(st.text(max_size=40))
def test_any_text_is_a_number_in_its_one_form_or_none(text):
    number = read_number(text)
    assert number is None or read_number(number) == number


def test_the_right_passphrase_passes_however_it_is_typed():
    async def work():
        checks = Checks(memory=CHEAP, clock=Clock())
        verifier = await checks.make("drop-down Apple  zebra")
        assert verifier.startswith("$argon2id$")
        for typed in ("drop-down apple zebra", "DROPDOWN  Apple, zebra", "drop down apple zebra."):
            assert await checks.passes(b"case", verifier, typed)
        assert not await checks.passes(b"case", verifier, "drop-down apple")
        assert not await checks.passes(b"case", verifier, "")

    run(work())


def test_an_unknown_case_does_the_same_work_and_says_no(monkeypatch):
    async def work():
        checks = Checks(memory=CHEAP, clock=Clock())
        verifier = await checks.make("right")
        seen = []
        real = checks._hasher.verify
        monkeypatch.setattr(
            type(checks._hasher),
            "verify",
            lambda self, kept, secret: seen.append(kept) or real(kept, secret),
        )
        assert not await checks.passes(b"known", verifier, "wrong")
        assert not await checks.passes(b"unknown", None, "wrong")
        assert len(seen) == 2
        # the same algorithm with the same parameters: all but salt and digest
        assert seen[0].rsplit("$", 2)[0] == seen[1].rsplit("$", 2)[0]

    run(work())


def test_guesses_are_slowed_and_nobody_is_locked_out():
    async def work():
        clock = Clock()
        checks = Checks(memory=CHEAP, clock=clock)
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


def test_memory_of_guesses_is_bounded():
    checks = Checks(memory=CHEAP, clock=Clock())
    for i in range(10_050):
        checks._count(i.to_bytes(4, "big"))
    assert len(checks._wrong) == 10_000


def test_openings_come_one_by_one_in_a_bounded_number_of_places(monkeypatch):
    async def work():
        checks = Checks(memory=CHEAP, clock=Clock())
        running = most = 0
        gate = asyncio.Event()

        async def slow(_work):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
            return "done"

        async def opening():
            with checks.place():
                return await checks.make("x")

        monkeypatch.setattr(asyncio, "to_thread", slow)
        waiting = [asyncio.create_task(opening()) for _ in range(200)]
        await asyncio.sleep(0.01)
        assert most == 1
        with pytest.raises(TooManyChecks):
            await opening()
        gate.set()
        assert await asyncio.gather(*waiting) == ["done"] * 200
        assert most == 1
        assert await opening() == "done"

    run(work())


def test_what_is_good_for_one_opening_has_one_place_at_a_time():
    checks = Checks(memory=CHEAP, clock=Clock())
    first = checks.place(of=1)
    with first, checks.place(of=2), checks.place(), pytest.raises(TooManyChecks):
        checks.place(of=1).__enter__()
    with checks.place(of=1):
        pass


def test_a_flood_of_openings_does_not_stop_checks(monkeypatch):
    async def work():
        checks = Checks(memory=CHEAP, clock=Clock())
        verifier = await checks.make("right")
        real, gate = asyncio.to_thread, asyncio.Event()

        async def slow(work):
            if work.__name__ == "<lambda>":  # the openings
                await gate.wait()
            return await real(work)

        monkeypatch.setattr(asyncio, "to_thread", slow)
        waiting = [asyncio.create_task(checks.make("x")) for _ in range(200)]
        await asyncio.sleep(0.01)
        assert await checks.passes(b"case", verifier, "right")
        gate.set()
        await asyncio.gather(*waiting)

    run(work())
