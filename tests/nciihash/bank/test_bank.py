"""A bank has every page that `append` returned from, and removes withdrawn values in time."""

import itertools
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from nciihash import Index, feed
from nciihash.bank import Bank, contents
from nciihash.bank import bank as banks
from nciihash.bank.frozen import FrozenBank, freeze
from nciihash.errors import BankError, InvalidSignal
from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import Signal, SignalType
from support.banks import (
    Model,
    after,
    an_adding_page,
    an_addition,
    cursor,
    name,
    on_disk,
    page,
    state,
)
from support.strategies import pages, signals


class BankMachine(RuleBasedStateMachine):
    """Any order of append, reopen, compact, adopt and query, compared with a dictionary."""

    ids = st.sampled_from([name(n) for n in range(12)] + ["0" * 32, "00" * 15 + "01", "ff" * 16])

    @initialize()
    def begin(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir=os.environ["BANK_TEST_FOLDER"])) / "bank"
        self.bank = Bank.open(self.path)
        self.reader = Bank.read(self.path)
        self.model = Model()
        self.cursor: str | None = None

    @rule(page=pages(ids))
    def append(self, page: FeedPage) -> None:
        assert self.bank.append(page) == feed.apply(page, self.model)
        self.cursor = page.cursor
        # applying it again changes nothing
        assert self.bank.append(page) == feed.apply(page, self.model)

    @rule()
    def reopen(self) -> None:
        self.bank.close()
        self.bank = Bank.open(self.path)
        assert self.bank.withdrawn == 0

    @rule()
    def compact(self) -> None:
        self.bank.compact()

    @rule(first=pages(ids), second=pages(ids))
    def replace(self, first: FeedPage, second: FeedPage) -> None:
        replacement, model = self.bank.replacement(), Model()
        for each in (first, second):
            assert replacement.append(each) == feed.apply(each, model)
            assert self.bank.cursor == self.cursor
        self.bank.adopt(replacement)
        self.model, self.cursor = model, second.cursor

    @rule()
    def read(self) -> None:
        self.reader.refresh()
        for reader in (self.reader, fresh := Bank.read(self.path)):
            assert state(reader) == self.model.members
            assert reader.cursor == self.cursor
        fresh.close()
        assert not self.reader.refresh()

    @rule(data=st.data())
    def query(self, data: st.DataObject) -> None:
        queries = data.draw(st.lists(signals(), max_size=4))
        for entry in itertools.islice(self.model.members.values(), 3):
            flips = data.draw(st.integers(0, entry.signal.type.threshold + 1))
            value = int.from_bytes(entry.signal.value, "big") ^ ((1 << flips) - 1)
            size = len(entry.signal.value)
            queries.append(replace(entry.signal, value=value.to_bytes(size, "big")))
        assert self.bank.query(queries) == [self.model.matches(s) for s in queries]

    @invariant()
    def equals_the_model(self) -> None:
        if not hasattr(self, "bank"):
            return
        assert state(self.bank) == self.model.members
        assert self.bank.cursor == self.cursor
        for id in (name(0), name(1), "0" * 32, "0" * 31, "FF" * 16, "ff" * 17, "zz" * 16, "", 7):
            assert (id in self.bank) == (id in self.model)
        assert self.bank.entry(name(0)) == self.model.members.get(name(0))

    def teardown(self) -> None:
        if hasattr(self, "bank"):
            self.bank.close()
            self.reader.close()


