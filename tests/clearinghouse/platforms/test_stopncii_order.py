"""The order of StopNCII records: migration, resuming readers, and random histories."""

import secrets
import sqlite3
import tempfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import event, select

from clearinghouse.abuse.allowlist import AllowlistIndex
from clearinghouse.database.queries import stopncii_records
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.queries.contributions import CONTRIBUTED, IMPORTED
from clearinghouse.database.queries.signals import NewSignals
from clearinghouse.database.schema import items, signals, verdicts
from clearinghouse.database.store import Store
from clearinghouse.platforms import keys, stopncii
from clearinghouse.platforms.contributions import (
    Contribution,
    contribute,
    lookup_of,
    prepare,
    withdraw_contributions,
)
from clearinghouse.platforms.keys import Scope
from clearinghouse.settings import Settings
from clearinghouse.times import hour
from nciihash.signals import Media, Signal, SignalType
from support.serving import pdq
from support.stopncii import fetch, fetch_all, values


@pytest.mark.parametrize("kind", [CONTRIBUTED, IMPORTED])
def test_a_record_never_moves_to_before_a_readers_position(service, kind):
    """Two platforms contribute a value, and the second withdraws it after a reader has paused."""
    store, value = service.parts.store, Signal.from_hex(SignalType.PDQ, pdq())
    peer, times = service.platform(), []
    for name in ("One", None, "Two"):
        times.append(hour(service.clock()))
        if name is None:
            service.open()
        else:
            number = keys.find_or_add(store, name, service.clock())
            prepared = prepare(store, service.parts.lawful, [Contribution(Media.IMAGE, value)])
            with store.write() as tx:
                contribute(tx, number, kind, prepared, months=1, most=9, now=service.clock())
        service.clock.advance(hours=1)
    assert [r["lastModtimestamp"] for r in fetch_all(peer)] == times[1:]
    with store.write() as tx:
        withdraw_contributions(tx, number, kind, [lookup_of(store, value)], now=service.clock())
    rest = fetch(peer, startTimestamp=times[1])["hashRecords"]
    assert values(rest)[1:] == [value.hex], "the reader does not miss it"


