"""`follow`, without the command line."""

import json
import signal

import pytest
import typer

from nciihash.bank import Bank
from nciihash.cli.following import FollowOptions, follow_into_bank
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import ServiceUnreachable
from nciihash.feed import FeedPage, Removed
from nciihash.sdk.veiled import load_veil
from nciihash.signals import Signal, SignalType
from nciihash.veil import Veil
from support.scans import added, name

VEIL = Veil(SignalType.PDQ_VEIL128, bytes(32))


class FakeClient:
    """A platform's client that returns pages in turn, and then does what `end` does."""

    def __init__(self, *pages, end=None):
        self.acknowledged = []
        self.veils = []
        self._pages = list(pages)
        self._end = end

    def feed(self, cursor, *, veil, **_):
        self.veils.append(veil)
        if self._pages:
            return self._pages.pop(0)
        return self._end()

    def acknowledge(self, cursor):
        self.acknowledged.append(cursor)

    def veil(self):
        return VEIL


def pdq(number):
    return Signal(SignalType.PDQ, bytes([number] * 32))


PAGES = (
    FeedPage((added(1, pdq(1)), added(2, pdq(2))), "c1", more=True),
    FeedPage((Removed(name(1)),), "c2", more=False),
)


def test_the_feed_is_followed_until_the_bank_is_up_to_date(tmp_path, capsys):
    client = FakeClient(*PAGES)
    given = FollowOptions(tmp_path / "bank", once=True)
    assert follow_into_bank(Terminal(), client, given) is ExitCode.OK
    assert client.acknowledged[-1] == "c2"
    out, err = capsys.readouterr()
    assert out == "1 signals in the bank; 2 added and 1 removed in this run.\n"
    assert err.splitlines() == ["2 added, 0 removed so far.", "Up to date: 1 signals."]
    with Bank.read(tmp_path / "bank") as bank:
        assert len(bank) == 1


def test_progress_as_json(tmp_path, capsys):
    follow_into_bank(
        Terminal(as_json=True), FakeClient(*PAGES), FollowOptions(tmp_path / "bank", once=True)
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["current"] for line in lines] == [False, True, True]
    assert lines[-1] == {
        "signals": 1,
        "added": 2,
        "removed": 1,
        "current": True,
        "rebuilding": False,
        "trouble": None,
    }


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.OK)],
)
def test_a_signal_ends_it_with_everything_on_disk(tmp_path, capsys, number, code):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    client = FakeClient(*PAGES, end=lambda: signal.raise_signal(number))
    assert follow_into_bank(Terminal(), client, FollowOptions(tmp_path / "bank")) is code
    assert "1 signals in the bank" in capsys.readouterr().out
    assert client.acknowledged[-1] == "c2"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_a_service_that_is_away(tmp_path):
    def away():
        raise ServiceUnreachable("No connection.")

    with pytest.raises(ServiceUnreachable):
        follow_into_bank(
            Terminal(), FakeClient(end=away), FollowOptions(tmp_path / "bank", once=True)
        )


def test_a_bank_stays_veiled_or_whole(tmp_path):
    whole, veiled = tmp_path / "whole", tmp_path / "veiled"
    follow_into_bank(Terminal(), FakeClient(*PAGES), FollowOptions(whole, once=True))
    with pytest.raises(typer.BadParameter, match="holds whole hashes"):
        follow_into_bank(Terminal(), FakeClient(), FollowOptions(whole, veil=True, once=True))
    (part,) = VEIL.over([pdq(1)])
    client = FakeClient(FeedPage((added(1, part),), "c1", more=False))
    follow_into_bank(Terminal(), client, FollowOptions(veiled, veil=True, once=True))
    assert (client.veils, load_veil(veiled)) == ([True], VEIL)
    with pytest.raises(typer.BadParameter, match="This bank is veiled"):
        follow_into_bank(Terminal(), FakeClient(), FollowOptions(veiled, once=True))
