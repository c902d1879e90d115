"""No space for the journal: matching, feed and new cases still work, and the operator is warned."""

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
from support.serving import NOW, RunningService, item, pdq, problem


def fail(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def disk_full(monkeypatch):
    """Make writes of the high-water mark and of the journal fail."""
    with monkeypatch.context() as patched:
        patched.setattr(HighWaterMark, "write", fail)
        patched.setattr(withdrawal_journal, "_append", fail)
        yield


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_matching_continues(service, monkeypatch, caplog):
    peer = service.platform()
    kept, withdrawn, new = pdq(), pdq(), pdq()
    service.open(item(kept))
    case = service.open(item(withdrawn))
    assert [len(hits) for hits in peer.match(kept, withdrawn)] == [1, 1]
    with disk_full(monkeypatch):
        # the case is withdrawn; 503 only means that the withdrawal is not yet in the journal
        reply = service.client.delete("/v1/case", headers=case.headers)
        problem(reply, 503, "database_away")
        wait_until(lambda: service.parts.failing)
        for _ in range(3):
            assert [len(hits) for hits in peer.match(kept, withdrawn)] == [1, 0]
        assert service.client.get("/health/ready").status_code == 200
        service.open(item(new))
        assert [len(hits) for hits in peer.match(new)] == [1]
        reply = service.client.delete("/v1/case", headers=case.headers)
        problem(reply, 503, "database_away")  # a repeated request: still not in the journal
        assert "Saving the withdrawal journal failed" in caplog.text
        assert caplog.text.count("Saving the withdrawal journal failed") == 1
    wait_until(lambda: not service.parts.failing)
    case.withdraw()
    journal = service.parts.store._journal
    assert isinstance(journal, WithdrawalJournal)
    assert journal.last_seq() > 0


def test_matches_are_counted_once(service, monkeypatch):
    peer = service.platform()
    value = pdq()
    case = service.open(item(value))
    withdrawn = service.open(item(pdq()))
    with disk_full(monkeypatch):
        service.client.delete("/v1/case", headers=withdrawn.headers)
        peer.match(value)
        for _ in range(5):
            service.parts._write_counts()
    service.clock.advance(days=1)  # a case shows the counts as of midnight
    [platform] = case.status()["items"][0]["platforms"]
    assert platform["matches"] == 1


def test_the_service_starts_with_a_warning(settings, monkeypatch, caplog):
    clock = lambda: NOW  # noqa: E731
    with TestClient(create_app(settings, clock=clock)) as client:
        running = RunningService(None, client, clock, settings)
        value = pdq()
        running.open(item(value))
    with disk_full(monkeypatch), TestClient(create_app(settings, clock=clock)) as client:
        assert client.get("/health/live").status_code == 200
        wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert "there is no space left in the folder of the key" in caplog.text


def test_the_service_does_not_start_without_permission_to_write_the_journal(settings, monkeypatch):
    def forbid(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(HighWaterMark, "write", forbid)
    with pytest.raises(PermissionError), TestClient(create_app(settings)):
        pass
