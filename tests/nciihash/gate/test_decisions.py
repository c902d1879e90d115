import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from nciihash.gate.decisions import MATCHES_MAX, DecisionStore
from nciihash.gate.decisions.records import (
    DecisionKind,
    DecisionsInvalid,
    KindCount,
    ReferenceUnknown,
    StateCount,
    new_reference,
    read_reference,
)
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.signals import Band, Match, Media, Signal, SignalType, Variant, Verdict
from nciihash.wire import Hit
from support.full_disk import full_disk
from support.paths import ROOT
from support.serving import pdq

HOUR, DAY = 3600, 86400
NOW = 1_795_000_123.5  # 2026-11-18
BLOCK = DecisionKind(
    Dialect.HTTP, Media.IMAGE, Decision.BLOCK, Reason.MATCH, Band.STRONG, stopped=True
)
REVIEW = DecisionKind(Dialect.CLAMD, Media.VIDEO, Decision.REVIEW, Reason.FLOOD, Band.LIKELY)
DRY = DecisionKind(
    Dialect.HTTP, Media.IMAGE, Decision.BLOCK, Reason.MATCH, Band.STRONG, stopped=True, dry_run=True
)
CLEAR = DecisionKind(Dialect.ICAP, Media.IMAGE, Decision.CLEAR, Reason.NO_MATCH)
BLOCKED, NOT_BLOCKED, UNSURE, PENDING = (
    Verdict.BLOCKED,
    Verdict.NOT_BLOCKED,
    Verdict.UNSURE,
    Verdict.PENDING,
)


def hex_id(number):
    return f"{number:032x}"


def match(number, item=0, distance=4):
    return Match(hex_id(number), hex_id(item), SignalType.PDQ, Variant.ORIGINAL, distance)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions"


@pytest.fixture
def store(path):
    with DecisionStore(path) as store:
        yield store


def unqueued(store):
    """Return the verdicts that are not in the queue yet, and leave them so."""
    with store.unqueued_verdicts(1000) as verdicts:
        found = dict(verdicts)
        verdicts.clear()
    return found


def queued(store):
    """Return the verdicts that are not in the queue yet, as if they were queued now."""
    with store.unqueued_verdicts(1000) as verdicts:
        return dict(verdicts)


# --- references --------------------------------------------------------------------------------


def test_a_reference_is_random_and_can_be_read_aloud():
    references = {new_reference() for _ in range(1000)}
    assert len(references) == 1000
    letters = "[0-9A-HJKMNP-TV-Z]{4}"
    assert all(re.fullmatch(f"{letters}(-{letters}){{6}}", each) for each in references)
    assert all(read_reference(each) == each for each in references)


def test_a_reference_is_read_as_people_type_it():
    reference = "0123-1AB0-CDEF-GHJK-MNPQ-RSTV-WXYZ"
    for typed in (
        reference.lower(),
        reference.replace("-", " "),
        " 0123labo-cdef-ghjkmnpqrstvwxyz\n",
        "O123-IABO-CDEF-GHJK-MNPQ-RSTV-WXYZ",
    ):
        assert read_reference(typed) == reference
    for other in ("", "x", reference[:-1], reference + "0", reference.replace("A", "U"), "\0" * 28):
        assert read_reference(other) is None


@pytest.mark.parametrize(
    ("kind", "obeyed", "state"),
    [
        (BLOCK, True, BLOCKED),
        (BLOCK, False, PENDING),
        (REVIEW, True, PENDING),
        (DRY, True, PENDING),
    ],
)
def test_a_decision_is_stored_with_what_matched(store, kind, obeyed, state):
    hit = Hit(id=hex_id(7), item=hex_id(2), band=Band.LIKELY)
    reference = store.record(kind, [match(5, 1), match(6, 1), hit], obeyed=obeyed, now=NOW)
    stored = store.get(reference.lower(), now=NOW)
    assert (stored.reference, stored.kind, stored.state) == (reference, kind, state)
    assert stored.signals == (hex_id(5), hex_id(7), hex_id(6))  # the nearest of each item first
    assert stored.items == (hex_id(1), hex_id(2))
    assert stored.hour == stored.changed == NOW // HOUR * HOUR
    assert (stored.decided, stored.by) == (None, "")


def test_ids_of_a_bank_of_test_pictures_may_have_spaces(store):
    named = Match("one two", "test picture: block", SignalType.PDQ, Variant.ORIGINAL, 0)
    stored = store.get(store.record(BLOCK, [named], obeyed=True, now=NOW), now=NOW)
    assert (stored.signals, stored.items) == (("one two",), ("test picture: block",))
    empty = store.get(store.record(BLOCK, [], obeyed=True, now=NOW), now=NOW)
    assert empty.signals == empty.items == ()


