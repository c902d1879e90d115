"""The alarm on a key whose queries gather around one file."""

import json
import logging
import secrets
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from clearinghouse.abuse import review
from clearinghouse.abuse.oracle import Alarm, Watch, edges
from nciihash.signals import SignalType
from support.command_line import operate
from support.serving import item, near, pdq

NOW = datetime(2026, 5, 17, 13, 45, 59, tzinfo=UTC)
PDQ = SignalType.PDQ


def queries(count):
    return np.frombuffer(secrets.token_bytes(32 * count), np.uint8).reshape(count, 32)


def look(watch, distances, *, key=1, item=5, packed=None, now=NOW, type=PDQ):
    packed = queries(len(distances)) if packed is None else packed
    met(watch, type, packed, [(n, item, d) for n, d in enumerate(distances)], key=key, now=now)


def met(watch, type, packed, rows, *, key=1, now=NOW):
    """Take in queries with what they met, as (query, file, distance)."""
    places, items, distances = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    watch.look(key, type, packed, places, items, distances, now=now)


def test_the_edges_are_where_an_answer_changes():
    assert np.flatnonzero(edges(PDQ)).tolist() == [15, 16, 17, 18, 30, 31, 32, 33]
    assert not edges(SignalType.MD5).any()


def test_different_queries_at_an_edge_raise_one_alarm():
    watch = Watch(edge=3, any=100)
    look(watch, [31, 30, 16])
    assert watch.take() == []
    look(watch, [17])
    assert watch.take() == [Alarm(key=1, item=5, queries=4)]
    look(watch, [31] * 20)
    assert watch.take() == [], "it was told"


def test_copies_at_all_distances_raise_none_until_there_are_many():
    watch = Watch(edge=3, any=100)
    look(watch, [0, 4, 8, 10, 22, 26] * 16)
    assert watch.take() == []
    look(watch, [3] * 5)
    assert [alarm.queries for alarm in watch.take()] == [101]


def test_the_same_query_counts_once():
    watch = Watch(edge=3, any=100)
    packed = queries(1)
    for _ in range(50):
        look(watch, [31], packed=packed)
    assert watch.take() == []


def test_keys_files_and_days_are_counted_apart():
    watch = Watch(edge=3, any=100)
    for key, met, day in ((1, 5, 0), (2, 5, 0), (1, 6, 0), (1, 5, 1)):
        look(watch, [31] * 3, key=key, item=met, now=NOW + timedelta(days=day))
    assert watch.take() == []
    look(watch, [31], now=NOW + timedelta(days=1))
    assert watch.take() == [Alarm(key=1, item=5, queries=4)]


def test_exact_hashes_do_not_count_and_each_file_of_a_query_does():
    watch = Watch(edge=0, any=100)
    look(watch, [0] * 5, type=SignalType.MD5)
    met(watch, PDQ, queries(2), [])
    assert watch.take() == []
    met(watch, PDQ, queries(1), [(0, 5, 4), (0, 6, 31)])
    assert [alarm.item for alarm in watch.take()] == [6]


def test_no_value_is_kept():
    watch = Watch(edge=3, any=100)
    packed = queries(3)
    look(watch, [31] * 3, packed=packed)
    held = repr({name: getattr(watch, name) for name in vars(watch)})
    for row in packed:
        assert row.tobytes().hex()[:16] not in held
        assert repr(row.tobytes()[:8])[2:-1] not in held
    look(watch, [31])
    (seen,) = watch._seen.values()
    assert (seen.edge, seen.any) == (None, set())


def climb(peer, value):
    """Find the file's hash out bit by bit, as whoever holds a near copy could."""
    start = near(value, 31)
    for bit in range(256):
        peer.match(f"{int(start, 16) ^ (1 << bit):064x}")


def test_the_operator_hears_of_it_and_the_log_says_nothing_else(service, caplog, monkeypatch):
    value = pdq()
    service.open(item(value))
    peer = service.platform("Curious")
    caplog.set_level(logging.INFO, logger="clearinghouse")
    climb(peer, value)
    service.parts._write_counts()
    (question,) = review.questions(service.parts.store)
    assert (question.kind, question.platform, question.key) == ("oracle", "Curious", 1)
    assert question.count == 9, "of which about half match"
    (said,) = [r.getMessage() for r in caplog.records if r.name.startswith("clearinghouse")]
    assert said == "Key 1 asks around one file: see `clearinghouse review list`."


def test_a_platform_that_meets_ordinary_copies_raises_none(service):
    value = pdq()
    service.open(item(value))
    peer = service.platform()
    for bits in (*range(15), *range(19, 30)):
        peer.match(near(value, bits))
    service.parts._write_counts()
    assert review.questions(service.parts.store) == []


def test_the_alarm_is_not_lost_when_it_cannot_be_written(service, monkeypatch):
    value = pdq()
    service.open(item(value))
    climb(service.platform(), value)
    store = service.parts.store
    watch = service.parts.watch
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "write", lambda _self: (_ for _ in ()).throw(OSError("full")))
        watch._alarms = [Alarm(1, 1, 9)]
        with pytest.raises(OSError, match="full"):
            service.parts._write_counts()
    assert watch._alarms == [Alarm(1, 1, 9)]
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
