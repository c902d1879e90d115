"""The alarm on a key that sends many queries around one file."""

import json
import logging
import secrets
from datetime import UTC, datetime, timedelta
from importlib import import_module

import numpy as np
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import delete, select, text

from clearinghouse.abuse import oracle, review
from clearinghouse.abuse.oracle import Alarm, OracleDetector, edges
from clearinghouse.database.queries.cases import NewItem
from clearinghouse.database.schema import items, reviews
from clearinghouse.database.store import Store
from clearinghouse.maintenance.purge import purge
from clearinghouse.platforms import keys
from clearinghouse.platforms.keys import Scope
from nciihash.signals import SignalType
from nciihash.veil import positions
from support.command_line import operate
from support.serving import Peer, item, near, pdq

NOW = datetime(2026, 5, 17, 13, 45, 59, tzinfo=UTC)
PDQ = SignalType.PDQ


def queries(count):
    return np.frombuffer(secrets.token_bytes(32 * count), np.uint8).reshape(count, 32)


def query(detector, distances, *, key=1, item=5, packed=None, now=NOW, type=PDQ):
    packed = queries(len(distances)) if packed is None else packed
    record_matches(
        detector, type, packed, [(n, item, d) for n, d in enumerate(distances)], key=key, now=now
    )


def record_matches(detector, type, packed, rows, *, key=1, now=NOW):
    """Record queries with their matches, as (query, file, distance)."""
    indexes, items, distances = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    detector.record(key, type, packed, indexes, items, distances, now=now)


def test_edges_are_where_the_response_changes():
    assert np.flatnonzero(edges(PDQ)).tolist() == [15, 16, 17, 18, 30, 31, 32, 33]
    assert not edges(SignalType.MD5).any()


def test_different_queries_at_an_edge_raise_one_alarm():
    detector = OracleDetector(edge_max=3, total_max=100)
    query(detector, [31, 30, 16])
    assert detector.take() == []
    query(detector, [17])
    assert detector.take() == [Alarm(key=1, item=5, queries=4)]
    query(detector, [31] * 20)
    assert detector.take() == [], "it has been raised"


def test_copies_at_all_distances_raise_an_alarm_only_in_large_numbers():
    detector = OracleDetector(edge_max=3, total_max=100)
    query(detector, [0, 4, 8, 10, 22, 26] * 16)
    assert detector.take() == []
    query(detector, [3] * 5)
    assert [alarm.queries for alarm in detector.take()] == [101]


def test_the_same_query_counts_once():
    detector = OracleDetector(edge_max=3, total_max=100)
    packed = queries(1)
    for _ in range(50):
        query(detector, [31], packed=packed)
    assert detector.take() == []


def test_keys_files_and_days_are_counted_separately():
    detector = OracleDetector(edge_max=3, total_max=100)
    for key, file, day in ((1, 5, 0), (2, 5, 0), (1, 6, 0), (1, 5, 1)):
        query(detector, [31] * 3, key=key, item=file, now=NOW + timedelta(days=day))
    assert detector.take() == []
    query(detector, [31], now=NOW + timedelta(days=1))
    assert detector.take() == [Alarm(key=1, item=5, queries=4)]


def test_exact_hashes_do_not_count_and_each_file_of_a_query_does():
    detector = OracleDetector(edge_max=0, total_max=100)
    query(detector, [0] * 5, type=SignalType.MD5)
    record_matches(detector, PDQ, queries(2), [])
    assert detector.take() == []
    record_matches(detector, PDQ, queries(1), [(0, 5, 4), (0, 6, 31)])
    assert [alarm.item for alarm in detector.take()] == [6]


def test_no_value_is_stored():
    detector = OracleDetector(edge_max=3, total_max=100)
    packed = queries(3)
    query(detector, [31] * 3, packed=packed)
    state = repr({name: getattr(detector, name) for name in vars(detector)})
    for row in packed:
        assert row.tobytes().hex()[:16] not in state
        assert repr(row.tobytes()[:8])[2:-1] not in state
    query(detector, [31])
    (seen,) = detector._seen.values()
    assert (seen.edge, seen.digests) == (None, set())