def test_of_many_matches_each_item_keeps_its_nearest(store):
    matches = [match(n, item=n // 60) for n in range(6 * 60)]
    stored = store.get(store.record(BLOCK, matches, obeyed=True, now=NOW), now=NOW)
    assert len(stored.signals) == MATCHES_MAX
    assert stored.signals[:6] == tuple(hex_id(60 * n) for n in range(6))
    assert stored.signals[6:] == tuple(hex_id(n) for n in range(1, 60)) + tuple(
        hex_id(n) for n in range(61, 61 + MATCHES_MAX - 65)
    )
    assert len(stored.items) == 6


def test_people_decide_any_number_of_times(store):
    reference = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    first = store.decide(reference, NOT_BLOCKED, by="  Ana ", now=NOW + 3 * HOUR)
    hour = NOW // HOUR * HOUR
    assert (first.state, first.by) == (NOT_BLOCKED, "Ana")
    assert first.decided == first.changed == hour + 3 * HOUR
    again = store.decide(reference, NOT_BLOCKED, by="Ben", now=NOW + 5 * HOUR)
    assert again == first == store.get(reference, now=NOW)
    appeal = store.decide(reference, BLOCKED, now=NOW + DAY)
    assert (appeal.state, appeal.by, appeal.decided) == (BLOCKED, "", first.decided)
    assert appeal.changed == hour + DAY


def test_a_person_may_confirm_what_the_gate_blocked(store):
    reference = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    assert store.decide(reference, BLOCKED, by="Ana", now=NOW).decided is not None


def test_unknown_expired_and_impossible_references_are_the_same(store):
    reference = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    later = NOW + 91 * DAY
    assert store.get(reference, now=NOW + 90 * DAY)
    for unknown, now in ((new_reference(), NOW), ("../../etc", NOW), ("", NOW), (reference, later)):
        with pytest.raises(ReferenceUnknown) as one:
            store.get(unknown, now=now)
        with pytest.raises(ReferenceUnknown) as other:
            store.decide(unknown, BLOCKED, now=now)
        assert str(one.value) == str(other.value)
        assert not unknown or unknown not in str(one.value)


def test_pending_is_no_decision_and_names_are_short(store):
    reference = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    for verdict, by in ((PENDING, ""), (BLOCKED, "x" * 65), (BLOCKED, "two\nlines")):
        with pytest.raises(ValueError, match=r"verdict|name"):
            store.decide(reference, verdict, by=by, now=NOW)
    assert store.get(reference, now=NOW).decided is None


def test_expired_references_are_deleted_and_remain_in_reports(path):
    with DecisionStore(path, reference_days=30) as store:
        old = [store.record(BLOCK, [match(n)], obeyed=True, now=NOW) for n in range(3)]
        store.decide(old[0], NOT_BLOCKED, now=NOW + 2 * HOUR)
        new = store.record(BLOCK, [match(9)], obeyed=True, now=NOW + 5 * DAY)
        before = sorted(store.states("2026-11"), key=repr)
        assert before == sorted(
            [StateCount(BLOCK, NOT_BLOCKED, 2, 1), StateCount(BLOCK, BLOCKED, None, 3)], key=repr
        )
        assert store.purge(now=NOW + 30 * DAY) == 0
        assert store.purge(now=NOW + 31 * DAY) == 3
        assert store.purge(now=NOW + 31 * DAY) == 0
        assert store.get(new, now=NOW + 31 * DAY)
        expected = {(BLOCKED, None): 3, (NOT_BLOCKED, 2): 1}
        found = {}
        for row in store.states("2026-11"):
            found[row.state, row.hours] = found.get((row.state, row.hours), 0) + row.count
        assert found == expected
        assert store.states("2026-10") == store.states("2026-12") == []
        assert store.purge(now=NOW + 60 * DAY) == 1
        assert sum(row.count for row in store.states("2026-11")) == 4
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert not any(each.encode() in content for each in (*old, new)), "deleted rows are overwritten"


# --- verdicts ----------------------------------------------------------------------------------


def test_verdicts_of_decisions_wait_to_be_queued(store):
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    store.record(BLOCK, [match(2)], obeyed=False, now=NOW)
    store.record(REVIEW, [match(3)], obeyed=True, now=NOW)
    dry = store.record(DRY, [match(4)], obeyed=True, now=NOW)
    store.decide(dry, NOT_BLOCKED, now=NOW)
    expected = {hex_id(1): BLOCKED, hex_id(2): PENDING, hex_id(3): PENDING}
    assert unqueued(store) == expected
    assert queued(store) == expected
    assert unqueued(store) == {}


def test_verdicts_that_could_not_be_queued_remain(store):
    store.record(BLOCK, [match(1), match(2)], obeyed=True, now=NOW)
    with pytest.raises(OSError, match="full"), store.unqueued_verdicts(1000):
        raise OSError("full")
    assert len(unqueued(store)) == 2
    with store.unqueued_verdicts(1) as verdicts:
        assert len(verdicts) == 1
    assert len(unqueued(store)) == 1


def test_the_gates_own_verdict_never_replaces_a_better_one(store):
    one = store.record(BLOCK, [match(1)], obeyed=False, now=NOW)
    assert queued(store) == {hex_id(1): PENDING}
    store.decide(one, BLOCKED, now=NOW)
    assert queued(store) == {hex_id(1): BLOCKED}
    store.record(BLOCK, [match(1)], obeyed=False, now=NOW)  # `pending` would say less
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW)  # nothing new
    assert unqueued(store) == {}
    store.decide(one, NOT_BLOCKED, now=NOW)
    assert queued(store) == {hex_id(1): NOT_BLOCKED}
    store.record(REVIEW, [match(1)], obeyed=True, now=NOW)
    assert unqueued(store) == {}
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW)  # another upload was blocked
    assert queued(store) == {hex_id(1): BLOCKED}
    store.decide(one, UNSURE, now=NOW)
    assert queued(store) == {hex_id(1): UNSURE}


