"""One serving process for an SQLite database."""

import signal

import pytest

from clearinghouse.database.store import claim_serving
from clearinghouse.errors import DatabaseServed
from clearinghouse.settings import Settings
from support.service_process import ServiceProcess


def test_a_second_service_on_an_sqlite_file_is_refused(tmp_path):
    with ServiceProcess(tmp_path) as first:
        with pytest.raises(AssertionError, match="did not start"):
            ServiceProcess(tmp_path)
        message = first.log.read_text()
        assert "Another process serves" in message
        assert "Traceback" not in message
        assert first.platform(), "commands are not affected"
        assert first.client.get("/health/ready").is_success


def test_the_lock_of_a_killed_service_is_released(tmp_path):
    with ServiceProcess(tmp_path) as first:
        first.end(signal.SIGKILL)
    with ServiceProcess(tmp_path) as second:
        assert second.client.get("/health/ready").is_success


def test_another_name_of_the_file_is_the_same_database(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "db.sqlite3")
    first = Settings(database=f"sqlite:///{tmp_path}/db.sqlite3")
    second = Settings(database=f"sqlite:///{tmp_path}/link")
    with claim_serving(first), pytest.raises(DatabaseServed), claim_serving(second):
        pass
    with claim_serving(second):
        pass


def test_several_services_may_share_a_postgresql_database(databases, tmp_path):
    with databases.fresh() as address:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        key = {"CLEARINGHOUSE_KEY": "ab" * 32}
        with (
            ServiceProcess(folders[0], address, **key) as one,
            ServiceProcess(folders[1], address, **key) as two,
        ):
            assert one.client.get("/health/live").is_success
            assert two.client.get("/health/live").is_success
