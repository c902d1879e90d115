"""The receipt: a new private file with the case number and the passphrase."""

import stat

from support.command_line import YES, submit


def test_a_receipt_is_written_only_on_request(run, local, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submit(run, local, *YES, photos / "photo0.jpg")
    assert list(tmp_path.iterdir()) == []
    receipt = tmp_path / "receipt.txt"
    opened = submit(run, local, *YES, "--json", photos / "photo0.jpg", "--receipt", receipt).line
    text = receipt.read_text()
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    for part in (opened["case"], opened["passphrase"], local.address):
        assert part in text
    assert "photo0" not in text


def test_a_receipt_never_overwrites(run, local, photos, tmp_path):
    receipt = tmp_path / "receipt.txt"
    receipt.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (receipt, link):
        result = submit(run, local, *YES, photos / "photo0.jpg", "--receipt", path)
        assert result.code == 2
        assert result.out == ""
    assert receipt.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_the_credentials_are_shown_if_the_receipt_cannot_be_written(
    run, local, photos, tmp_path, monkeypatch
):
    def full(*args):
        raise OSError(28, "No space left on device")

    receipt = tmp_path / "receipt.txt"
    monkeypatch.setattr("nciihash.cli.receipt.os.write", full)
    result = submit(run, local, *YES, "--no-sandbox", photos / "photo0.jpg", "--receipt", receipt)
    assert result.code == 0
    assert "Passphrase" in result.out
    assert "could not be written" in result.err
    assert not receipt.exists()
