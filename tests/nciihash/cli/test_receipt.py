import stat

from support.command_line import YES, submit


def test_a_receipt_only_when_asked_for(run, local, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submit(run, local, *YES, photos / "photo0.jpg")
    assert list(tmp_path.iterdir()) == []
    receipt = tmp_path / "receipt.txt"
    opened = submit(run, local, *YES, "--json", photos / "photo0.jpg", "--receipt", receipt).line
    text = receipt.read_text()
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    for word in (opened["case"], opened["passphrase"], local.address):
        assert word in text
    assert "photo0" not in text


def test_a_receipt_never_overwrites(run, local, photos, tmp_path):
    receipt = tmp_path / "receipt.txt"
    receipt.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (receipt, link):
        done = submit(run, local, *YES, photos / "photo0.jpg", "--receipt", path)
        assert done.code == 2
        assert done.out == ""
    assert receipt.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_receipt_that_cannot_be_written_keeps_nothing_from_her(
    run, local, photos, tmp_path, monkeypatch
):
    def full(*args):
        raise OSError(28, "No space left on device")

    receipt = tmp_path / "receipt.txt"
    monkeypatch.setattr("nciihash.cli.receipt.os.write", full)
    done = submit(run, local, *YES, "--no-sandbox", photos / "photo0.jpg", "--receipt", receipt)
    assert done.code == 0
    assert "Passphrase" in done.out
    assert "could not be written" in done.err
    assert not receipt.exists()
