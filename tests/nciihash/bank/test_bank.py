"""A bank keeps every acknowledged page, through kill -9 and power cuts, and nothing else."""

import gc
import hashlib
import itertools
import os
import random
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from nciihash import feed
from nciihash.bank import Bank, contents, journal
from nciihash.bank import bank as banks
from nciihash.errors import BankCorrupt, BankError, BankLocked
from nciihash.feed import Added, Applied, FeedPage, Removed
from nciihash.signals import Match, Media, Signal, SignalType, Variant
from support.strategies import pages, signals


class Model:
    """The same as a bank, as a dictionary."""

    def __init__(self) -> None:
        self.members: dict[str, Added] = {}

    def __contains__(self, id: object) -> bool:
        return id in self.members

    def add(self, added: Sequence[Added]) -> None:
        self.members.update((entry.id, entry) for entry in added)

    def remove(self, ids: Sequence[str]) -> None:
        for id in ids:
            del self.members[id]

    def matches(self, query: Signal) -> tuple[Match, ...]:
        def distance(entry: Added) -> int:
            a, b = (int.from_bytes(s.value, "big") for s in (entry.signal, query))
            return (a ^ b).bit_count()

        found = [
            Match(e.id, e.item, e.signal.type, e.variant, distance(e))
            for e in self.members.values()
            if e.signal.type is query.type and distance(e) <= query.type.threshold
        ]
        return tuple(sorted(found, key=lambda m: (m.distance, m.id)))


def state(bank: Bank) -> dict[str, Added]:
    entries = list(bank)
    assert len(entries) == len(bank)
    return {entry.id: entry for entry in entries}


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def cursor(number: int) -> str:
    return f"{number:032x}"


