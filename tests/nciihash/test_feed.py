from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash import feed
from nciihash.feed import Added, Changes, FeedPage, Removed
from nciihash.signals import Media, Signal, SignalType, Variant
from support.strategies import pages

# a handful of ids, so that pages meet the same one again and again
FEW_IDS = st.sampled_from([f"{n:032x}" for n in range(5)])


class Bank:
    """The simplest members that keep their promises, and complain when `apply` breaks its own."""

    def __init__(self):
        self.members = {}

    def __contains__(self, id):
        return id in self.members

    def add(self, added):
        ids = [a.id for a in added]
        assert len(set(ids)) == len(ids), "an id twice in one call"
        assert not any(id in self.members for id in ids), "an addition of what is in"
        self.members.update((a.id, a) for a in added)

    def remove(self, ids):
        assert len(set(ids)) == len(ids), "an id twice in one call"
        for id in ids:
            del self.members[id]


def one_by_one(entries, members):
    """Apply entries the plain way: what `apply` must equal."""
    for entry in entries:
        if isinstance(entry, Removed):
            members.pop(entry.id, None)
        elif entry.id not in members:
            members[entry.id] = entry
    return members


def as_the_service_writes(entries):
    """Keep one addition of an id and one removal behind it: an id never comes back."""
    came, went = set(), set()
    for entry in entries:
        if isinstance(entry, Removed) and entry.id not in went:
            went.add(entry.id)
            yield entry
        elif isinstance(entry, Added) and entry.id not in came | went:
            came.add(entry.id)
            yield entry


def addition(id, item="i"):
    signal = Signal(SignalType.PDQ, bytes(32))
    return Added(id, item, signal, 90, Media.IMAGE, Variant.ORIGINAL)


def page(*entries):
    return FeedPage(entries, "cursor", more=False)


@given(st.lists(pages(FEW_IDS), max_size=5))
def test_apply_does_what_going_entry_by_entry_does(log):
    bank, model = Bank(), {}
    for each in log:
        before = len(bank.members)
        applied = feed.apply(each, bank)
        one_by_one(each.entries, model)
        assert bank.members == model
        assert applied.added + applied.removed + applied.ignored == len(each.entries)
        assert before + applied.added - applied.removed == len(bank.members)


@given(pages(FEW_IDS), pages(FEW_IDS))
def test_applying_again_changes_nothing(held, page):
    page = replace(page, entries=tuple(as_the_service_writes(page.entries)))
    bank = Bank()
    feed.apply(held, bank)
    feed.apply(page, bank)
    after = dict(bank.members)
    again = feed.apply(page, bank)
    assert bank.members == after
    # what comes and goes within the page comes and goes once more, and nothing else moves
    both = {e.id for e in page.entries if isinstance(e, Added)} & {
        e.id for e in page.entries if isinstance(e, Removed)
    }
    assert again.added == again.removed == len(both)


@given(pages(FEW_IDS), st.integers(0, 30))
def test_where_the_log_is_cut_into_pages_does_not_matter(page, cut):
    whole, parts = Bank(), Bank()
    feed.apply(page, whole)
    for entries in (page.entries[:cut], page.entries[cut:]):
        feed.apply(replace(page, entries=entries), parts)
    assert whole.members == parts.members


def test_order_decides_between_an_addition_and_a_removal():
    bank = Bank()
    assert feed.apply(page(addition("a"), Removed("a")), bank) == Changes(1, 1, 0)
    assert bank.members == {}
    assert feed.apply(page(Removed("a"), addition("a")), bank) == Changes(1, 0, 1)
    assert list(bank.members) == ["a"]


def test_a_removal_takes_out_one_signal_of_an_item_and_not_the_others():
    bank = Bank()
    feed.apply(page(addition("a", "x"), addition("b", "x"), Removed("a")), bank)
    assert list(bank.members) == ["b"]


def test_a_removal_of_something_unknown_is_ignored():
    assert feed.apply(page(Removed("a"), Removed("a")), Bank()) == Changes(0, 0, 2)


def test_the_first_of_two_additions_of_one_id_counts_even_within_a_page():
    bank = Bank()
    assert feed.apply(page(addition("a", "x"), addition("a", "y")), bank) == Changes(1, 0, 1)
    assert bank.members["a"].item == "x"


def test_additions_in_a_row_reach_the_bank_in_one_call():
    calls = []

    class Counting(Bank):
        def add(self, added):
            calls.append(len(added))
            super().add(added)

    feed.apply(page(*(addition(str(n)) for n in range(1000)), Removed("3")), Counting())
    assert calls == [1000]


def test_an_entry_of_an_unknown_kind_is_an_error_and_never_passed_over():
    with pytest.raises(AssertionError):
        feed.apply(page("not an entry"), Bank())