def climb(peer, value):
    """Extract a file's hash bit by bit, starting from a near copy (hill climbing)."""
    start = near(value, 31)
    for bit in range(256):
        peer.match(f"{int(start, 16) ^ (1 << bit):064x}")


def test_the_operator_is_alerted_and_the_log_has_nothing_else(service, caplog, monkeypatch):
    value = pdq()
    service.open(item(value))
    peer = service.platform("Curious")
    caplog.set_level(logging.INFO, logger="clearinghouse")
    climb(peer, value)
    service.parts._write_counts()
    (question,) = review.questions(service.parts.store)
    assert (question.kind, question.platform, question.key) == ("oracle", "Curious", 1)
    assert question.count == 9, "of which about half match"
    (message,) = [r.getMessage() for r in caplog.records if r.name.startswith("clearinghouse")]
    assert message == "Key 1 sends many queries around one file. See `clearinghouse review list`."


def test_ordinary_copies_raise_no_alarm(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform()
    for bits in (*range(15), *range(19, 30)):
        peer.match(near(value, bits))
    service.parts._write_counts()
    assert review.questions(service.parts.store) == []


def test_an_alarm_is_not_lost_when_it_cannot_be_saved(service, monkeypatch):
    value = pdq()
    service.open(item(value))
    climb(service.platform(), value)
    store = service.parts.store
    detector = service.parts.oracle_detector
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "write", lambda _self: (_ for _ in ()).throw(OSError("full")))
        detector._alarms = [Alarm(1, 1, 9)]
        with pytest.raises(OSError, match="full"):
            service.parts._write_counts()
    assert detector._alarms == [Alarm(1, 1, 9)]
    service.parts._write_counts()
    assert [q.count for q in review.questions(store)] == [9]


def test_an_alarm_is_listed_and_closed(service, capsys, monkeypatch):
    value = pdq()
    service.open(item(value))
    climb(service.platform("Curious"), value)
    service.parts._write_counts()
    where = ("--database", service.settings.database)
    _, out, _ = operate(capsys, monkeypatch, "review", "list", "--json", *where)
    (row,) = json.loads(out)
    assert (row["kind"], row["platform"], row["media"]) == ("oracle", "Curious", "image")
    assert value not in out
    code, _, err = operate(capsys, monkeypatch, "review", "remove", row["number"], *where)
    assert code == 2
    assert "revoke" in err
    code, _, _ = operate(capsys, monkeypatch, "review", "keep", row["number"], *where)
    assert code == 0
    _, out, _ = operate(capsys, monkeypatch, "review", "list", "--json", *where)
    assert json.loads(out) == []


def test_an_alarm_stays_until_closed_even_if_the_file_is_deleted(service):
    """An attacker who probes files of her own could otherwise clear it by withdrawing them."""
    value = pdq()
    case = service.open(item(value))
    climb(service.platform("Curious"), value)
    case.withdraw()
    service.parts._write_counts()
    store = service.parts.store
    (before,) = review.questions(store)
    assert (before.kind, before.platform, before.media) == ("oracle", "Curious", "image")
    service.clock.advance(days=500)
    purge(store, retention_days=400, now=service.clock())
    (after,) = review.questions(store)
    assert (after.number, after.count, after.media) == (before.number, before.count, None)
    with pytest.raises(review.NotAboutAFile):
        review.remove(store, after.number, now=service.clock())
    review.keep(store, after.number, now=service.clock())
    assert review.questions(store) == []
    service.clock.advance(days=500)
    purge(store, retention_days=400, now=service.clock())
    with store.read() as tx:
        assert tx.connection.execute(select(reviews)).all() == [], "closed ones are deleted"


def test_other_questions_about_a_file_close_with_it(service):
    value = pdq()
    case = service.open(item(value))
    for n in range(3):
        service.platform(f"Platform {n}").match(value)
    service.parts._write_counts()
    assert [q.kind for q in review.questions(service.parts.store)] == ["hits"]
    case.withdraw()
    assert review.questions(service.parts.store) == []