def test_a_verdict_is_forgotten_once_its_signal_no_longer_matches(store):
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    queued(store)
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW + 60 * DAY)
    store.purge(now=NOW + 100 * DAY)
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW + 100 * DAY)
    assert unqueued(store) == {}
    store.purge(now=NOW + 200 * DAY)
    store.record(BLOCK, [match(1)], obeyed=False, now=NOW + 200 * DAY)
    assert unqueued(store) == {hex_id(1): PENDING}


# --- counts ------------------------------------------------------------------------------------


def test_counts_are_stored_when_flushed_and_added_up(path):
    with DecisionStore(path) as store:
        for _ in range(3):
            store.counts.add(CLEAR, now=NOW)
        store.counts.add(BLOCK, now=NOW + HOUR)
        assert store.counts.of_month("2026-11") == []
        store.counts.flush()
        store.counts.add(CLEAR, now=NOW + DAY)
        store.counts.add(CLEAR, now=NOW + 20 * DAY)
        store.counts.flush()
        store.counts.flush()
        assert store.counts.of_month("2026-11") == [KindCount(CLEAR, 4), KindCount(BLOCK, 1)]
        store.counts.add(DRY, now=NOW)
    with DecisionStore(path) as store:  # closing has stored the last one
        assert KindCount(DRY, 1) in store.counts.of_month("2026-11")
        assert store.counts.of_month("2026-12") == [KindCount(CLEAR, 1)]
        store.purge(now=NOW + 1200 * DAY)
        assert store.counts.of_month("2026-11") == []


def test_counts_of_many_threads(store):
    def count():
        for _ in range(200):
            store.counts.add(CLEAR, now=NOW)
            store.counts.flush()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts.of_month("2026-11") == [KindCount(CLEAR, 800)]


# --- exceptions --------------------------------------------------------------------------------

HASHES = tuple(Signal.from_hex(SignalType.PDQ, pdq(n)) for n in (1, 2))


def test_exceptions_are_listed_and_removed_and_their_version_changes(path):
    with DecisionStore(path) as store, DecisionStore(path) as gate:  # as of two processes
        versions = [gate.exceptions.version()]
        reference = new_reference()
        one = store.exceptions.add(HASHES, reference, by=" Ana ", now=NOW)
        assert (one.hashes, one.reference, one.by) == (HASHES, reference, "Ana")
        assert one.hour == NOW // HOUR * HOUR
        assert store.exceptions.add(HASHES, reference, by="Ben", now=NOW + DAY) == one
        versions.append(gate.exceptions.version())
        other = store.exceptions.add(HASHES[:1], new_reference(), by="Ben", now=NOW)
        versions.append(gate.exceptions.version())
        assert gate.exceptions.all() == [one, other]
        assert store.exceptions.remove(other.number)
        assert not store.exceptions.remove(other.number)
        versions.append(gate.exceptions.version())
        assert store.exceptions.add(HASHES[1:], reference, by="Eve", now=NOW).number > other.number
        versions.append(gate.exceptions.version())
        assert len(set(versions)) == 5 - 1  # removing the newest one restores the version before it
        store.purge(now=NOW + 1000 * DAY)
        assert len(gate.exceptions.all()) == 2, "exceptions do not expire"


def test_an_exception_needs_hashes_and_a_name(store):
    for hashes, by in (((), "Ana"), (HASHES, " "), (HASHES, "x" * 65)):
        with pytest.raises(ValueError, match="name"):
            store.exceptions.add(hashes, new_reference(), by=by, now=NOW)
    assert store.exceptions.all() == []


# --- the file ----------------------------------------------------------------------------------


