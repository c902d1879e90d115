"""The lock, the names and the permissions of a bank's files."""

import os
import stat

import pytest

from nciihash.bank import Bank
from nciihash.bank import bank as banks
from nciihash.errors import BankCorrupt, BankError, BankLocked
from nciihash.feed import FeedPage, Removed
from support.banks import (
    a_bank_of_three_pages,
    after,
    an_addition,
    cursor,
    journal_of,
    on_disk,
    page,
    state,
)


def test_a_failed_compaction_at_close_still_releases_the_lock(path, monkeypatch):
    monkeypatch.setattr(banks, "SMALL_BANK", -1)
    bank = Bank.open(path)
    withdrawn = an_addition(1)
    bank.append(FeedPage((withdrawn, Removed(withdrawn.id)), cursor(1), more=True))
    with monkeypatch.context() as broken:

        def full(*_):
            raise OSError(28, "No space left on device")

        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            bank.close()
    with Bank.open(path) as reopened:
        assert (len(reopened), reopened.cursor) == (0, cursor(1))
        assert not on_disk(path, withdrawn.signal.value)


def test_only_one_process_writes_at_a_time(path):
    first = Bank.open(path)
    with pytest.raises(BankLocked, match="Another process"):
        Bank.open(path)
    with Bank.read(path) as reader:
        assert len(reader) == 0
    first.close()
    with Bank.open(path):
        pass
    path.write_bytes(b"not a bank")
    for _ in range(2):  # a failed open releases the lock
        with pytest.raises(BankCorrupt):
            Bank.open(path)


def test_a_symlink_and_a_chdir_lead_to_the_same_bank(path, monkeypatch):
    (path.parent / "elsewhere").mkdir()
    alias = path.parent / "elsewhere" / "alias"
    alias.symlink_to(path)
    monkeypatch.chdir(path.parent)
    with Bank.open(path.name) as bank:
        with pytest.raises(BankLocked):
            Bank.open(alias)
        monkeypatch.chdir("/")
        bank.append(page(1))
        bank.compact()
    with Bank.read(alias) as reader:
        assert state(reader) == after(1)
    assert alias.is_symlink()
    assert [p.name for p in alias.parent.iterdir()] == ["alias"]


def test_every_file_is_private(path):
    old = os.umask(0)
    try:
        with Bank.open(path) as bank:
            bank.append(page(1))
            bank.compact()
            bank.append(page(2))
            bank.note_current(1000.0)
    finally:
        os.umask(old)
    files = sorted(path.parent.iterdir())
    assert [f.name.removeprefix(path.name) for f in files] == ["", "-current", "-journal", "-lock"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


def test_the_note_of_when_the_bank_was_current(path):
    with Bank.open(path) as bank:
        assert bank.current_at is None
        bank.note_current(1000.0)
        with Bank.read(path) as reader:
            assert bank.current_at == reader.current_at == 1000.0
            with pytest.raises(BankError, match="opened for reading"):
                reader.note_current(1001.0)
        bank.note_current(1000.5)  # not twice a second
        assert bank.current_at == 1000.0
        bank.note_current(1001.5)
        assert bank.current_at == 1001.5
        bank.note_current(900.0)  # the clock was set back
        assert bank.current_at == 900.0
        bank.compact()
        assert bank.current_at == 900.0
    with pytest.raises(BankError):
        bank.note_current(2000.0)
    with Bank.open(path) as bank:
        assert bank.current_at == 900.0


def test_the_note_of_another_bank_does_not_count(path):
    for name in ("first", "second"):
        with Bank.open(path.with_name(name)) as bank:
            bank.note_current(1000.0)
    note = path.with_name("first-current")
    note.rename(path.with_name("second-current"))
    for name in ("first", "second"):
        with Bank.read(path.with_name(name)) as bank:
            assert bank.current_at is None


def test_temporary_files_of_this_bank_are_deleted_and_of_another_are_not(path):
    a_bank_of_three_pages(path)
    names = (path.name, journal_of(path).name, f"{path.name}-current")
    own = [path.with_name(f".{name}.0123abcd.tmp") for name in names]
    others = path.with_name(f".{path.name}.old.0123abcd.tmp")
    for file in (*own, others):
        file.write_bytes(an_addition(1).signal.value)
    Bank.read(path).close()
    assert all(file.exists() for file in own)
    Bank.open(path).close()
    assert not any(file.exists() for file in own)
    assert others.exists()