@cache
def page(number: int) -> FeedPage:
    """Give page `number` of a feed that adds and removes, always the same."""
    draw = random.Random(number)
    entries: list[feed.Entry] = []
    for _ in range(draw.randrange(1, 12)):
        id = name(draw.randrange(200))
        if draw.random() < 0.3:
            entries.append(Removed(id))
        else:
            type = draw.choice(list(SignalType))
            value = Signal(type, draw.randbytes(type.bits // 8))
            quality = draw.randrange(101) if type is SignalType.PDQ else None
            item = name(draw.randrange(20))
            kind = draw.choice(list(Media)), draw.choice(list(Variant))
            entries.append(Added(id, item, value, quality, *kind))
    return FeedPage(tuple(entries), cursor(number), more=draw.random() < 0.5)


_HELD: list[dict[str, Added]] = [{}]


def after(count: int) -> dict[str, Added]:
    """Give what a bank holds after pages 1 to `count`."""
    while len(_HELD) <= count:
        model = Model()
        model.members = dict(_HELD[-1])
        feed.apply(page(len(_HELD)), model)
        _HELD.append(model.members)
    return _HELD[count]


def number_of(bank: Bank) -> int:
    return int(bank.cursor or "0", 16)


def an_addition(number: int, type: SignalType = SignalType.PDQ) -> Added:
    value = Signal(type, random.Random(number).randbytes(type.bits // 8))
    return Added(name(number), name(-1), value, None, Media.IMAGE, Variant.ORIGINAL)


def an_adding_page(number: int, count: int = 1, *, more: bool = True) -> FeedPage:
    first = number * 1000
    entries = tuple(an_addition(first + i) for i in range(count))
    return FeedPage(entries, cursor(number), more)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a bank.ncii"


@pytest.fixture
def small_journal(monkeypatch) -> None:
    """Fold after a few pages rather than after megabytes."""
    monkeypatch.setattr(banks, "JOURNAL_BYTES", 1500)


# --- what it holds ---------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """Any order of pages, reopening, folding, replacing and looking, against a dictionary."""

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
        # a second time changes nothing that lasts
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
        for page in (first, second):
            assert replacement.append(page) == feed.apply(page, model)
            assert self.bank.cursor == self.cursor
        self.bank.adopt(replacement)
        self.model, self.cursor = model, second.cursor

    @rule()
    def read_beside(self) -> None:
        self.reader.refresh()
        for reader in (self.reader, fresh := Bank.read(self.path)):
            assert state(reader) == self.model.members
            assert reader.cursor == self.cursor
        fresh.close()
        assert not self.reader.refresh()

    @rule(data=st.data())
    def query(self, data: st.DataObject) -> None:
        asked = data.draw(st.lists(signals(), max_size=4))
        for entry in itertools.islice(self.model.members.values(), 3):
            flips = data.draw(st.integers(0, entry.signal.type.threshold + 1))
            value = int.from_bytes(entry.signal.value, "big") ^ ((1 << flips) - 1)
            size = len(entry.signal.value)
            asked.append(replace(entry.signal, value=value.to_bytes(size, "big")))
        assert self.bank.query(asked) == [self.model.matches(s) for s in asked]

    @invariant()
    def holds_the_same(self) -> None:
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


@pytest.mark.parametrize("small", [100_000, 0], ids=["fold at removals", "fold by size"])
def test_any_life_of_a_bank_equals_a_dictionarys(small, small_journal, tmp_path, monkeypatch):
    monkeypatch.setenv("BANK_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(banks, "SMALL", small)
    monkeypatch.setattr(contents, "_LOOSE", 5)
    profile = settings()
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=max(15, profile.max_examples // 4), stateful_step_count=12),
    )


@given(pages())
def test_a_page_is_read_from_the_journal_as_it_was_written(page):
    assert journal.decode(memoryview(journal.encode(page))) == page


def test_a_new_bank_is_empty(path):
    with Bank.open(path) as bank:
        assert (len(bank), bank.cursor, list(bank), bank.withdrawn) == (0, None, [], 0)
        assert bank.query([an_addition(1).signal]) == [()]
        assert bank.query([]) == []


def test_an_empty_file_counts_as_no_bank(path):
    path.touch()
    with Bank.open(path) as bank:
        bank.append(page(1))
    with Bank.read(path) as bank:
        assert state(bank) == after(1)


@pytest.mark.parametrize("bad", ["", "a", "FF" * 16, "ff" * 15, "ff" * 17, " " + "f" * 31])
def test_a_page_with_a_foreign_id_is_refused_whole(path, bad):
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


def test_an_empty_page_moves_the_cursor_and_a_repeated_one_writes_nothing(path):
    with Bank.open(path) as bank:
        nothing = FeedPage((), cursor(5), more=False)
        size = _journal(path).stat().st_size
        assert bank.append(nothing) == Applied(0, 0, 0)
        grown = _journal(path).stat().st_size
        assert grown > size
        assert bank.append(nothing) == Applied(0, 0, 0)
        assert _journal(path).stat().st_size == grown
    with Bank.open(path) as bank:
        assert bank.cursor == cursor(5)


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


# --- crashes ---------------------------------------------------------------------------------


# A child that nobody kills for long would write more, on a quick disk, than can be checked.
PAGES = 500


def follow(path: Path, acknowledge: int, prepare: Callable[[], None]) -> int:
    """Append page after page in a child process, naming each that is done; give its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        prepare()
        bank = Bank.open(path)
        os.write(acknowledge, number_of(bank).to_bytes(4, "big"))
        for number in range(number_of(bank) + 1, number_of(bank) + 1 + PAGES):
            bank.append(page(number))
            os.write(acknowledge, number_of(bank).to_bytes(4, "big"))
        while True:
            signal.pause()  # until it is killed
    finally:
        os._exit(1)


def acknowledged(
    path: Path,
    *,
    patience: int = 0,
    meanwhile: Callable[[int], None] = lambda pid: None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Let a child follow until it is killed; give the last page that it acknowledged, or -1.

    Wait for `patience` acknowledgements before calling `meanwhile`, which may kill it.
    """
    reading, writing = os.pipe()
    pid = follow(path, writing, prepare)
    os.close(writing)
    said = b""
    while len(said) < 4 * patience and (part := os.read(reading, 4)):
        said += part
    meanwhile(pid)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child failed by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL
    while part := os.read(reading, 1 << 16):
        said += part
    os.close(reading)
    return int.from_bytes(said[-4:], "big") if said else -1


def check_after_crash(path: Path, known: int) -> int:
    """Open the bank, and check that it holds what was acknowledged and at most one page more."""
    with Bank.read(path) as beside:
        assert state(beside) == after(number_of(beside))
        seen = number_of(beside)
    with Bank.open(path) as bank:
        assert number_of(bank) in {known, known + 1}
        assert number_of(bank) == seen
        assert state(bank) == after(number_of(bank))
        assert not list(path.parent.glob(".*"))
        return number_of(bank)


def test_kill_9_at_random_moments_loses_and_invents_nothing(path, small_journal):
    draw = random.Random(9)
    Bank.open(path).close()
    at = 0

    def kill(pid: int) -> None:
        time.sleep(draw.random() * 0.02)
        os.kill(pid, signal.SIGKILL)

    for _ in range(40):
        known = acknowledged(path, patience=draw.randrange(2, 5), meanwhile=kill)
        assert known > at
        at = check_after_crash(path, known)


def test_kill_9_around_every_call_that_changes_the_disk_is_harmless(path, small_journal):
    def dying(at: int, *, half: bool) -> Callable[[], None]:
        def prepare() -> None:
            left = itertools.count(at, -1)

            def around(call: Callable) -> Callable:
                def counted(*args):
                    now = next(left)
                    if now == 0:
                        if half and call is os_pwrite:
                            call(args[0], args[1][: len(args[1]) // 2], args[2])
                        elif half:
                            call(*args)
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*args)

                return counted

            os_pwrite = os.pwrite
            for call in ("pwrite", "fsync", "ftruncate", "open", "rename", "replace"):
                setattr(os, call, around(getattr(os, call)))

        return prepare

    at, kills = 0, 0
    for half in (False, True):
        Path.unlink(path, missing_ok=True)
        Path.unlink(_journal(path), missing_ok=True)
        at = 0
        for place in range(45):
            known = acknowledged(path, prepare=dying(place, half=half))
            if known < 0 and not path.exists():
                continue  # died before there was a bank
            at = check_after_crash(path, max(at, known))
            kills += 1
        assert at > 40
    assert kills > 60


def test_a_page_is_fsynced_before_it_is_applied_and_before_append_returns(path, monkeypatch):
    order: list[str] = []

    def recorded(module, call: str, label: Callable[..., str]) -> None:
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
        recorded(os, "pwrite", lambda descriptor, *_: f"write {kind(descriptor)}")
        recorded(os, "fsync", lambda descriptor: f"sync {kind(descriptor)}")
        recorded(Path, "replace", lambda _, target: f"rename {target.name.removeprefix(path.name)}")
        recorded(feed, "apply", lambda *_: "apply")
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


def a_bank_of_three_pages(path: Path) -> list[int]:
    """Make a bank whose journal holds three records; give where each ends."""
    with Bank.open(path) as bank:
        ends = [_journal(path).stat().st_size]
        for number in (1, 2, 3):
            bank.append(an_adding_page(number, 2))
            ends.append(_journal(path).stat().st_size)
    return ends


def test_an_interrupted_last_write_is_cut_off_at_every_length(path):
    *_, second, third = a_bank_of_three_pages(path)
    whole = _journal(path).read_bytes()
    assert len(whole) == third
    for length in range(second, third):
        # what a power cut leaves: the bytes end, or go on as zeros, or as something else
        torn = whole[:length] + (b"", bytes(third - length), b"PAGE" * 90)[length % 3]
        assert torn != whole
        _journal(path).write_bytes(torn)
        with Bank.read(path) as reader:
            assert (len(reader), reader.cursor) == (4, cursor(2))
        assert _journal(path).read_bytes() == torn  # a reader changes nothing
        with Bank.open(path) as bank:
            assert (len(bank), bank.cursor) == (4, cursor(2))
        assert _journal(path).stat().st_size == second
    with Bank.open(path) as bank:
        bank.append(an_adding_page(3, 2))
    assert _journal(path).read_bytes() == whole


def test_a_flip_of_any_byte_before_the_last_record_is_refused(path):
    *_, second, _ = a_bank_of_three_pages(path)
    whole = _journal(path).read_bytes()
    for place in range(second):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        _journal(path).write_bytes(flipped)
        for opening in (Bank.open, Bank.read):
            with pytest.raises(BankCorrupt, match=r"journal|newer"):
                opening(path)
        assert _journal(path).read_bytes() == flipped  # left for whoever investigates
    # a missing, a doubled and an exchanged record
    first = a_bank_of_three_pages(path.with_name("other"))[0]
    second_starts = first + (second - first) // 2
    for spoiled in (
        whole[:first] + whole[second_starts:],
        whole[:second] + whole[second_starts:second] + whole[second:],
    ):
        _journal(path).write_bytes(spoiled)
        with pytest.raises(BankCorrupt, match="damaged"):
            Bank.open(path)
    _journal(path).write_bytes(whole)
    with Bank.open(path) as bank:
        assert len(bank) == 6


def test_a_flip_of_any_byte_of_the_snapshot_is_refused(path):
    with Bank.open(path) as bank:
        for number in (1, 2, 3):
            bank.append(page(number))
        bank.compact()
    whole = path.read_bytes()
    for place in (*range(136), *range(136, len(whole), 5)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
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
    own = _journal(path).read_bytes()

    _journal(path).write_bytes(_journal(other).read_bytes())
    with pytest.raises(BankCorrupt, match="does not belong"):
        Bank.open(path)
    _journal(path).unlink()
    for opening in (Bank.open, Bank.read):
        with pytest.raises(BankCorrupt, match="missing"):
            opening(path)
    _journal(path).write_bytes(own)
    path.unlink()
    with pytest.raises(BankCorrupt, match="is missing, but"):
        Bank.open(path)
    with pytest.raises(BankError, match="no bank"):
        Bank.read(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    with pytest.raises(BankCorrupt, match="is not a bank"):
        Bank.open(path)


def test_an_older_snapshot_put_back_is_refused(path):
    a_bank_of_three_pages(path)
    old = path.read_bytes()
    with Bank.open(path) as bank:
        bank.compact()
        bank.append(an_adding_page(4))
    path.write_bytes(old)
    with pytest.raises(BankCorrupt, match="does not belong"):
        Bank.open(path)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_after_a_failed_write_the_bank_refuses_more_and_opens_anew(path, call, monkeypatch):
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
    with Bank.open(path) as again:
        again.append(an_adding_page(2))
        assert (len(again), again.cursor) == (2, cursor(2))


def test_a_fold_that_fails_at_closing_still_gives_the_lock_back(path, monkeypatch):
    monkeypatch.setattr(banks, "SMALL", -1)
    bank = Bank.open(path)
    gone = an_addition(1)
    bank.append(FeedPage((gone, Removed(gone.id)), cursor(1), more=True))
    with monkeypatch.context() as broken:

        def full(*_):
            raise OSError(28, "No space left on device")

        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            bank.close()
    with Bank.open(path) as again:
        assert (len(again), again.cursor) == (0, cursor(1))
        assert not on_disk(path, gone.signal.value)


# --- locks, readers, permissions -------------------------------------------------------------


def test_only_one_process_follows_at_a_time(path):
    first = Bank.open(path)
    with pytest.raises(BankLocked, match="Another process"):
        Bank.open(path)
    with Bank.read(path) as reader:
        assert len(reader) == 0
    first.close()
    with Bank.open(path):
        pass
    path.write_bytes(b"not a bank")
    for _ in range(2):  # a failed opening gives the lock back
        with pytest.raises(BankCorrupt):
            Bank.open(path)


def test_another_name_of_the_bank_and_another_folder_make_no_difference(path, monkeypatch):
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


def test_a_reader_changes_nothing_and_sees_news_when_it_refreshes(path):
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


def test_readers_beside_a_running_follower_always_see_whole_pages(path, small_journal):
    Bank.open(path).close()
    seen: list[int] = []

    def look(pid: int) -> None:
        with Bank.read(path) as steady:
            for _ in range(150):
                steady.refresh()
                with Bank.read(path) as fresh:
                    for reader in (steady, fresh):
                        seen.append(number_of(reader))
                        assert state(reader) == after(number_of(reader))
        os.kill(pid, signal.SIGKILL)

    acknowledged(path, patience=2, meanwhile=look)
    assert seen == sorted(seen)
    assert seen[-1] > 0


def test_every_file_is_private(path):
    old = os.umask(0)
    try:
        with Bank.open(path) as bank:
            bank.append(page(1))
            bank.compact()
            bank.append(page(2))
    finally:
        os.umask(old)
    files = sorted(path.parent.iterdir())
    assert [f.name.removeprefix(path.name) for f in files] == ["", "-journal", "-lock"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


# --- withdrawn values ------------------------------------------------------------------------


def on_disk(path: Path, value: bytes) -> bool:
    return any(value in file.read_bytes() for file in path.parent.iterdir())


def withdraw(number: int, *entries: Added, more: bool = False) -> FeedPage:
    return FeedPage(tuple(Removed(e.id) for e in entries), cursor(number), more)


def test_a_withdrawn_value_has_left_a_small_banks_files_when_append_returns(path):
    with Bank.open(path) as bank:
        gone, *stay = (an_addition(n) for n in range(5))
        bank.append(FeedPage((gone, *stay), cursor(1), more=False))
        assert on_disk(path, gone.signal.value)
        bank.append(withdraw(2, gone, more=True))
        assert bank.withdrawn == 0
        assert not on_disk(path, gone.signal.value)
        assert on_disk(path, stay[0].signal.value)
        assert bank.query([gone.signal]) == [()]
        # added and withdrawn by one page
        bank.append(FeedPage((gone, Removed(gone.id)), cursor(3), more=True))
        assert not on_disk(path, gone.signal.value)


def test_a_withdrawn_value_leaves_a_large_banks_files_within_the_stated_bounds(path, monkeypatch):
    monkeypatch.setattr(banks, "SMALL", 0)
    monkeypatch.setattr(banks, "WITHDRAWN_MAX", 3)
    now = [1000.0]
    bank = Bank.open(path, clock=lambda: now[0])
    entries = [an_addition(n) for n in range(12)]
    bank.append(FeedPage(tuple(entries), cursor(1), more=False))

    def there(n: int) -> bool:
        assert bank.query([entries[n].signal]) == [()]
        return on_disk(path, entries[n].signal.value)

    bank.append(withdraw(2, entries[0]))
    assert there(0)
    now[0] += banks.REST - 1
    bank.append(FeedPage((), cursor(2), more=False))
    assert there(0)
    now[0] += 1
    bank.append(FeedPage((), cursor(2), more=True))  # there is more to fetch first
    assert there(0)
    bank.append(FeedPage((), cursor(2), more=False))
    assert not there(0)

    bank.append(withdraw(3, *entries[1:3], more=True))
    assert (there(1), bank.withdrawn) == (True, 2)
    bank.append(withdraw(4, entries[3], more=True))
    assert not any(map(there, (1, 2, 3)))

    bank.append(withdraw(5, entries[4]))
    assert there(4)
    bank.compact()
    assert not there(4)

    bank.append(withdraw(6, entries[5]))
    assert there(5)
    bank.close()
    assert not on_disk(path, entries[5].signal.value)

    bank = Bank.open(path, clock=lambda: now[0])
    bank.append(withdraw(7, entries[6]))
    assert there(6)
    os.close(bank._lock)  # as if the process had died
    bank._journal.close()
    with Bank.open(path):
        assert not on_disk(path, entries[6].signal.value)


def test_what_an_interrupted_fold_leaves_is_deleted_and_a_neighbours_is_not(path):
    a_bank_of_three_pages(path)
    own = [path.with_name(f".{name}.0123abcd.tmp") for name in (path.name, _journal(path).name)]
    others = path.with_name(f".{path.name}.old.0123abcd.tmp")
    for file in (*own, others):
        file.write_bytes(an_addition(1).signal.value)
    Bank.read(path).close()
    assert all(file.exists() for file in own)
    Bank.open(path).close()
    assert not any(file.exists() for file in own)
    assert others.exists()


# --- replacing -------------------------------------------------------------------------------


def test_a_replacement_takes_the_banks_place_only_when_adopted(path):
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
    real, done = Path.replace, itertools.count()

    def interrupted(self: Path, target: Path) -> Path:
        if next(done) == renames:
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
    with Bank.read(path) as reader, Bank.open(path) as again:
        for opened in (reader, again):
            expected = (3, cursor(2)) if renames else (5, cursor(1))
            assert (len(opened), opened.cursor) == expected
        again.append(an_adding_page(3))
    with Bank.open(path) as again:
        assert again.cursor == cursor(3)


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    gc.collect()  # each mapped snapshot has one
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
