"""Edited copies are found by their parts in a bank of whole hashes, and nowhere else."""

import contextlib
import json

import numpy as np
import pytest
import typer
from PIL import Image, ImageDraw, ImageOps

from nciihash.bank import Bank
from nciihash.cli.matching import MatchOptions, match_files
from nciihash.cli.scanning import ScanOptions, scan_source
from nciihash.cli.terminal import ExitCode, Terminal
from nciihash.feed import Added, FeedPage
from nciihash.hashing.hasher import hash_file
from nciihash.sdk.veiled import save_veil
from nciihash.search.index import Index
from nciihash.signals import Level, Media, SignalType, Variant
from nciihash.veil import Veil
from nciihash.wire import Hits
from support.pictures import textured
from support.scans import name

VEIL = Veil(SignalType.PDQ_VEIL128, bytes(32))
SERVER = "https://clearinghouse.example"
PHOTOS = 4
ABOVE_FAST = (Level.WINDOWS, Level.THOROUGH)


def crop(picture, left, top, right, bottom):
    width, height = picture.size
    return picture.crop((left * width, top * height, right * width, bottom * height))


def covered(picture):
    """Return a picture with an opaque sticker on a corner."""
    copy = picture.copy()
    width, height = copy.size
    ImageDraw.Draw(copy).ellipse((0, 0, width // 2, height // 2), (250, 210, 40))
    return copy


def collage(picture):
    """Return a picture next to another one."""
    page = Image.new("RGB", (2 * picture.width, picture.height))
    page.paste(picture, (0, 0))
    page.paste(textured(99).resize(picture.size), (picture.width, 0))
    return page


EDITS = {
    "crop": lambda picture: crop(picture, 0, 0, 0.7, 0.8),
    "half": lambda picture: crop(picture, 0, 0, 0.5, 1),
    "mirrored": lambda picture: ImageOps.mirror(crop(picture, 0.25, 0, 1, 1)),
    "sticker": covered,
    "collage": collage,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a folder of photos of different things."""
    folder = tmp_path_factory.mktemp("originals")
    for number in range(PHOTOS):
        textured(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Return a folder of edited copies of the first photo, a plain copy, and another photo."""
    folder = tmp_path_factory.mktemp("copies")
    for title, edit in EDITS.items():
        edit(textured(0)).save(folder / f"{title}.jpg", quality=85)
    textured(0).save(folder / "saved.jpg", quality=50)
    textured(50).save(folder / "other.jpg", quality=85)
    return folder


@pytest.fixture(scope="module")
def whole_bank(tmp_path_factory, originals):
    """Return the path of a bank of the photos as they are submitted."""
    entries = []
    for number in range(PHOTOS):
        for hashed in hash_file(originals / f"{number}.png", variants="thorough").hashes:
            id = name(len(entries) + 1000)
            item = name(number)
            entry = Added(id, item, hashed.signal, hashed.quality, Media.IMAGE, hashed.variant)
            entries.append(entry)
    path = tmp_path_factory.mktemp("bank") / "bank"
    with Bank.open(path) as bank:
        bank.append(FeedPage(tuple(entries), "c", more=False))
    return path


@pytest.fixture
def lines(capsys):
    """Return a function that reads standard output, a JSON value per line."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def match(*files, connect=None, terminal=None, **given):
    options = MatchOptions(files, sandboxed=False, **given)
    return match_files(terminal or Terminal(as_json=True), connect, options)


class RecordingClient(contextlib.nullcontext):
    """A client that records what it is asked, and finds nothing."""

    def __init__(self):
        super().__init__(self)
        self.asked = []

    def connect(self, server):
        return self

    def match(self, signals):
        self.asked += signals
        return [Hits()] * len(signals)


# --- match --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [None, Level.THOROUGH])
@pytest.mark.parametrize("title", EDITS)
def test_match_finds_edited_copies(whole_bank, copies, lines, title, level):
    assert match(copies / f"{title}.jpg", bank=whole_bank, level=level) is ExitCode.OK
    [line] = lines()
    assert {found["item"] for found in line["matches"]} == {name(0)}


def test_a_match_of_a_part_says_what_was_done(whole_bank, copies, lines):
    match(copies / "crop.jpg", bank=whole_bank)
    [line] = lines()
    [found] = line["matches"]
    assert (found["band"], found["review"]) == ("likely", True)
    assert found["aligned"] <= 16
    assert found["distance"] <= 60
    assert "cropped to" in found["edit"]
    assert np.abs(np.array(found["crop"]) - (0, 0, 0.7, 0.8)).max() < 0.03
    assert (found["part"], found["mirrored"], found["angle"]) == ("whole", False, 0)
    assert len(found["box"]) == 4


def test_a_copy_of_the_whole_picture_needs_no_review(whole_bank, copies, lines):
    for level in Level:
        match(copies / "saved.jpg", copies / "other.jpg", bank=whole_bank, level=level)
        saved, other = lines()
        nearest = saved["matches"][0]
        assert (nearest["item"], nearest["band"], nearest["review"]) == (name(0), "strong", False)
        assert "edit" not in nearest
        assert other["matches"] == []


def test_what_the_fast_level_finds_is_found_at_every_level(whole_bank, copies, lines):
    files = sorted(copies.iterdir())
    found = {}
    for level in Level:
        match(*files, bank=whole_bank, level=level)
        ids = ((line["file"], match["id"]) for line in lines() for match in line["matches"])
        found[level] = set(ids)
    assert found[Level.FAST] <= found[Level.WINDOWS]
    assert found[Level.FAST] <= found[Level.THOROUGH]


def test_the_table_says_that_a_person_has_to_look(whole_bank, copies, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    files = (copies / "crop.jpg", copies / "saved.jpg")
    match(*files, bank=whole_bank, terminal=Terminal())
    out, err = capsys.readouterr()
    assert "likely, review" in out
    assert "aligned" in out
    assert "cropped to" in out
    assert "0% to 70% across, 0% to 80% down" in out
    assert "A person has to look at the matches marked `review`" in err
    match(files[1], bank=whole_bank, terminal=Terminal())
    out, err = capsys.readouterr()
    assert ("Visible" in out, "review" in out, err) == (False, False, "")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_results_are_written_with_the_edit(whole_bank, copies, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    match(copies / "crop.jpg", copies / "saved.jpg", bank=whole_bank, out=out)
    if ending == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        cropped, *saved = parquet.read_table(out).to_pylist()
        assert abs(cropped["crop_right"] - 0.7) < 0.03
        assert saved[0]["crop_right"] is saved[0]["edit"] is None
        assert [row["review"] for row in (cropped, saved[0])] == [True, False]
    else:
        first, _ = map(json.loads, out.read_text().splitlines())
        cropped = first["matches"][0]
    assert "cropped to" in cropped["edit"]


# --- a clearinghouse, and a veiled bank ---------------------------------------------------------


@pytest.fixture
def veiled_bank(tmp_path, originals):
    """Return the path of a veiled bank of the photos as they are submitted."""
    hashed = [
        each.signal
        for number in range(PHOTOS)
        for each in hash_file(originals / f"{number}.png", variants="thorough").hashes
    ]
    entries = [
        Added(name(row), name(10**6), part, None, Media.IMAGE, Variant.ORIGINAL)
        for row, part in enumerate(VEIL.over(hashed))
    ]
    with Bank.open(tmp_path / "veiled") as bank:
        bank.append(FeedPage(tuple(entries), "c", more=False))
    save_veil(tmp_path / "veiled", VEIL)
    return tmp_path / "veiled"


def own_signals(files):
    """Return the hashes of whole files, and of pictures within a frame."""
    return {h.signal for file in files for h in hash_file(file, variants="match").hashes}


@pytest.mark.parametrize("level", [None, Level.FAST])
def test_a_clearinghouse_is_never_asked_about_a_window(copies, lines, level):
    client, files = RecordingClient(), sorted(copies.iterdir())
    match(*files, server=SERVER, connect=client.connect, level=level)
    assert set(client.asked) == own_signals(files)
    assert len(client.asked) <= 2 * len(files)


@pytest.mark.parametrize("level", [None, Level.FAST])
def test_a_veiled_bank_is_never_asked_about_a_window(
    veiled_bank, copies, lines, level, monkeypatch
):
    queried, query = [], Bank.query

    def record(self, signals):
        queried.extend(signals)
        return query(self, signals)

    def refuse(self, *arguments):
        raise AssertionError("a veiled bank has no candidates")

    monkeypatch.setattr(Bank, "query", record)
    monkeypatch.setattr(Bank, "candidates", refuse)
    client, files = RecordingClient(), sorted(copies.iterdir())
    given = {"bank": veiled_bank, "server": SERVER, "confirm": True, "level": level}
    match(*files, connect=client.connect, **given)
    own = own_signals(files)
    assert set(client.asked) <= own
    assert set(queried) == set(VEIL.over(list(own)))
    saved = hash_file(copies / "saved.jpg").hashes[0].signal
    assert saved in client.asked


@pytest.mark.parametrize("level", ABOVE_FAST)
def test_other_levels_need_a_bank_of_whole_hashes(veiled_bank, copies, level):
    for source in ({"server": SERVER}, {"bank": veiled_bank, "server": SERVER, "confirm": True}):
        client = RecordingClient()
        with pytest.raises(typer.BadParameter, match="needs a bank of whole hashes"):
            match(copies / "crop.jpg", connect=client.connect, level=level, **source)
        assert client.asked == []


def test_what_a_clearinghouse_cannot_find_is_said_at_the_start(
    whole_bank, veiled_bank, copies, capsys
):
    client = RecordingClient()
    for source in ({"server": SERVER}, {"bank": veiled_bank, "server": SERVER, "confirm": True}):
        match(copies / "crop.jpg", connect=client.connect, terminal=Terminal(), **source)
        err = capsys.readouterr().err
        assert err.count("match against a bank of whole hashes") == 1
        assert "crop" in err
    match(copies / "crop.jpg", bank=whole_bank, terminal=Terminal())
    assert "bank of whole hashes" not in capsys.readouterr().err


# --- check and compare --------------------------------------------------------------------------


@pytest.fixture
def saved(run, originals, tmp_path):
    """Return a file of the saved hashes of the first photo."""
    path = tmp_path / "item.json"
    path.write_text(run("hash", "--variants", "thorough", "--json", originals / "0.png").out)
    return path


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("crop", "the top left part of the picture, 56 % of its area"),
        ("mirrored", "the right 75 % of the picture, mirrored"),
    ],
)
def test_check_says_what_a_copy_shows(run, saved, copies, title, words):
    line = run("check", copies / f"{title}.jpg", "--against", saved, "--json").line
    out = run("check", copies / f"{title}.jpg", "--against", saved).out
    assert (line["found"], line["band"], line["review"]) == (True, "likely", True)
    assert line["aligned"] <= 16 < 31 < line["distance"]
    assert " ".join(out.split()).startswith(f"It would be found: cropped to {words}.")
    assert "Only platforms that match whole hashes with this program find it" in out


def test_check_of_a_part_whose_hash_is_submitted(run, saved, copies):
    """Platforms that compare only whole pictures find it too."""
    line = run("check", copies / "half.jpg", "--against", saved, "--json").line
    assert (line["found"], line["variant"], line["review"]) == (True, "left-half", False)
    assert "edit" not in line
    out = run("check", copies / "half.jpg", "--against", saved).out
    assert "Only platforms" not in out


def test_check_says_what_to_do_about_a_copy_that_would_not_be_found(run, saved, copies):
    line = run("check", copies / "other.jpg", "--against", saved, "--json").line
    assert (line["found"], line["band"], line["review"]) == (False, None, False)
    out = run("check", copies / "other.jpg", "--against", saved).out
    assert "would not be found" in out
    assert "Submit this copy as well." in out


def test_compare_says_which_part_the_second_shows(run, originals, copies):
    line = run("compare", originals / "0.png", copies / "crop.jpg", "--json").line
    assert line["band"] is None
    assert line["aligned"] <= 16
    assert np.abs(np.array(line["crop"]) - (0, 0, 0.7, 0.8)).max() < 0.03
    out = run("compare", originals / "0.png", copies / "crop.jpg").out
    assert "an edited copy of the first: cropped to the top left part of the picture" in out
    line = run("compare", originals / "1.png", copies / "crop.jpg", "--json").line
    assert "edit" not in line


# --- scan ---------------------------------------------------------------------------------------


def scan(source, bank, out, **changes):
    pytest.importorskip("pyarrow")
    options = ScanOptions(str(source), bank, out, sandboxed=False, **changes)
    return scan_source(Terminal(), options)


def scanned(out):
    """Return the items found in each file, and all rows."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [r for path in (out / "matches").iterdir() for r in parquet.read_table(path).to_pylist()]
    found = {}
    for row in rows:
        found.setdefault(row["file"].rpartition("/")[2].partition(".")[0], set()).add(row["item"])
    return found, rows


@pytest.mark.parametrize("level", ABOVE_FAST)
def test_scan_finds_edited_copies(whole_bank, copies, tmp_path, level):
    assert scan(copies, whole_bank, tmp_path / "out", level=level) is ExitCode.OK
    found, rows = scanned(tmp_path / "out")
    assert found == {title: {name(0)} for title in (*EDITS, "saved")}
    [cropped] = [row for row in rows if row["file"].endswith("crop.jpg")]
    assert (cropped["review"], cropped["band"]) == (True, "likely")
    assert cropped["aligned"] <= 16
    assert cropped["distance"] <= 60
    assert abs(cropped["crop_bottom"] - 0.8) < 0.03
    assert "cropped to" in cropped["edit"]
    assert next(row["review"] for row in rows if row["file"].endswith("saved.jpg")) is False


def test_scan_is_fast_by_default(whole_bank, copies, tmp_path):
    assert scan(copies, whole_bank, tmp_path / "out") is ExitCode.OK
    found, rows = scanned(tmp_path / "out")
    assert "saved" in found
    assert "collage" not in found
    assert {row["edit"] for row in rows} == {None}


def test_scan_refuses_levels_that_the_source_or_the_bank_cannot_have(
    whole_bank, copies, tmp_path, run
):
    pytest.importorskip("pyarrow")
    index = Index()
    index.add(np.arange(3, dtype=np.uint64), np.arange(96, dtype=np.uint8).reshape(3, 32))
    index.save(tmp_path / "index")
    with pytest.raises(typer.BadParameter, match="in an index file it is not known"):
        scan(copies, tmp_path / "index", tmp_path / "out", level=Level.WINDOWS)
    (tmp_path / "hashes").mkdir()
    assert run("hash", copies / "saved.jpg", "--out", tmp_path / "hashes" / "h.parquet").code == 0
    with pytest.raises(typer.BadParameter, match="holds only their hashes"):
        scan(tmp_path / "hashes", whole_bank, tmp_path / "out", level=Level.THOROUGH)


def test_a_scan_is_not_continued_at_another_level(run, whole_bank, copies, tmp_path):
    pytest.importorskip("pyarrow")
    given = ("scan", copies, "--bank", whole_bank, "--out", tmp_path / "out", "--no-sandbox")
    assert run(*given).code == 0
    assert run(*given).code == 0
    refused = run(*given, "--level", "windows")
    assert refused.code != 0
    assert "a scan with other options" in refused.err
