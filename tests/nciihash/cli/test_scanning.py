"""`scan`, without the command line."""

import json
from pathlib import Path

import pytest
import typer

from nciihash.cli.scanning import ScanOptions, scan_source
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.errors import BankError, ExtraMissing, ResultsInvalid, SourceInvalid
from nciihash.scan.results import ScanFolder
from nciihash.sdk.veiled import save_veil
from nciihash.signals import SignalType
from nciihash.veil import Veil
from support.scans import name, results

pytest.importorskip("pyarrow")


@pytest.fixture
def options(bank, photos, tmp_path):
    """Return a function that makes options, with some of them changed."""

    def change(**changes):
        given = {"source": str(photos), "bank": bank, "out": tmp_path / "out", "block": 2}
        return ScanOptions(**given | {"sandboxed": False} | changes)

    return change


def test_the_matches_are_in_the_folder(options, capsys):
    assert scan_source(Terminal(), options()) is ExitCode.OK
    rows = results(options().out)
    assert [(Path(row[0]).name, row[1]) for row in rows] == [
        ("copy0.jpg", name(1)),
        ("photo0.jpg", name(1)),
    ]
    err = capsys.readouterr().err
    assert "Scanning 6 files against 1 signals." in err
    assert "6 files scanned in" in err
    assert "2 matches; 0 failed." in err


def test_a_refused_file_leaves_the_others(options, bad_files, capsys):
    source = str(bad_files[0].parent)
    assert scan_source(Terminal(as_json=True), options(source=source)) is ExitCode.SOME_FAILED
    out, err = capsys.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert (last["complete"], last["failed"], last["foreign"]) == (True, 2, 1)
    assert "corrupt_file" in err
    assert "All of them are listed in" in err


def test_an_interrupted_scan_is_continued(options, monkeypatch, capsys):
    write, written = ScanFolder.write, []

    def interrupted(self, result):
        if written:
            raise KeyboardInterrupt
        written.append(result.number)
        write(self, result)

    with monkeypatch.context() as patched:
        patched.setattr(ScanFolder, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scan_source(Terminal(), options(jobs=1))
    err = capsys.readouterr().err
    assert "holds 1 of 3 blocks. Run the same command again to continue" in err
    assert scan_source(Terminal(), options(jobs=1)) is ExitCode.OK
    err = capsys.readouterr().err
    assert "1 of 3 blocks were done before." in err
    assert "4 files scanned" in err
    assert len(results(options().out)) == 2


def test_what_cannot_be_scanned(options, bank, tmp_path, monkeypatch):
    for changes, error in (
        ({"source": str(tmp_path / "none")}, SourceInvalid),
        ({"bank": tmp_path / "none", "out": tmp_path / "out2"}, BankError),
        ({"out": tmp_path}, ResultsInvalid),
    ):
        with pytest.raises(error):
            scan_source(Terminal(), options(**changes))
    monkeypatch.setattr("nciihash.scan.executors.find_spec", lambda _: None)
    with pytest.raises(ExtraMissing, match="--engine local"):
        scan_source(Terminal(), options(out=tmp_path / "out3", on_ray=True))
    save_veil(bank, Veil(SignalType.PDQ_VEIL128, bytes(32)))
    with pytest.raises(typer.BadParameter, match="match --confirm"):
        scan_source(Terminal(), options())
