"""The journal is a write-ahead log: a torn record is truncated, a damaged one refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from nciihash import feed
from nciihash.bank import Bank, contents, journal
from nciihash.errors import BankCorrupt, BankError
from nciihash.feed import Changes, FeedPage, Removed
from support.banks import a_bank_of_three_pages, an_adding_page, an_addition, cursor, journal_of
from support.strategies import pages


@given(pages())
def test_a_page_round_trips_through_the_journal(page):
    assert journal.decode(memoryview(journal.encode(page))) == page


def test_an_empty_page_moves_the_cursor_and_a_repeated_one_writes_nothing(path):
    with Bank.open(path) as bank:
        empty = FeedPage((), cursor(5), more=False)
        size = journal_of(path).stat().st_size
        assert bank.append(empty) == Changes(0, 0, 0)
        grown = journal_of(path).stat().st_size
        assert grown > size
        assert bank.append(empty) == Changes(0, 0, 0)
        assert journal_of(path).stat().st_size == grown
    with Bank.open(path) as bank:
        assert bank.cursor == cursor(5)


def test_a_page_is_fsynced_before_it_is_applied_and_before_append_returns(path, monkeypatch):
    order: list[str] = []

    def record_calls(module, call: str, label: Callable[..., str]) -> None:
        original = getattr(module, call)

        def record(*args, **kwargs):
            result = original(*args, **kwargs)
            order.append(label(*args))
            return result

        monkeypatch.setattr(module, call, record)

    def kind(descriptor: int) -> str:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(str(path.parent))
        if not name:
            return "folder"
        if name.startswith("/."):
            return "new journal" if "-journal" in name else "new snapshot"
        return name.removeprefix(f"/{path.name}").removeprefix("-") or "snapshot"

    with Bank.open(path) as bank:
        record_calls(os, "pwrite", lambda descriptor, *_: f"write {kind(descriptor)}")
        record_calls(os, "fsync", lambda descriptor: f"sync {kind(descriptor)}")
        record_calls(
            Path, "replace", lambda _, target: f"rename {target.name.removeprefix(path.name)}"
        )
        record_calls(feed, "apply", lambda *_: "apply")
        monkeypatch.setattr(contents, "apply", feed.apply)
        bank.append(an_adding_page(1, more=False))
        order.append("returned")
        assert order == ["write journal", "sync journal", "apply", "returned"]

        order.clear()
        bank.append(FeedPage((Removed(an_addition(1000).id),), cursor(2), more=False))
        order.append("returned")
        assert order == [
            "write journal", "sync journal", "apply",
            "sync new snapshot", "rename ", "sync folder",
            "sync new journal", "rename -journal", "sync folder",
            "returned",
        ]  # fmt: skip


def test_a_torn_last_record_is_truncated_at_every_length(path):
    *_, second, third = a_bank_of_three_pages(path)
    whole = journal_of(path).read_bytes()
    assert len(whole) == third
    for length in range(second, third):
        # after a power cut, the rest of the record may be missing, zeros or garbage
        torn = whole[:length] + (b"", bytes(third - length), b"PAGE" * 90)[length % 3]
        assert torn != whole
        journal_of(path).write_bytes(torn)
        with Bank.read(path) as reader:
            assert (len(reader), reader.cursor) == (4, cursor(2))
        assert journal_of(path).read_bytes() == torn  # a reader does not write
        with Bank.open(path) as bank:
            assert (len(bank), bank.cursor) == (4, cursor(2))
        assert journal_of(path).stat().st_size == second
    with Bank.open(path) as bank:
        bank.append(an_adding_page(3, 2))
    assert journal_of(path).read_bytes() == whole


def test_a_flipped_bit_in_any_byte_before_the_last_record_is_refused(path):
    *_, second, _ = a_bank_of_three_pages(path)
    whole = journal_of(path).read_bytes()
    for offset in range(second):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << offset % 8
        journal_of(path).write_bytes(flipped)
        for opening in (Bank.open, Bank.read):
            with pytest.raises(BankCorrupt, match=r"journal|newer"):
                opening(path)
        assert journal_of(path).read_bytes() == flipped  # left unchanged for investigation
    # a missing and a repeated record
    first = a_bank_of_three_pages(path.with_name("other"))[0]
    second_starts = first + (second - first) // 2
    for damaged in (
        whole[:first] + whole[second_starts:],
        whole[:second] + whole[second_starts:second] + whole[second:],
    ):
        journal_of(path).write_bytes(damaged)
        with pytest.raises(BankCorrupt, match="damaged"):
            Bank.open(path)
    journal_of(path).write_bytes(whole)
    with Bank.open(path) as bank:
        assert len(bank) == 6


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_after_a_failed_write_the_bank_refuses_changes_until_reopened(path, call, monkeypatch):
    bank = Bank.open(path)
    bank.append(an_adding_page(1))
    with monkeypatch.context() as broken:

        def full(*_):
            raise OSError(28, "No space left on device")

        broken.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            bank.append(an_adding_page(2))
    assert (len(bank), bank.cursor) == (1, cursor(1))
    for change in (lambda: bank.append(an_adding_page(2)), bank.compact):
        with pytest.raises(BankError, match="open it again"):
            change()
    bank.close()
    with Bank.open(path) as reopened:
        reopened.append(an_adding_page(2))
        assert (len(reopened), reopened.cursor) == (2, cursor(2))
