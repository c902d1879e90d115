"""A folder of notes without space: matching, the feed and new cases go on, and somebody is told."""

import errno
import os
import time
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from clearinghouse.app import create_app
from clearinghouse.database import withdrawal_journal
from clearinghouse.database.epoch import HighWaterMark
from clearinghouse.database.withdrawal_journal import WithdrawalJournal
from support.serving import NOW, Running, item, pdq, problem


def refuse(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def full(monkeypatch):
    """Leave no space beside the key: notes cannot be replaced, nor the journal added to."""
    with monkeypatch.context() as patched:
        patched.setattr(HighWaterMark, "write", refuse)
        patched.setattr(withdrawal_journal, "_append", refuse)
        yield


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_matching_goes_on(service, monkeypatch, caplog):
    peer = service.platform()
    staying, going, late = pdq(), pdq(), pdq()
    service.open(item(staying))
    case = service.open(item(going))
    assert [len(hits) for hits in peer.match(staying, going)] == [1, 1]
    with full(monkeypatch):
        # withdrawn all the same; the answer says no more than that it is not yet in the journal
        reply = service.client.delete("/v1/case", headers=case.headers)
        problem(reply, 503, "database_away")
        until(lambda: service.parts.failing)
        for _ in range(3):
            assert [len(hits) for hits in peer.match(staying, going)] == [1, 0]
        assert service.client.get("/health/ready").status_code == 200
        service.open(item(late))
        assert [len(hits) for hits in peer.match(late)] == [1]
        reply = service.client.delete("/v1/case", headers=case.headers)
        problem(reply, 503, "database_away")  # repeated, it is still owed
        assert "Saving the withdrawal journal failed" in caplog.text
        assert caplog.text.count("Saving the withdrawal journal failed") == 1
    until(lambda: not service.parts.failing)
    case.withdraw()
    journal = service.parts.store._journal
    assert isinstance(journal, WithdrawalJournal)
    assert journal.reached() > 0


def test_matches_are_counted_once(service, monkeypatch):
    peer = service.platform()
    value = pdq()
    case = service.open(item(value))
    ending = service.open(item(pdq()))
    with full(monkeypatch):
        service.client.delete("/v1/case", headers=ending.headers)
        peer.match(value)
        for _ in range(5):
            service.parts._write_counts()
    service.clock.pass_(days=1)  # a case tells the counts of midnight
    [platform] = case.status()["items"][0]["platforms"]
    assert platform["matches"] == 1


def test_the_service_starts_all_the_same(settings, monkeypatch, caplog):
    clock = lambda: NOW  # noqa: E731
    with TestClient(create_app(settings, clock=clock)) as client:
        running = Running(None, client, clock, settings)
        value = pdq()
        running.open(item(value))
    with full(monkeypatch), TestClient(create_app(settings, clock=clock)) as client:
        assert client.get("/health/live").status_code == 200
        until(lambda: client.get("/health/ready").status_code == 200)
    assert "There is no space beside the key" in caplog.text


def test_a_folder_that_may_not_be_written_is_told_at_the_start(settings, monkeypatch):
    def forbid(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(HighWaterMark, "write", forbid)
    with pytest.raises(PermissionError), TestClient(create_app(settings)):
        pass
