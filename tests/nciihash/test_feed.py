from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash import feed
from nciihash.feed import Added, Changes, FeedPage, Removed
from nciihash.signals import Media, Signal, SignalType, Variant
from support.strategies import pages

# few ids, so that pages often repeat one
FEW_IDS = st.sampled_from([f"{n:032x}" for n in range(5)])


class Bank:
    """The simplest `SignalSet`, which asserts that `apply` keeps its contract."""

    def __init__(self):
        self.members = {}

    def __contains__(self, id):
        return id in self.members

    def add(self, added):
        ids = [a.id for a in added]
        assert len(set(ids)) == len(ids), "an id twice in one call"
        assert not any(id in self.members for id in ids), "an addition of a known id"
        self.members.update((a.id, a) for a in added)

    def remove(self, ids):
        assert len(set(ids)) == len(ids), "an id twice in one call"
        for id in ids:
            del self.members[id]


def one_by_one(entries, members):
    """Apply entries one by one: the reference for `apply`."""
    for entry in entries:
        if isinstance(entry, Removed):
            members.pop(entry.id, None)
        elif entry.id not in members:
            members[entry.id] = entry
    return members


def as_the_service_writes(entries):
    """Keep one addition and one removal of each id, as ids are never reused."""
    added, removed = set(), set()
    for entry in entries:
        if isinstance(entry, Removed) and entry.id not in removed:
            removed.add(entry.id)
            yield entry
        elif isinstance(entry, Added) and entry.id not in added | removed:
            added.add(entry.id)
            yield entry


def addition(id, item="i"):
    signal = Signal(SignalType.PDQ, bytes(32))
    return Added(id, item, signal, 90, Media.IMAGE, Variant.ORIGINAL)


def page(*entries):
    return FeedPage(entries, "cursor", more=False)


@given(st.lists(pages(FEW_IDS), max_size=5))
def test_apply_equals_applying_entry_by_entry(log):
    bank, model = Bank(), {}
    for each in log:
        before = len(bank.members)
        applied = feed.apply(each, bank)
        one_by_one(each.entries, model)
        assert bank.members == model
        assert applied.added + applied.removed + applied.ignored == len(each.entries)
        assert before + applied.added - applied.removed == len(bank.members)


@given(pages(FEW_IDS), pages(FEW_IDS))
def test_applying_a_page_again_changes_nothing(first, page):
    page = replace(page, entries=tuple(as_the_service_writes(page.entries)))
    bank = Bank()
    feed.apply(first, bank)
    feed.apply(page, bank)
    after = dict(bank.members)
    again = feed.apply(page, bank)
    assert bank.members == after
    # signals added and removed within the page are added and removed again, and no others
    both = {e.id for e in page.entries if isinstance(e, Added)} & {
        e.id for e in page.entries if isinstance(e, Removed)
    }
    assert again.added == again.removed == len(both)


@given(pages(FEW_IDS), st.integers(0, 30))
def test_page_boundaries_do_not_matter(page, cut):
    whole, parts = Bank(), Bank()
    feed.apply(page, whole)
    for entries in (page.entries[:cut], page.entries[cut:]):
        feed.apply(replace(page, entries=entries), parts)
    assert whole.members == parts.members


def test_an_addition_and_a_removal_apply_in_order():
    bank = Bank()
    assert feed.apply(page(addition("a"), Removed("a")), bank) == Changes(1, 1, 0)
    assert bank.members == {}
    assert feed.apply(page(Removed("a"), addition("a")), bank) == Changes(1, 0, 1)
    assert list(bank.members) == ["a"]


def test_a_removal_removes_one_signal_of_an_item_and_not_the_others():
    bank = Bank()
    feed.apply(page(addition("a", "x"), addition("b", "x"), Removed("a")), bank)
    assert list(bank.members) == ["b"]


def test_a_removal_of_an_unknown_id_is_ignored():
    assert feed.apply(page(Removed("a"), Removed("a")), Bank()) == Changes(0, 0, 2)


def test_the_first_addition_of_an_id_wins_even_within_a_page():
    bank = Bank()
    assert feed.apply(page(addition("a", "x"), addition("a", "y")), bank) == Changes(1, 0, 1)
    assert bank.members["a"].item == "x"


def test_consecutive_additions_reach_the_bank_in_one_call():
    calls = []

    class CountingBank(Bank):
        def add(self, added):
            calls.append(len(added))
            super().add(added)

    feed.apply(page(*(addition(str(n)) for n in range(1000)), Removed("3")), CountingBank())
    assert calls == [1000]


def test_an_entry_of_an_unknown_type_is_an_error_and_never_skipped():
    with pytest.raises(AssertionError):
        feed.apply(page("not an entry"), Bank())
