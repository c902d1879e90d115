"""`match` and `confirm`, without the command line."""

import contextlib
import json
import os

import pytest
import typer

from nciihash.bank import Bank
from nciihash.cli.matching import MatchOptions, confirm_candidates, match_files
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import BankError, ServiceUnreachable
from nciihash.feed import FeedPage
from nciihash.hashing.hasher import hash_file
from nciihash.sdk.veiled import PendingCandidates, save_veil
from nciihash.signals import Band, SignalType
from nciihash.veil import Veil
from nciihash.wire import Hit, Hits
from support.pictures import horizon
from support.scans import added

VEIL = Veil(SignalType.PDQ_VEIL128, bytes(32))
SERVER = "https://clearinghouse.example"


class FakeClient(contextlib.nullcontext):
    """A platform's client that answers every query with the same hits, or fails."""

    def __init__(self, *hits, error=None):
        super().__init__(self)
        self.queries = []
        self.error = error
        self._hits = Hits(hits)

    def connect(self, server):
        return self

    def match(self, signals):
        self.queries.append(list(signals))
        if self.error is not None:
            raise self.error
        return [self._hits] * len(signals)


def hit(number):
    return Hit(id=f"{number:032x}", item=f"{number:032x}", band=Band.STRONG)


def no_client(server):
    raise AssertionError(f"{server} is not to be asked")


@pytest.fixture
def terminal():
    return Terminal(as_json=True)