@pytest.mark.parametrize("small", [100_000, 0], ids=["compact at removals", "compact by size"])
def test_any_sequence_of_calls_equals_a_dictionary(small, small_journal, tmp_path, monkeypatch):
    monkeypatch.setenv("BANK_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(banks, "SMALL_BANK", small)
    monkeypatch.setattr(contents, "_ADDITIONS_MAX", 5)
    profile = settings()
    run_state_machine_as_test(
        BankMachine,
        settings=settings(max_examples=max(15, profile.max_examples // 4), stateful_step_count=12),
    )


def test_a_new_bank_is_empty(path):
    with Bank.open(path) as bank:
        assert (len(bank), bank.cursor, list(bank), bank.withdrawn) == (0, None, [], 0)
        assert bank.query([an_addition(1).signal]) == [()]
        assert bank.query([]) == []


def test_an_empty_file_is_opened_as_a_new_bank(path):
    path.touch()
    with Bank.open(path) as bank:
        bank.append(page(1))
    with Bank.read(path) as bank:
        assert state(bank) == after(1)


@pytest.mark.parametrize("bad", ["", "a", "FF" * 16, "ff" * 15, "ff" * 17, " " + "f" * 31])
def test_a_page_with_a_malformed_id_is_refused_entirely(path, bad):
    good = an_addition(1)
    with Bank.open(path) as bank:
        for entry in (replace(good, id=bad), replace(good, item=bad), Removed(bad)):
            refused = FeedPage((an_addition(2), entry), cursor(1), more=False)
            with pytest.raises(ValueError, match="32 lowercase hexadecimal"):
                bank.append(refused)
            with pytest.raises(ValueError, match="32 lowercase hexadecimal"):
                bank.replacement().append(refused)
        assert (len(bank), bank.cursor) == (0, None)
        bank.append(an_adding_page(1))
        assert len(bank) == 1


def test_a_reader_cannot_write_and_sees_new_pages_after_refresh(path):
    with Bank.open(path) as bank, Bank.read(path) as reader:
        with pytest.raises(BankError, match="for reading"):
            reader.append(page(1))
        with pytest.raises(BankError, match="for reading"):
            reader.compact()
        assert not reader.refresh()
        for number in range(1, 8):
            bank.append(page(number))
            if number % 3 == 0:
                bank.compact()
            assert state(reader) == after(number - 1)
            assert reader.refresh()
            assert state(reader) == after(number)
            assert not reader.refresh()
            assert not bank.refresh()
    with pytest.raises(BankError, match="closed"):
        reader.refresh()
    with pytest.raises(BankError, match="closed"):
        bank.append(page(8))


def withdraw(number: int, *entries: Added, more: bool = False) -> FeedPage:
    return FeedPage(tuple(Removed(e.id) for e in entries), cursor(number), more)


def test_append_removes_a_withdrawn_value_from_the_files_of_a_small_bank(path):
    with Bank.open(path) as bank:
        withdrawn, *kept = (an_addition(n) for n in range(5))
        bank.append(FeedPage((withdrawn, *kept), cursor(1), more=False))
        assert on_disk(path, withdrawn.signal.value)
        bank.append(withdraw(2, withdrawn, more=True))
        assert bank.withdrawn == 0
        assert not on_disk(path, withdrawn.signal.value)
        assert on_disk(path, kept[0].signal.value)
        assert bank.query([withdrawn.signal]) == [()]
        # added and withdrawn by the same page
        bank.append(FeedPage((withdrawn, Removed(withdrawn.id)), cursor(3), more=True))
        assert not on_disk(path, withdrawn.signal.value)


def test_a_withdrawn_value_leaves_the_files_of_a_large_bank_within_the_bounds(path, monkeypatch):
    monkeypatch.setattr(banks, "SMALL_BANK", 0)
    monkeypatch.setattr(banks, "WITHDRAWN_MAX", 3)
    now = [1000.0]
    bank = Bank.open(path, clock=lambda: now[0])
    entries = [an_addition(n) for n in range(12)]
    bank.append(FeedPage(tuple(entries), cursor(1), more=False))

    def stored(n: int) -> bool:
        assert bank.query([entries[n].signal]) == [()]
        return on_disk(path, entries[n].signal.value)

    bank.append(withdraw(2, entries[0]))
    assert stored(0)
    now[0] += banks.COMPACTION_INTERVAL - 1
    bank.append(FeedPage((), cursor(2), more=False))
    assert stored(0)
    now[0] += 1
    bank.append(FeedPage((), cursor(2), more=True))  # more pages come first
    assert stored(0)
    bank.append(FeedPage((), cursor(2), more=False))
    assert not stored(0)

    bank.append(withdraw(3, *entries[1:3], more=True))
    assert (stored(1), bank.withdrawn) == (True, 2)
    bank.append(withdraw(4, entries[3], more=True))
    assert not any(map(stored, (1, 2, 3)))

    bank.append(withdraw(5, entries[4]))
    assert stored(4)
    bank.compact()
    assert not stored(4)

    bank.append(withdraw(6, entries[5]))
    assert stored(5)
    bank.close()
    assert not on_disk(path, entries[5].signal.value)

    bank = Bank.open(path, clock=lambda: now[0])
    bank.append(withdraw(7, entries[6]))
    assert stored(6)
    os.close(bank._lock)  # as if the process had died
    bank._journal.close()
    with Bank.open(path):
        assert not on_disk(path, entries[6].signal.value)


def test_a_replacement_takes_effect_only_when_adopted(path):
    with Bank.open(path) as bank, Bank.read(path) as reader:
        bank.append(an_adding_page(1, 5))
        replacement = bank.replacement()
        with pytest.raises(ValueError, match="empty"):
            bank.adopt(replacement)
        for number in (7, 8):
            replacement.append(an_adding_page(number, 3))
        assert (len(replacement), replacement.cursor) == (6, cursor(8))
        old = an_addition(1000)
        assert [m.id for m in bank.query([old.signal])[0]] == [old.id]
        assert bank.cursor == cursor(1)
        bank.adopt(replacement)
        assert (len(bank), bank.cursor) == (6, cursor(8))
        assert bank.query([old.signal]) == [()]
        assert not on_disk(path, old.signal.value)
        assert reader.refresh()
        assert reader.cursor == cursor(8)
        bank.append(an_adding_page(9))
    with Bank.open(path) as bank:
        assert (len(bank), bank.cursor) == (7, cursor(9))


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_crash_while_adopting_leaves_the_old_bank_or_the_new_one(path, renames, monkeypatch):
    bank = Bank.open(path)
    bank.append(an_adding_page(1, 5))
    replacement = bank.replacement()
    replacement.append(an_adding_page(2, 3))
    real, calls = Path.replace, itertools.count()

    def interrupted(self: Path, target: Path) -> Path:
        if next(calls) == renames:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", interrupted)
        if renames < 2:
            with pytest.raises(KeyboardInterrupt):
                bank.adopt(replacement)
        else:
            bank.adopt(replacement)
    bank.close()
    with Bank.read(path) as reader, Bank.open(path) as reopened:
        for opened in (reader, reopened):
            expected = (3, cursor(2)) if renames else (5, cursor(1))
            assert (len(opened), opened.cursor) == expected
        reopened.append(an_adding_page(3))
    with Bank.open(path) as reopened:
        assert reopened.cursor == cursor(3)


def a_page_of(values: NDArray[np.uint8], first: int = 0) -> FeedPage:
    """Return a page that adds PDQ hashes, two of each item."""
    entries = tuple(
        replace(
            an_addition(first + n),
            item=name((first + n) // 2),
            signal=Signal(SignalType.PDQ, value.tobytes()),
        )
        for n, value in enumerate(values)
    )
    return FeedPage(entries, cursor(first), more=False)


def test_candidates_resolve_rows_of_the_snapshot_and_of_later_pages(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (60, 32), dtype=np.uint8)
    queries = values.copy()
    queries[:, :5] ^= 0xFF  # 40 bits
    queries[::3, :5] = values[::3, :5]
    with Bank.open(tmp_path / "bank") as bank:
        nothing = bank.candidates(SignalType.PDQ, queries, 60)
        assert len(nothing) == 0
        assert nothing.values.shape == (0, 32)
        bank.append(a_page_of(values[:40]))
        bank.compact()
        bank.append(a_page_of(values[40:], first=40))
        bank.append(FeedPage((Removed(an_addition(5).id), Removed(an_addition(50).id)), "c", False))
        found = bank.candidates(SignalType.PDQ, queries, 60)
        left = [n for n in range(60) if n not in {5, 50}]
        assert found.queries.tolist() == left
        assert found.distances.tolist() == [0 if n % 3 == 0 else 40 for n in left]
        np.testing.assert_array_equal(found.values, values[left])
        for position, number in enumerate(left):
            entry = found.entry(position)
            assert entry == bank.entry(an_addition(number).id)
            assert entry.signal.value == values[number].tobytes()
            assert entry.item == found.items[position].tobytes().hex() == name(number // 2)
        # those within the threshold are the matches
        matches = bank.query([Signal(SignalType.PDQ, query.tobytes()) for query in queries])
        within = np.flatnonzero(found.distances <= SignalType.PDQ.threshold)
        assert [found.entry(n).id for n in within.tolist()] == [
            match.id for each in matches for match in each
        ]
        bank.append(FeedPage((Removed(an_addition(7).id),), "d", False))
        bank.compact()
        assert found.entry(left.index(7)).signal.value == values[7].tobytes()
        with pytest.raises(ValueError, match="at least the radius"):
            bank.candidates(SignalType.PDQ, queries, 30)
        with pytest.raises(InvalidSignal):
            bank.candidates(SignalType.PDQ, queries[:, :16], 60)


def test_a_frozen_bank_has_the_same_candidates(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (300, 32), dtype=np.uint8)
    queries = values ^ np.repeat(np.uint8([0x0F, 0]), 16)  # 64 bits
    queries[:200, :5] = values[:200, :5]  # 44 bits
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(a_page_of(values))
        bank.compact()
        expected = bank.candidates(SignalType.PDQ, queries, 60)
    freeze(tmp_path / "bank", tmp_path / "frozen")
    frozen = FrozenBank.open(tmp_path / "frozen")
    found = frozen.candidates(SignalType.PDQ, queries, 60)
    assert found.queries.tolist() == expected.queries.tolist() == list(range(200))
    assert set(found.distances.tolist()) == {44}
    for column in ("distances", "values", "items"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    assert [found.entry(n) for n in range(200)] == [expected.entry(n) for n in range(200)]
    assert len(frozen.candidates(SignalType.PHASH, queries[:, :8], 20)) == 0


def test_an_index_file_has_no_items_for_candidates(tmp_path):
    index = Index()
    index.add(np.arange(3, dtype=np.uint64), np.zeros((3, 32), dtype=np.uint8))
    index.save(tmp_path / "some.index")
    frozen = FrozenBank.open(tmp_path / "some.index")
    with pytest.raises(BankError, match="no items"):
        frozen.candidates(SignalType.PDQ, np.zeros((1, 32), dtype=np.uint8), 60)