OLD_REVIEWS = """
CREATE TABLE reviews (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind VARCHAR(12) NOT NULL,
    item_id INTEGER NOT NULL, key_id INTEGER, count BIGINT NOT NULL, state VARCHAR(8) NOT NULL,
    opened BIGINT NOT NULL, closed BIGINT,
    CONSTRAINT fk_reviews_item_id FOREIGN KEY(item_id) REFERENCES items (id) ON DELETE CASCADE,
    CONSTRAINT fk_reviews_key_id FOREIGN KEY(key_id) REFERENCES keys (id)
)"""


@pytest.mark.sqlite
def test_an_alarm_from_before_the_migration_stays(settings):
    """The migration alone, on the old table: alarms lose their file, other questions keep it."""
    migration = import_module(
        "clearinghouse.database.migrations.versions.0040_alarms_outlive_files"
    )
    store = Store.open(settings)
    keys.add_platform(store, "Curious", [Scope.MATCH], NOW)
    [file] = store.reserve_items(1)
    with store.write() as tx:
        case = {"lookup": b"1", "verifier": "", "reason": "shared", "state": "open"}
        number = tx.cases.add(**case, opened=0, expires=9)
        tx.cases.add_items(number, [NewItem(file, 1, "image")], 0)
        for statement in (
            "DROP TABLE reviews",
            OLD_REVIEWS,
            f"INSERT INTO reviews VALUES (7, 'oracle', {file}, 1, 9, 'open', 0, NULL)",
            f"INSERT INTO reviews VALUES (8, 'hits', {file}, NULL, 3, 'open', 0, NULL)",
        ):
            tx.connection.execute(text(statement))
        with Operations.context(MigrationContext.configure(tx.connection)):
            migration.upgrade()
        chosen = select(reviews.c.id, reviews.c.item_id, reviews.c.around).order_by(reviews.c.id)
        assert tx.connection.execute(chosen).all() == [(7, None, file), (8, file, None)]
        tx.connection.execute(delete(items))
        assert [row.id for row in tx.reviews.list_open()] == [7]
    store.close()


def test_guesses_with_published_bits_count_as_queries_at_an_edge():
    detector = OracleDetector(edge_max=3, total_max=100)
    packed = queries(5)
    for index in range(3):
        detector.record_misses(1, packed, np.array([index]), np.array([5]), now=NOW)
    detector.record_misses(1, packed, np.array([2]), np.array([5]), now=NOW)
    assert detector.take() == [], "the same guess counts once"
    query(detector, [31], packed=packed[3:])
    assert [alarm.queries for alarm in detector.take()] == [4], "both kinds count together"


def test_after_ten_alarms_a_key_is_not_counted_until_the_next_day():
    detector = OracleDetector(edge_max=1, total_max=100)
    rows = [(0, n, 31) for n in range(50)]
    for _ in range(3):
        record_matches(detector, PDQ, queries(1), rows)
    assert len(detector.take()) == 10
    before = dict(detector._seen)
    record_matches(detector, PDQ, queries(1), [(0, 99, 31)])
    assert detector._seen.keys() == before.keys()
    record_matches(detector, PDQ, queries(1), [(0, 99, 31)], now=NOW + timedelta(days=1))
    assert (1, 99) in detector._seen


def test_the_stored_digests_are_bounded(monkeypatch):
    monkeypatch.setattr(oracle, "_QUERIES", 100)
    detector = OracleDetector(edge_max=1000, total_max=1000)
    for number in range(60):
        record_matches(detector, PDQ, queries(2), [(0, number, 31), (1, number, 5)])
    stored = sum(len(seen.digests) + len(seen.edge) for seen in detector._seen.values())
    assert detector._stored == stored <= 100
    assert (1, 59) in detector._seen
    assert (1, 0) not in detector._seen