@pytest.mark.sqlite
def test_a_database_older_than_the_stopncii_api_gets_record_seqs(settings):
    """Migration 0002 numbers signals in the order of the log, by their hours, then verdicts."""
    old = Store.open(settings)  # makes the key and the tables, which are taken back to 0001 below
    old.close()
    now = [14 * 3600, 14 * 3600, 12 * 3600, 20 * 3600, 20 * 3600]
    path = settings.database.removeprefix("sqlite:///")
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        DROP INDEX ix_signals_record_seq; ALTER TABLE signals DROP COLUMN record_seq;
        DROP INDEX ix_verdicts_platform_id_record_seq;
        ALTER TABLE verdicts DROP COLUMN record_seq;
        ALTER TABLE signals DROP COLUMN next_lookup; DROP TABLE audit;
        DROP INDEX ix_signals_held; ALTER TABLE signals DROP COLUMN held; DROP TABLE takeouts;
        ALTER TABLE signals DROP COLUMN expired;
        DROP TABLE withdrawn; DROP TABLE intake; ALTER TABLE verdicts DROP COLUMN earlier;
        ALTER TABLE matches DROP COLUMN day; ALTER TABLE matches DROP COLUMN earlier;
        ALTER TABLE platforms DROP COLUMN match_hour;
        ALTER TABLE platforms DROP COLUMN match_day;
        ALTER TABLE keys DROP COLUMN used; ALTER TABLE items DROP COLUMN awaiting_after;
        DROP TABLE assisted; DROP TABLE advocates; DROP TABLE spent; DROP TABLE budgets;
        DROP TABLE lawful; DROP TABLE reviews;
        DROP TABLE removals; DROP TABLE contributions;
        DELETE FROM facts WHERE name = 'record_seq';
        UPDATE alembic_version SET version_num = '0001';
        INSERT INTO cases VALUES (1, x'00', '-', 'shared', 'open', 0, 9999999999, NULL);
        INSERT INTO platforms VALUES (1, 'Old', x'00', 0);
        """
    )
    for number, at in enumerate(now, 1):
        media = "video" if number == 4 else "image"  # whose PDQ hash the format cannot name
        item_ = (number, 1, number, media, at, None)
        connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", item_)
        signal = (number, number, 0, "pdq", b"v", bytes([number]), 90, "original")
        connection.execute("INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?)", signal)
    given = [(1, 2, "blocked", 16 * 3600), (1, 4, "blocked", 16 * 3600)]
    connection.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?)", given)
    connection.commit()
    connection.close()
    store = Store.open(settings)
    with store.read() as tx:
        found = dict(tx.connection.execute(select(signals.c.id, signals.c.record_seq)).all())
        of_verdicts = dict(
            tx.connection.execute(select(verdicts.c.signal_id, verdicts.c.record_seq)).all()
        )
        read = tx.stopncii.read(1, 0, 10, first_hand=False)
        last = tx.stopncii.last_seq()
    base = 14 * 3600 * 100
    end = 20 * 3600 * 100
    assert found == {1: base, 2: base + 1, 3: base + 2, 4: None, 5: end}
    assert of_verdicts == {2: end + 1, 4: None}
    assert last == end + 1
    assert [r.number for r in read] == [1, 3, 5, 2]
    store.close()


# --- random histories ---------------------------------------------------------------------------

POOL = [Signal.from_hex(SignalType.PDQ, pdq(n)) for n in range(6)]
EXAMPLES = hypothesis_settings().max_examples // 5
FEEDBACK = [v for v in stopncii.FeedbackValue if not v.withdraws]


class Reader:
    """A client that stores the last record of each value, and where to resume."""

    def __init__(self, platform, *, first_hand=False):
        self.platform = platform
        self.first_hand = first_hand
        self.start, self.token, self.seen = stopncii.START, None, {}
        self.reached, self.received = 0, 0

    def read(self, store, size):
        page = stopncii.read_hashes(
            store,
            self.platform,
            start=self.start,
            page_size=size,
            token=self.token,
            first_hand=self.first_hand,
        )
        assert page.next_start >= self.reached, "the timestamp decreased"
        for record in page.records:
            value = record.feedbacks[0].feedback_value if record.feedbacks else None
            self.seen[record.value] = (record.last_modified, value)
            self.received += 1
        self.reached, self.token = page.next_start, page.next_page
        if not page.more:
            self.start = self.reached
        return page.more

    def stop(self):
        """Forget the token, as a client that is restarted between two pages."""
        self.start, self.token = max(self.reached, stopncii.START), None


def _unsynced(connection, _record):
    connection.execute("PRAGMA synchronous=OFF")


class Histories(RuleBasedStateMachine):
    """Random actions of survivors, platforms and imports, and readers that fetch pages meanwhile.

    Three records share a timestamp here instead of a hundred, so that short histories reach every
    edge case.
    """

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(stopncii_records, "RECORDS_PER_TIMESTAMP", 3)
        self.patch.setattr(stopncii, "RECORDS_PER_TIMESTAMP", 3)
        self.patch.setattr(stopncii, "PAGE_MIN", 4)
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "db"
        self.store = Store.open(Settings(database=f"sqlite:///{path}"))
        # faster; the test needs no durability
        event.listen(self.store._database.writer, "connect", _unsynced)
        self.store._database.writer.dispose()
        self.now = datetime(2026, 5, 17, 13, 45, tzinfo=UTC)
        self.platforms = []
        for name in ("One", "Two"):
            key = keys.add_platform(self.store, name, tuple(Scope), self.now)
            self.platforms.append(keys.authenticate(self.store, key, self.now))
        one, two = self.platforms
        self.readers = [Reader(one), Reader(two), Reader(one, first_hand=True)]
        self.open, self.contributed = [], defaultdict(set)

    def teardown(self):
        for reader in self.readers:
            for _ in range(50):
                if not reader.read(self.store, 1):
                    break
                reader.stop()  # after each page
            else:
                raise AssertionError("a reader does not reach the end")
            expected = self.expected(reader)
            assert expected.items() <= reader.seen.items(), "a reader missed something"
            fresh = Reader(reader.platform, first_hand=reader.first_hand)
            while fresh.read(self.store, 5):
                pass
            assert fresh.seen == expected, "a full fetch has exactly the live values"
            assert fresh.received == len(expected), "each once"
        self.store.close()
        self.folder.cleanup()
        self.patch.undo()

    def expected(self, reader):
        """Compute the records that a reader should have, from the tables alone."""
        live = {s for _, s in self.open}
        for (_, kind), contributed in self.contributed.items():
            if kind == CONTRIBUTED or not reader.first_hand:
                live |= contributed
        hidden = set()
        with self.store.read() as tx:
            if reader.first_hand:
                kinds = [tx.contributions.find(p.number, IMPORTED) for p in self.platforms]
                owned = select(items.c.id).where(items.c.case_id.in_(kinds))
                hidden = set(tx.connection.execute(owned).scalars())
            rows = tx.connection.execute(
                select(signals).where(signals.c.record_seq.is_not(None))
            ).all()
            own = tx.connection.execute(
                select(verdicts).where(verdicts.c.platform_id == reader.platform.number)
            ).all()
        found = {}
        for signal in live:
            lookup = lookup_of(self.store, signal)
            group = {
                r.id: r.record_seq for r in rows if r.lookup == lookup and r.item_id not in hidden
            }
            all_ = {r.id for r in rows if r.lookup == lookup}
            given = [(v.record_seq, v.verdict) for v in own if v.signal_id in all_]
            moved = [v.record_seq for v in own if v.signal_id in group]
            seq = max([*group.values(), *moved])
            verdict = stopncii._FEEDBACKS[max(given)[1]].value if given else None
            found[signal.hex] = (seq // 3, verdict)
        return found

    @rule(minutes=st.sampled_from([0, 30, 60, 180, -120]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @rule(values=st.lists(st.sampled_from(POOL), min_size=1, max_size=6, unique=True))
    def open_cases(self, values):
        for signal in values:
            [item] = self.store.reserve_items(1)
            with self.store.write() as tx:
                case = tx.cases.add(
                    lookup=secrets.token_bytes(32),
                    verifier="-",
                    reason="shared",
                    state="open",
                    opened=0,
                    expires=2**40,
                )
                tx.cases.add_items(case, [NewItem(item, 1, "image")], hour(self.now))
                row = {
                    "item_id": item,
                    "ordinal": 0,
                    "type": "pdq",
                    "value": self.store.vault.seal(signal.value, "signals", "value", item, 0),
                    "lookup": lookup_of(self.store, signal),
                    "quality": 90,
                    "variant": "original",
                }
                tx.signals.add([NewSignals("image", [row])], hour(self.now))
            self.open.append((case, signal))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def withdraw(self, data):
        case, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        with self.store.write() as tx:
            tx.cases.withdraw_items(case, None, hour(self.now))

    @rule(
        who=st.integers(0, 1),
        kind=st.sampled_from([CONTRIBUTED, IMPORTED]),
        signal=st.sampled_from(POOL),
    )
    def contribute(self, who, kind, signal):
        number = self.platforms[who].number
        prepared = prepare(self.store, AllowlistIndex(), [Contribution(Media.IMAGE, signal)])
        with self.store.write() as tx:
            new = contribute(tx, number, kind, prepared, months=24, most=100, now=self.now)
        known = any(s == signal for _, s in self.open) or signal in self.contributed[number, kind]
        assert new == (not known)
        if new:
            self.contributed[number, kind].add(signal)

    @precondition(lambda self: any(self.contributed.values()))
    @rule(data=st.data())
    def withdraw_contribution(self, data):
        who, signal = data.draw(
            st.sampled_from(
                [(w, s) for w, known in self.contributed.items() for s in sorted(known, key=str)]
            )
        )
        with self.store.write() as tx:
            lookup = lookup_of(self.store, signal)
            assert withdraw_contributions(tx, *who, [lookup], now=self.now) == 1
        self.contributed[who].discard(signal)

    @rule(who=st.integers(0, 1), signal=st.sampled_from(POOL), value=st.sampled_from(FEEDBACK))
    def send_feedback(self, who, signal, value):
        entry = stopncii.HashFeedback(hash=signal.hex, value=value)
        stopncii.record_feedback(self.store, self.platforms[who], [entry], clock=lambda: self.now)

    @rule(who=st.integers(0, 1), data=st.data())
    def send_verdict_on_one_file(self, who, data):
        with self.store.read() as tx:
            ids = tx.connection.execute(select(signals.c.id)).scalars().all()
        if ids:
            signal = data.draw(st.sampled_from(ids))
            with self.store.write() as tx:
                verdict = data.draw(st.sampled_from(["blocked", "unsure"]))
                tx.platforms.add_verdict(
                    self.platforms[who].number, signal, verdict, hour(self.now)
                )

    @rule(which=st.integers(0, 2), size=st.integers(1, 6), stop=st.booleans())
    def read(self, which, size, stop):
        reader = self.readers[which]
        reader.read(self.store, size)
        if stop:
            reader.stop()

    @invariant()
    def every_seq_is_unique(self):
        with self.store.read() as tx:
            seqs = list(tx.connection.execute(select(signals.c.record_seq)).scalars())
            seqs += list(tx.connection.execute(select(verdicts.c.record_seq)).scalars())
            last = tx.stopncii.last_seq()
        used = [seq for seq in seqs if seq is not None]
        assert len(used) == len(set(used))
        assert max(used, default=0) <= last


TestHistories = Histories.TestCase
TestHistories.settings = hypothesis_settings(max_examples=EXAMPLES, stateful_step_count=30)
