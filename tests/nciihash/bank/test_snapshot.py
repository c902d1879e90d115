"""A damaged, foreign or outdated snapshot is refused."""

from dataclasses import replace

import numpy as np
import pytest

from nciihash.bank import Bank, journal, snapshot
from nciihash.errors import BankCorrupt, BankError
from nciihash.feed import FeedPage
from nciihash.signals import Variant
from support.banks import (
    a_bank_of_three_pages,
    after,
    an_adding_page,
    an_addition,
    cursor,
    journal_of,
    page,
    state,
)


def test_a_flipped_bit_in_any_byte_of_the_snapshot_is_refused(path):
    with Bank.open(path) as bank:
        for number in (1, 2, 3):
            bank.append(page(number))
        bank.compact()
    whole = path.read_bytes()
    for offset in (*range(136), *range(136, len(whole), 5)):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << offset % 8
        path.write_bytes(flipped)
        for opening in (Bank.open, Bank.read):
            with pytest.raises(BankCorrupt, match=r"bank|byte order"):
                opening(path)
    for length in (1, 8, 127, 128, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BankCorrupt):
            Bank.open(path)
    path.write_bytes(whole)
    with Bank.open(path) as bank:
        assert state(bank) == after(3)


def test_files_that_do_not_belong_together_are_refused(path, tmp_path):
    a_bank_of_three_pages(path)
    other = tmp_path / "other"
    a_bank_of_three_pages(other)
    own = journal_of(path).read_bytes()

    journal_of(path).write_bytes(journal_of(other).read_bytes())
    with pytest.raises(BankCorrupt, match="does not belong"):
        Bank.open(path)
    journal_of(path).unlink()
    for opening in (Bank.open, Bank.read):
        with pytest.raises(BankCorrupt, match="missing"):
            opening(path)
    journal_of(path).write_bytes(own)
    path.unlink()
    with pytest.raises(BankCorrupt, match="is missing, but"):
        Bank.open(path)
    with pytest.raises(BankError, match="no bank"):
        Bank.read(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    with pytest.raises(BankCorrupt, match="is not a bank"):
        Bank.open(path)


def test_a_restored_older_snapshot_is_refused(path):
    a_bank_of_three_pages(path)
    old = path.read_bytes()
    with Bank.open(path) as bank:
        bank.compact()
        bank.append(an_adding_page(4))
    path.write_bytes(old)
    with pytest.raises(BankCorrupt, match="does not belong"):
        Bank.open(path)


def test_variants_that_only_a_newer_version_knows_are_read(path):
    """A bank that a newer version wrote is still matched after a rollback."""
    added = an_addition(1)
    table = snapshot.Table.empty(added.signal.type).merged(np.zeros(0, bool), [added])
    newer = replace(table, kind_names=((added.media, "inner99"),))
    snapshot.write(path, bytes(16), 1, cursor(1), [newer])
    (read,) = snapshot.Snapshot.open(path).tables
    assert read.entry(0) == replace(added, variant=Variant.UNKNOWN)
    page = FeedPage((added,), cursor(1), more=False)
    payload = journal.encode(page).replace(b'"original"', b'"inner99x"')
    (entry,) = journal.decode(memoryview(payload)).entries
    assert entry == replace(added, variant=Variant.UNKNOWN)