@pytest.fixture
def lines(capsys):
    """Return a function that reads standard output, a JSON value per line."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def veiled_bank(tmp_path, photos):
    (hashed,) = hash_file(photos / "photo0.jpg").hashes
    (part,) = VEIL.over([hashed.signal])
    with Bank.open(tmp_path / "veiled") as bank:
        bank.append(FeedPage((added(1, part),), "c", more=False))
    save_veil(tmp_path / "veiled", VEIL)
    return tmp_path / "veiled"


def options(*files, **changes):
    return MatchOptions(files, **{"sandboxed": False} | changes)


def test_files_are_matched_against_a_bank(terminal, bank, photos, lines):
    files = (photos / "copy0.jpg", photos / "photo1.jpg")
    assert match_files(terminal, no_client, options(*files, bank=bank)) is ExitCode.OK
    near, other = lines()
    assert [match["band"] for match in near["matches"]] == ["strong"]
    assert other == {"file": str(files[1]), "matches": []}


def test_a_clearinghouse_is_asked(terminal, photos, lines):
    client, asked = FakeClient(hit(1)), []

    def connect(server):
        asked.append(server)
        return client

    code = match_files(terminal, connect, options(photos / "photo0.jpg", server=SERVER))
    assert (code, asked, len(client.queries)) == (ExitCode.OK, [SERVER], 1)
    [line] = lines()
    assert line["matches"] == [
        {"id": hit(1).id, "item": hit(1).item, "type": "pdq", "band": "strong", "review": False}
    ]


def test_a_refused_file_leaves_the_others(terminal, bank, bad_files, photos, lines):
    files = (bad_files[0], photos / "photo0.jpg")
    assert match_files(terminal, no_client, options(*files, bank=bank)) is ExitCode.SOME_FAILED
    refused, matched = lines()
    assert refused["error"]["code"] == "corrupt_file"
    assert matched["matches"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "either --bank or --server"),
        ({"bank": "b", "server": SERVER}, "either --bank or --server"),
        ({"bank": "b", "confirm": True}, "--confirm needs a veiled --bank"),
    ],
)
def test_options_that_do_not_go_together(terminal, tmp_path, changes, message):
    with pytest.raises(typer.BadParameter, match=message):
        match_files(terminal, no_client, options(tmp_path / "a.jpg", **changes))


def test_a_bank_and_confirm_that_do_not_go_together(terminal, bank, veiled_bank, photos):
    given = {"bank": bank, "server": SERVER, "confirm": True}
    with pytest.raises(typer.BadParameter, match="holds whole hashes"):
        match_files(terminal, no_client, options(photos / "photo0.jpg", **given))
    with pytest.raises(typer.BadParameter, match="only candidates"):
        match_files(terminal, no_client, options(photos / "photo0.jpg", bank=veiled_bank))
    with pytest.raises(typer.BadParameter, match=r"\.jsonl or \.parquet"):
        match_files(terminal, no_client, options(bank=bank, out=bank.with_name("out.csv")))


def test_a_bank_that_does_not_exist_and_a_service_that_is_away(terminal, tmp_path, photos):
    with pytest.raises(BankError):
        match_files(terminal, no_client, options(photos / "photo0.jpg", bank=tmp_path / "none"))
    client = FakeClient(error=ServiceUnreachable("No connection."))
    with pytest.raises(ServiceUnreachable):
        match_files(terminal, client.connect, options(photos / "photo0.jpg", server=SERVER))


def test_an_interrupt_says_how_to_continue(photos, tmp_path, capsys):
    client = FakeClient(error=KeyboardInterrupt())
    given = options(photos / "photo0.jpg", server=SERVER, out=tmp_path / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        match_files(Terminal(), client.connect, given)
    assert "Run the same command again to continue." in capsys.readouterr().err
    client.error = None
    assert match_files(Terminal(), client.connect, given) is ExitCode.OK
    assert [json.loads(line)["file"] for line in given.out.read_text().splitlines()] == [
        str(photos / "photo0.jpg")
    ]


def test_candidates_are_confirmed_or_stored_until_they_can_be(
    terminal, veiled_bank, photos, capsys, lines
):
    files = (photos / "copy0.jpg", photos / "photo1.jpg")
    given = options(*files, bank=veiled_bank, server=SERVER, confirm=True)
    client = FakeClient(hit(7))
    assert match_files(terminal, client.connect, given) is ExitCode.OK
    assert [[match["id"] for match in line["matches"]] for line in lines()] == [[hit(7).id], []]

    client.error = ServiceUnreachable("No connection.")
    assert match_files(terminal, client.connect, given) is ExitCode.SOME_FAILED
    out, err = capsys.readouterr()
    assert [json.loads(line).get("waiting") for line in out.splitlines()] == [True, None]
    assert "1 file(s) may match" in err
    with pytest.raises(ServiceUnreachable):
        confirm_candidates(terminal, client, veiled_bank)
    assert [c.file for c in PendingCandidates(veiled_bank).read()] == [os.fsdecode(files[0])]

    client.error = None
    confirm_candidates(terminal, client, veiled_bank)
    assert [line["file"] for line in lines()] == [str(files[0])]
    confirm_candidates(terminal, client, veiled_bank)
    assert "There is nothing to confirm." in capsys.readouterr().err


@pytest.fixture
def waiting(veiled_bank, photos, tmp_path):
    """Store candidates with much and with little detail, as `match` does; return their files."""
    plain = tmp_path / "horizon.png"
    horizon(3).save(plain)
    (hashed,) = hash_file(plain).hashes
    assert not hashed.plain
    assert not hashed.distinctive
    (part,) = VEIL.over([hashed.signal])
    with Bank.open(veiled_bank) as bank:
        bank.append(FeedPage((added(2, part),), "d", more=False))
    files = (photos / "photo0.jpg", plain)
    client = FakeClient(error=ServiceUnreachable("No connection."))
    given = options(*files, bank=veiled_bank, server=SERVER, confirm=True)
    match_files(Terminal(as_json=True), client.connect, given)
    assert [os.fsencode(c.file) for c in PendingCandidates(veiled_bank).read()] == [
        os.fsencode(file) for file in files
    ]
    return files


def test_confirm_says_which_matches_need_a_person_as_match_does(
    terminal, waiting, veiled_bank, lines, capsys
):
    given = options(*waiting, bank=veiled_bank, server=SERVER, confirm=True)
    client = FakeClient(hit(7))
    capsys.readouterr()
    match_files(terminal, client.connect, given)
    at_once = lines()
    assert [line["matches"][0]["review"] for line in at_once] == [False, True]
    confirm_candidates(terminal, client, veiled_bank)
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == at_once
    assert err.count("A person has to look at the matches marked `review`") == 1


def test_confirm_shows_the_mark_in_its_table(waiting, veiled_bank, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    confirm_candidates(Terminal(), FakeClient(hit(7)), veiled_bank)
    rows = [line for line in capsys.readouterr().out.splitlines() if hit(7).id in line]
    assert ["review" in row for row in rows] == [False, True]


def test_confirm_does_not_know_the_detail_of_earlier_candidates(
    terminal, waiting, veiled_bank, lines, capsys
):
    """Lines of earlier versions do not say which hashes have little detail."""
    pending = PendingCandidates(veiled_bank)
    entries = [json.loads(line) for line in pending.path.read_bytes().splitlines()]
    assert [entry.pop("plain") for entry in entries] == [[], [0]]
    pending.path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    capsys.readouterr()
    confirm_candidates(terminal, FakeClient(hit(7)), veiled_bank)
    assert [match for line in lines() for match in line["matches"]] == [
        {"id": hit(7).id, "item": hit(7).item, "type": "pdq", "band": "strong"}
    ] * 2