def test_commits_are_fsynced_and_only_the_owner_can_read_the_files(store, path):
    store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    full = 2  # the write-ahead log is fsynced at each commit
    assert store._file.number("PRAGMA synchronous") == full
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}


def test_foreign_damaged_and_newer_files_are_refused_and_unchanged(path):
    path.write_text("these are notes, and no database at all. " * 30)
    before = path.read_bytes()
    with pytest.raises(DecisionsInvalid):
        DecisionStore(path)
    assert path.read_bytes() == before
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE notes (text)")
    database.close()
    with pytest.raises(DecisionsInvalid, match="not a file of decisions"):
        DecisionStore(path)
    path.unlink()
    DecisionStore(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DecisionsInvalid, match="newer version"):
        DecisionStore(path)


def test_threads_and_a_second_process_share_the_file(path):
    with DecisionStore(path) as gate, DecisionStore(path) as command:
        references, failures = [], []

        def run():
            try:
                for number in range(10):
                    reference = gate.record(BLOCK, [match(number)], obeyed=True, now=NOW)
                    command.decide(reference, NOT_BLOCKED, now=NOW)
                    references.append(reference)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert {gate.get(each, now=NOW).state for each in references} == {NOT_BLOCKED}
        assert len(references) == 40


def fill(store):
    for _ in range(100):
        store.record(BLOCK, [match(2)], obeyed=True, now=NOW)


def test_a_flood_of_decisions_does_not_fill_the_disk(path):
    most = 200_000
    with DecisionStore(path, max_bytes=most) as store:
        references = []
        with pytest.raises(OSError, match="full"):
            fill_with_new(store, references)
        assert len(references) > 100
        assert path.stat().st_size <= most
        assert store.get(references[-1], now=NOW).state is BLOCKED
        assert store.purge(now=NOW + 91 * DAY) == len(references)
        store.record(BLOCK, [match(1)], obeyed=True, now=NOW + 91 * DAY)


def fill_with_new(store, references):
    for number in range(10_000):
        references.append(store.record(BLOCK, [match(number)], obeyed=True, now=NOW))


def test_a_clock_that_was_set_back_is_no_verdict_before_the_decision(store):
    reference = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    store.decide(reference, NOT_BLOCKED, now=NOW - HOUR)
    assert store.states("2026-11") == [StateCount(BLOCK, NOT_BLOCKED, 0, 1)]


def test_a_full_disk_is_an_error_that_loses_nothing(store, path):
    known = store.record(BLOCK, [match(1)], obeyed=True, now=NOW)
    queued(store)
    store.counts.add(BLOCK, now=NOW)
    with full_disk(path.parent):
        with pytest.raises(OSError, match="cannot be read or written"):
            fill(store)
        with pytest.raises(OSError, match="cannot be read or written"):
            store.decide(known, NOT_BLOCKED, now=NOW)
        with pytest.raises(OSError, match="cannot be read or written"):
            store.counts.flush()
        assert store.get(known, now=NOW).state is BLOCKED, "reading still works"
    assert not {hex_id(1)} & set(unqueued(store))
    store.decide(known, NOT_BLOCKED, now=NOW)
    store.counts.flush()
    assert store.counts.of_month("2026-11") == [KindCount(BLOCK, 1)]
    assert unqueued(store)[hex_id(1)] is NOT_BLOCKED


PROGRAM = """
import sys
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.outcome import Decision, Dialect, Reason
from nciihash.gate.decisions.records import DecisionKind
from nciihash.signals import Match, Media, SignalType, Variant, Verdict

store = DecisionStore(sys.argv[1])
kind = DecisionKind(Dialect.CLAMD, Media.IMAGE, Decision.BLOCK, Reason.MATCH)
number = 0
while True:
    match = Match(f"{number:032x}", f"{number:032x}", SignalType.PDQ, Variant.ORIGINAL, 0)
    reference = store.record(kind, [match], obeyed=True, now=1_795_000_123.5)
    if number % 2:
        store.decide(reference, Verdict.NOT_BLOCKED, now=1_795_000_123.5)
    print(number, reference, flush=True)
    number += 1
"""


def test_acknowledged_references_survive_kill_9(path):
    acknowledged = {}
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        lines = [process.stdout.readline() for _ in range(20)]
        process.kill()
        lines += process.stdout.read().split("\n")[:-1]  # what follows the last line end was cut
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        acknowledged |= {line.split()[1]: int(line.split()[0]) for line in lines}
    assert len(acknowledged) >= 60
    with DecisionStore(path) as store:
        for reference, number in acknowledged.items():
            stored = store.get(reference, now=NOW)
            assert stored.state is (NOT_BLOCKED if number % 2 else BLOCKED)
            assert stored.signals == (hex_id(number),)
        assert set(unqueued(store)) >= {hex_id(number) for number in acknowledged.values()}
