"""The list of PieFed's blocked images, in a PostgreSQL database with PieFed's table."""

import random
import runpy
import sys

import psycopg
import pytest
from sqlalchemy import make_url

from nciihash.bank import Bank
from nciihash.feed import Added, FeedPage, Removed
from nciihash.signals import Media, Signal, SignalType, Variant
from support.banks import cursor, name
from support.paths import ROOT

# The columns that PieFed's model has, and its comparison (app/utils.py).
TABLE = """
CREATE TABLE blocked_image (
    id serial PRIMARY KEY, hash bit(256), file_name varchar(256), note varchar(256)
)
"""
BLOCKED = (
    "SELECT id FROM blocked_image WHERE length(replace((hash # %s::bit(256))::text, '0', '')) < 15"
)


def pdq(seed):
    return Signal(SignalType.PDQ, random.Random(seed).randbytes(32))


@pytest.fixture
def piefed(databases):
    with databases.fresh(empty=True) as address:
        plain = make_url(address).set(drivername="postgresql").render_as_string(False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(TABLE)
            yield connection


@pytest.fixture
def fill(tmp_path, piefed, monkeypatch, capsys):
    """Return a function that runs the example once and returns what it printed."""

    def run():
        arguments = ["fill_piefed_list.py", str(tmp_path / "bank"), piefed.info.dsn]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(ROOT / "examples/gate/fill_piefed_list.py"), run_name="__main__")
        return capsys.readouterr().out.strip()

    return run


def added(number, signal):
    return Added(name(number), name(0), signal, 100, Media.IMAGE, Variant.ORIGINAL)


def bits(signal, flipped=0):
    number = int.from_bytes(signal.value, "big") ^ ((1 << flipped) - 1)
    return f"{number:0256b}"


def test_the_list_follows_the_bank(tmp_path, piefed, fill):
    first, second, other = pdq(1), pdq(2), pdq(3)
    piefed.execute(
        "INSERT INTO blocked_image (hash, file_name, note) VALUES (%s::bit(256), 'x.png', 'mine')",
        (bits(other),),
    )

    def blocked(signal, flipped=0):
        return piefed.execute(BLOCKED, (bits(signal, flipped),)).fetchone() is not None

    with Bank.open(tmp_path / "bank") as bank:
        md5 = Signal(SignalType.MD5, bytes(16))
        page = [added(1, first), added(2, second), added(3, md5)]
        bank.append(FeedPage(tuple(page), cursor(1), more=False))
    assert fill() == "2 added, 0 removed"
    assert fill() == "0 added, 0 removed"
    assert blocked(first)
    assert blocked(second, flipped=14)
    assert not blocked(second, flipped=15)

    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((Removed(name(1)),), cursor(2), more=False))
    assert fill() == "0 added, 1 removed"
    assert not blocked(first)
    assert blocked(second)
    assert blocked(other), "a row that a person added"


def test_a_bank_that_is_not_there_yet_changes_nothing(tmp_path, piefed, fill):
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, pdq(1)),), cursor(1), more=False))
    assert fill() == "1 added, 0 removed"
    for path in tmp_path.glob("bank*"):
        path.unlink()
    Bank.open(tmp_path / "bank").close()
    assert "left as it is" in fill()
    assert piefed.execute("SELECT count(*) FROM blocked_image").fetchone() == (1,)


def test_a_veiled_bank_is_refused(tmp_path, piefed, fill):
    with Bank.open(tmp_path / "bank") as bank:
        veiled = Signal(SignalType.PDQ_VEIL128, bytes(16))
        bank.append(FeedPage((added(1, veiled),), cursor(1), more=False))
    with pytest.raises(SystemExit, match="no whole hashes"):
        fill()


def test_an_error_of_the_database_does_not_print_hashes(tmp_path, piefed, fill, capsys):
    with Bank.open(tmp_path / "bank") as bank:
        bank.append(FeedPage((added(1, pdq(1)),), cursor(1), more=False))
    piefed.execute("ALTER TABLE blocked_image ADD CHECK (note = '')")
    with pytest.raises(SystemExit):
        fill()
    printed = capsys.readouterr()
    assert printed.err == "The list was not filled: CheckViolation.\n"
    assert not printed.out