def test_a_platform_without_a_veil_is_not_checked_for_guesses(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform("Whole", scopes=(Scope.FEED, Scope.MATCH))
    for bits in range(40, 60, 2):
        assert peer.match(near(value, bits)) == [[]]
    service.parts._write_counts()
    assert review.questions(service.parts.store) == []


def test_an_earlier_key_with_a_veil_counts(service):
    """The list that it opened is still on the platform's disk when another key is used."""
    value = pdq()
    service.open(item(value))
    store, now = service.parts.store, service.clock()
    keys.add_platform(store, "Curious", [Scope.VEIL], now)
    keys.revoke_keys(store, "Curious", None, now)
    key = keys.rotate_key(store, "Curious", now, scopes=[Scope.MATCH])
    peer = Peer(service, "Curious", key)
    hidden = [p for p in range(256) if 255 - p not in set(positions(128).tolist())]
    ones = [p for p in hidden if int(value, 16) >> p & 1]
    zeros = [p for p in hidden if not int(value, 16) >> p & 1]
    for first in range(9):
        chosen = ones[first : first + 20] + zeros[first : first + 20]
        guess = int(value, 16) ^ sum(1 << bit for bit in chosen)
        assert peer.match(f"{guess:064x}") == [[]]
    service.parts._write_counts()
    assert [q.platform for q in review.questions(store)] == ["Curious"]


def scene_frames(count, *, apart=100):
    """Return the hashes of frames of different scenes."""
    chosen = []
    while len(chosen) < count:
        value = pdq()
        if all((int(value, 16) ^ int(other, 16)).bit_count() > apart for other in chosen):
            chosen.append(value)
    return chosen


def alarms_about(service):
    service.parts._write_counts()
    return [q.kind for q in review.questions(service.parts.store)]


def test_one_matching_video_raises_no_alarm(service):
    """A re-encoded copy: every frame matches at an edge, and all are sent in one request."""
    frames = scene_frames(40)
    service.open(item(*frames, media="video"))
    peer = service.platform()
    hits = peer.match(*(near(frame, 17) for frame in frames))
    assert all(hits)
    assert alarms_about(service) == []
    peer.match(*(near(frame, 17) for frame in frames))
    assert alarms_about(service) == []


def test_an_exact_copy_of_a_long_still_video_raises_no_alarm(service):
    """Its frames differ by few bits and are at no edge: such queries reveal nothing."""
    first = pdq()
    service.open(item(first, media="video"))
    peer = service.platform()
    hits = peer.match(*(near(first, 6) for _ in range(300)))
    assert all(hits)
    assert alarms_about(service) == []


@pytest.mark.parametrize("together", [True, False])
def test_many_queries_around_one_frame_raise_an_alarm(service, together):
    """However many other frames are in the requests, and however the queries are divided."""
    frames = scene_frames(12)
    service.open(item(*frames, media="video"))
    peer = service.platform("Curious")
    start = int(near(frames[0], 31), 16)
    chosen = [f"{start ^ (1 << bit):064x}" for bit in range(256)]
    matched = [value for value in chosen if peer_matches(value, frames[0])][:9]
    others = [near(frame, 17) for frame in frames[1:]]
    if together:
        peer.match(*matched[:8], *others)
        assert alarms_about(service) == []
        peer.match(matched[8])
    else:
        for value in matched:
            peer.match(value, *others)
    assert alarms_about(service) == ["oracle"]


def peer_matches(value, frame):
    return (int(value, 16) ^ int(frame, 16)).bit_count() <= 31


def test_queries_spread_over_the_frames_of_a_video_are_bounded_in_all():
    """Frames of different scenes are free only up to the limit on all queries."""
    detector = OracleDetector(edge_max=8, total_max=250)
    packed = queries(251)
    rows = np.arange(251)
    detector.record_video(1, PDQ, packed, rows[:250], 5, np.full(250, 31), now=NOW)
    assert detector.take() == []
    detector.record_video(1, PDQ, packed, rows[250:], 5, np.full(1, 31), now=NOW)
    assert [alarm.queries for alarm in detector.take()] == [251]
    assert detector._stored == 0
